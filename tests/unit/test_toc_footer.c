/* SPDX-License-Identifier: Apache-2.0 */
/* Footers of eStargz and zstd:chunked blobs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/toc_footer.h"
#include "runtime/base/buf.h"

/* ---- eStargz ---- */

/* An empty gzip member with this extra field, at the end of tail. */
static size_t gzip_footer(uint8_t *tail, const void *extra, size_t extra_len)
{
	static const uint8_t head[] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff};

	memcpy(tail, head, sizeof(head));
	put_le16(tail + 10, (uint16_t)extra_len);
	memcpy(tail + 12, extra, extra_len);
	memset(tail + 12 + extra_len, 0, 13);
	tail[12 + extra_len] = 1;
	tail[15 + extra_len] = 0xff;
	tail[16 + extra_len] = 0xff;
	return 25 + extra_len;
}

static size_t estargz_footer(uint8_t *tail, const char *hex)
{
	uint8_t extra[26] = {'S', 'G', 22, 0};

	memcpy(extra + 4, hex, 16);
	memcpy(extra + 20, "STARGZ", 6);
	return gzip_footer(tail, extra, sizeof(extra));
}

static void the_current_estargz_footer_is_read(void **state)
{
	uint8_t tail[72] = {0};
	struct ld_toc_place p;
	size_t n = estargz_footer(tail + 21, "000000000049da17");
	struct err e = {0};

	assert_int_equal(n, 51);
	assert_int_equal(
		ld_toc_footer_estargz(tail, sizeof(tail), 4987677, &p, &e), 0);
	assert_int_equal(p.off, 4839959);
	assert_int_equal(p.len, 4987677 - 51 - 4839959);
	assert_int_equal(p.footer, 51);
	assert_false(p.is_elsewhere);
}

static void the_legacy_stargz_footer_is_read(void **state)
{
	static const char extra[] = "0000000000000064STARGZ";
	uint8_t tail[72];
	struct ld_toc_place p;
	size_t n = gzip_footer(tail, extra, 22);

	assert_int_equal(n, 47);
	assert_int_equal(ld_toc_footer_estargz(tail, n, 1000, &p, NULL), 0);
	assert_int_equal(p.off, 100);
	assert_int_equal(p.len, 1000 - 47 - 100);
}

static void an_external_toc_is_told_apart(void **state)
{
	static const char extra[] = "SG\x11\0STARGZEXTERNALTOC";
	uint8_t tail[72];
	struct ld_toc_place p;
	size_t n = gzip_footer(tail, extra, 21);

	assert_int_equal(n, 46);
	assert_int_equal(ld_toc_footer_estargz(tail, n, 1000, &p, NULL), 0);
	assert_true(p.is_elsewhere);
}

static void an_estargz_footer_must_point_into_the_blob(void **state)
{
	uint8_t tail[72];
	struct ld_toc_place p;
	struct err e = {0};
	size_t n = estargz_footer(tail, "00000000000003b5");

	/* 949 is where the footer begins: a TOC of no bytes */
	assert_int_equal(ld_toc_footer_estargz(tail, n, 1000, &p, &e), -EPROTO);
	assert_int_equal(e.kind, 5);
	n = estargz_footer(tail, "ffffffffffffffff");
	assert_int_equal(ld_toc_footer_estargz(tail, n, 1000, &p, &e), -EPROTO);
	n = estargz_footer(tail, "0000000000000000");
	assert_int_equal(ld_toc_footer_estargz(tail, n, 50, &p, &e), -EPROTO);
	assert_int_equal(
		ld_toc_footer_estargz(tail, n, 1ull << 40, &p, &e), -E2BIG);
}

static void what_is_no_estargz_footer_is_not_taken_for_one(void **state)
{
	uint8_t tail[72] = {0};
	struct ld_toc_place p;
	size_t n = estargz_footer(tail, "000000000000006G");

	assert_int_equal(
		ld_toc_footer_estargz(tail, n, 1000, &p, NULL), -ENOENT);
	n = estargz_footer(tail, "00000000000000AB");
	assert_int_equal(
		ld_toc_footer_estargz(tail, n, 1000, &p, NULL), -ENOENT);
	n = estargz_footer(tail, "0000000000000010");
	for (size_t i = 0; i < n; i++) {
		if (i >= 16 && i < 32)
			continue;
		tail[i] ^= 0x40;
		assert_int_equal(ld_toc_footer_estargz(tail, n, 1000, &p, NULL),
			-ENOENT);
		tail[i] ^= 0x40;
	}
	for (size_t i = 0; i < n; i++)
		assert_int_equal(ld_toc_footer_estargz(tail, i, 1000, &p, NULL),
			-ENOENT);
}

/* ---- zstd:chunked ---- */

static size_t zstd_footer(uint8_t *tail, uint32_t payload, uint64_t off,
	uint64_t len, uint64_t raw, uint64_t type)
{
	memset(tail, 0, 72);
	put_le32(tail, 0x184d2a50);
	put_le32(tail + 4, payload);
	put_le64(tail + 8, off);
	put_le64(tail + 16, len);
	put_le64(tail + 24, raw);
	put_le64(tail + 32, type);
	if (payload == 64)
		memcpy(tail + 64, "GNUlInUx", 8);
	else
		memcpy(tail + 40, "GnUlInUx", 8);
	return payload + 8;
}

static void all_three_zstd_footers_are_read(void **state)
{
	static const uint32_t payloads[] = {40, 56, 64};
	uint8_t tail[72 + 7] = {0};
	struct ld_toc_place p;
	size_t n;

	for (size_t i = 0; i < 3; i++) {
		n = zstd_footer(tail + 7, payloads[i], 100, 200, 3000, 1);
		assert_int_equal(
			ld_toc_footer_zstd(tail, n + 7, 1000, &p, NULL), 0);
		assert_int_equal(p.off, 100);
		assert_int_equal(p.len, 200);
		assert_int_equal(p.raw_len, 3000);
		assert_int_equal(p.footer, n);
	}
}

static void a_zstd_footer_must_point_into_the_blob(void **state)
{
	uint8_t tail[72];
	struct ld_toc_place p;
	struct err e = {0};
	size_t n = zstd_footer(tail, 64, 900, 29, 3000, 1);

	assert_int_equal(ld_toc_footer_zstd(tail, n, 1000, &p, &e), -EPROTO);
	n = zstd_footer(tail, 64, UINT64_MAX, 2, 3000, 1);
	assert_int_equal(ld_toc_footer_zstd(tail, n, 1000, &p, &e), -EPROTO);
	n = zstd_footer(tail, 64, 2, UINT64_MAX, 3000, 1);
	assert_int_equal(ld_toc_footer_zstd(tail, n, 1000, &p, &e), -EPROTO);
	n = zstd_footer(tail, 64, 100, 0, 3000, 1);
	assert_int_equal(ld_toc_footer_zstd(tail, n, 1000, &p, &e), -EPROTO);
	n = zstd_footer(tail, 64, 100, 200, (150u << 20) + 1, 1);
	assert_int_equal(ld_toc_footer_zstd(tail, n, 1000, &p, &e), -E2BIG);
	assert_int_equal(e.kind, ERR_UNSUPPORTED);
	n = zstd_footer(tail, 64, 100, 200, 3000, 2);
	assert_int_equal(
		ld_toc_footer_zstd(tail, n, 1000, &p, &e), -EOPNOTSUPP);
}

static void what_is_no_zstd_footer_is_not_taken_for_one(void **state)
{
	uint8_t tail[72];
	struct ld_toc_place p;
	size_t n = zstd_footer(tail, 64, 100, 200, 3000, 1);

	for (size_t i = 0; i < n; i++) {
		if (i >= 8 && i < 64)
			continue;
		tail[i] ^= 0x40;
		assert_int_equal(
			ld_toc_footer_zstd(tail, n, 1000, &p, NULL), -ENOENT);
		tail[i] ^= 0x40;
	}
	for (size_t i = 0; i < n; i++)
		assert_int_equal(
			ld_toc_footer_zstd(tail, i, 1000, &p, NULL), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_current_estargz_footer_is_read),
		cmocka_unit_test(the_legacy_stargz_footer_is_read),
		cmocka_unit_test(an_external_toc_is_told_apart),
		cmocka_unit_test(an_estargz_footer_must_point_into_the_blob),
		cmocka_unit_test(
			what_is_no_estargz_footer_is_not_taken_for_one),
		cmocka_unit_test(all_three_zstd_footers_are_read),
		cmocka_unit_test(a_zstd_footer_must_point_into_the_blob),
		cmocka_unit_test(what_is_no_zstd_footer_is_not_taken_for_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
