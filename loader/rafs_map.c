/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maps of RAFS blobs: which compressed bytes hold which chunks, as the
 * bootstrap says (v6), or as a blob's own table does where the bootstrap alone
 * cannot (rafs_ci.c).
 */
#include <errno.h>
#include <string.h>

#include "blobcache/map.h"
#include "loader/rafs_int.h"

int rafs_codec(uint32_t compressor, bool is_compressed, enum bc_codec *ret,
	struct err *e)
{
	static const enum bc_codec codecs[] = {[0] = BC_CODEC_NONE,
		[1] = BC_CODEC_LZ4_BLOCK,
		[2] = BC_CODEC_GZIP,
		[3] = BC_CODEC_ZSTD};

	if (!is_compressed) {
		*ret = BC_CODEC_NONE;
		return 0;
	}
	if (compressor == 0)
		return rafs_broken(
			e, "a compressed chunk in an uncompressed blob");
	*ret = codecs[compressor];
	return 0;
}

/* A chunk that is compressed alone, as the bootstrap says. */
static int plain_group(const struct rafs_boot *b, const struct rafs_chunk *c,
	struct bc_map_builder *m, uint32_t *ret, struct err *e)
{
	uint64_t src_len = le32_at(c->at + 40), len = le32_at(c->at + 44);
	enum bc_codec codec = BC_CODEC_NONE;
	int err;

	err = rafs_codec(b->blobs[c->blob].compressor,
		le32_at(c->at + 36) & RAFS_CHUNK_COMPRESSED, &codec, e);
	if (err < 0)
		return err;
	if (codec == BC_CODEC_NONE && src_len != len)
		return rafs_broken(e, "sizes of a chunk");
	err = bc_map_add_group(
		m, le64_at(c->at + 48), src_len, len, codec, NULL, 0, ret);
	if (err < 0)
		return err_set(e, err,
			"broken RAFS bootstrap: a chunk's range in its blob");
	return 0;
}

/* As the blob's own table says, which must agree with the bootstrap. */
static int table_group(struct rafs_boot *b, const struct rafs_chunk *c,
	struct bc_map_builder *m, uint32_t *ret_group, uint32_t *ret_off,
	struct err *e)
{
	struct rafs_blob_info *info = &b->blobs[c->blob];
	enum bc_codec codec = BC_CODEC_NONE;
	struct rafs_ci_entry entry;
	int err;

	if (c->index >= info->ci.chunk_count)
		return rafs_broken(e, "the number of a chunk");
	rafs_ci_read(&info->ci, c->index, &entry);
	if (entry.dev_off != le64_at(c->at + 56) ||
		entry.len != le32_at(c->at + 44))
		return err_set(e, -EPROTO,
			"the chunk table in RAFS blob %u says of chunk %u "
			"what the bootstrap does not",
			c->blob, c->index);
	if (entry.flags & RAFS_CI_ENCRYPTED)
		return rafs_refuse(e, "a RAFS image with encrypted chunks");
	*ret_off = 0;
	if (!(entry.flags & (RAFS_CI_BATCH | RAFS_CI_ZRAN)))
		return plain_group(b, c, m, ret_group, e);
	*ret_off = entry.context_off;
	err = 0;
	if (entry.flags & RAFS_CI_BATCH)
		err = rafs_codec(
			info->compressor, info->compressor != 0, &codec, e);
	return err ? err
	           : rafs_ci_add_group(
			     &info->ci, &entry, codec, m, ret_group, e);
}

static int map_chunk(struct rafs_boot *b, const struct rafs_chunk *c,
	struct bc_map_builder *m, struct err *e)
{
	const struct rafs_blob_info *info = &b->blobs[c->blob];
	struct digest d = {.algo = info->digest_algo};
	uint64_t len = le32_at(c->at + 44);
	uint32_t group = 0, off = 0;
	int err;

	if (len == 0 || len > b->chunk_size)
		return rafs_broken(e, "sizes of a chunk");
	if (info->ci.raw)
		err = table_group(b, c, m, &group, &off, e);
	else
		err = plain_group(b, c, m, &group, e);
	if (err < 0)
		return err;
	memcpy(d.bytes, c->at, 32);
	err = bc_map_add_chunk(m, group, le64_at(c->at + 56), len, off, &d);
	if (err < 0)
		return err_set(
			e, err, "broken RAFS bootstrap: a chunk's place");
	return 0;
}

/* The chunks are sorted by blob: one pass, one map after the other. */
int rafs_maps_build(struct rafs_boot *b, struct ld_rafs *r, struct err *e)
{
	struct bc_map_builder *m = NULL;
	size_t i, k = 0;
	int err;

	for (i = 0; i < b->blob_count; i++) {
		err = bc_map_builder_create(&m);
		if (err < 0)
			return err_set(e, err, "out of memory");
		for (; k < b->chunk_count && b->chunks[k].blob == i; k++) {
			err = map_chunk(b, &b->chunks[k], m, e);
			if (err < 0)
				break;
		}
		if (err == 0)
			err = bc_map_finish(m, b->blobs[i].device_size, 0,
				&r->blobs[i].map, e);
		bc_map_builder_destroy(m);
		if (err < 0)
			return err;
	}
	return 0;
}
