/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's loop. One turn: timers, posted tasks, what the engine brought
 * back, the scheduler; then everything that was started goes to the engine in
 * one go, and the worker sleeps there if it has nothing left to do.
 *
 * The end of a runtime goes in stages (enum rt_stage). In each of them a worker
 * with nothing left counts itself idle; the last one to do so, with no task or
 * job under way anywhere, moves the runtime to the next stage. Tasks and jobs
 * are counted where they are made, so work on its way between two workers
 * holds the stage back.
 */
#include "runtime/worker_int.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/util.h"
#include "runtime/engine.h"
#include "runtime/io_int.h"
#include "runtime/sched_int.h"
#include "runtime/timer_int.h"

#define LOG_TOPIC "runtime"

static const uint64_t stall_ns = 1000000000u;

static _Thread_local struct rt_worker *this_worker;

struct rt_worker *rt_worker_self(void)
{
	return this_worker;
}

void rt_worker_become(struct rt_worker *w)
{
	this_worker = w;
}

void rt_worker_assert(const struct rt_worker *w)
{
	assert(this_worker == w);
	(void)w; /* nothing is checked in a release build */
}

/* ---- from other threads ---- */

static void worker_ring(struct rt_worker *w)
{
	const uint64_t one = 1;

	/* Can only fail when the counter is full, and then it rings anyway. */
	if (write(w->doorbell, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

bool rt_worker_wake(struct rt_worker *w)
{
	/* the exchange also for its order, see worker_int.h */
	if (!atomic_exchange(&w->asleep, false))
		return false;
	worker_ring(w);
	return true;
}

void rt_worker_hush(struct rt_worker *w)
{
	uint64_t count;

	if (read(w->doorbell, &count, sizeof(count)) < 0)
		assert(errno == EINTR || errno == EAGAIN);
	rt_count(&w->counters.wakeups, 1);
}

void rt_post(struct rt_worker *w, struct rt_task *t)
{
	struct rt_task *head;

	atomic_fetch_add(&w->rt->pending, 1);
	head = atomic_load_explicit(&w->inbox, memory_order_relaxed);
	do {
		t->next = head;
	} while (!atomic_compare_exchange_weak(&w->inbox, &head, t));
	(void)rt_worker_wake(w);
}

/* ---- the turn ---- */

static void worker_run_tasks(struct rt_worker *w)
{
	struct rt_task *t, *next, *in_order = NULL;
	unsigned n = 0;

	if (!atomic_load_explicit(&w->inbox, memory_order_relaxed))
		return;
	for (t = atomic_exchange(&w->inbox, NULL); t; t = next) {
		next = t->next;
		t->next = in_order;
		in_order = t;
	}
	for (t = in_order; t; t = next) {
		next = t->next;
		t->run(t); /* may free t */
		n++;
	}
	rt_count(&w->counters.tasks, n);
	atomic_fetch_sub(&w->rt->pending, n);
}

static bool worker_has_news(struct rt_worker *w)
{
	return atomic_load(&w->inbox) ||
	       atomic_load(&w->rt->stage) != w->stage || rt_sched_has_work(w);
}

static bool worker_is_through(const struct rt_worker *w)
{
	switch ((enum rt_stage)w->stage) {
	case RT_RUNNING:
		return false;
	case RT_DRAINING:
		return w->live == 0 && rt_sched_is_drained(w->rt);
	case RT_CANCELLING:
		return w->live == 0 && w->watches == w->with_ring;
	case RT_ENDED:
		break;
	}
	return true;
}

/* Lock held: everybody has something to do again. */
static void worker_next_stage(struct rt *rt)
{
	rt->idle = 0;
	atomic_fetch_add(&rt->stage, 1);
	for (unsigned i = 0; i < rt->opt.workers; i++)
		(void)rt_worker_wake(&rt->workers[i]);
}

/* Nothing to do now; in a stopping runtime that counts. */
static void worker_set_idle(struct rt_worker *w, bool idle)
{
	struct rt *rt = w->rt;

	if (w->idle == idle)
		return;
	pthread_mutex_lock(&rt->lock);
	/* a new stage has set the count to 0 */
	if (atomic_load(&rt->stage) == w->stage) {
		rt->idle += idle ? 1 : -1u;
		if (rt->idle == rt->opt.workers &&
			atomic_load(&rt->pending) == 0)
			worker_next_stage(rt);
	}
	w->idle = idle;
	pthread_mutex_unlock(&rt->lock);
}

static void worker_see_stage(struct rt_worker *w)
{
	unsigned stage = atomic_load(&w->rt->stage);

	if (stage == w->stage)
		return;
	w->stage = stage;
	w->idle = false;
	if (stage == RT_CANCELLING)
		rt_io_cancel_watches(w);
}

static void worker_end_turn(struct rt_worker *w)
{
	uint64_t now = clock_ns(), took = now - w->turn_ns;

	rt_count(&w->counters.turns, 1);
	if (took > atomic_load_explicit(
			   &w->counters.longest_turn_ns, memory_order_relaxed))
		atomic_store_explicit(&w->counters.longest_turn_ns, took,
			memory_order_relaxed);
	if (took > stall_ns)
		log_warn("worker %u did nothing else for %llu ms, others had "
			 "to wait",
			w->index, (unsigned long long)(took / 1000000u));
	w->turn_ns = now;
}

/* How long the engine may wait; 0 if there is something to do. */
static uint64_t worker_timeout(struct rt_worker *w)
{
	uint64_t due;

	if (rt_io_has_work(w))
		return 0;
	/* from here on whoever brings work rings: look once more, see .h */
	atomic_store(&w->asleep, true);
	if (worker_has_news(w))
		return 0;
	if (worker_is_through(w)) {
		worker_set_idle(w, true);
		if (worker_has_news(w)) /* the last one makes a stage */
			return 0;
	}
	due = rt_timers_due(w);
	if (due == UINT64_MAX)
		return UINT64_MAX;
	return due < w->turn_ns ? 0 : due - w->turn_ns + 1;
}

static void worker_wait(struct rt_worker *w)
{
	uint64_t timeout, woke;

	worker_end_turn(w);
	timeout = worker_timeout(w);
	w->ops->wait(w, timeout);
	atomic_store(&w->asleep, false);
	worker_set_idle(w, false);
	if (timeout == 0)
		return;
	woke = clock_ns();
	rt_count(&w->counters.waits, 1);
	rt_count(&w->counters.idle_ns, woke - w->turn_ns);
	w->turn_ns = woke;
}

void rt_worker_loop(struct rt_worker *w, const bool *until)
{
	rt_worker_assert(w);
	w->turn_ns = clock_ns();
	for (;;) {
		worker_see_stage(w);
		if (w->stage == RT_ENDED || (until && *until))
			break;
		rt_timers_run(w, w->turn_ns);
		worker_run_tasks(w);
		rt_io_run_ended(w);
		rt_sched_turn(w);
		rt_io_flush(w);
		if (!until || !*until)
			worker_wait(w);
	}
}

/* ---- start and end ---- */

int rt_worker_open(struct rt_worker *w)
{
	struct rt *rt = w->rt;
	int r;

	w->depth = rt->opt.queue_depth;
	if (rt->ops)
		w->ops = rt->ops;
	else if (rt->backend == RT_BACKEND_URING)
		w->ops = &rt_engine_uring;
	else
		w->ops = &rt_engine_threads;
	r = w->ops->create(w, &w->start_err);
	atomic_store_explicit(
		&w->counters.queue_depth, w->depth, memory_order_relaxed);
	return r;
}

void rt_worker_close(struct rt_worker *w)
{
	if (!w->engine)
		return;
	w->ops->destroy(w);
	rt_io_end_with_ring(w);
}

void rt_worker_stats(const struct rt_worker *w, struct rt_stats *ret)
{
	const struct rt_counters *c = &w->counters;

#define COPY(field) \
	ret->field = atomic_load_explicit(&c->field, memory_order_relaxed)
	COPY(turns);
	COPY(waits);
	COPY(wakeups);
	COPY(io_submitted);
	COPY(io_completed);
	COPY(io_inline);
	COPY(io_punted);
	COPY(tasks);
	COPY(jobs);
	COPY(idle_ns);
	COPY(longest_turn_ns);
	COPY(requests[RT_DEMAND]);
	COPY(requests[RT_PREFETCH]);
	COPY(in_flight);
	COPY(queue_depth);
#undef COPY
}
