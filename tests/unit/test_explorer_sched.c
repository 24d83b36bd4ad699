/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small cases of the scheduler in every order with a few pre-emptions. The code
 * under test is compiled into this file with yield points; the worker around it
 * is the least that follows the rules of runtime/worker_int.h. With SLUICE_SOAK
 * set it looks one pre-emption further, for minutes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RT_EXPLORE
/* clang-format off */
#include "runtime/channel.c"
#include "runtime/sched.c"
/* clang-format on */
#include "tests/lib/explore.h"

enum { WORKERS = 2, MAX_WORK = 8 };

struct work {
	struct rt_req req;
	unsigned holds; /* submits and promotions that were accepted */
	unsigned runs, released, wanted;
};

static struct {
	struct rt rt;
	struct rt_worker workers[WORKERS];
	bool bell[WORKERS];
	struct work work[MAX_WORK];
	struct work *open[WORKERS][MAX_WORK]; /* in work: ends next turn */
	unsigned opened[WORKERS], wanted, ran;
	bool closed, endless; /* endless: what runs never ends */
} plant;

static struct rt_worker *plant_self(void)
{
	if (!explore.inside || explore.current >= WORKERS)
		return NULL;
	return &plant.workers[explore.current];
}

struct rt_worker *rt_worker_self(void)
{
	return plant_self();
}

void rt_worker_assert(const struct rt_worker *w)
{
	explore_check(w == plant_self(), "on the wrong worker");
}

bool rt_worker_wake(struct rt_worker *w)
{
	if (!at_load(&w->asleep) || !at_swap(&w->asleep, false))
		return false;
	plant.bell[w->index] = true;
	return true;
}

static void work_run(struct rt_req *r)
{
	struct work *k = container_of(r, struct work, req);
	unsigned i = r->worker->index;

	rt_worker_assert(r->worker);
	explore_check(k->runs < k->wanted, "ran too often");
	k->runs++;
	plant.ran++;
	plant.open[i][plant.opened[i]++] = k;
}

static void work_released(struct rt_req *r)
{
	struct work *k = container_of(r, struct work, req);

	k->released++;
}

static void plant_setup(void)
{
	bool endless = plant.endless;
	unsigned i;

	memset(&plant, 0, sizeof(plant));
	plant.endless = endless;
	plant.rt.opt = (struct rt_options){
		.workers = WORKERS, .slots = 2, .backlog = 2};
	plant.rt.workers = plant.workers;
	for (i = 0; i < WORKERS; i++) {
		plant.workers[i].rt = &plant.rt;
		plant.workers[i].index = i;
	}
	for (i = 0; i < MAX_WORK; i++) {
		plant.work[i].req.run = work_run;
		plant.work[i].req.released = work_released;
		plant.work[i].req.cls = i % 2 ? RT_PREFETCH : RT_DEMAND;
	}
	if (rt_sched_init(&plant.rt))
		abort();
}

static void plant_teardown(void)
{
	rt_sched_fini(&plant.rt);
}

static bool plant_is_rung(unsigned index)
{
	return plant.bell[index];
}

static void plant_end_work(unsigned index)
{
	while (plant.opened[index] > 0 && !plant.endless)
		rt_req_done(&plant.open[index][--plant.opened[index]]->req);
}

static void plant_worker(unsigned index)
{
	struct rt_worker *w = &plant.workers[index];

	for (;;) {
		rt_sched_turn(w);
		plant_end_work(index);
		if (rt_sched_is_drained(&plant.rt) && w->live == 0)
			return;
		if (rt_sched_has_work(w))
			continue;
		at_store(&w->asleep, true);
		if (!rt_sched_has_work(w)) {
			explore_wait(plant_is_rung);
			plant.bell[index] = false;
		}
		at_store(&w->asleep, false);
		plant.bell[index] = false;
	}
}

static void plant_submit(struct work *k)
{
	int ret;

	k->wanted++;
	plant.wanted++;
	ret = rt_submit(&plant.rt, &k->req);
	if (ret == 0) {
		k->holds++;
		return;
	}
	explore_check(
		ret == (plant.closed ? -ESHUTDOWN : -EAGAIN) || ret == -EAGAIN,
		"strange refusal");
	k->wanted--;
	plant.wanted--;
}

static void plant_submit_two(unsigned index)
{
	plant_submit(&plant.work[2 * (index - WORKERS)]);
	plant_submit(&plant.work[2 * (index - WORKERS) + 1]);
}

static void plant_submit_two_demand(unsigned index)
{
	plant_submit(&plant.work[4 * (index - WORKERS)]);
	plant_submit(&plant.work[4 * (index - WORKERS) + 2]);
}

static void plant_submit_prefetch(unsigned index)
{
	plant_submit(&plant.work[1]);
}

static void plant_promote(unsigned index)
{
	if (rt_req_promote(&plant.rt, &plant.work[1].req))
		plant.work[1].holds++;
}

static void plant_close(unsigned index)
{
	plant.closed = true;
	rt_sched_close(&plant.rt);
}

static bool plant_may_rest(void)
{
	return !plant.closed && plant.ran == plant.wanted;
}

static void plant_check(void)
{
	const struct work *k;
	unsigned i, left = 0;

	explore_check(plant.ran == plant.wanted, "something has not run");
	for (i = 0; i < RT_CLASSES; i++)
		left += rt_backlog(&plant.rt, i);
	for (i = 0; i < MAX_WORK; i++) {
		k = &plant.work[i];
		explore_check(k->runs == k->wanted, "lost");
		explore_check(k->released <= k->holds, "released too often");
		if (left == 0)
			explore_check(k->released == k->holds, "still held");
	}
}

static void workers_run_every_request_once(void **state)
{
	const struct explore_case c = {
		.setup = plant_setup,
		.fibers = {plant_worker, plant_worker, plant_submit_two,
			plant_submit_two},
		.check = plant_check,
		.teardown = plant_teardown,
		.may_rest = plant_may_rest,
	};

	plant.endless = false;
	assert_null(explore_run(&c, explore_bound(1)));
}

/* As many requests as slots: each worker must come, whoever was woken. */
static void a_full_worker_leaves_the_rest_to_others(void **state)
{
	const struct explore_case c = {
		.setup = plant_setup,
		.fibers = {plant_worker, plant_worker, plant_submit_two_demand,
			plant_submit_two_demand},
		.check = plant_check,
		.teardown = plant_teardown,
		.may_rest = plant_may_rest,
	};

	plant.endless = true;
	assert_null(explore_run(&c, explore_bound(1)));
	plant.endless = false;
}

static void a_promoted_request_runs_once(void **state)
{
	const struct explore_case c = {
		.setup = plant_setup,
		.fibers = {plant_worker, plant_worker, plant_submit_prefetch,
			plant_promote, plant_promote},
		.check = plant_check,
		.teardown = plant_teardown,
		.may_rest = plant_may_rest,
	};

	assert_null(explore_run(&c, explore_bound(1)));
}

static void a_stop_runs_what_was_accepted_and_ends_all(void **state)
{
	const struct explore_case c = {
		.setup = plant_setup,
		.fibers = {plant_worker, plant_worker, plant_submit_two,
			plant_promote, plant_close},
		.check = plant_check,
		.teardown = plant_teardown,
	};

	assert_null(explore_run(&c, explore_bound(1)));
}

static void the_share_grows_with_the_backlog(void **state)
{
	static const struct {
		unsigned backlog, roomy, share;
	} cases[] = {{0, 2, 1}, {1, 2, 1}, {2, 2, 1}, {3, 2, 2}, {9, 4, 3},
		{9, 1, 8}, {100, 4, 8}, {5, 0, 5}};
	struct rt_channel c = {0};
	size_t i;

	for (i = 0; i < ARRAY_LEN(cases); i++) {
		c.queues[RT_DEMAND].tail = cases[i].backlog * TAIL_STEP;
		c.roomy = cases[i].roomy;
		assert_int_equal(sched_share(&c, RT_DEMAND), cases[i].share);
	}
}

int main(void)
{
#if defined(__SANITIZE_THREAD__)
	/* There is one thread, and the sanitizer cannot follow the fibers. */
	return 0;
#endif
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(workers_run_every_request_once),
		cmocka_unit_test(a_full_worker_leaves_the_rest_to_others),
		cmocka_unit_test(a_promoted_request_runs_once),
		cmocka_unit_test(a_stop_runs_what_was_accepted_and_ends_all),
		cmocka_unit_test(the_share_grows_with_the_backlog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
