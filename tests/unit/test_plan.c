/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/plan and budget: what is fetched together, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/budget.h"
#include "blobcache/plan.h"
#include "runtime/base/util.h"

static const struct bc_plan_limits small = {
	.max_gap = 10, .max_len = 100, .max_decoded = 1000, .max_groups = 4};

#define GROUP(off, len, decoded) \
	{ \
		.src_off = (off), .src_len = (len), .dec_len = (decoded), \
		.chunk_count = 1, .codec = BC_CODEC_ZSTD \
	}

static struct bc_group groups[] = {
	GROUP(0, 20, 50),
	GROUP(20, 20, 50),
	GROUP(50, 20, 50),
	GROUP(81, 19, 50),
	GROUP(100, 500, 5000),
	GROUP(600, 50, 600),
	GROUP(649, 50, 400),
	GROUP(700, 1, 1),
};

static const struct bc_map map = {
	.groups = groups, .group_count = ARRAY_LEN(groups), .chunk_count = 1};

static void expect(const uint32_t *wanted, uint32_t n, uint32_t first,
	uint64_t off, uint64_t len, uint32_t count)
{
	struct bc_range r = bc_plan_next(&map, &small, wanted, first, n);

	assert_int_equal(r.first, first);
	assert_int_equal(r.off, off);
	assert_int_equal(r.len, len);
	assert_int_equal(r.count, count);
}

static void neighbours_and_small_gaps_share_a_range(void **state)
{
	const uint32_t all[] = {0, 1, 2, 3};

	expect(all, 4, 0, 0, 70, 3);
	expect(all, 4, 3, 81, 19, 1);
}

static void a_gap_that_is_too_large_ends_a_range(void **state)
{
	const uint32_t wanted[] = {0, 2};

	groups[2].src_off = 30;
	expect(wanted, 2, 0, 0, 50, 2);
	groups[2].src_off = 31;
	expect(wanted, 2, 0, 0, 20, 1);
	groups[2].src_off = 50;
}

static void a_large_group_goes_alone(void **state)
{
	const uint32_t wanted[] = {3, 4, 5};

	expect(wanted, 3, 0, 81, 19, 1);
	expect(wanted, 3, 1, 100, 500, 1);
	expect(wanted, 3, 2, 600, 50, 1);
}

static void overlapping_groups_share_their_bytes(void **state)
{
	const uint32_t wanted[] = {5, 6, 7};

	expect(wanted, 3, 0, 600, 99, 2);
	expect(wanted, 3, 2, 700, 1, 1);
}

static void decoded_bytes_bound_a_range_too(void **state)
{
	const uint32_t wanted[] = {5, 6};

	groups[6].dec_len = 401;
	expect(wanted, 2, 0, 600, 50, 1);
	groups[6].dec_len = 400;
}

static void a_local_source_gets_a_range_for_each_group(void **state)
{
	const uint32_t wanted[] = {0, 1};

	assert_int_equal(
		bc_plan_next(&map, &bc_plan_local, wanted, 0, 2).count, 1);
}

static void expect_around(
	uint32_t around, uint32_t group, uint32_t first, uint32_t count)
{
	struct bc_plan_limits limits = small;
	uint32_t n;

	limits.around = around;
	limits.max_groups = 100;
	assert_int_equal(bc_plan_around(&map, &limits, group, &n), first);
	assert_int_equal(n, count);
}

static void small_neighbours_are_taken_along(void **state)
{
	uint32_t n;

	/* Windows [0, 70), [70, 140): the same from each group in it. */
	expect_around(70, 0, 0, 3);
	expect_around(70, 1, 0, 3);
	expect_around(70, 2, 0, 3);
	/* Group 4 begins in the window of group 3 and ends outside. */
	expect_around(70, 3, 3, 1);
	/* Group 7 does too, in that of group 6, but it is small. */
	groups[7] = (struct bc_group)GROUP(699, 2, 1);
	expect_around(70, 6, 6, 2);
	groups[7] = (struct bc_group)GROUP(700, 1, 1);
	/* The gap before group 3 is too large. */
	expect_around(100, 1, 0, 3);
	/* A group as large as a window goes alone. */
	expect_around(120, 4, 4, 1);
	expect_around(20, 1, 1, 1);
	expect_around(0, 1, 1, 1);
	assert_int_equal(bc_plan_around(&map, &bc_plan_local, 1, &n), 1);
	assert_int_equal(n, 1);
}

/* ---- budget ---- */

static unsigned granted;
static struct bc_ticket *last;

static void on_granted(struct bc_ticket *t)
{
	granted++;
	last = t;
}

static void who_does_not_fit_waits_and_demand_goes_first(void **state)
{
	struct bc_ticket t[5];
	struct bc_budget b;
	int i;

	granted = 0;
	memset(t, 0, sizeof(t));
	for (i = 0; i < 5; i++)
		t[i].granted = on_granted;
	assert_int_equal(bc_budget_init(&b, 100), 0);
	assert_true(bc_budget_take(&b, &t[0], 70, RT_DEMAND));
	assert_false(bc_budget_take(&b, &t[1], 20, RT_PREFETCH));
	assert_false(bc_budget_take(&b, &t[2], 50, RT_DEMAND));
	/* It would fit, but not before who came earlier. */
	assert_false(bc_budget_take(&b, &t[3], 10, RT_DEMAND));
	bc_budget_give(&b, &t[0]);
	assert_int_equal(granted, 2);
	assert_ptr_equal(last, &t[3]);
	bc_budget_give(&b, &t[2]);
	assert_int_equal(granted, 3);
	assert_ptr_equal(last, &t[1]);
	bc_budget_give(&b, &t[1]);
	bc_budget_give(&b, &t[3]);
	assert_int_equal(b.used, 0);
	bc_budget_fini(&b);
}

static void what_exceeds_the_bound_goes_alone(void **state)
{
	struct bc_ticket big = {.granted = on_granted}, one = big;
	struct bc_budget b;

	granted = 0;
	assert_int_equal(bc_budget_init(&b, 100), 0);
	assert_true(bc_budget_take(&b, &big, 1000, RT_DEMAND));
	assert_false(bc_budget_take(&b, &one, 1, RT_DEMAND));
	bc_budget_give(&b, &big);
	assert_int_equal(granted, 1);
	assert_false(bc_budget_take(&b, &big, 1000, RT_DEMAND));
	bc_budget_give(&b, &one);
	assert_int_equal(granted, 2);
	bc_budget_give(&b, &big);
	bc_budget_fini(&b);
}

static void a_promoted_ticket_is_judged_as_demand(void **state)
{
	struct bc_ticket a = {.granted = on_granted}, p = a;
	struct bc_budget b;

	granted = 0;
	assert_int_equal(bc_budget_init(&b, 100), 0);
	assert_true(bc_budget_take(&b, &a, 60, RT_DEMAND));
	assert_false(bc_budget_take(&b, &p, 40, RT_PREFETCH));
	bc_budget_promote(&b, &p);
	assert_int_equal(granted, 1);
	bc_budget_promote(&b, &p); /* no longer waits */
	assert_int_equal(granted, 1);
	bc_budget_give(&b, &p);
	bc_budget_give(&b, &a);
	bc_budget_fini(&b);
}

static void no_share_takes_what_others_need(void **state)
{
	struct bc_share dead = {0}, also = {0}, well = {0};
	struct bc_ticket d[20], a[20], w = {.granted = on_granted};
	unsigned i, dead_has = 0, also_has = 0;
	struct bc_budget b;

	granted = 0;
	assert_int_equal(bc_budget_init(&b, 12), 0);
	for (i = 0; i < ARRAY_LEN(d); i++) {
		d[i] = (struct bc_ticket){
			.granted = on_granted, .share = &dead};
		dead_has += bc_budget_take(&b, &d[i], 1, RT_DEMAND);
	}
	assert_int_equal(dead_has, 9);
	for (i = 0; i < ARRAY_LEN(a); i++) {
		a[i] = (struct bc_ticket){
			.granted = on_granted, .share = &also};
		also_has += bc_budget_take(&b, &a[i], 1, RT_DEMAND);
	}
	assert_int_equal(also_has, 3);
	/* Behind all those that wait, and at once. */
	w.share = &well;
	for (i = 0; i < 100; i++) {
		assert_true(bc_budget_take(&b, &w, 1, RT_DEMAND));
		bc_budget_give(&b, &w);
		assert_int_equal(granted, 0);
	}
	/* As some end, the next ones of the same share come, in order. */
	for (i = 0; i < 6; i++)
		bc_budget_give(&b, &d[i]);
	assert_true(granted > 0);
	assert_false(d[6].is_waiting);
	assert_true(d[19].is_waiting);
	for (i = 6; i < ARRAY_LEN(d); i++)
		bc_budget_give(&b, &d[i]);
	for (i = 0; i < ARRAY_LEN(a); i++)
		bc_budget_give(&b, &a[i]);
	assert_int_equal(granted, 11 + 17);
	assert_int_equal(b.used + dead.used + also.used + well.used, 0);
	bc_budget_fini(&b);
}

static void what_is_large_waits_for_no_share_of_its_own(void **state)
{
	struct bc_share s = {0};
	struct bc_ticket big = {.granted = on_granted, .share = &s};
	struct bc_ticket two = big, other = {.granted = on_granted};
	struct bc_budget b;

	granted = 0;
	assert_int_equal(bc_budget_init(&b, 100), 0);
	assert_true(bc_budget_take(&b, &big, 80, RT_DEMAND));
	assert_false(bc_budget_take(&b, &two, 30, RT_DEMAND));
	assert_true(bc_budget_take(&b, &other, 20, RT_DEMAND));
	bc_budget_give(&b, &big);
	assert_int_equal(granted, 1);
	bc_budget_give(&b, &two);
	bc_budget_give(&b, &other);
	bc_budget_fini(&b);
}

static void the_least_of_late_is_the_distance(void **state)
{
	struct bc_distance d = {0};
	unsigned i;

	assert_int_equal(bc_distance_us(&d), 0);
	bc_distance_note(&d, 900, 100, 4096);
	bc_distance_note(&d, 300, 100, 4096);
	bc_distance_note(&d, 500, 100, 4096);
	assert_int_equal(bc_distance_us(&d), 300);
	/* what was long ago is forgotten */
	for (i = 0; i < 40; i++)
		bc_distance_note(&d, 50000 + i, 100, 4096);
	assert_true(bc_distance_us(&d) >= 50000);
	bc_distance_note(&d, 700, 100, 4096);
	assert_int_equal(bc_distance_us(&d), 700);
}

static void what_comes_while_one_waits_is_known_after_a_few(void **state)
{
	struct bc_distance d = {0};
	unsigned i;

	for (i = 0; i < 3; i++)
		bc_distance_note(&d, 4000, 1000, 100000);
	assert_int_equal(bc_distance_bytes(&d), 0);
	for (; i < 17; i++) {
		bc_distance_note(&d, 4000, 1000, 100000);
		assert_int_equal(bc_distance_bytes(&d), 400000);
	}
	for (i = 0; i < 40; i++)
		bc_distance_note(&d, UINT64_MAX, 0, UINT64_MAX);
	assert_true(bc_distance_bytes(&d) > 400000); /* and no overflow */
}

static struct bc_plan_limits limits_at(
	uint64_t us, uint64_t bytes, unsigned waited_for)
{
	const struct bc_recent none = {0};

	return bc_plan_now(&bc_plan_network,
		&(struct bc_plan_line){us, bytes, waited_for, &none, 0});
}

static void who_is_far_is_asked_for_more(void **state)
{
	const uint32_t around = bc_plan_network.around;
	struct bc_plan_limits l;

	assert_int_equal(limits_at(0, 0, 0).around, around);
	assert_int_equal(limits_at(20000, 0, 0).around, 2 * around);
	l = limits_at(UINT64_MAX, 0, 0);
	assert_int_equal(l.around, 4 * around);
	assert_int_equal(l.max_gap, 4 * bc_plan_network.max_gap);
	assert_int_equal(l.max_groups, bc_plan_network.max_groups);
}

static uint32_t around_at(
	const struct bc_recent *r, uint64_t off, uint64_t bytes)
{
	return bc_plan_now(
		&bc_plan_network, &(struct bc_plan_line){0, bytes, 0, r, off})
	        .around;
}

static void who_asks_close_to_others_asks_for_more(void **state)
{
	const uint32_t around = bc_plan_network.around;
	const uint64_t at = UINT64_C(1) << 32, fast = 8 * (uint64_t)around;
	struct bc_recent r = {0};
	unsigned i;

	assert_int_equal(around_at(&r, 0, fast), around); /* nothing is at 0 */
	bc_recent_note(&r, at);
	assert_int_equal(around_at(&r, at + 4 * around, fast), 2 * around);
	assert_int_equal(around_at(&r, at - 4 * around, fast), 2 * around);
	assert_int_equal(around_at(&r, at + 4 * around + 1, fast), around);
	bc_recent_note(&r, at);
	bc_recent_note(&r, at + 1);
	assert_int_equal(around_at(&r, at, fast), 4 * around);
	/* no more than comes in the time of a request */
	assert_int_equal(around_at(&r, at, 3 * around), 2 * around);
	assert_int_equal(around_at(&r, at, around), around);
	for (i = 0; i < BC_RECENT_MISSES; i++)
		bc_recent_note(&r, 8 * at);
	assert_int_equal(around_at(&r, at, fast), around);
}

static void what_costs_next_to_nothing_is_taken_along(void **state)
{
	const uint32_t around = bc_plan_network.around;

	assert_int_equal(limits_at(4000, 16 * around - 1, 0).around, around);
	assert_int_equal(limits_at(4000, 16 * around, 0).around, 2 * around);
	assert_int_equal(limits_at(4000, UINT64_MAX, 0).around,
		bc_plan_network.max_len / 2);
}

static void many_who_wait_ask_for_what_a_request_costs(void **state)
{
	const uint32_t around = bc_plan_network.around;
	const struct bc_recent none = {0};

	assert_int_equal(limits_at(4000, 8 * around, 3).around, around);
	assert_int_equal(limits_at(4000, 8 * around, 4).around,
		bc_plan_network.max_len / 2);
	assert_int_equal(limits_at(4000, 3 * around, 64).around, 2 * around);
	assert_int_equal(limits_at(4000, around, 64).around, around);
	/* a slow line brings less than is asked for already */
	assert_int_equal(limits_at(50000, around, 64).around, 4 * around);
	/* what has no distance takes nothing along */
	assert_int_equal(
		bc_plan_now(&bc_plan_local,
			&(struct bc_plan_line){4000, 1u << 30, 64, &none, 0})
			.around,
		0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_least_of_late_is_the_distance),
		cmocka_unit_test(
			what_comes_while_one_waits_is_known_after_a_few),
		cmocka_unit_test(who_is_far_is_asked_for_more),
		cmocka_unit_test(who_asks_close_to_others_asks_for_more),
		cmocka_unit_test(what_costs_next_to_nothing_is_taken_along),
		cmocka_unit_test(many_who_wait_ask_for_what_a_request_costs),
		cmocka_unit_test(neighbours_and_small_gaps_share_a_range),
		cmocka_unit_test(a_gap_that_is_too_large_ends_a_range),
		cmocka_unit_test(a_large_group_goes_alone),
		cmocka_unit_test(overlapping_groups_share_their_bytes),
		cmocka_unit_test(decoded_bytes_bound_a_range_too),
		cmocka_unit_test(a_local_source_gets_a_range_for_each_group),
		cmocka_unit_test(small_neighbours_are_taken_along),
		cmocka_unit_test(who_does_not_fit_waits_and_demand_goes_first),
		cmocka_unit_test(what_exceeds_the_bound_goes_alone),
		cmocka_unit_test(a_promoted_ticket_is_judged_as_demand),
		cmocka_unit_test(no_share_takes_what_others_need),
		cmocka_unit_test(what_is_large_waits_for_no_share_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
