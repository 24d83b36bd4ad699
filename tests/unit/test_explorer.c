/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small cases of the queue and its sleepers in every order with a few
 * pre-emptions. The code under test is compiled into this file with yield
 * points. Deliberately wrong variants prove that the search would notice. With
 * SLUICE_SOAK set it looks one pre-emption further, for minutes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RT_EXPLORE
#include "runtime/base/util.h"
#include "runtime/channel.c"
#include "tests/lib/explore.h"

enum { MAX_ITEMS = 8 };

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
		assert_null(explore_run(&c, explore_bound(2)));
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
		assert_null(explore_run(&c, explore_bound(1)));
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
		assert_null(explore_run(&c, explore_bound(2)));
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
	assert_null(explore_run(&c, explore_bound(2)));
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
