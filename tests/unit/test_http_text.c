/* SPDX-License-Identifier: Apache-2.0 */
/* URLs and single header values. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/header.h"
#include "blobcache/url.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

static void origins_are_scheme_host_and_port(void **state)
{
	static const char *const cases[][2] = {
		{"http://a", "http://a:80"},
		{"HTTPS://Example.COM/x?y", "https://example.com:443"},
		{"http://a:8080?x", "http://a:8080"},
		{"https://[::1]:5000/v2/", "https://[::1]:5000"},
		{"https://[fe80::1]", "https://[fe80::1]:443"},
	};
	char out[BC_ORIGIN_MAX];

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(bc_url_origin(cases[i][0], out), 0);
		assert_string_equal(out, cases[i][1]);
	}
}

static void what_is_no_url_of_ours_has_no_origin(void **state)
{
	static const char *const bad[] = {"", "a", "ftp://a", "file:///x",
		"http://", "http:///x", "http://u@a", "http://u:p@a",
		"http://a:0", "http://a:65536", "http://a:x",
		"http://a:", "http://a b", "http://a\nb", "http://a\\b",
		"http://[::1", "http://[::1]x", "http://:80", "javascript://a"};
	static char longest[BC_URL_MAX + 2];
	char out[BC_ORIGIN_MAX];

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		if (bc_url_origin(bad[i], out) != -EPROTO)
			fail_msg("taken: '%s'", bad[i]);
	memset(longest, 'a', BC_URL_MAX + 1);
	memcpy(longest, "http://a/", 9);
	assert_int_equal(bc_url_origin(longest, out), -EPROTO);
	longest[BC_URL_MAX] = '\0';
	assert_int_equal(bc_url_origin(longest, out), 0);
}

static void the_same_origin_means_all_three(void **state)
{
	assert_true(bc_url_is_same_origin("http://A/x", "http://a:80/y"));
	assert_false(bc_url_is_same_origin("http://a", "https://a"));
	assert_false(bc_url_is_same_origin("https://a", "https://a:444"));
	assert_false(bc_url_is_same_origin("https://a", "https://b.a"));
	assert_false(bc_url_is_same_origin("nonsense", "nonsense"));
}

static void loopback_is_an_address_not_a_name_like_one(void **state)
{
	assert_true(bc_url_is_loopback("127.0.0.1:5000"));
	assert_true(bc_url_is_loopback("127.255.1.2"));
	assert_true(bc_url_is_loopback("localhost"));
	assert_true(bc_url_is_loopback("LOCALHOST:1"));
	assert_true(bc_url_is_loopback("[::1]:5000"));
	assert_true(bc_url_is_loopback("https://127.0.0.1/x"));
	assert_false(bc_url_is_loopback("127.0.0.1.example.com"));
	assert_false(bc_url_is_loopback("localhost.example.com"));
	assert_false(bc_url_is_loopback("128.0.0.1"));
	assert_false(bc_url_is_loopback("[::2]"));
	assert_false(bc_url_is_loopback("example.com/127.0.0.1"));
	assert_false(bc_url_is_loopback(""));
}

static void check_join(const char *base, const char *to, const char *want)
{
	char *got = NULL;

	assert_int_equal(bc_url_join(base, to, &got), 0);
	assert_string_equal(got, want);
	mem_free(got);
}

static void redirects_are_resolved_against_their_page(void **state)
{
	char *got;

	check_join("http://a/b/c?d", "e", "http://a/b/e");
	check_join("http://a/b/c?d", "/e?f=g%2Fh#i", "http://a/e?f=g%2Fh");
	check_join("https://a:5/b", "//c/d", "https://c/d");
	check_join("http://a/b/c/d", "../../e", "http://a/e");
	check_join("http://a/b", "https://s3.example:444/x?X-Sig=a+b%20c",
		"https://s3.example:444/x?X-Sig=a+b%20c");
	assert_int_equal(bc_url_join("http://a/", "ftp://b/", &got), -EPROTO);
	assert_int_equal(
		bc_url_join("http://a/", "http://u:p@b/", &got), -EPROTO);
	assert_int_equal(
		bc_url_join("http://a/", "file:///etc/passwd", &got), -EPROTO);
	assert_int_equal(bc_url_join("http://a/", "b\r\nc", &got), -EPROTO);
}

static void shown_urls_hold_no_secret(void **state)
{
	char out[64];

	assert_string_equal(
		bc_url_redact("https://u:p@h:1/x?sig=1#f", out, sizeof(out)),
		"https://h:1/x");
	assert_string_equal(
		bc_url_redact("https://a@b@h/x@y", out, sizeof(out)),
		"https://h/x@y");
	assert_string_equal(bc_url_redact("https://h?sig=1", out, sizeof(out)),
		"https://h");
	assert_string_equal(
		bc_url_redact("https://h/abc", out, 11), "https://h/");
	assert_string_equal(bc_url_redact("a\nb", out, sizeof(out)), "a?b");
}

static int range_of(const char *s, struct bc_content_range *r)
{
	return bc_content_range_parse(s, strlen(s), r);
}

static void content_ranges_are_exact_or_refused(void **state)
{
	static const char *const bad[] = {"", "bytes", "bytes ", "bytes 0-9",
		"bytes 9-0/10", "bytes 0-10/10", "bytes -1-2/3", "bytes 0-/3",
		"bytes -5/10", "bytes a-b/c", "items 0-1/2", "bytes=0-1/2",
		"bytes 0-1/", "bytes 0-18446744073709551616/*", "bytes 0-1/2/3",
		"bytes 0x0-1/2", "bytes 0-1, 3-4/5"};
	struct bc_content_range r;

	assert_int_equal(range_of("bytes 5-9/100", &r), 0);
	assert_true(r.has_range && r.first == 5 && r.last == 9);
	assert_int_equal(r.total, 100);
	assert_int_equal(range_of(" Bytes\t0-0/* \r\n", &r), 0);
	assert_true(r.has_range && r.last == 0 && r.total == 0);
	assert_int_equal(range_of("bytes */47", &r), 0);
	assert_true(!r.has_range && r.total == 47);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		if (range_of(bad[i], &r) != -EPROTO)
			fail_msg("taken: '%s'", bad[i]);
}

static uint64_t after(const char *s)
{
	/* 2020-01-01 00:00:00 UTC */
	return bc_retry_after_ms(s, strlen(s), 1577836800);
}

static void retry_after_is_seconds_or_a_date(void **state)
{
	assert_int_equal(after("0"), 0);
	assert_int_equal(after(" 7 \r\n"), 7000);
	assert_int_equal(after("999999999999"), 3600000);
	assert_int_equal(after("Wed, 01 Jan 2020 00:00:30 GMT"), 30000);
	assert_int_equal(after("Tue, 31 Dec 2019 23:59:59 GMT"), 0);
	assert_int_equal(after("soon"), 0);
	assert_int_equal(after(""), 0);
	assert_int_equal(after("-5"), 0);
}

static void status_lines_give_a_number(void **state)
{
	assert_int_equal(bc_status_line("HTTP/1.1 206 Partial", 20), 206);
	assert_int_equal(bc_status_line("HTTP/2 200", 10), 200);
	assert_int_equal(bc_status_line("HTTP/2 20", 9), 0);
	assert_int_equal(bc_status_line("HTTP/2", 6), 0);
	assert_int_equal(bc_status_line("Host: x", 7), 0);
	assert_int_equal(bc_status_line("HTTP/1.1 042 x", 14), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(origins_are_scheme_host_and_port),
		cmocka_unit_test(what_is_no_url_of_ours_has_no_origin),
		cmocka_unit_test(the_same_origin_means_all_three),
		cmocka_unit_test(loopback_is_an_address_not_a_name_like_one),
		cmocka_unit_test(redirects_are_resolved_against_their_page),
		cmocka_unit_test(shown_urls_hold_no_secret),
		cmocka_unit_test(content_ranges_are_exact_or_refused),
		cmocka_unit_test(retry_after_is_seconds_or_a_date),
		cmocka_unit_test(status_lines_give_a_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
