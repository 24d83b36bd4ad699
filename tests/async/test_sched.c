/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request scheduler on real workers, on every engine: order, shares, slots,
 * promotion, and stops at every point. Nothing here depends on how fast the
 * machine is; where order matters the requests queue before the workers start.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/request.h"
#include "tests/async/engines.h"

enum { MAX_WORKERS = 4, MAX_ORDER = 512 };

/* How a request ends. */
enum ending { AT_ONCE, NEXT_TURN, AFTER_TIMER, WHEN_TOLD };

struct work {
	struct rt_req req;
	struct rt_task task;
	struct rt_timer timer;
	enum ending ending;
	unsigned ms[MAX_WORKERS]; /* AFTER_TIMER, by worker */
	atomic_uint runs, released;
	unsigned holds; /* accepted submits and promotions */
};

static struct {
	struct rt *rt;
	struct work *order[MAX_ORDER]; /* as they ran; one worker only */
	atomic_uint ran, ended;
	atomic_uint by_worker[MAX_WORKERS];
} lab;

static void work_end(struct work *k)
{
	atomic_fetch_add(&lab.ended, 1);
	rt_req_done(&k->req);
}

static void work_task(struct rt_task *t)
{
	work_end(container_of(t, struct work, task));
}

static void work_timer(struct rt_timer *t)
{
	work_end(container_of(t, struct work, timer));
}

static void work_run(struct rt_req *r)
{
	struct work *k = container_of(r, struct work, req);
	unsigned i = rt_worker_index(r->worker);
	unsigned n = atomic_fetch_add(&lab.ran, 1);

	rt_worker_assert(r->worker);
	atomic_fetch_add(&k->runs, 1);
	atomic_fetch_add(&lab.by_worker[i], 1);
	if (n < MAX_ORDER && rt_worker_count(lab.rt) == 1)
		lab.order[n] = k;
	switch (k->ending) {
	case AT_ONCE:
		work_end(k);
		break;
	case NEXT_TURN:
		k->task.run = work_task;
		rt_post(r->worker, &k->task);
		break;
	case AFTER_TIMER:
		k->timer.fire = work_timer;
		rt_timer_start(r->worker, &k->timer, k->ms[i]);
		break;
	case WHEN_TOLD:
		break;
	}
}

static void work_released(struct rt_req *r)
{
	atomic_fetch_add(&container_of(r, struct work, req)->released, 1);
}

static struct work *works_new(size_t n, enum rt_class cls, enum ending ending)
{
	struct work *k = mem_calloc(n, sizeof(*k));
	size_t i;

	assert_non_null(k);
	for (i = 0; i < n; i++) {
		k[i].req.run = work_run;
		k[i].req.released = work_released;
		k[i].req.cls = cls;
		k[i].ending = ending;
	}
	return k;
}

static int work_submit(struct work *k)
{
	int ret = rt_submit(lab.rt, &k->req);

	if (ret == 0)
		k->holds++;
	return ret;
}

static void works_submit(struct work *k, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		assert_int_equal(work_submit(&k[i]), 0);
}

/* After a stop: each of them ran as often as it was accepted. */
static void works_check(const struct work *k, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		assert_int_equal(k[i].runs, k[i].holds > 0);
		assert_int_equal(k[i].released, k[i].holds);
	}
}

/* False where this engine is not available. */
static bool lab_create(enum rt_backend b, struct rt_options o)
{
	struct err e = {0};

	memset(&lab, 0, sizeof(lab));
	o.backend = b;
	if (rt_create(&o, &lab.rt, &e) == 0)
		return true;
	assert_int_equal(b, RT_BACKEND_URING);
	print_message("not run on uring: %s\n", e.text);
	return false;
}

static void lab_start(void)
{
	struct err e = {0};

	assert_int_equal(rt_start(lab.rt, &e), 0);
}

/* Runs body on each engine, with a runtime that has not been started. */
static void on_labs(struct rt_options o, void (*body)(void))
{
	static const enum rt_backend all[] = {
		RT_BACKEND_THREADS, RT_BACKEND_URING};
	size_t i;

	for (i = 0; i < ARRAY_LEN(all); i++) {
		if (!lab_create(all[i], o))
			continue;
		body();
		rt_stop(lab.rt);
		rt_destroy(lab.rt);
	}
}

static void nothing(void *arg, struct rt_op *op)
{
	rt_block_on_done(op, 0);
}

/* Worker 0 has taken so many turns that it has pulled all that it may. */
static void lab_settle(void)
{
	unsigned i;

	for (i = 0; i < 40; i++)
		assert_int_equal(rt_block_on(lab.rt, nothing, NULL), 0);
}

static void end_one(void *arg, struct rt_op *op)
{
	work_end(arg);
	rt_block_on_done(op, 0);
}

/* End a WHEN_TOLD request of worker 0. */
static void lab_end(struct work *k)
{
	assert_int_equal(rt_block_on(lab.rt, end_one, k), 0);
}

static void lab_wait_ran(unsigned n)
{
	while (atomic_load(&lab.ran) < n)
		(void)sched_yield();
}

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
	works_submit(demand, 3);
	lab_settle();
	assert_int_equal(atomic_load(&lab.ran), 7);
	lab_end(&prefetch[0]);
	lab_settle();
	/* two free: prefetch takes one of them, not the last */
	assert_int_equal(atomic_load(&lab.ran), 8);
	lab_end(&prefetch[1]);
	lab_end(&demand[0]);
	lab_settle();
	assert_int_equal(atomic_load(&lab.ran), 9);
	/* the free ones are demand's */
	works_submit(&demand[3], 5);
	lab_settle();
	assert_int_equal(atomic_load(&lab.ran), 11);
	assert_int_equal(rt_backlog(lab.rt, RT_DEMAND), 3);
	/* let all go */
	for (i = 0; i < 20; i++)
		prefetch[i].ending = NEXT_TURN;
	for (i = 0; i < 8; i++)
		demand[i].ending = NEXT_TURN;
	for (i = 2; i < 6; i++)
		lab_end(&prefetch[i]);
	for (i = 1; i < 5; i++)
		lab_end(&demand[i]);
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
	print_message("%u %u %u %u, Jain %.4f\n", lab.by_worker[0],
		lab.by_worker[1], lab.by_worker[2], lab.by_worker[3],
		sum * sum / (4 * squares));
	assert_true(sum * sum / (4 * squares) >= 0.95);
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

/* ---- submitting from a worker ---- */

struct spawner {
	struct work *k;
	unsigned n;
};

static void spawn_all(void *arg, struct rt_op *op)
{
	struct spawner *s = arg;

	works_submit(s->k, s->n);
	rt_block_on_done(op, 0);
}

static void spawn_body(void)
{
	struct spawner s = {.n = 100};

	s.k = works_new(s.n, RT_DEMAND, NEXT_TURN);
	lab_start();
	assert_int_equal(rt_block_on(lab.rt, spawn_all, &s), 0);
	lab_wait_ran(s.n);
	rt_stop(lab.rt);
	works_check(s.k, s.n);
	mem_free(s.k);
}

static void a_worker_may_submit(void **state)
{
	on_labs((struct rt_options){.workers = 4}, spawn_body);
	on_labs((struct rt_options){.workers = 1}, spawn_body);
}

static void calling_body(void)
{
	struct spawner s = {.n = 100};

	s.k = works_new(s.n, RT_PREFETCH, NEXT_TURN);
	assert_int_equal(rt_block_on(lab.rt, spawn_all, &s), 0);
	rt_stop(lab.rt);
	works_check(s.k, s.n);
	mem_free(s.k);
}

static void the_calling_thread_runs_requests_too(void **state)
{
	on_labs((struct rt_options){.calling_thread = true}, calling_body);
}

static void a_runtime_that_never_ran_releases_its_requests(void **state)
{
	struct work *k = works_new(3, RT_DEMAND, AT_ONCE);
	unsigned i;

	assert_true(lab_create(RT_BACKEND_THREADS, (struct rt_options){0}));
	works_submit(k, 3);
	rt_destroy(lab.rt);
	for (i = 0; i < 3; i++) {
		assert_int_equal(k[i].runs, 0);
		assert_int_equal(k[i].released, 1);
	}
	mem_free(k);
}

/* ---- stops at every point ---- */

enum { STOP_SENDERS = 3, STOP_EACH = 200 };

struct stop_sender {
	pthread_t thread;
	struct work *k;
	unsigned seed;
};

static void *stop_sender_main(void *arg)
{
	struct stop_sender *s = arg;
	unsigned i;
	int ret;

	for (i = 0; i < STOP_EACH;) {
		s->k[i].req.cls = (i + s->seed) % 3 ? RT_DEMAND : RT_PREFETCH;
		s->k[i].ending = (i + s->seed) % 5 ? NEXT_TURN : AT_ONCE;
		ret = work_submit(&s->k[i]);
		if (ret == -ESHUTDOWN)
			break;
		/* one from before may queue, run or have ended */
		if (i >= 2 && rt_req_promote(lab.rt, &s->k[i - 2].req))
			s->k[i - 2].holds++;
		if (ret == -EAGAIN)
			(void)sched_yield();
		else
			i++;
	}
	return NULL;
}

/* The number of requests after which the next stop comes. */
static unsigned stop_after;

static void stop_body(void)
{
	struct stop_sender s[STOP_SENDERS];
	unsigned i;

	for (i = 0; i < STOP_SENDERS; i++) {
		s[i].k = works_new(STOP_EACH, RT_DEMAND, AT_ONCE);
		s[i].seed = stop_after + i;
	}
	lab_start();
	for (i = 0; i < STOP_SENDERS; i++)
		assert_int_equal(pthread_create(&s[i].thread, NULL,
					 stop_sender_main, &s[i]),
			0);
	while (atomic_load(&lab.ran) < stop_after)
		(void)sched_yield();
	rt_stop(lab.rt);
	for (i = 0; i < STOP_SENDERS; i++)
		(void)pthread_join(s[i].thread, NULL);
	assert_int_equal(atomic_load(&lab.ran), atomic_load(&lab.ended));
	for (i = 0; i < STOP_SENDERS; i++) {
		works_check(s[i].k, STOP_EACH);
		mem_free(s[i].k);
	}
}

static void a_stop_at_any_point_loses_nothing(void **state)
{
	unsigned long round, rounds = soak_count(40);

	for (round = 0; round < rounds; round++) {
		stop_after = (unsigned)(round * 13 % 500);
		on_labs((struct rt_options){.workers = 1 + round % 3,
				.slots = 2 + round % 5,
				.backlog = 2 << round % 5},
			stop_body);
	}
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
		cmocka_unit_test(a_worker_may_submit),
		cmocka_unit_test(the_calling_thread_runs_requests_too),
		cmocka_unit_test(
			a_runtime_that_never_ran_releases_its_requests),
		cmocka_unit_test(a_stop_at_any_point_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
