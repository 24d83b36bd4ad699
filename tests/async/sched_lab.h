/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that note what happens to them, and a runtime to run them on. */
#pragma once

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

static inline void work_end(struct work *k)
{
	atomic_fetch_add(&lab.ended, 1);
	rt_req_done(&k->req);
}

static inline void work_task(struct rt_task *t)
{
	work_end(container_of(t, struct work, task));
}

static inline void work_timer(struct rt_timer *t)
{
	work_end(container_of(t, struct work, timer));
}

static inline void work_run(struct rt_req *r)
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

static inline void work_released(struct rt_req *r)
{
	atomic_fetch_add(&container_of(r, struct work, req)->released, 1);
}

static inline struct work *works_new(
	size_t n, enum rt_class cls, enum ending ending)
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

static inline int work_submit(struct work *k)
{
	int ret = rt_submit(lab.rt, &k->req);

	if (ret == 0)
		k->holds++;
	return ret;
}

static inline void works_submit(struct work *k, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		assert_int_equal(work_submit(&k[i]), 0);
}

/* After a stop: each of them ran as often as it was accepted. */
static inline void works_check(const struct work *k, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		assert_int_equal(k[i].runs, k[i].holds > 0);
		assert_int_equal(k[i].released, k[i].holds);
	}
}

/* False where this engine is not available. */
static inline bool lab_create(enum rt_backend b, struct rt_options o)
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

static inline void lab_start(void)
{
	struct err e = {0};

	assert_int_equal(rt_start(lab.rt, &e), 0);
}

/* Runs body on each engine, with a runtime that has not been started. */
static inline void on_labs(struct rt_options o, void (*body)(void))
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

static inline void nothing(void *arg, struct rt_op *op)
{
	rt_block_on_done(op, 0);
}

/* Worker 0 has taken so many turns that it has pulled all that it may. */
static inline void lab_settle(void)
{
	unsigned i;

	for (i = 0; i < 40; i++)
		assert_int_equal(rt_block_on(lab.rt, nothing, NULL), 0);
}

static inline void end_one(void *arg, struct rt_op *op)
{
	work_end(arg);
	rt_block_on_done(op, 0);
}

/* End a WHEN_TOLD request of worker 0. */
static inline void lab_end(struct work *k)
{
	assert_int_equal(rt_block_on(lab.rt, end_one, k), 0);
}

static inline void lab_wait_ran(unsigned n)
{
	while (atomic_load(&lab.ran) < n)
		(void)sched_yield();
}
