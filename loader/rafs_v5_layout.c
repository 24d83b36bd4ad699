/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of RAFS v5 blobs. A blob's own uncompressed offsets need not lie
 * on blocks, so the device is laid out here: the distinct chunks of a blob in
 * the order of their place in it, each beginning on a block. Files consist of
 * whole chunks, so most have one extent; one that shares chunks with others has
 * several.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/map.h"
#include "loader/rafs_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* A distinct chunk. */
struct chunk {
	const uint8_t *at;
	uint32_t ref; /* the first use */
	uint64_t dev_off;
};

struct layout {
	struct ld_rafs *r;
	const struct rafs_v5_codec *codec;
	struct err *e;
	struct rafs_v5_ref *refs;
	size_t ref_count;
	struct chunk *chunks; /* owned */
	size_t chunk_count;
	uint64_t *ends; /* owned; bytes of each blob's device */
};

static int out_of_memory(struct layout *v)
{
	return err_set(v->e, -ENOMEM, "out of memory");
}

/* By place in the blobs; of one place, in the order of use. */
static int chunk_order(const void *va, const void *vb)
{
	const struct chunk *a = va, *b = vb;
	uint64_t x = le32_at(a->at + 32), y = le32_at(b->at + 32);

	if (x == y) {
		x = le64_at(a->at + 48);
		y = le64_at(b->at + 48);
	}
	if (x == y) {
		x = a->ref;
		y = b->ref;
	}
	return x < y ? -1 : x > y;
}

static bool is_same_place(const uint8_t *a, const uint8_t *b)
{
	return le32_at(a + 32) == le32_at(b + 32) &&
	       le64_at(a + 48) == le64_at(b + 48);
}

/* Of one place: digest, flags and sizes too. */
static bool is_same_chunk(const uint8_t *a, const uint8_t *b)
{
	return memcmp(a, b, 32) == 0 && le32_at(a + 40) == le32_at(b + 40) &&
	       le32_at(a + 44) == le32_at(b + 44) &&
	       !((le32_at(a + 36) ^ le32_at(b + 36)) & RAFS_CHUNK_COMPRESSED);
}

/* The distinct chunks, each with its place on the device. */
static int lay_out(struct layout *v)
{
	struct chunk *c;
	uint64_t *end;
	size_t i, n = 0;

	v->chunks = mem_calloc(v->ref_count, sizeof(*v->chunks));
	if (!v->chunks)
		return out_of_memory(v);
	for (i = 0; i < v->ref_count; i++)
		v->chunks[i] =
			(struct chunk){.at = v->refs[i].at, .ref = (uint32_t)i};
	if (v->ref_count > 0)
		qsort(v->chunks, v->ref_count, sizeof(*v->chunks), chunk_order);
	for (i = 0; i < v->ref_count; i++) {
		c = &v->chunks[i];
		if (n == 0 || !is_same_place(v->chunks[n - 1].at, c->at)) {
			end = &v->ends[le32_at(c->at + 32)];
			c->dev_off = *end;
			*end += round_up(le32_at(c->at + 44), RAFS_BLOCK_SIZE);
			v->chunks[n++] = *c;
		} else if (!is_same_chunk(v->chunks[n - 1].at, c->at)) {
			return rafs_broken(
				v->e, "two chunks in one place of a blob");
		}
		v->refs[c->ref].chunk = (uint32_t)(n - 1);
	}
	v->chunk_count = n;
	return 0;
}

static int map_chunk(
	struct layout *v, const struct chunk *c, struct bc_map_builder *m)
{
	uint64_t src_len = le32_at(c->at + 40), len = le32_at(c->at + 44);
	struct digest d = {.algo = v->codec->algo};
	enum bc_codec codec = BC_CODEC_NONE;
	uint32_t group;
	int err;

	err = rafs_codec(v->codec->compressor,
		le32_at(c->at + 36) & RAFS_CHUNK_COMPRESSED, &codec, v->e);
	if (err < 0)
		return err;
	if (codec == BC_CODEC_NONE && src_len != len)
		return rafs_broken(v->e, "sizes of a chunk");
	memcpy(d.bytes, c->at, 32);
	err = bc_map_add_group(
		m, le64_at(c->at + 48), src_len, len, codec, NULL, 0, &group);
	if (err == 0)
		err = bc_map_add_chunk(m, group, c->dev_off, len, 0, &d);
	return err < 0 ? err_set(v->e, err,
				 "broken RAFS bootstrap: a chunk's range in "
				 "its blob")
	               : 0;
}

/* Slots and maps; the chunks are sorted by blob. */
static int build_maps(struct layout *v)
{
	struct bc_map_builder *m = NULL;
	struct ld_blob_ref ref;
	uint32_t i, slot;
	size_t k = 0;
	int err = 0;

	for (i = 0; err == 0 && i < v->r->blob_count; i++) {
		ref = (struct ld_blob_ref){.digest = v->r->blobs[i].digest,
			.device_size = v->ends[i]};
		err = ld_tree_add_blob(v->r->tree, &ref, &slot);
		if (err == 0)
			err = bc_map_builder_create(&m);
		if (err < 0)
			return err_set(v->e, err, "out of memory");
		for (; err == 0 && k < v->chunk_count &&
			le32_at(v->chunks[k].at + 32) == i;
			k++)
			err = map_chunk(v, &v->chunks[k], m);
		if (err == 0)
			err = bc_map_finish(
				m, v->ends[i], 0, &v->r->blobs[i].map, v->e);
		bc_map_builder_destroy(m);
	}
	return err;
}

static int add_extents(struct layout *v)
{
	const struct rafs_v5_ref *ref;
	uint64_t off;
	size_t i;
	int err = 0;

	for (i = 0; err == 0 && i < v->ref_count; i++) {
		ref = &v->refs[i];
		off = le64_at(ref->at + 64);
		err = ld_tree_add_extent(v->r->tree, ref->file, off,
			min_u64(le32_at(ref->at + 44), ref->file->size - off),
			le32_at(ref->at + 32), v->chunks[ref->chunk].dev_off,
			v->e);
	}
	return err;
}

int rafs_v5_lay_out(struct ld_rafs *r, const struct rafs_v5_codec *codec,
	struct rafs_v5_ref *refs, size_t count, struct err *e)
{
	struct layout v = {.r = r,
		.codec = codec,
		.e = e,
		.refs = refs,
		.ref_count = count};
	int err;

	v.ends = mem_calloc(r->blob_count, sizeof(*v.ends));
	err = v.ends ? lay_out(&v) : out_of_memory(&v);
	if (err == 0)
		err = build_maps(&v);
	if (err == 0)
		err = add_extents(&v);
	mem_free(v.chunks);
	mem_free(v.ends);
	return err;
}
