/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request scheduler on real workers, on every engine: order, shares, slots
 * and promotion. Nothing here depends on how fast the machine is; where order
 * matters the requests queue before the workers start.
 */
#include "tests/async/sched_lab.h"

/* ---- order ---- */

static void order_body(void)
{
	struct work *prefetch = works_new(20, RT_PREFETCH, AT_ONCE);
	struct work *demand = works_new(20, RT_DEMAND, AT_ONCE);
	unsigned i;

	works_submit(prefetch, 20);
	works_submit(demand, 20);
	assert_int_equal(rt_backlog(lab.rt, RT_PREFETCH), 20);
	lab_start();
	rt_stop(lab.rt);
	assert_int_equal(atomic_load(&lab.ran), 40);
	for (i = 0; i < 16; i++)
		assert_ptr_equal(lab.order[i], &demand[i]);
	/* one that is due, then the rest of demand, then the rest */
	assert_ptr_equal(lab.order[16], &prefetch[0]);
	for (i = 16; i < 20; i++)
		assert_ptr_equal(lab.order[i + 1], &demand[i]);
	for (i = 1; i < 20; i++)
		assert_ptr_equal(lab.order[i + 20], &prefetch[i]);
	works_check(prefetch, 20);
	works_check(demand, 20);
	mem_free(prefetch);
	mem_free(demand);
}

static void demand_goes_before_prefetch(void **state)
{
	on_labs((struct rt_options){.workers = 1}, order_body);
}

/* Four slots, always full of demand, and still each 17th is a prefetch. */
static void ageing_body(void)
{
	struct work *prefetch = works_new(5, RT_PREFETCH, NEXT_TURN);
	struct work *demand = works_new(200, RT_DEMAND, NEXT_TURN);
	unsigned i;

	works_submit(prefetch, 5);
	works_submit(demand, 200);
	lab_start();
	rt_stop(lab.rt);
	assert_int_equal(atomic_load(&lab.ran), 205);
	for (i = 0; i < 5; i++)
		assert_ptr_equal(lab.order[17 * i + 16], &prefetch[i]);
	works_check(prefetch, 5);
	works_check(demand, 200);
	mem_free(prefetch);
	mem_free(demand);
}

static void a_flood_of_demand_does_not_starve_prefetch(void **state)
{
	on_labs((struct rt_options){.workers = 1, .slots = 4}, ageing_body);
}

/* ---- slots ---- */

static void slots_body(void)
{
	struct work *prefetch = works_new(20, RT_PREFETCH, WHEN_TOLD);
	struct work *demand = works_new(8, RT_DEMAND, WHEN_TOLD);
	unsigned i;

	works_submit(prefetch, 20);
	lab_start();
	lab_settle();
	assert_int_equal(atomic_load(&lab.ran), 4); /* half of 8 */
	works_submit(demand, 4);
	lab_settle();
	assert_int_equal(atomic_load(&lab.ran), 8);
	lab_end(&prefetch[0]);
	lab_settle();
	/* one is free: that is demand's */
	assert_int_equal(atomic_load(&lab.ran), 8);
	lab_end(&demand[0]);
	lab_settle();
	assert_int_equal(atomic_load(&lab.ran), 9);
	works_submit(&demand[4], 4);
	lab_settle();
	assert_int_equal(atomic_load(&lab.ran), 10);
	assert_int_equal(rt_backlog(lab.rt, RT_DEMAND), 3);
	/* let all go */
	for (i = 0; i < 20; i++)
		prefetch[i].ending = NEXT_TURN;
	for (i = 0; i < 8; i++)
		demand[i].ending = NEXT_TURN;
	for (i = 1; i < 5; i++) {
		lab_end(&prefetch[i]);
		lab_end(&demand[i]);
	}
	rt_stop(lab.rt);
	works_check(prefetch, 20);
	works_check(demand, 8);
	mem_free(prefetch);
	mem_free(demand);
}

static void prefetch_has_half_of_the_slots_and_never_the_last(void **state)
{
	on_labs((struct rt_options){.workers = 1, .slots = 8}, slots_body);
}

static void backlog_body(void)
{
	struct work *k = works_new(6, RT_DEMAND, AT_ONCE);
	struct work *p = works_new(1, RT_PREFETCH, AT_ONCE);

	works_submit(k, 4);
	assert_int_equal(work_submit(&k[4]), -EAGAIN);
	works_submit(p, 1);
	/* no place as demand: it keeps its place */
	assert_false(rt_req_promote(lab.rt, &p->req));
	lab_start();
	lab_wait_ran(5);
	while (work_submit(&k[4]) == -EAGAIN)
		(void)sched_yield();
	rt_stop(lab.rt);
	assert_int_equal(work_submit(&k[5]), -ESHUTDOWN);
	works_check(k, 6);
	works_check(p, 1);
	mem_free(k);
	mem_free(p);
}

static void a_full_channel_refuses_and_a_stopped_one_too(void **state)
{
	on_labs((struct rt_options){.workers = 1, .backlog = 4}, backlog_body);
}

/* ---- promotion ---- */

static void promote(struct work *k)
{
	assert_true(rt_req_promote(lab.rt, &k->req));
	k->holds++;
}

static void promotion_body(void)
{
	struct work *demand = works_new(2, RT_DEMAND, WHEN_TOLD);
	struct work *prefetch = works_new(3, RT_PREFETCH, AT_ONCE);

	works_submit(demand, 2);
	works_submit(prefetch, 3);
	lab_start();
	lab_settle();
	assert_int_equal(atomic_load(&lab.ran), 2);
	promote(&prefetch[2]);
	promote(&prefetch[2]); /* it is demand by now */
	promote(&demand[0]);   /* it runs */
	assert_int_equal(atomic_load(&prefetch[2].released), 1);
	lab_end(&demand[0]);
	lab_end(&demand[1]);
	rt_stop(lab.rt);
	assert_ptr_equal(lab.order[2], &prefetch[2]);
	assert_int_equal(prefetch[2].req.cls, RT_DEMAND);
	assert_ptr_equal(lab.order[3], &prefetch[0]);
	assert_ptr_equal(lab.order[4], &prefetch[1]);
	promote(&prefetch[0]); /* it has ended */
	works_check(demand, 2);
	works_check(prefetch, 3);
	mem_free(demand);
	mem_free(prefetch);
}

static void a_promoted_prefetch_goes_with_demand(void **state)
{
	on_labs((struct rt_options){.workers = 1, .slots = 2}, promotion_body);
}

static void resubmit_body(void)
{
	struct work *held = works_new(2, RT_DEMAND, WHEN_TOLD);
	struct work *k = works_new(1, RT_PREFETCH, AT_ONCE);
	unsigned i;

	works_submit(held, 2);
	works_submit(k, 1);
	lab_start();
	lab_settle();
	promote(k);
	lab_end(&held[0]); /* k runs as demand; its old entry stays behind */
	lab_settle();
	assert_int_equal(atomic_load(&k->runs), 1);
	for (i = 0; i < 3; i++) {
		k->req.cls = i % 2 ? RT_PREFETCH : RT_DEMAND;
		works_submit(k, 1);
		lab_end(&held[1]);
		lab_settle();
		assert_int_equal(atomic_load(&k->runs), i + 2);
		works_submit(&held[1], 1);
		lab_settle();
	}
	lab_end(&held[1]);
	rt_stop(lab.rt);
	assert_int_equal(k->runs, 4);
	assert_int_equal(k->released, k->holds);
	mem_free(held);
	mem_free(k);
}

static void a_request_can_be_submitted_again(void **state)
{
	on_labs((struct rt_options){.workers = 1, .slots = 2}, resubmit_body);
}

/* ---- shares ---- */

/* Keep the queue full until n have been submitted. */
static void flood(struct work *k, size_t n)
{
	size_t i;
	int ret;

	for (i = 0; i < n;) {
		ret = work_submit(&k[i]);
		if (ret == 0) {
			i++;
			continue;
		}
		assert_int_equal(ret, -EAGAIN);
		(void)sched_yield();
	}
}

static void check_stats(unsigned workers, uint64_t want)
{
	struct rt_stats st;
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < workers; i++) {
		rt_worker_stats(rt_worker_at(lab.rt, i), &st);
		assert_int_equal(
			st.requests[RT_DEMAND] + st.requests[RT_PREFETCH],
			lab.by_worker[i]);
		sum += lab.by_worker[i];
	}
	assert_int_equal(sum, want);
}

static void fair_body(void)
{
	size_t n = soak_count(4000), i;
	struct work *k = works_new(n, RT_DEMAND, AFTER_TIMER);
	double sum = 0, squares = 0, c;

	for (i = 0; i < n; i++)
		k[i].ms[0] = k[i].ms[1] = k[i].ms[2] = k[i].ms[3] = 1;
	lab_start();
	flood(k, n);
	rt_stop(lab.rt);
	for (i = 0; i < 4; i++) {
		c = lab.by_worker[i];
		sum += c;
		squares += c * c;
	}
	print_message("counted: %u %u %u %u requests, Jain %.4f\n",
		lab.by_worker[0], lab.by_worker[1], lab.by_worker[2],
		lab.by_worker[3], sum * sum / (4 * squares));
	/*
	 * One of four that gets nothing would be 0.75. How close to 1 it comes
	 * is the benchmark's business: here others may have the processors.
	 */
	assert_true(sum * sum / (4 * squares) >= 0.8);
	check_stats(4, n);
	works_check(k, n);
	mem_free(k);
}

static void equal_workers_get_equal_shares(void **state)
{
	on_labs((struct rt_options){.workers = 4, .slots = 4, .backlog = 128},
		fair_body);
}

static void slow_body(void)
{
	size_t n = 3000, i;
	struct work *k = works_new(n, RT_DEMAND, AFTER_TIMER);

	for (i = 0; i < n; i++) {
		k[i].ms[0] = 20;
		k[i].ms[1] = k[i].ms[2] = k[i].ms[3] = 2;
	}
	lab_start();
	flood(k, n);
	rt_stop(lab.rt);
	for (i = 1; i < 4; i++)
		assert_true(lab.by_worker[0] * 3 < lab.by_worker[i]);
	works_check(k, n);
	mem_free(k);
}

static void a_slow_worker_takes_less(void **state)
{
	on_labs((struct rt_options){.workers = 4, .slots = 4, .backlog = 128},
		slow_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(demand_goes_before_prefetch),
		cmocka_unit_test(a_flood_of_demand_does_not_starve_prefetch),
		cmocka_unit_test(
			prefetch_has_half_of_the_slots_and_never_the_last),
		cmocka_unit_test(a_full_channel_refuses_and_a_stopped_one_too),
		cmocka_unit_test(a_promoted_prefetch_goes_with_demand),
		cmocka_unit_test(a_request_can_be_submitted_again),
		cmocka_unit_test(equal_workers_get_equal_shares),
		cmocka_unit_test(a_slow_worker_takes_less),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
