/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small cases of the channel, its sleepers and the scheduler, in every order
 * with a few pre-emptions. The code under test is compiled into this file with
 * yield points; the worker around it is the least that follows the rules of
 * runtime/worker_int.h. Deliberately wrong variants prove that the search would
 * notice. With SLUICE_SOAK set it looks one pre-emption further, for minutes.
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

enum { MAX_ITEMS = 8 };

static unsigned bound(unsigned usual)
{
#if defined(__SANITIZE_ADDRESS__)
	return 1;
#else
	return usual + (getenv("SLUICE_SOAK") != NULL);
#endif
}

/* ---- the queue alone ---- */

static struct {
	struct rt_queue q;
	uint8_t accepted[MAX_ITEMS], taken[MAX_ITEMS];
	unsigned pushes;         /* per sender */
	unsigned refused, first; /* first: of the senders' fiber indexes */
} lone;

static void lone_setup(void)
{
	unsigned pushes = lone.pushes;

	memset(&lone, 0, sizeof(lone));
	lone.pushes = pushes;
	if (rt_queue_init(&lone.q, 2))
		abort();
}

static void lone_teardown(void)
{
	rt_queue_fini(&lone.q);
}

/* Items are numbered from 1; sender i has [i * pushes + 1, ...]. */
static void lone_send(unsigned index)
{
	uintptr_t item;
	unsigned n;
	int ret;

	for (n = 0; n < lone.pushes; n++) {
		item = index * lone.pushes + n + 1;
		ret = rt_queue_push(&lone.q, (void *)item);
		if (ret == 0)
			lone.accepted[item] = 1;
		else if (ret == -EAGAIN)
			lone.refused++;
		else
			return;
	}
}

static void lone_take(uintptr_t item, unsigned last[2])
{
	unsigned from = (unsigned)((item - 1) / lone.pushes);

	explore_check(item >= 1 && item < MAX_ITEMS && from < 2, "no item");
	explore_check(lone.taken[item]++ == 0, "taken twice");
	explore_check(item > last[from], "a sender's order is lost");
	last[from] = (unsigned)item;
}

static void lone_receive_twice(unsigned index)
{
	unsigned n, last[2] = {0, 0};
	void *item;

	for (n = 0; n < 2; n++) {
		if (rt_queue_pop(&lone.q, &item) == 0)
			lone_take((uintptr_t)item, last);
	}
}

static bool lone_may_receive(unsigned index)
{
	/* Asked by the explorer itself, between two steps: no yield points. */
	bool inside = explore.inside, yes;

	explore.inside = false;
	yes = rt_queue_has_item(&lone.q) || rt_queue_is_drained(&lone.q);
	explore.inside = inside;
	return yes;
}

static void lone_receive_all(unsigned index)
{
	unsigned last[2] = {0, 0};
	void *item;
	int ret;

	for (;;) {
		ret = rt_queue_pop(&lone.q, &item);
		if (ret == -ESHUTDOWN)
			break;
		if (ret == 0)
			lone_take((uintptr_t)item, last);
		else
			explore_wait(lone_may_receive);
	}
	explore_check(rt_queue_is_drained(&lone.q), "closed before it is dry");
}

static void lone_close(unsigned index)
{
	explore_check(rt_queue_close(&lone.q), "closed twice");
	explore_check(rt_queue_push(&lone.q, &lone) == -ESHUTDOWN,
		"taken after the close");
}

static void lone_check(void)
{
	void *item;
	unsigned i;

	while (rt_queue_pop(&lone.q, &item) == 0) {
		i = (unsigned)(uintptr_t)item;
		explore_check(i < MAX_ITEMS, "no item");
		explore_check(lone.taken[i]++ == 0, "taken twice");
	}
	for (i = 0; i < MAX_ITEMS; i++)
		explore_check(lone.accepted[i] == lone.taken[i], "lost");
	if (lone.pushes == 1)
		explore_check(lone.refused == 0, "refused though not full");
}

static void a_queue_loses_and_doubles_nothing(void **state)
{
	const struct explore_case c = {
		.setup = lone_setup,
		.fibers = {lone_send, lone_send, lone_receive_twice,
			lone_receive_twice},
		.check = lone_check,
		.teardown = lone_teardown,
	};

	for (lone.pushes = 1; lone.pushes <= 3; lone.pushes++)
		assert_null(explore_run(&c, bound(2)));
}

static void a_close_comes_before_or_after_each_item(void **state)
{
	const struct explore_case c = {
		.setup = lone_setup,
		.fibers = {lone_send, lone_send, lone_receive_all,
			lone_receive_all, lone_close},
		.check = lone_check,
		.teardown = lone_teardown,
	};

	for (lone.pushes = 1; lone.pushes <= 2; lone.pushes++)
		assert_null(explore_run(&c, bound(1)));
}

/* ---- queue and sleepers, as runtime/channel.h says they go together ---- */

enum flaw {
	RIGHT,
	WAKE_BEFORE_PUSH,  /* the sender looks for sleepers too early */
	LOOK_BEFORE_ENTER, /* the receiver looks for items too early */
	STAY_PICKED,       /* a woken receiver does not say that it came */
	NO_CHAIN,          /* a receiver that leaves something wakes nobody */
};

static struct {
	struct rt_sleepers sleepers;
	bool bell[EXPLORE_FIBERS];
	enum flaw flaw;
	unsigned pushes, left;
} pair;

static void pair_setup(void)
{
	enum flaw flaw = pair.flaw;
	unsigned pushes = pair.pushes;

	memset(&pair, 0, sizeof(pair));
	pair.flaw = flaw;
	pair.pushes = pushes;
	pair.left = 2 * pushes;
	lone.pushes = pushes;
	lone_setup();
}

static void pair_wake(void)
{
	int i = rt_sleepers_pick(&pair.sleepers);

	if (i >= 0)
		pair.bell[i] = true;
}

static void pair_send(unsigned index)
{
	unsigned n;

	for (n = 0; n < pair.pushes; n++) {
		if (pair.flaw == WAKE_BEFORE_PUSH)
			pair_wake();
		if (rt_queue_push(&lone.q, (void *)(uintptr_t)(n + 1)))
			pair.left--; /* full: refused */
		else if (pair.flaw != WAKE_BEFORE_PUSH)
			pair_wake();
	}
}

static bool pair_is_rung(unsigned index)
{
	return pair.bell[index];
}

static void pair_sleep(unsigned index)
{
	bool found = false;

	if (pair.flaw == LOOK_BEFORE_ENTER)
		found = rt_queue_has_item(&lone.q);
	rt_sleepers_enter(&pair.sleepers, index);
	if (pair.flaw != LOOK_BEFORE_ENTER)
		found = rt_queue_has_item(&lone.q);
	if (!found)
		explore_wait(pair_is_rung);
	pair.bell[index] = false;
	if (pair.flaw == STAY_PICKED)
		(void)at_and(&pair.sleepers.word, ~(1ull << index));
	else
		rt_sleepers_leave(&pair.sleepers, index);
}

/* Takes one item, then is busy for ever: others must come for the rest. */
static void pair_receive_one(unsigned index)
{
	void *item;

	while (rt_queue_pop(&lone.q, &item))
		pair_sleep(index);
	pair.left--;
	if (pair.flaw != NO_CHAIN && rt_queue_has_item(&lone.q))
		pair_wake();
}

static void pair_receive(unsigned index)
{
	void *item;

	for (;;) {
		while (rt_queue_pop(&lone.q, &item) == 0) {
			pair.left--;
			if (pair.flaw != NO_CHAIN && rt_queue_has_item(&lone.q))
				pair_wake();
		}
		pair_sleep(index);
	}
}

static bool pair_may_rest(void)
{
	return pair.left == 0;
}

static void pair_check(void)
{
	explore_check(pair.left == 0, "an item is left");
}

static void no_wake_up_is_lost(void **state)
{
	const struct explore_case c = {
		.setup = pair_setup,
		.fibers = {pair_send, pair_send, pair_receive, pair_receive},
		.check = pair_check,
		.teardown = lone_teardown,
		.may_rest = pair_may_rest,
	};

	pair.flaw = RIGHT;
	for (pair.pushes = 1; pair.pushes <= 2; pair.pushes++)
		assert_null(explore_run(&c, bound(2)));
}

static void a_busy_receiver_hands_the_wake_on(void **state)
{
	const struct explore_case c = {
		.setup = pair_setup,
		.fibers = {pair_send, pair_send, pair_receive_one,
			pair_receive_one},
		.check = pair_check,
		.teardown = lone_teardown,
		.may_rest = pair_may_rest,
	};

	pair.pushes = 1;
	pair.flaw = RIGHT;
	assert_null(explore_run(&c, bound(2)));
	pair.flaw = NO_CHAIN;
	assert_string_equal(explore_run(&c, 2), "everybody sleeps");
}

static void the_search_finds_each_wrong_order(void **state)
{
	static const enum flaw flaws[] = {
		WAKE_BEFORE_PUSH, LOOK_BEFORE_ENTER, STAY_PICKED};
	const struct explore_case c = {
		.setup = pair_setup,
		.fibers = {pair_send, pair_send, pair_receive, pair_receive},
		.check = pair_check,
		.teardown = lone_teardown,
		.may_rest = pair_may_rest,
	};
	size_t i;

	pair.pushes = 2;
	for (i = 0; i < ARRAY_LEN(flaws); i++) {
		pair.flaw = flaws[i];
		assert_string_equal(explore_run(&c, 2), "everybody sleeps");
	}
}

/* ---- the scheduler on workers that follow the rules ---- */

enum { WORKERS = 2 };

struct work {
	struct rt_req req;
	unsigned holds; /* submits and promotions that were accepted */
	unsigned runs, released, wanted;
};

static struct {
	struct rt rt;
	struct rt_worker workers[WORKERS];
	bool bell[WORKERS];
	struct work work[MAX_ITEMS];
	struct work *open[WORKERS][MAX_ITEMS]; /* in work: ends next turn */
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
	for (i = 0; i < MAX_ITEMS; i++) {
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
	for (i = 0; i < MAX_ITEMS; i++) {
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
	assert_null(explore_run(&c, bound(1)));
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
	assert_null(explore_run(&c, bound(1)));
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

	assert_null(explore_run(&c, bound(1)));
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

	assert_null(explore_run(&c, bound(1)));
}

int main(void)
{
#if defined(__SANITIZE_THREAD__)
	/* There is one thread, and the sanitizer cannot follow the fibers. */
	return 0;
#endif
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_queue_loses_and_doubles_nothing),
		cmocka_unit_test(a_close_comes_before_or_after_each_item),
		cmocka_unit_test(no_wake_up_is_lost),
		cmocka_unit_test(a_busy_receiver_hands_the_wake_on),
		cmocka_unit_test(the_search_finds_each_wrong_order),
		cmocka_unit_test(workers_run_every_request_once),
		cmocka_unit_test(a_full_worker_leaves_the_rest_to_others),
		cmocka_unit_test(a_promoted_request_runs_once),
		cmocka_unit_test(a_stop_runs_what_was_accepted_and_ends_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
