/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request scheduler on real workers, on every engine: who submits, and
 * stops at every point.
 */
#include "tests/async/sched_lab.h"

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
	unsigned long round, rounds = min_u64(soak_count(40), 1000);

	for (round = 0; round < rounds; round++) {
		stop_after = (unsigned)(round * 13 % 500);
		on_labs((struct rt_options){.workers = 1 + round % 3,
				.slots = 2 + round % 5,
				.backlog = 2 << round % 5},
			stop_body);
	}
	print_message("counted: %lu stops on each engine\n", rounds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_worker_may_submit),
		cmocka_unit_test(the_calling_thread_runs_requests_too),
		cmocka_unit_test(
			a_runtime_that_never_ran_releases_its_requests),
		cmocka_unit_test(a_stop_at_any_point_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
