/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/record, trace and pace: what was read first, and how fast. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/pace.h"
#include "blobcache/record.h"
#include "blobcache/trace.h"
#include "runtime/base/mem.h"

static struct digest digest_number(uint8_t n)
{
	struct digest d = {.algo = DIGEST_SHA256};

	memset(d.bytes, n, 32);
	return d;
}

static uint32_t add_blob(struct bc_record *r, uint8_t n)
{
	struct digest d = digest_number(n), m = digest_number(n + 100);
	uint32_t at;

	assert_int_equal(bc_record_add_blob(r, &d, &m, &at), 0);
	return at;
}

static void expect(const struct bc_record *r, size_t i, uint32_t blob,
	uint32_t group, uint32_t count)
{
	assert_true(i < r->entry_count);
	assert_int_equal(r->entries[i].blob, blob);
	assert_int_equal(r->entries[i].group, group);
	assert_int_equal(r->entries[i].count, count);
}

static void what_continues_an_entry_makes_it_longer(void **state)
{
	struct bc_record r = {0};

	add_blob(&r, 1);
	assert_int_equal(add_blob(&r, 2), 1);
	assert_int_equal(add_blob(&r, 1), 0);
	bc_record_add(&r, 0, 5, 1);
	bc_record_add(&r, 1, 6, 1);
	bc_record_add(&r, 0, 6, 2);
	bc_record_add(&r, 1, 9, 1);
	assert_int_equal(r.entry_count, 3);
	expect(&r, 0, 0, 5, 3);
	expect(&r, 1, 1, 6, 1);
	expect(&r, 2, 1, 9, 1);
	assert_int_equal(bc_record_groups(&r), 5);
	bc_record_fini(&r);
}

static void a_merge_adds_what_is_missing_in_its_order(void **state)
{
	struct bc_record a = {0}, b = {0};

	add_blob(&a, 1);
	bc_record_add(&a, 0, 10, 5);
	bc_record_add(&a, 0, 12, 10); /* overlaps */
	add_blob(&b, 2);
	add_blob(&b, 1);
	bc_record_add(&b, 1, 5, 30); /* around both */
	bc_record_add(&b, 0, 1, 2);
	bc_record_add(&b, 1, 14, 3); /* known */
	assert_int_equal(bc_record_merge(&a, &b), 0);
	assert_int_equal(a.blob_count, 2);
	assert_int_equal(a.entry_count, 4);
	expect(&a, 2, 0, 5, 5);
	/* 22 to 35 continued the second entry */
	expect(&a, 1, 0, 12, 23);
	expect(&a, 3, 1, 1, 2);
	bc_record_fini(&a);
	bc_record_fini(&b);
}

static void a_merge_into_nothing_is_a_copy(void **state)
{
	struct bc_record a = {0}, b = {0};

	add_blob(&b, 1);
	bc_record_add(&b, 0, 7, 2);
	bc_record_add(&b, 0, 1, 2);
	assert_int_equal(bc_record_merge(&a, &b), 0);
	assert_int_equal(a.entry_count, 2);
	expect(&a, 0, 0, 7, 2);
	assert_int_equal(bc_record_merge(&a, &b), 0);
	assert_int_equal(a.entry_count, 2);
	bc_record_fini(&a);
	bc_record_fini(&b);
}

static void make_file(struct buf *out)
{
	struct bc_record r = {0};

	add_blob(&r, 1);
	add_blob(&r, 2);
	bc_record_add(&r, 1, 3, 4);
	bc_record_add(&r, 0, 0, 1);
	buf_init(out, BC_RECORD_MAX_FILE);
	assert_int_equal(bc_record_write(&r, out), 0);
	bc_record_fini(&r);
}

static void a_file_gives_back_what_was_written(void **state)
{
	struct digest want = digest_number(2);
	struct bc_record r;
	struct buf b;

	make_file(&b);
	assert_int_equal(b.len, 64 + 2 * 104 + 2 * 12);
	assert_int_equal(bc_record_parse(b.data, b.len, &r, NULL), 0);
	assert_int_equal(r.blob_count, 2);
	assert_true(digest_is_equal(&r.blobs[1].digest, &want));
	assert_int_equal(r.entry_count, 2);
	expect(&r, 0, 1, 3, 4);
	expect(&r, 1, 0, 0, 1);
	/* and can be added to */
	assert_int_equal(bc_record_add(&r, 0, 1, 1), 0);
	expect(&r, 1, 0, 0, 2);
	bc_record_fini(&r);
	buf_fini(&b);
}

static void any_flipped_byte_is_noticed(void **state)
{
	struct bc_record r;
	struct buf b;
	size_t i;
	int err;

	make_file(&b);
	for (i = 0; i < b.len; i++) {
		b.data[i] ^= 0x40;
		err = bc_record_parse(b.data, b.len, &r, NULL);
		assert_true(err == -EPROTO || err == -EBADMSG);
		b.data[i] ^= 0x40;
	}
	for (i = 0; i < b.len; i++)
		assert_int_equal(bc_record_parse(b.data, i, &r, NULL), -EPROTO);
	buf_fini(&b);
}

/* With a checksum that is right. */
static int parse_changed(const struct buf *b, size_t at, uint32_t v)
{
	struct bc_record r;
	struct digest_ctx *c;
	struct digest sum;
	uint8_t *p = mem_alloc(b->len);
	int err;

	assert_non_null(p);
	memcpy(p, b->data, b->len);
	put_le32(p + at, v);
	assert_int_equal(digest_ctx_create(DIGEST_BLAKE3, &c), 0);
	assert_int_equal(digest_ctx_update(c, p, 32), 0);
	assert_int_equal(digest_ctx_update(c, p + 64, b->len - 64), 0);
	assert_int_equal(digest_ctx_final(c, &sum), 0);
	digest_ctx_destroy(c);
	memcpy(p + 32, sum.bytes, 32);
	err = bc_record_parse(p, b->len, &r, NULL);
	if (err == 0)
		bc_record_fini(&r);
	mem_free(p);
	return err;
}

static void a_hostile_file_with_a_right_checksum_is_refused(void **state)
{
	const size_t blob = 64, entry = 64 + 2 * 104;
	struct buf b;

	make_file(&b);
	assert_int_equal(parse_changed(&b, entry + 8, 5), 0);
	assert_int_equal(parse_changed(&b, 8, 1), -EPROTO);
	assert_int_equal(parse_changed(&b, 12, UINT32_MAX), -EPROTO);
	assert_int_equal(parse_changed(&b, 16, UINT32_MAX), -EPROTO);
	assert_int_equal(parse_changed(&b, 16, 3), -EPROTO);
	assert_int_equal(parse_changed(&b, 20, 1), -EPROTO);
	assert_int_equal(parse_changed(&b, 24, 1), -EPROTO);
	assert_int_equal(parse_changed(&b, blob, 9), -EPROTO);
	assert_int_equal(parse_changed(&b, blob, 0), -EPROTO);
	assert_int_equal(parse_changed(&b, entry, 2), -EPROTO);
	assert_int_equal(parse_changed(&b, entry + 8, 0), -EPROTO);
	assert_int_equal(parse_changed(&b, entry + 8, UINT32_MAX - 2), -EPROTO);
	buf_fini(&b);
}

static void a_trace_keeps_the_order_and_becomes_deaf_when_full(void **state)
{
	struct digest d = digest_number(1), m = digest_number(2);
	struct bc_record r;
	struct bc_trace *t;
	uint32_t n, i;

	assert_int_equal(bc_trace_create(&t), 0);
	assert_int_equal(bc_trace_add_blob(t, &d, &m, &n), 0);
	for (i = 0; i < BC_RECORD_MAX_ENTRIES + 10; i++)
		bc_trace_note(t, n, 2 * i);
	assert_int_equal(bc_trace_count(t), BC_RECORD_MAX_ENTRIES);
	bc_trace_note(t, n, 1);
	assert_int_equal(bc_trace_count(t), BC_RECORD_MAX_ENTRIES);
	assert_int_equal(bc_trace_read(t, &r), 0);
	assert_int_equal(r.entry_count, BC_RECORD_MAX_ENTRIES);
	expect(&r, 7, n, 14, 1);
	bc_record_fini(&r);
	bc_trace_destroy(t);
}

/* ---- pace ---- */

static void without_a_rate_nothing_waits(void **state)
{
	struct bc_pace p;

	bc_pace_init(&p, 0, 5);
	assert_int_equal(bc_pace_take(&p, UINT64_MAX, 5), 0);
	assert_int_equal(bc_pace_take(&p, UINT64_MAX, 5), 0);
}

/* How many takes of n bytes go through in ms, asked every millisecond. */
static unsigned count_takes(uint64_t rate, uint64_t n, uint64_t ms)
{
	struct bc_pace p;
	unsigned takes = 0;
	uint64_t t;

	bc_pace_init(&p, rate, 1000);
	for (t = 0; t <= ms; t++)
		while (bc_pace_take(&p, n, 1000 + t) == 0)
			takes++;
	return takes;
}

static void no_more_than_the_rate_goes_through(void **state)
{
	/* one second's worth to begin with, then the rate */
	assert_int_equal(count_takes(1000, 100, 0), 10);
	assert_int_equal(count_takes(1000, 100, 10000), 110);
	/* what is larger than a second's worth is paid for */
	assert_int_equal(count_takes(1000, 10000, 0), 1);
	assert_int_equal(count_takes(1000, 10000, 20000), 3);
	/* less than a byte per look */
	assert_int_equal(count_takes(10, 10, 10000), 11);
}

static void the_time_to_wait_is_long_enough(void **state)
{
	struct bc_pace p;
	uint64_t now = 7, ms, i;

	bc_pace_init(&p, 1 << 20, now);
	for (i = 0; i < 1000; i++) {
		ms = bc_pace_take(&p, 777777 * (i % 5), now);
		if (ms == 0)
			continue;
		now += ms;
		assert_int_equal(bc_pace_take(&p, 777777 * (i % 5), now), 0);
	}
}

static void what_is_owed_is_waited_for(void **state)
{
	struct bc_pace p;

	bc_pace_init(&p, 1000, 0);
	bc_pace_owe(&p, 4000, 0);
	assert_int_equal(bc_pace_take(&p, 0, 0), 3001);
	assert_int_not_equal(bc_pace_take(&p, 0, 2990), 0);
	assert_int_equal(bc_pace_take(&p, 0, 3001), 0);
	bc_pace_init(&p, 0, 0);
	bc_pace_owe(&p, UINT64_MAX, 0);
	assert_int_equal(bc_pace_take(&p, 1, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_continues_an_entry_makes_it_longer),
		cmocka_unit_test(a_merge_adds_what_is_missing_in_its_order),
		cmocka_unit_test(a_merge_into_nothing_is_a_copy),
		cmocka_unit_test(a_file_gives_back_what_was_written),
		cmocka_unit_test(any_flipped_byte_is_noticed),
		cmocka_unit_test(
			a_hostile_file_with_a_right_checksum_is_refused),
		cmocka_unit_test(
			a_trace_keeps_the_order_and_becomes_deaf_when_full),
		cmocka_unit_test(without_a_rate_nothing_waits),
		cmocka_unit_test(no_more_than_the_rate_goes_through),
		cmocka_unit_test(the_time_to_wait_is_long_enough),
		cmocka_unit_test(what_is_owed_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
