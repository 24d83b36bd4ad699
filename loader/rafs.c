/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAFS bootstraps: recognising them; of v6 the superblocks, blob table, chunk
 * table, and from these one map per blob.
 *
 * A v6 bootstrap is an EROFS file system with tables of its own (Nydus 2.x,
 * rafs/src/metadata/layout/v6.rs describes them). The chunk table names for
 * each chunk both its place in the blob and its digest, so a map can be built
 * from the bootstrap alone and hangs on the bootstrap's digest; the copy of
 * that information inside the blobs is looked at only where it says more than
 * the bootstrap (batch and ZRAN chunks, rafs_ci.c).
 */
#include "loader/rafs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loader/rafs_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

enum {
	EROFS_MAGIC = 0xe0f5e1e2,
	V5_MAGIC = 0x52414653,
	V5_VERSION = 0x500,
	SUPER_OFF = 1024,
	EXT_SUPER_OFF = 1152,
	DEVICE_SLOT_LEN = 128,
	COMPAT_RAFS_V6 = 0x40000000,
	INCOMPAT_V6 = 0xc, /* CHUNKED_FILE + DEVICE_TABLE */
	BLOB_ENTRY_LEN = 256,
};

/* Flags of the extended superblock. */
enum {
	FLAG_TARFS = 0x200,
	FLAG_ENCRYPTED = 0x02000000,
	FLAG_KNOWN = 0xff | 0x100 | FLAG_TARFS | 0x01000000 | FLAG_ENCRYPTED,
};
/* Bits that a reader may ignore. */
#define FLAG_COMPATIBLE 0xfc000000ull

enum ld_format ld_rafs_recognise(const uint8_t *p, size_t len)
{
	if (len >= 8 && le32_at(p) == V5_MAGIC && le32_at(p + 4) == V5_VERSION)
		return LD_FORMAT_RAFS_V5;
	if (len < EXT_SUPER_OFF || le32_at(p + SUPER_OFF) != EROFS_MAGIC)
		return LD_FORMAT_UNKNOWN;
	if (le32_at(p + SUPER_OFF + 8) & COMPAT_RAFS_V6)
		return LD_FORMAT_RAFS_V6;
	/* v3 puts its device table right behind the superblock. */
	if (le16_at(p + SUPER_OFF + 88) == EXT_SUPER_OFF / DEVICE_SLOT_LEN)
		return LD_FORMAT_NYDUS_V3;
	return LD_FORMAT_UNKNOWN;
}

int rafs_refuse(struct err *e, const char *what)
{
	return err_set(
		e, -EOPNOTSUPP, "%s cannot be read by this version", what);
}

int rafs_broken(struct err *e, const char *what)
{
	return err_set(e, -EPROTO, "broken RAFS bootstrap: %s", what);
}

/* The superblocks, and where the tables are. */
struct tables {
	uint64_t blob_off, chunk_off, chunk_len;
	uint32_t blob_len;
};

/* The prefetch table; some writers leave a size without a place. */
static int read_wish(struct rafs_boot *b, const uint8_t *x, struct err *e)
{
	uint64_t off = le64_at(x + 40), len = le32_at(x + 48);

	if (off == 0 || len == 0)
		return 0;
	if (!range_fits(off, len, b->len))
		return rafs_broken(e, "prefetch table outside the file");
	b->wish = b->p + off;
	b->wish_count = len / 4;
	return 0;
}

static int read_supers(struct rafs_boot *b, struct tables *t, struct err *e)
{
	const uint8_t *s = b->p + SUPER_OFF, *x = b->p + EXT_SUPER_OFF;
	uint64_t meta_blocks;

	b->flags = le64_at(x);
	if (b->flags & FLAG_ENCRYPTED)
		return rafs_refuse(e, "an encrypted RAFS image");
	if ((b->flags & FLAG_TARFS) || s[12] == 9)
		return rafs_refuse(e, "a RAFS image of tarfs mode");
	if (b->flags & ~(FLAG_KNOWN | FLAG_COMPATIBLE))
		return rafs_refuse(e, "a RAFS image with unknown flags");
	if (s[12] != 12 || le32_at(s + 80) != INCOMPAT_V6 ||
		le32_at(s + 44) != 0)
		return rafs_broken(e, "not the superblock of a v6 image");
	b->root_nid = le16_at(s + 14);
	meta_blocks = le32_at(s + 40);
	b->meta_off = meta_blocks * RAFS_BLOCK_SIZE;
	b->blob_count = le16_at(s + 86);
	t->blob_off = le64_at(x + 8);
	t->blob_len = le32_at(x + 16);
	b->chunk_size = le32_at(x + 20);
	t->chunk_off = le64_at(x + 24);
	t->chunk_len = le64_at(x + 32);
	if (b->chunk_size < 4096 || b->chunk_size > RAFS_MAX_CHUNK_SIZE ||
		(b->chunk_size & (b->chunk_size - 1)) != 0)
		return rafs_broken(e, "chunk size");
	if (b->blob_count > RAFS_MAX_BLOBS ||
		t->blob_len != b->blob_count * BLOB_ENTRY_LEN ||
		!range_fits(t->blob_off, t->blob_len, b->len))
		return rafs_broken(e, "blob table outside the file");
	if (t->chunk_len % RAFS_CHUNK_LEN != 0 ||
		!range_fits(t->chunk_off, t->chunk_len, b->len))
		return rafs_broken(e, "chunk table outside the file");
	if (b->meta_off >= b->len)
		return rafs_broken(e, "inodes outside the file");
	return read_wish(b, x, e);
}

int rafs_blob_id(const uint8_t *at, struct digest *ret)
{
	char text[7 + 64 + 1] = "sha256:";

	memcpy(text + 7, at, 64);
	return digest_parse(text, 7 + 64, ret);
}

/*
 * The id. A blob that the bootstrap was to become a part of has a placeholder:
 * then the bootstrap's digest stands for it, which names it as well.
 */
static int blob_id(const struct rafs_boot *b, const uint8_t *at,
	struct digest *ret, struct err *e)
{
	size_t i;
	int err;

	if (rafs_blob_id(at, ret) == 0)
		return 0;
	for (i = 1; i < 64 && at[i] == at[0]; i++)
		;
	if (i < 64)
		return rafs_broken(e, "a blob id that is no sha256");
	err = digest_of(DIGEST_SHA256, b->p, b->len, ret);
	return err < 0 ? err_set(e, err, "cannot hash the bootstrap") : 0;
}

static int refuse_features(
	const struct rafs_boot *b, uint32_t features, struct err *e)
{
	if (features & RAFS_BLOB_ENCRYPTED)
		return rafs_refuse(e, "a RAFS image with encrypted blobs");
	if (features & RAFS_BLOB_TARFS)
		return rafs_refuse(e, "a RAFS image of tarfs mode");
	if (features & RAFS_BLOB_EXTERNAL)
		return rafs_refuse(e, "a RAFS image with external data");
	if (features & RAFS_BLOB_INCOMPATIBLE)
		return rafs_refuse(e, "a RAFS blob with unknown features");
	if (!(features & RAFS_BLOB_ZRAN) != !(features & RAFS_BLOB_SEPARATE))
		return rafs_refuse(e, "a RAFS blob with tables kept apart");
	if ((features & RAFS_BLOB_ZRAN) && (features & RAFS_BLOB_BATCH))
		return rafs_broken(e, "a blob of two kinds");
	if (b->reader)
		return 0;
	if (features & RAFS_BLOB_ZRAN)
		return rafs_refuse(e,
			"a RAFS image that refers to tar.gz layers (ZRAN), "
			"without its blobs");
	if (features & RAFS_BLOB_BATCH)
		return rafs_refuse(
			e, "a RAFS image with batch chunks, without its blobs");
	return 0;
}

static int read_blob(struct rafs_boot *b, struct ld_rafs *r, uint32_t i,
	const uint8_t *at, struct err *e)
{
	struct rafs_blob_info *info = &b->blobs[i];
	struct ld_blob_ref ref = {0};
	uint32_t slot;
	int err;

	err = refuse_features(b, le32_at(at + 84), e);
	if (err < 0)
		return err;
	err = blob_id(b, at, &r->blobs[i].digest, e);
	if (err < 0)
		return err;
	info->at = at;
	info->features = le32_at(at + 84);
	info->chunk_count = le32_at(at + 72);
	info->compressor = le32_at(at + 76);
	info->compressed_size = le64_at(at + 88);
	info->device_size = round_up(le64_at(at + 96), RAFS_BLOCK_SIZE);
	if (le32_at(at + 64) != i || le32_at(at + 68) != b->chunk_size ||
		info->chunk_count > RAFS_MAX_CHUNKS || info->compressor > 3 ||
		le32_at(at + 80) > 1 || le64_at(at + 88) > 1ull << 40 ||
		le64_at(at + 96) > 1ull << 44)
		return rafs_broken(e, "an entry of the blob table");
	info->digest_algo =
		le32_at(at + 80) == 0 ? DIGEST_BLAKE3 : DIGEST_SHA256;
	r->blobs[i].compressed_size = info->compressed_size;
	r->blobs[i].is_layer = info->features & RAFS_BLOB_ZRAN;
	ref.digest = r->blobs[i].digest;
	ref.device_size = info->device_size;
	return ld_tree_add_blob(r->tree, &ref, &slot);
}

static int read_blobs(struct rafs_boot *b, const struct tables *t,
	struct ld_rafs *r, struct err *e)
{
	uint32_t i, k;
	int err;

	b->blobs = mem_calloc(b->blob_count, sizeof(*b->blobs));
	r->blobs = mem_calloc(b->blob_count, sizeof(*r->blobs));
	if (!b->blobs || !r->blobs)
		return err_set(e, -ENOMEM, "out of memory");
	r->blob_count = b->blob_count;
	for (i = 0; i < b->blob_count; i++)
		buf_init(&r->blobs[i].map, 0);
	for (i = 0; i < b->blob_count; i++) {
		err = read_blob(b, r, i,
			b->p + t->blob_off + (uint64_t)i * BLOB_ENTRY_LEN, e);
		if (err < 0)
			return err;
		for (k = 0; k < i; k++)
			if (digest_is_equal(
				    &r->blobs[i].digest, &r->blobs[k].digest))
				return rafs_broken(e, "the same blob id twice");
	}
	return 0;
}

static int chunk_order(const void *va, const void *vb)
{
	const struct rafs_chunk *a = va, *b = vb;

	if (a->blob != b->blob)
		return a->blob < b->blob ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static int sort_chunks(struct rafs_boot *b, struct err *e)
{
	size_t i;

	if (b->chunk_count > 0)
		qsort(b->chunks, b->chunk_count, sizeof(*b->chunks),
			chunk_order);
	for (i = 1; i < b->chunk_count; i++)
		if (chunk_order(&b->chunks[i - 1], &b->chunks[i]) == 0)
			return rafs_broken(e, "two chunks of one number");
	return 0;
}

static int read_chunks(
	struct rafs_boot *b, const struct tables *t, struct err *e)
{
	size_t i, n = t->chunk_len / RAFS_CHUNK_LEN;
	const uint8_t *at = b->p + t->chunk_off;

	b->chunks = mem_calloc(n, sizeof(*b->chunks));
	if (!b->chunks)
		return err_set(e, -ENOMEM, "out of memory");
	b->chunk_count = n;
	for (i = 0; i < n; i++, at += RAFS_CHUNK_LEN) {
		b->chunks[i].blob = le32_at(at + 32);
		b->chunks[i].index = le32_at(at + 72);
		b->chunks[i].at = at;
		if (b->chunks[i].blob >= b->blob_count)
			return rafs_broken(e, "a chunk of no blob");
		if (le32_at(at + 36) & RAFS_CHUNK_ENCRYPTED)
			return rafs_refuse(
				e, "a RAFS image with encrypted chunks");
	}
	return sort_chunks(b, e);
}

const struct rafs_chunk *rafs_chunk_find(
	const struct rafs_boot *b, uint32_t blob, uint32_t index)
{
	struct rafs_chunk key = {.blob = blob, .index = index};

	if (b->chunk_count == 0)
		return NULL;
	return bsearch(
		&key, b->chunks, b->chunk_count, sizeof(key), chunk_order);
}

/* ---- chunks that the chunk table lacks ---- */

/* The record that the chunk table would have of it. */
static void write_record(
	const struct rafs_ci *ci, uint32_t blob, uint32_t i, uint8_t *at)
{
	struct rafs_ci_entry c;

	rafs_ci_read(ci, i, &c);
	memcpy(at, ci->digests + (size_t)i * 32, 32);
	put_le32(at + 32, blob);
	put_le32(at + 44, c.len);
	put_le32(at + 56, (uint32_t)c.dev_off);
	put_le32(at + 60, (uint32_t)(c.dev_off >> 32));
	put_le32(at + 72, i);
}

static size_t count_digests(const struct rafs_boot *b)
{
	size_t i, n = 0;

	for (i = 0; i < b->blob_count; i++)
		if (b->blobs[i].ci.digests)
			n += b->blobs[i].ci.chunk_count;
	return n;
}

/*
 * A merged bootstrap lists chunks of equal digest once. Where a verified blob
 * of tables has an array of digests, the others are taken from there.
 */
static int add_missing(struct rafs_boot *b, struct err *e)
{
	size_t max = count_digests(b), known = b->chunk_count, n = 0;
	struct rafs_chunk *chunks;
	uint32_t blob, i;
	uint8_t *at;

	if (max == 0)
		return 0;
	chunks = mem_calloc(known + max, sizeof(*chunks));
	b->added = mem_calloc(max, RAFS_CHUNK_LEN);
	if (!chunks || !b->added) {
		mem_free(chunks);
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (blob = 0; blob < b->blob_count; blob++) {
		const struct rafs_ci *ci = &b->blobs[blob].ci;

		for (i = 0; ci->digests && i < ci->chunk_count; i++) {
			if (rafs_chunk_find(b, blob, i))
				continue;
			at = b->added + n * RAFS_CHUNK_LEN;
			write_record(ci, blob, i, at);
			chunks[known + n++] = (struct rafs_chunk){
				.blob = blob, .index = i, .at = at};
		}
	}
	if (known > 0)
		memcpy(chunks, b->chunks, known * sizeof(*chunks));
	mem_free(b->chunks);
	b->chunks = chunks;
	b->chunk_count = known + n;
	return sort_chunks(b, e);
}

/*
 * Which of the blobs has the bootstrap in it: the one without an id, or the
 * first that says so (those of a chunk dictionary may say it of theirs).
 * Builders before 2.2, which do not know how to say it, wrote any id.
 */
static void find_own(const struct rafs_boot *b, struct ld_rafs *r)
{
	uint32_t i, features, own = b->blob_count;
	struct digest id;

	if (!b->reader || !b->reader->is_inline)
		return;
	for (i = b->blob_count; i > 0; i--) {
		features = b->blobs[i - 1].features;
		if ((features & RAFS_BLOB_ZRAN) ||
			(features & (RAFS_BLOB_HAS_BOOT | RAFS_BLOB_CAP_TOC)) ==
				RAFS_BLOB_CAP_TOC)
			continue;
		own = i - 1;
		if (rafs_blob_id(b->blobs[own].at, &id) < 0)
			break;
	}
	if (own < b->blob_count)
		r->blobs[own].is_own = true;
}

/* The blobs' own tables, for those that need them. */
static int load_tables(struct rafs_boot *b, struct ld_rafs *r, struct err *e)
{
	static const struct digest own;
	uint32_t i;
	int err;

	for (i = 0; i < b->blob_count; i++) {
		if (!(b->blobs[i].features &
			    (RAFS_BLOB_ZRAN | RAFS_BLOB_BATCH)) ||
			b->blobs[i].chunk_count == 0)
			continue;
		err = rafs_ci_load(b,
			r->blobs[i].is_own ? &own : &r->blobs[i].digest, i, e);
		if (err < 0)
			return err;
		r->has_claims |= rafs_ci_is_claim(&b->blobs[i]);
	}
	return add_missing(b, e);
}

static int parse_v6(struct rafs_boot *b, struct ld_rafs *r, struct err *e)
{
	struct tables t = {0};
	int err;

	err = read_supers(b, &t, e);
	if (err < 0)
		return err;
	err = ld_tree_create(&r->tree);
	if (err < 0)
		return err_set(e, err, "out of memory");
	err = read_blobs(b, &t, r, e);
	if (err == 0)
		err = read_chunks(b, &t, e);
	if (err == 0) {
		find_own(b, r);
		err = load_tables(b, r, e);
	}
	if (err == 0)
		err = rafs_tree_build(b, r, e);
	if (err == 0)
		err = rafs_maps_build(b, r, e);
	return err;
}

static void boot_fini(struct rafs_boot *b)
{
	uint32_t i;

	for (i = 0; b->blobs && i < b->blob_count; i++)
		rafs_ci_fini(&b->blobs[i].ci);
	mem_free(b->blobs);
	mem_free(b->chunks);
	mem_free(b->added);
}

int ld_rafs_parse(const uint8_t *boot, size_t len,
	const struct ld_rafs_reader *reader, struct ld_rafs *ret, struct err *e)
{
	struct rafs_boot b = {.p = boot,
		.len = len,
		.reader = reader,
		.ci_budget = RAFS_MAX_CI};
	struct ld_rafs r = {.format = ld_rafs_recognise(boot, len)};
	int err;

	switch (r.format) {
	case LD_FORMAT_RAFS_V6:
		if (len % RAFS_BLOCK_SIZE != 0 || len < 2 * RAFS_BLOCK_SIZE)
			return rafs_broken(e, "it has been cut");
		err = parse_v6(&b, &r, e);
		break;
	case LD_FORMAT_RAFS_V5:
		err = rafs_v5_parse(&b, &r, e);
		break;
	case LD_FORMAT_NYDUS_V3:
		return rafs_refuse(e, "an image of Nydus v3");
	default:
		return err_set(e, -EPROTO, "not a RAFS bootstrap");
	}
	boot_fini(&b);
	if (err < 0) {
		ld_rafs_fini(&r);
		return err;
	}
	*ret = r;
	return 0;
}

void ld_rafs_fini(struct ld_rafs *r)
{
	size_t i;

	for (i = 0; i < r->blob_count; i++)
		buf_fini(&r->blobs[i].map);
	mem_free(r->blobs);
	mem_free(r->wish);
	ld_tree_destroy(r->tree);
	*r = (struct ld_rafs){0};
}
