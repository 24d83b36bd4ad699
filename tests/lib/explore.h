/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a small case of concurrent code in every order there is, up to a number
 * of pre-emptions.
 *
 * Fibers share one thread. Code compiled with RT_EXPLORE calls explore_point
 * before each atomic operation; there another fiber may go on instead, which
 * costs a pre-emption. A fiber that waits or ends costs none. The case is run
 * again and again, depth first over all choices, until none is left or a check
 * fails. It is exhaustive for sequentially consistent memory only, which is
 * what runtime/atomics.h asks for.
 *
 * Include once, into the test itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <ucontext.h>

#include "runtime/base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

enum {
	EXPLORE_FIBERS = 6,
	EXPLORE_CHOICES = 4096, /* in one execution */
	EXPLORE_STEPS = 20000,  /* more is going round in circles */
	EXPLORE_STACK = 128 << 10,
};

struct explore_case {
	void (*setup)(void);
	/* Each is one fiber, up to the first NULL; arg is its index. */
	void (*fibers[EXPLORE_FIBERS + 1])(unsigned index);
	void (*check)(void); /* after all have ended */
	void (*teardown)(void);
	/* Fine that all wait for ever? NULL: never. */
	bool (*may_rest)(void);
};

struct explore_fiber {
	ucontext_t context;
	char *stack;
	void (*body)(unsigned index);
	bool (*ready)(unsigned index); /* NULL: it is */
	bool ended;
};

static struct {
	struct explore_fiber fibers[EXPLORE_FIBERS];
	ucontext_t main_context;
	unsigned count, current;
	unsigned preemptions, max_preemptions;
	unsigned depth, known, steps;
	struct {
		uint8_t taken, options;
	} path[EXPLORE_CHOICES];
	const char *failure;
	bool (*may_rest)(void);
	uint64_t executions;
	bool inside; /* a fiber runs */
} explore;

static void explore_to_main(void)
{
	explore.inside = false;
	(void)swapcontext(&explore.fibers[explore.current].context,
		&explore.main_context);
}

/* From a fiber: this execution is wrong. Does not return. */
static void explore_fail(const char *what)
{
	explore.failure = what;
	explore_to_main();
}

static void explore_check(bool good, const char *what)
{
	if (good)
		return;
	if (explore.inside)
		explore_fail(what);
	else if (!explore.failure)
		explore.failure = what;
}

static unsigned explore_choose(unsigned options)
{
	unsigned at = explore.depth++;

	if (at >= EXPLORE_CHOICES)
		explore_fail("too many choices");
	if (at >= explore.known) {
		explore.path[at].taken = 0;
		explore.path[at].options = (uint8_t)options;
		explore.known = at + 1;
	}
	return explore.path[at].taken;
}

static void explore_switch(unsigned to)
{
	unsigned from = explore.current;

	if (to == from)
		return;
	explore.current = to;
	(void)swapcontext(
		&explore.fibers[from].context, &explore.fibers[to].context);
}

/* Go on with this fiber (if stay) or one of the others that can. */
static void explore_next(bool stay)
{
	unsigned options[EXPLORE_FIBERS], count = 0, i, pick = 0;
	bool all_ended = true;
	struct explore_fiber *f;

	if (stay)
		options[count++] = explore.current;
	for (i = 0; i < explore.count; i++) {
		f = &explore.fibers[i];
		all_ended = all_ended && f->ended;
		if (f->ended || (stay && i == explore.current) ||
			(f->ready && !f->ready(i)))
			continue;
		options[count++] = i;
	}
	if (count == 0) {
		if (!all_ended && !(explore.may_rest && explore.may_rest()))
			explore.failure = "everybody sleeps";
		explore_to_main();
		return;
	}
	if (count > 1)
		pick = explore_choose(count);
	if (stay && pick)
		explore.preemptions++;
	explore_switch(options[pick]);
}

void explore_point(void)
{
	if (!explore.inside)
		return;
	if (++explore.steps > EXPLORE_STEPS)
		explore_fail("no end");
	if (explore.preemptions < explore.max_preemptions)
		explore_next(true);
}

/* Sleep until ready says so; it is asked about this fiber by others. */
static void explore_wait(bool (*ready)(unsigned index))
{
	struct explore_fiber *f = &explore.fibers[explore.current];

	if (ready(explore.current))
		return;
	f->ready = ready;
	explore_next(false);
	f->ready = NULL;
}

static void explore_entry(void)
{
	struct explore_fiber *f = &explore.fibers[explore.current];

	f->body(explore.current);
	f->ended = true;
	explore_next(false);
}

/* Not inlined: getcontext may return again, into the middle of a loop. */
__attribute__((noinline)) static void explore_prepare(
	struct explore_fiber *f, void (*body)(unsigned))
{
	f->body = body;
	f->ready = NULL;
	f->ended = false;
#if defined(__SANITIZE_ADDRESS__)
	/* It shall not remember frames that were left on this stack. */
	__asan_unpoison_memory_region(f->stack, EXPLORE_STACK);
#endif
	(void)getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = EXPLORE_STACK;
	f->context.uc_link = NULL;
	makecontext(&f->context, explore_entry, 0);
}

static void explore_start(const struct explore_case *c)
{
	unsigned i;

	for (i = 0; c->fibers[i]; i++)
		explore_prepare(&explore.fibers[i], c->fibers[i]);
	explore.count = i;
	explore.depth = 0;
	explore.steps = 0;
	explore.preemptions = 0;
	explore.failure = NULL;
	/* Which one begins is a choice that costs nothing. */
	explore.current = explore_choose(explore.count);
	explore.inside = true;
	(void)swapcontext(&explore.main_context,
		&explore.fibers[explore.current].context);
	explore.inside = false;
}

static bool explore_advance(void)
{
	while (explore.known > 0) {
		if (explore.path[explore.known - 1].taken + 1 <
			explore.path[explore.known - 1].options) {
			explore.path[explore.known - 1].taken++;
			return true;
		}
		explore.known--;
	}
	return false;
}

static void explore_make_stacks(void)
{
	unsigned i;

	for (i = 0; i < EXPLORE_FIBERS; i++) {
		explore.fibers[i].stack = mem_alloc(EXPLORE_STACK);
		assert_non_null(explore.fibers[i].stack);
	}
}

static void explore_free_stacks(void)
{
	unsigned i;

	for (i = 0; i < EXPLORE_FIBERS; i++) {
		mem_free(explore.fibers[i].stack);
		explore.fibers[i].stack = NULL;
	}
}

/*
 * NULL if every execution is right, else what is wrong with the first that is
 * not.
 */
static const char *explore_run(const struct explore_case *c, unsigned preempt)
{
	const char *failure = NULL;

	explore.max_preemptions = preempt;
	explore.may_rest = c->may_rest;
	explore.known = 0;
	explore.executions = 0;
	explore_make_stacks();
	do {
		c->setup();
		explore_start(c);
		explore.executions++;
		if (!explore.failure)
			c->check();
		failure = explore.failure;
		c->teardown();
	} while (!failure && explore_advance());
	explore_free_stacks();
	print_message("counted: %llu executions%s%s\n",
		(unsigned long long)explore.executions, failure ? ": " : "",
		failure ? failure : "");
	return failure;
}

/* How many pre-emptions to look for, if the short form has so many. */
static unsigned explore_bound(unsigned usual)
{
#if defined(__SANITIZE_ADDRESS__)
	return 1;
#else
	return usual + (getenv("SLUICE_SOAK") != NULL);
#endif
}
