/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/ahead: when to fetch ahead of readers, and how far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/ahead.h"
#include "runtime/base/util.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

/* Reads len bytes at off; what is asked for is added to *asked. */
static bool read_one(
	struct bc_ahead *a, uint64_t off, uint64_t len, uint64_t *asked)
{
	uint64_t from = 0, to = 0;
	bool r = bc_ahead_note(a, off, len, true, &from, &to);

	if (r) {
		assert_true(to > from);
		assert_true(to - from <= BC_AHEAD_MAX_WINDOW);
		*asked += to - from;
	}
	return r;
}

static void a_sequential_reader_is_kept_ahead_of(void **state)
{
	struct bc_ahead a = {0};
	uint64_t off, asked = 0, from, to, top = 0;
	unsigned times = 0;

	for (off = 0; off < 64 * MIB; off += 128 * KIB) {
		if (bc_ahead_note(&a, off, 128 * KIB, true, &from, &to)) {
			/* nothing twice, nothing left out, never behind */
			assert_true(from >= top && from >= off + 128 * KIB);
			assert_true(top == 0 || from == top);
			top = to;
			asked += to - from;
			times++;
		}
		if (off > 16 * MIB)
			assert_true(top >= off + 4 * MIB);
		assert_true(top <= off + 128 * KIB + BC_AHEAD_MAX_WINDOW);
	}
	assert_true(asked >= 60 * MIB);
	/* in few, large steps */
	assert_true(times < 40);
}

static void one_read_or_two_are_no_stream(void **state)
{
	struct bc_ahead a = {0};
	uint64_t asked = 0;

	assert_false(read_one(&a, 0, 4096, &asked));
	assert_false(read_one(&a, 4096, 4096, &asked));
	assert_true(read_one(&a, 8192, 4096, &asked));
	assert_int_equal(asked, BC_AHEAD_MIN_WINDOW);
}

static void what_could_not_be_asked_for_is_asked_for_later(void **state)
{
	uint64_t off, from = 0, to = 0, last = 0;
	struct bc_ahead a = {0};

	for (off = 0; off < 8 * MIB; off += 128 * KIB)
		assert_false(
			bc_ahead_note(&a, off, 128 * KIB, false, &from, &to));
	assert_true(bc_ahead_note(&a, off, 128 * KIB, true, &from, &to));
	assert_int_equal(from, off + 128 * KIB);
	last = to;
	for (off += 128 * KIB; off < 9 * MIB; off += 128 * KIB)
		assert_false(
			bc_ahead_note(&a, off, 128 * KIB, false, &from, &to));
	assert_true(bc_ahead_note(&a, off, 128 * KIB, true, &from, &to));
	assert_int_equal(from, last > off + 128 * KIB ? last : off + 128 * KIB);
}

static void random_reads_ask_for_nothing(void **state)
{
	struct bc_ahead a = {0};
	uint64_t x = 1, asked = 0;
	unsigned i;

	for (i = 0; i < 10000; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		(void)read_one(&a, (x >> 20) % (1 << 30), 4096, &asked);
	}
	/* by chance some lie close together */
	assert_true(asked < 64 * MIB);
}

static void randomness_makes_windows_smaller(void **state)
{
	struct bc_ahead a = {0};
	uint64_t off, x = 1, calm = 0, wild = 0;
	unsigned i;

	for (off = 0; off < 32 * MIB; off += 128 * KIB)
		(void)read_one(&a, off, 128 * KIB, &calm);
	memset(&a, 0, sizeof(a));
	for (off = 0; off < 32 * MIB; off += 128 * KIB) {
		(void)read_one(&a, off, 128 * KIB, &wild);
		assert_true(wild <= off + 256 * KIB + 2 * MIB);
		for (i = 0; i < 3; i++) {
			x = x * 6364136223846793005 + 1442695040888963407;
			assert_false(read_one(
				&a, (1ull << 40) + (x >> 20), 4096, &wild));
		}
	}
	assert_true(wild < calm);
	/* and they grow again */
	for (; off < 64 * MIB; off += 128 * KIB)
		(void)read_one(&a, off, 128 * KIB, &wild);
	assert_true(wild >= off + 4 * MIB - 1 * MIB);
}

static void streams_side_by_side_are_told_apart(void **state)
{
	struct bc_ahead a = {0};
	uint64_t off, asked[8] = {0};
	unsigned i;

	for (off = 0; off < 16 * MIB; off += 64 * KIB)
		for (i = 0; i < ARRAY_LEN(asked); i++)
			(void)read_one(
				&a, i * 1024 * MIB + off, 64 * KIB, &asked[i]);
	for (i = 0; i < ARRAY_LEN(asked); i++)
		assert_true(asked[i] >= 14 * MIB);
}

static void requests_that_overtake_each_other_are_one_stream(void **state)
{
	static const unsigned order[] = {0, 2, 1, 3, 5, 4, 7, 6};
	struct bc_ahead a = {0};
	uint64_t off, asked = 0;
	unsigned i;

	for (off = 0; off < 16 * MIB; off += 8 * 64 * KIB)
		for (i = 0; i < ARRAY_LEN(order); i++)
			(void)read_one(&a, off + order[i] * 64 * KIB, 64 * KIB,
				&asked);
	assert_true(asked >= 15 * MIB);
	assert_int_equal(a.chaos, 0);
}

/* ---- bulk ---- */

#define PARTS 64u

/* Touches the blob in groups of 64 KiB, one in step; true when it turns on. */
static bool touch(struct bc_bulk *b, uint64_t from, uint64_t to, unsigned step)
{
	bool r = false;

	for (; from < to; from += step * 64 * KIB)
		r |= bc_bulk_note(b, from, 64 * KIB);
	return r;
}

static void who_reads_without_gaps_reads_all(void **state)
{
	uint32_t touched[PARTS] = {0};
	struct bc_bulk b = {.touched = touched, .parts = PARTS};

	assert_false(touch(&b, 0, 30 * MIB, 1));
	assert_true(touch(&b, 30 * MIB, 32 * MIB, 1));
	/* once */
	assert_false(touch(&b, 32 * MIB, 256 * MIB, 1));
}

static void who_reads_here_and_there_does_not(void **state)
{
	uint32_t touched[PARTS] = {0};
	struct bc_bulk b = {.touched = touched, .parts = PARTS};

	assert_false(touch(&b, 0, 256 * MIB, 3));
	/* much that is dense, but more that is not */
	assert_false(touch(&b, 0, 36 * MIB, 1));
}

static void a_small_blob_is_not_worth_it_and_bounds_hold(void **state)
{
	uint32_t touched[3] = {0};
	struct bc_bulk b = {.touched = touched, .parts = 3};

	assert_false(bc_bulk_note(&b, 12 * MIB, 64 * KIB));
	assert_false(bc_bulk_note(&b, UINT64_MAX, UINT32_MAX));
	assert_false(touch(&b, 0, 12 * MIB, 1));
	assert_false(touch(&b, 0, 12 * MIB, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sequential_reader_is_kept_ahead_of),
		cmocka_unit_test(one_read_or_two_are_no_stream),
		cmocka_unit_test(
			what_could_not_be_asked_for_is_asked_for_later),
		cmocka_unit_test(random_reads_ask_for_nothing),
		cmocka_unit_test(randomness_makes_windows_smaller),
		cmocka_unit_test(streams_side_by_side_are_told_apart),
		cmocka_unit_test(
			requests_that_overtake_each_other_are_one_stream),
		cmocka_unit_test(who_reads_without_gaps_reads_all),
		cmocka_unit_test(who_reads_here_and_there_does_not),
		cmocka_unit_test(a_small_blob_is_not_worth_it_and_bounds_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
