/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flood of requests on four workers: each request that ends is submitted
 * again, so that many more are queued than can be in work.
 *
 * Two kinds. "wait": a request holds its slot for some time, as a fetch does,
 * and no CPU; what a worker gets done depends on its pulling alone. "spin": a
 * request is CPU time, and a worker with nothing to do while requests queue is
 * a fault. The slow worker needs ten times as long for each.
 */
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/request.h"
#include "tests/bench/bench.h"

enum {
	WORKERS = 4,
	SLOTS = 8,
	REQUESTS = 512,
	SLOWER = 10,
	WAIT_MS = 4,
	SPIN_NS = 50000,
	WINDOW_MS = 400,
	NOBODY = WORKERS,
};

struct flood_req {
	struct rt_req req;
	struct rt_timer timer;
};

/* Written by its worker; read when the flood has run off. */
struct flood_worker {
	alignas(64) uint64_t done;
	struct rt_stats before, after;
	struct rt_task task;
	bool closed;
};

static struct {
	struct rt *rt;
	bool spins;
	unsigned slow;
	uint64_t until_ns;
	struct flood_worker workers[WORKERS];
	struct flood_req *reqs; /* owned, REQUESTS of them */
	atomic_uint ready, left;
} flood;

static unsigned flood_factor(const struct rt_worker *w)
{
	return rt_worker_index(w) == flood.slow ? SLOWER : 1;
}

/* The window is over: count no more. */
static void flood_close(struct rt_worker *w)
{
	struct flood_worker *fw = &flood.workers[rt_worker_index(w)];

	if (fw->closed)
		return;
	fw->closed = true;
	rt_worker_stats(w, &fw->after);
}

static void flood_again(struct flood_req *f)
{
	struct rt_worker *w = f->req.worker;

	rt_req_done(&f->req);
	if (clock_ns() >= flood.until_ns) {
		flood_close(w);
		atomic_fetch_sub(&flood.left, 1);
		return;
	}
	flood.workers[rt_worker_index(w)].done++;
	bench_need(rt_submit(flood.rt, &f->req) == 0, "the channel is full");
}

static void flood_timer(struct rt_timer *t)
{
	flood_again(container_of(t, struct flood_req, timer));
}

static void flood_run(struct rt_req *r)
{
	struct flood_req *f = container_of(r, struct flood_req, req);
	uint64_t end;

	if (!flood.spins) {
		rt_timer_start(r->worker, &f->timer,
			WAIT_MS * flood_factor(r->worker));
		return;
	}
	end = bench_thread_ns() + SPIN_NS * flood_factor(r->worker);
	while (bench_thread_ns() < end)
		continue;
	flood_again(f);
}

static void flood_open(struct rt_task *t)
{
	struct flood_worker *fw = container_of(t, struct flood_worker, task);

	rt_worker_stats(rt_worker_self(), &fw->before);
	atomic_fetch_add(&flood.ready, 1);
}

/* A worker that slept through the end is asked after it. */
static void flood_late(struct rt_task *t)
{
	flood_close(rt_worker_self());
	atomic_fetch_add(&flood.ready, 1);
}

static void on_each_worker(void (*run)(struct rt_task *t))
{
	atomic_store(&flood.ready, 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		flood.workers[i].task.run = run;
		rt_post(rt_worker_at(flood.rt, i), &flood.workers[i].task);
	}
	while (atomic_load(&flood.ready) < WORKERS)
		(void)sched_yield();
}

static void nap(unsigned ms)
{
	const struct timespec ts = {.tv_nsec = 1000000L * ms};

	(void)nanosleep(&ts, NULL);
}

/* One window; requests done in it. */
static uint64_t flood_once(bool spins, unsigned slow)
{
	uint64_t done = 0;

	flood.spins = spins;
	flood.slow = slow;
	for (unsigned i = 0; i < WORKERS; i++)
		flood.workers[i] = (struct flood_worker){0};
	on_each_worker(flood_open);
	atomic_store(&flood.left, REQUESTS);
	flood.until_ns = clock_ns() + WINDOW_MS * 1000000ull;
	for (unsigned i = 0; i < REQUESTS; i++)
		bench_need(rt_submit(flood.rt, &flood.reqs[i].req) == 0,
			"the channel is full");
	nap(WINDOW_MS);
	on_each_worker(flood_late);
	while (atomic_load(&flood.left) > 0)
		nap(1);
	for (unsigned i = 0; i < WORKERS; i++)
		done += flood.workers[i].done;
	return done;
}

/* How even the workers' shares are: 1 when equal, 1/n when one has all. */
static double jain_index(void)
{
	double sum = 0, squares = 0, x;

	for (unsigned i = 0; i < WORKERS; i++) {
		x = (double)flood.workers[i].done;
		sum += x;
		squares += x * x;
	}
	return sum * sum / (WORKERS * squares);
}

/* Percent of the workers' time; everybody's time before its first request in.
 */
static double idle_percent(void)
{
	uint64_t idle = 0;

	for (unsigned i = 0; i < WORKERS; i++)
		idle += flood.workers[i].after.idle_ns -
		        flood.workers[i].before.idle_ns;
	return (double)idle * 100 / (WORKERS * WINDOW_MS * 1e6);
}

static void fairness_round(const char *kind, bool spins, unsigned slow)
{
	const double ideal = (WORKERS - 1 + 1.0 / SLOWER) / WORKERS;
	char name[80];
	double equal, slowed;

	equal = (double)flood_once(spins, NOBODY);
	(void)snprintf(name, sizeof(name), "fairness.%s_jain", kind);
	bench_print(name, jain_index());
	if (spins)
		bench_print("fairness.spin_idle", idle_percent());
	slowed = (double)flood_once(spins, slow);
	(void)snprintf(name, sizeof(name), "fairness.%s_slowed", kind);
	bench_print(name, slowed / (equal * ideal));
}

void bench_fairness(const struct bench_args *a)
{
	const struct rt_options o = {.workers = WORKERS, .slots = SLOTS};

	flood.rt = bench_runtime(o, RT_BACKEND_AUTO);
	flood.reqs = mem_calloc(REQUESTS, sizeof(*flood.reqs));
	bench_need(flood.reqs, "no memory");
	for (unsigned i = 0; i < REQUESTS; i++) {
		flood.reqs[i].req.run = flood_run;
		flood.reqs[i].timer.fire = flood_timer;
	}
	for (unsigned n = 0; n < a->rounds; n++) {
		fairness_round("wait", false, n % WORKERS);
		fairness_round("spin", true, n % WORKERS);
	}
	rt_stop(flood.rt);
	rt_destroy(flood.rt);
	mem_free(flood.reqs);
}
