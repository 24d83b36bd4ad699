/* SPDX-License-Identifier: Apache-2.0 */
/* runtime/base: errors, memory, buffers, lists, digests. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"
#include "runtime/base/list.h"
#include "runtime/base/mem.h"

static void err_says_kind_and_one_line(void **state)
{
	struct err e = {0};

	assert_int_equal(err_set(&e, -EPROTO, "a\nb"), -EPROTO);
	assert_int_equal(e.kind, ERR_BROKEN);
	assert_string_equal(e.text, "a b");
	assert_int_equal(err_wrap(&e, "cannot read '%s'", "x"), -EPROTO);
	assert_string_equal(e.text, "cannot read 'x': a b");
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	(void)err_sys(&e, -ENOENT, "open");
	assert_string_equal(e.text, "open: No such file or directory");
}

static void err_cuts_what_is_too_long(void **state)
{
	struct err e = {0};
	char longer[2000];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	(void)err_set(&e, -EIO, "%s", longer);
	(void)err_wrap(&e, "%s", longer);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

static void mem_fails_the_nth_time(void **state)
{
	void *p;

	(void)mem_fail_nth(2, 0);
	p = mem_alloc(1);
	assert_non_null(p);
	mem_free(p);
	assert_null(mem_alloc(1));
	p = mem_alloc(1);
	assert_non_null(p);
	mem_free(p);
	(void)mem_fail_nth(1, 1);
	assert_null(mem_alloc(1));
	assert_null(mem_calloc(1, 1));
	(void)mem_fail_nth(0, 0);
}

static void mem_refuses_products_that_do_not_fit(void **state)
{
	void *items = NULL;
	size_t cap = 0;

	assert_null(mem_calloc(SIZE_MAX / 2, 3));
	assert_int_equal(
		mem_grow(&items, &cap, SIZE_MAX / 2, SIZE_MAX, 3), -ENOMEM);
}

static void buf_keeps_its_cap(void **state)
{
	struct buf b;

	buf_init(&b, 10);
	assert_int_equal(buf_append(&b, "12345678", 8), 0);
	assert_int_equal(buf_append(&b, "123", 3), -E2BIG);
	assert_int_equal(buf_append(&b, "90", 2), 0);
	assert_int_equal(buf_terminate(&b), 0);
	assert_string_equal((char *)b.data, "1234567890");
	assert_int_equal(buf_printf(&b, "%d", 1), -E2BIG);
	buf_fini(&b);
}

static void buf_prints_and_appends_zeros(void **state)
{
	struct buf b;

	buf_init(&b, 0);
	assert_int_equal(buf_printf(&b, "%s-%d", "abc", 7), 0);
	assert_int_equal(b.len, 5);
	assert_int_equal(buf_append_zeros(&b, 3), 0);
	assert_int_equal(b.len, 8);
	assert_memory_equal(b.data, "abc-7\0\0\0", 8);
	buf_fini(&b);
}

static void reader_stays_failed(void **state)
{
	const uint8_t in[] = {1, 2, 3, 4, 5};
	struct rd r = rd_over(in, sizeof(in));

	assert_int_equal(rd_u32(&r), 0x04030201);
	assert_int_equal(rd_u16(&r), 0);
	assert_true(rd_failed(&r));
	assert_int_equal(rd_u8(&r), 0);
	assert_int_equal(rd_left(&r), 0);
}

static void list_moves_nodes(void **state)
{
	struct list a, b, n1, n2;
	int count = 0;

	list_init(&a);
	list_init(&b);
	list_push_back(&a, &n1);
	list_push_back(&a, &n2);
	list_splice(&b, &a);
	assert_true(list_is_empty(&a));
	list_for_each_safe(it, &b) {
		list_remove(it);
		list_remove(it);
		count++;
	}
	assert_int_equal(count, 2);
	assert_null(list_pop_front(&b));
}

static void digest_text_round_trips(void **state)
{
	static const char *const bad[] = {"", "sha256", "sha256:", "md5:00",
		"sha256:zz", "SHA256:00",
		"sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991"
		"b7852b855",
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991"
		"b7852b8555"};
	char text[DIGEST_MAX_TEXT];
	struct digest d, again;
	size_t i;

	assert_int_equal(digest_of(DIGEST_SHA256, "", 0, &d), 0);
	assert_string_equal(digest_text(&d, text),
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991"
		"b7852b855");
	assert_int_equal(digest_parse(text, strlen(text), &again), 0);
	assert_true(digest_is_equal(&d, &again));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
			digest_parse(bad[i], strlen(bad[i]), &again), -EPROTO);
	assert_int_equal(digest_check(&d, "x", 1), -EBADMSG);
}

/*
 * The official vectors' input: bytes count up modulo 251. The digests are those
 * of the reference implementation.
 */
static void blake3_gives_the_official_digests(void **state)
{
	static const struct {
		size_t len;
		const char *hex;
	} vectors[] = {
		{0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae4"
		    "1f3262"},
		{1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f5"
		    "92e213"},
		{63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e20762"
		     "7b7db7b"},
		{64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f"
		     "2511b98"},
		{65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6"
		     "b263dee"},
		{1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b"
		       "28f70bd11"},
		{1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d1"
		       "21c855af7"},
		{1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7f"
		       "b814b8444"},
		{2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529"
		       "b85fba24a"},
		{2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879"
		       "522563030"},
		{3072, "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7a"
		       "d1e5cffd2"},
		{4096, "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d21"
		       "63229e969"},
		{4097, "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b"
		       "8aa0fb995"},
		{5120, "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34"
		       "230535833"},
		{8192, "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948"
		       "f718a2a63"},
		{8193, "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f"
		       "5f1b7bc3b"},
		{16384, "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb3247"
			"35041ddde4"},
		{31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdc"
			"ce94895c47"},
		{102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f79"
			 "02e7943e085"},
	};
	static uint8_t in[102400];
	char hex[65];
	struct digest d, piecewise;
	struct digest_ctx *c;
	size_t i, k, step;

	for (i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i % 251);
	for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		assert_int_equal(
			digest_of(DIGEST_BLAKE3, in, vectors[i].len, &d), 0);
		assert_string_equal(digest_hex(&d, hex), vectors[i].hex);
		assert_int_equal(digest_ctx_create(DIGEST_BLAKE3, &c), 0);
		for (k = 0; k < vectors[i].len; k += step) {
			step = 1 + k % 1500;
			if (step > vectors[i].len - k)
				step = vectors[i].len - k;
			assert_int_equal(digest_ctx_update(c, in + k, step), 0);
		}
		assert_int_equal(digest_ctx_final(c, &piecewise), 0);
		digest_ctx_destroy(c);
		assert_true(digest_is_equal(&d, &piecewise));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(err_says_kind_and_one_line),
		cmocka_unit_test(err_cuts_what_is_too_long),
		cmocka_unit_test(mem_fails_the_nth_time),
		cmocka_unit_test(mem_refuses_products_that_do_not_fit),
		cmocka_unit_test(buf_keeps_its_cap),
		cmocka_unit_test(buf_prints_and_appends_zeros),
		cmocka_unit_test(reader_stays_failed),
		cmocka_unit_test(list_moves_nodes),
		cmocka_unit_test(digest_text_round_trips),
		cmocka_unit_test(blake3_gives_the_official_digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
