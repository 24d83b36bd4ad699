/* SPDX-License-Identifier: Apache-2.0 */
/* A long TOC costs little more than what it describes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "loader/layer.h"
#include "runtime/base/clock.h"

enum { ENTRIES = 100000 };

/* Sanitizers keep freed memory: only plain builds are judged. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_JUDGED false
#else
#define IS_JUDGED true
#endif

static uint64_t peak_bytes(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return (uint64_t)u.ru_maxrss << 10;
}

/* As containers/storage writes an ordinary file. */
static void write_toc(struct buf *b)
{
	int r = buf_printf(b, "{\"version\":1,\"entries\":[");

	for (unsigned i = 0; i < ENTRIES && r == 0; i++)
		r = buf_printf(b,
			"%s{\"type\":\"reg\",\"name\":\"usr/share/dir%u/"
			"file%u.txt\",\"mode\":420,\"size\":5000,"
			"\"modtime\":\"2024-01-02T03:04:05Z\","
			"\"accesstime\":\"0001-01-01T00:00:00Z\","
			"\"changetime\":\"0001-01-01T00:00:00Z\",\"digest\":"
			"\"sha256:%064x\",\"offset\":%u,\"endOffset\":%u}",
			i ? "," : "", i / 100, i, i, i * 2000 + 100,
			i * 2000 + 1900);
	if (r == 0)
		r = buf_printf(b, "]}");
	assert_int_equal(r, 0);
}

static void a_toc_of_100_000_entries_is_read_in_little_memory(void **state)
{
	struct ld_layer_desc d = {.digest = {.algo = DIGEST_SHA256}};
	struct ld_layer l;
	struct err e = {0};
	struct buf b;
	uint64_t before, after, ms;

	buf_init(&b, 0);
	write_toc(&b);
	before = peak_bytes();
	ms = clock_ms();
	if (ld_toc_parse_zstd_chunked(b.data, b.len, &d, &l, &e))
		fail_msg("%s", e.text);
	ms = clock_ms() - ms;
	after = peak_bytes();
	print_message("%zu bytes of TOC, %llu bytes more in memory, %llu ms\n",
		b.len, (unsigned long long)(after - before),
		(unsigned long long)ms);
	assert_int_equal(l.entries, ENTRIES);
	if (IS_JUDGED)
		assert_true(after - before < 3 * b.len);
	ld_layer_fini(&l);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_toc_of_100_000_entries_is_read_in_little_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
