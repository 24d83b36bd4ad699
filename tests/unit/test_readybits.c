/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/readybits: the contents of a ready file, in plain memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/readybits.h"
#include "runtime/base/mem.h"

#define CHUNKS 300

static const struct bc_map map = {.chunk_count = CHUNKS,
	.device_size = 1 << 20,
	.id = {.algo = DIGEST_SHA256, .bytes = {1, 2, 3}}};
static const uint8_t this_boot[BC_BOOT_ID_LEN] = "this boot";
static const uint8_t other_boot[BC_BOOT_ID_LEN] = "other boot";

static struct bc_ready bits;
static void *mem;

static int setup(void **state)
{
	size_t len = bc_ready_len(CHUNKS);

	assert_int_equal(len, 3 * 4096);
	mem = mem_alloc_aligned(4096, len);
	assert_non_null(mem);
	memset(mem, 0, len);
	assert_int_equal(bc_ready_attach(mem, len, &map, &bits), -EPROTO);
	bc_ready_format(mem, &map, this_boot);
	assert_int_equal(bc_ready_attach(mem, len, &map, &bits), 0);
	assert_int_equal(bc_ready_attach(mem, len - 1, &map, &bits), -EPROTO);
	return 0;
}

static int teardown(void **state)
{
	mem_free(mem);
	return 0;
}

static void lengths_are_whole_pages(void **state)
{
	assert_int_equal(bc_ready_len(0), 4096);
	assert_int_equal(bc_ready_len(1), 3 * 4096);
	assert_int_equal(bc_ready_len(4096 * 8), 3 * 4096);
	assert_int_equal(bc_ready_len(4096 * 8 + 1), 5 * 4096);
}

static void ranges_are_tested_across_words(void **state)
{
	uint32_t i, first, count;

	for (i = 60; i < 200; i++)
		bc_ready_set(&bits, i);
	for (first = 50; first < 210; first++)
		for (count = 0; first + count <= 210; count++)
			assert_int_equal(
				bc_ready_test(bits.ready, first, count),
				count == 0 ||
					(first >= 60 && first + count <= 200));
	assert_false(bc_ready_test(bits.durable, 60, 1));
}

static void what_was_ready_at_the_snapshot_becomes_durable(void **state)
{
	uint64_t *snapshot = mem_calloc(bits.words, 8);

	assert_non_null(snapshot);
	bc_ready_set(&bits, 1);
	bc_ready_set(&bits, 2);
	bc_ready_snapshot(&bits, snapshot);
	bc_ready_set(&bits, 3);
	bc_ready_clear(&bits, 2, 1);
	bc_ready_set_durable(&bits, snapshot);
	assert_true(bc_ready_test(bits.durable, 1, 1));
	assert_false(bc_ready_test(bits.durable, 2, 1));
	assert_false(bc_ready_test(bits.durable, 3, 1));
	mem_free(snapshot);
}

static void a_failed_sync_leaves_durable_bits_only(void **state)
{
	uint64_t g = bc_ready_generation(&bits);
	uint64_t *snapshot = mem_calloc(bits.words, 8);

	assert_non_null(snapshot);
	bc_ready_set(&bits, 1);
	bc_ready_snapshot(&bits, snapshot);
	bc_ready_set_durable(&bits, snapshot);
	bc_ready_set(&bits, 2);
	bc_ready_clear_not_durable(&bits);
	assert_true(bc_ready_test(bits.ready, 1, 1));
	assert_false(bc_ready_test(bits.ready, 2, 1));
	assert_true(bc_ready_generation(&bits) != g);
	mem_free(snapshot);
}

static void a_new_boot_keeps_durable_bits_only(void **state)
{
	bc_ready_set(&bits, 2);
	assert_true(bc_ready_is_boot(&bits, this_boot));
	assert_false(bc_ready_is_boot(&bits, other_boot));
	bc_ready_new_boot(&bits, other_boot);
	assert_true(bc_ready_is_boot(&bits, other_boot));
	assert_false(bc_ready_test(bits.ready, 2, 1));
	assert_false(bc_ready_is_sealed(&bits));
}

static void each_run_has_the_time_of_its_last_use(void **state)
{
	assert_int_equal(bc_ready_run_len(0), 1);
	assert_int_equal(bc_ready_run_len(1000), 1);
	assert_int_equal(bc_ready_run_len(1001), 2);
	assert_int_equal(bc_ready_run_count(1001), 501);
	assert_int_equal(bc_ready_run_count(0), 0);
	assert_true(bc_ready_run_count(UINT32_MAX) <= BC_READY_RUNS);
	assert_int_equal(bc_ready_stamp(&bits, 7), 0);
	bc_ready_touch(&bits, 7, 2, 50);
	bc_ready_touch(&bits, 0, 0, 60);
	assert_int_equal(bc_ready_stamp(&bits, 0), 0);
	assert_int_equal(bc_ready_stamp(&bits, 6), 0);
	assert_int_equal(bc_ready_stamp(&bits, 7), 50);
	assert_int_equal(bc_ready_stamp(&bits, 8), 50);
	assert_int_equal(bc_ready_stamp(&bits, 9), 0);
}

static void a_copy_without_its_map_is_read(void **state)
{
	size_t len = bc_ready_len(CHUNKS);
	struct digest other = map.id;
	struct bc_ready r;

	assert_int_equal(bc_ready_peek(mem, len, &map.id, &r), 0);
	assert_int_equal(r.chunk_count, CHUNKS);
	assert_int_equal(bc_ready_peek(mem, len - 1, &map.id, &r), -EPROTO);
	assert_int_equal(bc_ready_peek(mem, 100, &map.id, &r), -EPROTO);
	other.bytes[5] ^= 1;
	assert_int_equal(bc_ready_peek(mem, len, &other, &r), -EPROTO);
	((uint8_t *)mem)[15] = 0x80; /* the number of chunks */
	assert_int_equal(bc_ready_peek(mem, len, &map.id, &r), -EPROTO);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(lengths_are_whole_pages),
		CASE(ranges_are_tested_across_words),
		CASE(what_was_ready_at_the_snapshot_becomes_durable),
		CASE(a_failed_sync_leaves_durable_bits_only),
		CASE(a_new_boot_keeps_durable_bits_only),
		CASE(each_run_has_the_time_of_its_last_use),
		CASE(a_copy_without_its_map_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
