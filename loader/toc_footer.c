/* SPDX-License-Identifier: Apache-2.0 */
/* Footers of layer blobs with a table of contents; see toc_footer.h. */
#include "loader/toc_footer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/util.h"

/* An empty gzip member whose extra field is x bytes long takes this much. */
#define GZIP_FOOTER(x) (10 + 2 + (x) + 5 + 8)
#define HEX_LEN 16

#define ZSTD_SKIPPABLE 0x184d2a50u
#define ZSTD_SKIP_HEADER 8
#define ZSTD_TYPE_CRFS 1

int ld_toc_place_check(
	const struct ld_toc_place *p, uint64_t blob_size, struct err *e)
{
	if (p->len == 0 ||
		(blob_size > 0 && !range_fits(p->off, p->len, blob_size)))
		return err_set(e, -EPROTO,
			"its TOC would be %" PRIu64 " bytes at %" PRIu64
			", outside the blob",
			p->len, p->off);
	if (p->len > LD_TOC_MAX_BYTES || p->raw_len > LD_TOC_MAX_BYTES)
		return err_set_kind(e, ERR_UNSUPPORTED, -E2BIG,
			"its TOC is longer than %u MiB",
			LD_TOC_MAX_BYTES >> 20);
	return 0;
}

/* 16 lower-case hex digits. */
static bool hex_parse(const uint8_t *p, uint64_t *ret)
{
	uint64_t v = 0;
	unsigned d;

	for (unsigned i = 0; i < HEX_LEN; i++) {
		if (p[i] >= '0' && p[i] <= '9')
			d = p[i] - '0';
		else if (p[i] >= 'a' && p[i] <= 'f')
			d = p[i] - 'a' + 10;
		else
			return false;
		v = v << 4 | d;
	}
	*ret = v;
	return true;
}

/* The member's fixed bytes around an extra field of extra bytes. */
static bool is_empty_member(const uint8_t *p, uint16_t extra)
{
	static const uint8_t head[10] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff};
	static const uint8_t end[13] = {1, 0, 0, 0xff, 0xff};

	return !memcmp(p, head, sizeof(head)) && le16_at(p + 10) == extra &&
	       !memcmp(p + 12 + extra, end, sizeof(end));
}

/* The extra field of a footer of footer bytes at the end of tail, or NULL. */
static const uint8_t *gzip_extra(
	const uint8_t *tail, size_t n, unsigned footer, bool has_subfield)
{
	unsigned extra = footer - GZIP_FOOTER(0);
	const uint8_t *p;

	if (n < footer)
		return NULL;
	p = tail + (n - footer);
	if (!is_empty_member(p, (uint16_t)extra))
		return NULL;
	p += 12;
	if (!has_subfield)
		return p;
	if (p[0] != 'S' || p[1] != 'G' || le16_at(p + 2) != extra - 4)
		return NULL;
	return p + 4;
}

int ld_toc_footer_estargz(const uint8_t *tail, size_t n, uint64_t blob_size,
	struct ld_toc_place *ret, struct err *e)
{
	static const char magic[] = "STARGZ";
	static const char external[] = "STARGZEXTERNALTOC";
	struct ld_toc_place place = {0};
	const uint8_t *p;
	int r;

	p = gzip_extra(tail, n, GZIP_FOOTER(21), true);
	if (p && !memcmp(p, external, 17)) {
		*ret = (struct ld_toc_place){
			.footer = GZIP_FOOTER(21), .is_elsewhere = true};
		return 0;
	}
	place.footer = GZIP_FOOTER(26);
	p = gzip_extra(tail, n, place.footer, true);
	if (!p) {
		place.footer = GZIP_FOOTER(22);
		p = gzip_extra(tail, n, place.footer, false);
	}
	if (!p || memcmp(p + HEX_LEN, magic, 6) || !hex_parse(p, &place.off))
		return err_set(e, -ENOENT, "it has no eStargz footer");
	if (blob_size < place.footer || place.off > blob_size - place.footer)
		return err_set(e, -EPROTO,
			"its footer puts the TOC at %" PRIu64
			", outside the blob",
			place.off);
	place.len = blob_size - place.footer - place.off;
	r = ld_toc_place_check(&place, blob_size, e);
	if (r)
		return r;
	*ret = place;
	return 0;
}

/* The payload of a skippable frame of payload bytes at the end, or NULL. */
static const uint8_t *zstd_payload(
	const uint8_t *tail, size_t n, uint32_t payload)
{
	const uint8_t *p;

	if (n < payload + ZSTD_SKIP_HEADER)
		return NULL;
	p = tail + (n - payload - ZSTD_SKIP_HEADER);
	if (le32_at(p) != ZSTD_SKIPPABLE || le32_at(p + 4) != payload)
		return NULL;
	return p + ZSTD_SKIP_HEADER;
}

int ld_toc_footer_zstd(const uint8_t *tail, size_t n, uint64_t blob_size,
	struct ld_toc_place *ret, struct err *e)
{
	static const struct {
		uint32_t payload, magic_at;
		const char *magic;
	} variants[] = {
		{64, 56, "GNUlInUx"},
		{56, 32, "GnUlInUx"},
		{40, 32, "GnUlInUx"},
	};
	struct ld_toc_place place = {0};
	const uint8_t *p = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_LEN(variants) && !place.footer; i++) {
		p = zstd_payload(tail, n, variants[i].payload);
		if (p &&
			!memcmp(p + variants[i].magic_at, variants[i].magic, 8))
			place.footer = variants[i].payload + ZSTD_SKIP_HEADER;
	}
	if (!place.footer)
		return err_set(e, -ENOENT, "it has no zstd:chunked footer");
	place.off = le64_at(p);
	place.len = le64_at(p + 8);
	place.raw_len = le64_at(p + 16);
	if (le64_at(p + 24) != ZSTD_TYPE_CRFS)
		return err_set(e, -EOPNOTSUPP,
			"its TOC is of type %" PRIu64 ", only 1 is known",
			le64_at(p + 24));
	if (blob_size < place.footer ||
		!range_fits(place.off, place.len, blob_size - place.footer))
		return err_set(e, -EPROTO,
			"its footer puts the TOC at %" PRIu64
			", outside the blob",
			place.off);
	r = ld_toc_place_check(&place, blob_size, e);
	if (r)
		return r;
	*ret = place;
	return 0;
}
