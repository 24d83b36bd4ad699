/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's timers: a pairing heap of the callers' own structures, so that
 * arming allocates nothing and cannot fail. A node's prev is its left sibling,
 * or its parent if it is the first child.
 */
#include "runtime/timer_int.h"

#include <stddef.h>

#include "runtime/base/clock.h"
#include "runtime/worker_int.h"

/* Two roots, either may be NULL, to one. */
static struct rt_timer *timer_merge(struct rt_timer *a, struct rt_timer *b)
{
	struct rt_timer *t;

	if (!a || !b)
		return a ? a : b;
	if (b->due_ns < a->due_ns) {
		t = a;
		a = b;
		b = t;
	}
	b->next = a->child;
	if (b->next)
		b->next->prev = b;
	b->prev = a;
	a->child = b;
	return a;
}

/* A list of siblings to one root: in pairs, then from the last to the first. */
static struct rt_timer *timer_merge_all(struct rt_timer *first)
{
	struct rt_timer *pairs = NULL, *a, *b, *rest, *root = NULL;

	for (a = first; a; a = rest) {
		b = a->next;
		rest = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		a = timer_merge(a, b);
		a->next = pairs;
		pairs = a;
	}
	for (a = pairs; a; a = rest) {
		rest = a->next;
		a->next = NULL;
		root = timer_merge(root, a);
	}
	return root;
}

static void timer_unlink(struct rt_worker *w, struct rt_timer *t)
{
	struct rt_timer *below = timer_merge_all(t->child);

	if (t == w->timers) {
		w->timers = below;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		w->timers = timer_merge(w->timers, below);
	}
	t->child = t->next = t->prev = NULL;
	t->armed = false;
}

void rt_timer_start(struct rt_worker *w, struct rt_timer *t, uint64_t ms)
{
	uint64_t now;

	rt_worker_assert(w);
	if (t->armed)
		timer_unlink(w, t);
	now = clock_ns();
	if (ms > (UINT64_MAX - now) / 1000000u)
		t->due_ns = UINT64_MAX;
	else
		t->due_ns = now + ms * 1000000u;
	t->armed = true;
	w->timers = timer_merge(w->timers, t);
}

void rt_timer_stop(struct rt_worker *w, struct rt_timer *t)
{
	rt_worker_assert(w);
	if (t->armed)
		timer_unlink(w, t);
}

void rt_timers_run(struct rt_worker *w, uint64_t now_ns)
{
	struct rt_timer *t;

	/* What a callback arms is due later than now_ns: this ends. */
	while (w->timers && w->timers->due_ns < now_ns) {
		t = w->timers;
		timer_unlink(w, t);
		t->fire(t);
	}
}

uint64_t rt_timers_due(const struct rt_worker *w)
{
	return w->timers ? w->timers->due_ns : UINT64_MAX;
}
