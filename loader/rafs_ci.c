/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of RAFS blobs whose chunks the bootstrap alone cannot place:
 * chunks that share a compressed unit (batch), and chunks inside tar.gz layers
 * that were left as they are (ZRAN). One entry per chunk names its unit, a
 * context, and where in the decoded unit it begins (Nydus 2.x,
 * storage/src/meta/ describes them: mod.rs, batch.rs, zran.rs).
 *
 * A batch blob's table lies in the blob and nothing covers it: it must agree
 * with the bootstrap on every chunk, and since the chunks' digests are the
 * bootstrap's, what a false table says of the rest can only make verification
 * fail. A ZRAN table lies in a blob of its own whose digest the bootstrap
 * names; or, before bootstraps are merged, in the blob that holds the
 * bootstrap too, which counts as one that nothing covers.
 */
#include <errno.h>
#include <string.h>
#include <zstd.h>

#include "blobcache/decode.h"
#include "loader/rafs_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

enum {
	HEADER_LEN = 4096,
	HEADER_MAGIC = 0xb10bb10b,
	ENTRY_LEN = 24,
	CONTEXT_LEN = 40,
	DIGEST_LEN = 32,
	TAR_HEADER_LEN = 512,
	TOC_ENTRY_LEN = 128,
	MAX_TOC_LEN = 16 * TOC_ENTRY_LEN,
};

static int broken(struct err *e, uint32_t blob, const char *what)
{
	return err_set(e, -EPROTO, "broken chunk table of RAFS blob %u: %s",
		blob, what);
}

/* Where the blob's entry in the bootstrap puts the table. */
struct place {
	uint64_t off, len, raw_len;
	uint32_t compressor;
};

static int read_place(const struct rafs_boot *b, uint32_t blob,
	struct place *ret, struct err *e)
{
	const uint8_t *at = b->blobs[blob].at;
	uint64_t entries = (uint64_t)b->blobs[blob].chunk_count * ENTRY_LEN;

	ret->compressor = le32_at(at + 108);
	ret->off = le64_at(at + 112);
	ret->len = le64_at(at + 120);
	ret->raw_len = le64_at(at + 128);
	if (ret->raw_len > b->ci_budget)
		return err_set_kind(e, ERR_UNSUPPORTED, -E2BIG,
			"the chunk tables of the image's RAFS blobs have more "
			"than %u MiB",
			RAFS_MAX_CI >> 20);
	if (ret->raw_len < entries || ret->len > RAFS_MAX_CI ||
		ret->off > UINT64_MAX - RAFS_MAX_CI - HEADER_LEN)
		return broken(e, blob, "its place");
	return 0;
}

/* ---- the bytes ---- */

static int decode(const struct place *p, uint32_t blob, const uint8_t *bytes,
	struct rafs_ci *ci, struct err *e)
{
	enum bc_codec codec;
	int err;

	switch (p->compressor) {
	case 0:
		codec = BC_CODEC_NONE;
		break;
	case 1:
		codec = BC_CODEC_LZ4_BLOCK;
		break;
	case 3:
		codec = BC_CODEC_ZSTD;
		break;
	default:
		return broken(e, blob, "its compressor");
	}
	/* kept as it is where compressing it gained nothing */
	if (p->len == p->raw_len)
		codec = BC_CODEC_NONE;
	ci->raw = mem_alloc(p->raw_len);
	if (!ci->raw)
		return err_set(e, -ENOMEM, "out of memory");
	err = bc_decode(codec, bytes, p->len, NULL, 0, ci->raw, p->raw_len);
	if (err == -ENOMEM)
		return err_set(e, err, "out of memory");
	return err < 0 ? broken(e, blob, "its compression") : 0;
}

/* The header behind the table must describe the table that the entry does. */
static int read_header(const struct rafs_boot *b, uint32_t blob,
	const struct place *p, const uint8_t *h, struct rafs_ci *ci,
	struct err *e)
{
	uint64_t entries = (uint64_t)b->blobs[blob].chunk_count * ENTRY_LEN;
	uint64_t count = le32_at(h + 56), len = le64_at(h + 48);

	if (le32_at(h) != HEADER_MAGIC ||
		le32_at(h + HEADER_LEN - 4) != HEADER_MAGIC)
		return broken(e, blob, "its header");
	if (le32_at(h + 8) != p->compressor ||
		le32_at(h + 12) != b->blobs[blob].chunk_count ||
		le64_at(h + 16) != p->off || le64_at(h + 24) != p->len ||
		le64_at(h + 32) != p->raw_len)
		return broken(e, blob, "its header is another table's");
	if (le64_at(h + 40) != entries || len > p->raw_len - entries ||
		count > len / CONTEXT_LEN)
		return broken(e, blob, "its contexts lie outside");
	ci->chunk_count = b->blobs[blob].chunk_count;
	ci->context_count = (uint32_t)count;
	ci->contexts = ci->raw + entries;
	ci->dicts = ci->contexts + count * CONTEXT_LEN;
	ci->dict_len = (size_t)(len - count * CONTEXT_LEN);
	return 0;
}

static int take_table(struct rafs_boot *b, uint32_t blob, const struct place *p,
	const uint8_t *bytes, struct rafs_ci *ci, struct err *e)
{
	int err;

	err = decode(p, blob, bytes, ci, e);
	if (err == 0)
		err = read_header(b, blob, p, bytes + p->len, ci, e);
	if (err == 0)
		b->ci_budget -= p->raw_len;
	return err;
}

/* ---- in the blob with the chunks, or in the bootstrap's ---- */

static int load_from_blob(struct rafs_boot *b, const struct digest *id,
	uint32_t blob, const struct place *p, struct rafs_ci *ci, struct err *e)
{
	const struct ld_rafs_reader *rd = b->reader;
	struct buf bytes;
	int err;

	buf_init(&bytes, RAFS_MAX_CI + HEADER_LEN);
	err = rd->read(rd->arg, id, p->off, p->len + HEADER_LEN, &bytes, e);
	if (err == 0 && bytes.len != p->len + HEADER_LEN)
		err = broken(e, blob, "it has been cut");
	if (err == 0)
		err = take_table(b, blob, p, bytes.data, ci, e);
	buf_fini(&bytes);
	return err;
}

/* ---- ZRAN: a blob of its own ---- */

/* The array of digests that a TOC at the end of the blob may name. */
struct digests {
	uint64_t off, len; /* 0: none */
	struct digest sum;
};

static void find_digests(const struct buf *meta, struct digests *ret)
{
	const uint8_t *h, *at, *end;
	uint64_t len = 0;
	size_t i;

	*ret = (struct digests){0};
	if (meta->len < TAR_HEADER_LEN)
		return;
	end = h = meta->data + meta->len - TAR_HEADER_LEN;
	if (memcmp(h + 257, "ustar", 5) != 0 ||
		strncmp((const char *)h, "rafs.blob.toc", 100) != 0)
		return;
	for (i = 124; i < 136 && h[i] >= '0' && h[i] <= '7'; i++)
		len = len << 3 | (uint64_t)(h[i] - '0');
	if (len > MAX_TOC_LEN || len % TOC_ENTRY_LEN != 0 ||
		len > meta->len - TAR_HEADER_LEN)
		return;
	for (at = end - len; at < end; at += TOC_ENTRY_LEN) {
		if (strncmp((const char *)at + 8, "blob.digest", 16) != 0 ||
			le64_at(at + 64) != le64_at(at + 72) ||
			!range_fits(
				le64_at(at + 56), le64_at(at + 64), meta->len))
			continue;
		ret->off = le64_at(at + 56);
		ret->len = le64_at(at + 64);
		ret->sum.algo = DIGEST_SHA256;
		memcpy(ret->sum.bytes, at + 24, DIGEST_LEN);
		return;
	}
}

/* The sha256 of the blob without its array of digests. */
static int sum_without(
	const struct buf *meta, const struct digests *d, struct digest *ret)
{
	size_t end = (size_t)(d->off + d->len);
	struct digest_ctx *c;
	int err;

	err = digest_ctx_create(DIGEST_SHA256, &c);
	if (err < 0)
		return err;
	err = digest_ctx_update(c, meta->data, (size_t)d->off);
	if (err == 0)
		err = digest_ctx_update(c, meta->data + end, meta->len - end);
	if (err == 0)
		err = digest_ctx_final(c, ret);
	digest_ctx_destroy(c);
	return err;
}

/*
 * A blob with a TOC may be named by what remains of it without the array of
 * digests (its builder forgets to hash that); then the TOC, which was hashed,
 * covers the array.
 */
static int verify_meta(const struct buf *meta, const struct digests *d,
	const struct digest *want, struct err *e)
{
	struct digest sum;
	int err;

	err = digest_check(want, meta->data, meta->len);
	if (err == -EBADMSG && d->len > 0) {
		err = sum_without(meta, d, &sum);
		if (err == 0 && !digest_is_equal(&sum, want))
			err = -EBADMSG;
		if (err == 0)
			err = digest_check(
				&d->sum, meta->data + d->off, d->len);
	}
	if (err == -EBADMSG)
		return err_set(e, err,
			"a blob of chunk tables does not have the digest that "
			"the bootstrap names");
	return err < 0 ? err_set(e, err, "cannot hash a chunk table") : 0;
}

static int take_digests(const struct buf *meta, const struct digests *d,
	struct rafs_ci *ci, struct err *e)
{
	if (d->len == 0 || d->len != (uint64_t)ci->chunk_count * DIGEST_LEN)
		return 0;
	ci->digests = mem_alloc(d->len);
	if (!ci->digests)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(ci->digests, meta->data + d->off, d->len);
	return 0;
}

static int load_from_meta(struct rafs_boot *b, uint32_t blob,
	const struct place *p, struct rafs_ci *ci, struct err *e)
{
	const struct ld_rafs_reader *rd = b->reader;
	const uint8_t *at = b->blobs[blob].at;
	struct digest id = {.algo = DIGEST_SHA256};
	struct digests d;
	struct buf meta;
	int err;

	memcpy(id.bytes, at + 168, DIGEST_LEN);
	buf_init(&meta, RAFS_MAX_CI);
	err = rd->read(rd->arg, &id, 0, le64_at(at + 200), &meta, e);
	find_digests(&meta, &d);
	if (err == 0)
		err = verify_meta(&meta, &d, &id, e);
	if (err == 0 && !range_fits(p->off, p->len + HEADER_LEN, meta.len))
		err = broken(e, blob, "its place");
	if (err == 0)
		err = take_table(b, blob, p, meta.data + p->off, ci, e);
	if (err == 0)
		err = take_digests(&meta, &d, ci, e);
	buf_fini(&meta);
	return err;
}

/* Has the blob a table that the bootstrap names by its digest? */
static bool has_meta(const struct rafs_blob_info *info)
{
	static const uint8_t none[DIGEST_LEN];

	return (info->features & RAFS_BLOB_ZRAN) &&
	       memcmp(info->at + 168, none, DIGEST_LEN) != 0;
}

bool rafs_ci_is_claim(const struct rafs_blob_info *info)
{
	return !has_meta(info);
}

int rafs_ci_load(struct rafs_boot *b, const struct digest *id, uint32_t blob,
	struct err *e)
{
	static const struct digest of_bootstrap;
	struct rafs_blob_info *info = &b->blobs[blob];
	struct place p;
	int err;

	err = read_place(b, blob, &p, e);
	if (err < 0)
		return err;
	if (has_meta(info))
		return load_from_meta(b, blob, &p, &info->ci, e);
	if (info->features & RAFS_BLOB_ZRAN)
		id = &of_bootstrap;
	return load_from_blob(b, id, blob, &p, &info->ci, e);
}

void rafs_ci_fini(struct rafs_ci *ci)
{
	mem_free(ci->raw);
	mem_free(ci->digests);
	mem_free(ci->groups);
	(void)ZSTD_freeCCtx(ci->packer); /* cannot fail */
	*ci = (struct rafs_ci){0};
}

/* ---- what it says ---- */

void rafs_ci_read(
	const struct rafs_ci *ci, uint32_t index, struct rafs_ci_entry *ret)
{
	const uint8_t *at = ci->raw + (size_t)index * ENTRY_LEN;
	uint64_t a = le64_at(at), b = le64_at(at + 8), c = le64_at(at + 16);

	ret->flags = (uint32_t)(a >> 56);
	ret->len = (uint32_t)(a >> 32 & 0xffffff) + 1;
	ret->dev_off = (a & UINT32_MAX) * RAFS_BLOCK_SIZE;
	ret->src_off = b & ((UINT64_C(1) << 40) - 1);
	ret->context = (uint32_t)(c >> 32);
	ret->context_off = (uint32_t)c;
}

static int add_unit(struct rafs_ci *ci, uint32_t context,
	struct bc_map_builder *m, uint64_t src_off, uint64_t src_len,
	uint64_t len, enum bc_codec codec, const uint8_t *ctx, size_t ctx_len,
	struct err *e)
{
	int err;

	err = bc_map_add_group(m, src_off, src_len, len, codec, ctx, ctx_len,
		&ci->groups[context]);
	return err < 0 ? err_set(e, err,
				 "broken chunk table of a RAFS blob: the range "
				 "of a context")
	               : 0;
}

static int add_batch(struct rafs_ci *ci, const struct rafs_ci_entry *c,
	enum bc_codec codec, struct bc_map_builder *m, struct err *e)
{
	const uint8_t *at = ci->contexts + (size_t)c->context * CONTEXT_LEN;
	uint32_t src_len = le32_at(at), len = le32_at(at + 4);

	if (len > RAFS_MAX_CHUNK_SIZE)
		return err_set(e, -EPROTO,
			"broken chunk table of a RAFS blob: the size of a "
			"batch");
	if (src_len == len)
		codec = BC_CODEC_NONE;
	else if (codec == BC_CODEC_NONE)
		return err_set(e, -EPROTO,
			"broken chunk table of a RAFS blob: a compressed batch "
			"in an uncompressed blob");
	ci->lens[c->context] = len;
	return add_unit(
		ci, c->context, m, c->src_off, src_len, len, codec, NULL, 0, e);
}

/*
 * The dictionary of a span: the output before it. All of them together are no
 * longer than where they lie, so that few bytes cannot stand for many windows.
 */
static int read_dict(struct rafs_ci *ci, const uint8_t *at, const uint8_t **ret,
	size_t *ret_len, struct err *e)
{
	uint64_t off = le64_at(at + 16);
	uint32_t len = le32_at(at + 32);

	if (len > BC_DEFLATE_WINDOW || !range_fits(off, len, ci->dict_len))
		return err_set(e, -EPROTO,
			"broken chunk table of a RAFS blob: a dictionary");
	if (len > ci->dict_len - ci->dicts_used)
		return err_set(e, -EPROTO,
			"broken chunk table of a RAFS blob: dictionaries "
			"overlap");
	ci->dicts_used += len;
	*ret = ci->dicts + off;
	*ret_len = len;
	return 0;
}

static int add_span(struct rafs_ci *ci, const struct rafs_ci_entry *c,
	struct bc_map_builder *m, struct err *e)
{
	const uint8_t *at = ci->contexts + (size_t)c->context * CONTEXT_LEN;
	uint8_t ctx[BC_DEFLATE_MAX_CTX];
	const uint8_t *dict;
	size_t len;
	int err;

	err = read_dict(ci, at, &dict, &len, e);
	if (err < 0)
		return err;
	if (!ci->packer)
		ci->packer = ZSTD_createCCtx();
	if (!ci->packer)
		return err_set(e, -ENOMEM, "out of memory");
	len = bc_deflate_ctx(ci->packer, at[37], at[36], dict, len, ctx);
	ci->lens[c->context] = le32_at(at + 28);
	/* no more than the chunks need is inflated */
	return add_unit(ci, c->context, m, le64_at(at), le32_at(at + 24), 0,
		BC_CODEC_DEFLATE, ctx, len, e);
}

int rafs_ci_add_group(struct rafs_ci *ci, const struct rafs_ci_entry *c,
	enum bc_codec codec, struct bc_map_builder *m, uint32_t *ret_group,
	struct err *e)
{
	size_t i, n = ci->context_count;
	int err = 0;

	if (c->context >= n)
		return err_set(e, -EPROTO,
			"broken chunk table of a RAFS blob: no such context");
	if (!ci->groups) {
		ci->groups = mem_calloc(n, 2 * sizeof(*ci->groups));
		if (!ci->groups)
			return err_set(e, -ENOMEM, "out of memory");
		ci->lens = ci->groups + n;
		for (i = 0; i < n; i++)
			ci->groups[i] = UINT32_MAX;
	}
	if (ci->groups[c->context] == UINT32_MAX)
		err = c->flags & RAFS_CI_ZRAN ? add_span(ci, c, m, e)
		                              : add_batch(ci, c, codec, m, e);
	if (err == 0 &&
		!range_fits(c->context_off, c->len, ci->lens[c->context]))
		err = err_set(e, -EPROTO,
			"broken chunk table of a RAFS blob: a chunk lies "
			"outside its context");
	if (err == 0)
		*ret_group = ci->groups[c->context];
	return err;
}
