/* SPDX-License-Identifier: Apache-2.0 */
/* Finding, fetching and verifying a layer's TOC; see toc_fetch.h. */
#include "loader/toc_fetch.h"

#include <errno.h>
#include <string.h>

#include <zstd.h>

#include "loader/toc_footer.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* What is read of a blob's end at once: a small TOC then needs no second
 * request. */
#define TAIL_BYTES (32u << 10)

/* The end of a blob. */
struct tail {
	uint8_t *bytes; /* owned */
	size_t len;
	uint64_t blob_size;
};

static uint64_t blob_size(
	const struct ld_layer_desc *d, const struct bc_source *src)
{
	return d->size > 0 ? d->size : src->size;
}

static int read_tail(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, size_t want, struct tail *ret, struct err *e)
{
	struct tail t = {.blob_size = blob_size(d, src)};
	int r;

	if (t.blob_size == 0)
		return err_set(
			e, -EOPNOTSUPP, "its size is not known, nor its end");
	t.len = (size_t)min_u64(t.blob_size, want);
	t.bytes = mem_alloc(t.len);
	if (!t.bytes)
		return err_set(e, -ENOMEM, "out of memory");
	r = bc_source_read(rt, src, t.blob_size - t.len, t.bytes, t.len, e);
	if (r)
		mem_free(t.bytes);
	else
		*ret = t;
	return r;
}

static int check_digest(
	const struct ld_layer_desc *d, const void *p, size_t len, struct err *e)
{
	int r = digest_check(&d->toc, p, len);

	if (r == -EBADMSG)
		return err_set(e, r,
			"its TOC does not have the digest that the manifest "
			"names");
	return r ? err_set(e, r, "cannot compute the TOC's digest") : 0;
}

/* The len bytes at off, out of the tail if they are there. Owned. */
static int read_range(struct rt *rt, struct bc_source *src,
	const struct tail *t, uint64_t off, size_t len, uint8_t **ret,
	struct err *e)
{
	uint64_t tail_off = t ? t->blob_size - t->len : UINT64_MAX;
	uint8_t *p = mem_alloc(len);
	int r = 0;

	if (!p)
		return err_set(e, -ENOMEM, "no memory for its TOC");
	if (off >= tail_off && range_fits(off - tail_off, len, t->len))
		memcpy(p, t->bytes + (off - tail_off), len);
	else
		r = bc_source_read(rt, src, off, p, len, e);
	if (r)
		mem_free(p);
	else
		*ret = p;
	return r;
}

/* ---- zstd:chunked ---- */

static int place_zstd(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, struct ld_toc_place *ret, struct err *e)
{
	struct ld_toc_place p = {.off = d->toc_off,
		.len = d->toc_len,
		.raw_len = d->toc_raw_len};
	struct tail t;
	int r;

	if (p.len > 0) {
		r = ld_toc_place_check(&p, blob_size(d, src), e);
	} else {
		r = read_tail(rt, d, src, LD_TOC_FOOTER_BYTES, &t, e);
		if (r)
			return r;
		r = ld_toc_footer_zstd(t.bytes, t.len, t.blob_size, &p, e);
		mem_free(t.bytes);
		if (r == -ENOENT)
			r = err_set(e, -EPROTO,
				"neither the manifest nor a footer says where "
				"its TOC is");
	}
	if (!r && p.raw_len == 0)
		r = err_set(e, -EPROTO, "its TOC would be empty");
	if (!r)
		*ret = p;
	return r;
}

static int decode_zstd(const uint8_t *src, size_t len, uint64_t raw_len,
	uint8_t **ret, struct err *e)
{
	uint8_t *raw = mem_alloc(raw_len);
	size_t n;

	if (!raw)
		return err_set(e, -ENOMEM, "no memory for its TOC");
	n = ZSTD_decompress(raw, raw_len, src, len);
	if (n != raw_len) {
		mem_free(raw);
		return err_set(e, -EPROTO,
			"its TOC does not decompress to the length given: %s",
			ZSTD_isError(n) ? ZSTD_getErrorName(n) : "shorter");
	}
	*ret = raw;
	return 0;
}

int toc_fetch_zstd(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, struct ld_layer *ret, struct err *e)
{
	CLEANUP_FREE uint8_t *packed = NULL;
	CLEANUP_FREE uint8_t *raw = NULL;
	struct ld_layer_desc placed = *d;
	struct ld_toc_place p;
	int r;

	r = place_zstd(rt, d, src, &p, e);
	if (!r)
		r = read_range(rt, src, NULL, p.off, (size_t)p.len, &packed, e);
	if (!r)
		r = check_digest(d, packed, (size_t)p.len, e);
	if (!r)
		r = decode_zstd(packed, (size_t)p.len, p.raw_len, &raw, e);
	if (r)
		return r;
	mem_free(packed);
	packed = NULL;
	placed.size = blob_size(d, src);
	placed.toc_off = p.off;
	return ld_toc_parse_zstd_chunked(
		raw, (size_t)p.raw_len, &placed, ret, e);
}

/* ---- eStargz ---- */

static int place_estargz(
	const struct tail *t, struct ld_toc_place *ret, struct err *e)
{
	int r = ld_toc_footer_estargz(t->bytes, t->len, t->blob_size, ret, e);

	if (r == -ENOENT)
		return err_set(e, -EPROTO,
			"the manifest names a TOC but the blob has no eStargz "
			"footer");
	if (!r && ret->is_elsewhere) {
		/* members end where the footer begins */
		ret->off = t->blob_size - ret->footer;
		ret->len = 0;
	}
	return r;
}

/* The TOC's member, out of this blob or another. */
static int read_estargz(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, const struct ld_toc_finder *finder,
	const struct tail *t, const struct ld_toc_place *p, struct buf *ret,
	struct err *e)
{
	uint8_t *bytes;
	int r;

	if (!p->is_elsewhere) {
		r = read_range(rt, src, t, p->off, (size_t)p->len, &bytes, e);
		if (!r)
			*ret = (struct buf){
				.data = bytes, .len = p->len, .cap = p->len};
		return r;
	}
	if (!finder)
		return err_set(e, -EOPNOTSUPP,
			"its TOC is in another image, which is not at hand");
	buf_init(ret, LD_TOC_MAX_BYTES);
	return finder->find(finder->arg, &d->digest, ret, e);
}

int toc_fetch_estargz(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, const struct ld_toc_finder *finder,
	struct ld_layer *ret, struct err *e)
{
	CLEANUP_FREE uint8_t *json = NULL;
	struct ld_layer_desc placed = *d;
	struct ld_toc_place p = {0};
	struct buf packed = {0};
	struct tail t;
	size_t len = 0;
	int r;

	r = read_tail(rt, d, src, TAIL_BYTES, &t, e);
	if (r)
		return r;
	placed.size = t.blob_size;
	r = place_estargz(&t, &p, e);
	if (!r)
		r = read_estargz(rt, d, src, finder, &t, &p, &packed, e);
	mem_free(t.bytes);
	if (!r)
		r = toc_inflate_estargz(
			packed.data, packed.len, &json, &len, e);
	buf_fini(&packed);
	if (!r)
		r = check_digest(d, json, len, e);
	if (r)
		return r;
	return ld_toc_parse_estargz(json, len, p.off, &placed, ret, e);
}
