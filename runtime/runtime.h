/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A runtime: N workers, each one thread with one loop and one engine; or one
 * worker on the calling thread. Beside the workers a job pool for CPU work and,
 * for the threads engine, a file pool; both start when they are first needed.
 *
 * Tasks are not stolen: what starts on a worker ends there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/op.h"

struct rt;

enum rt_backend { RT_BACKEND_AUTO, RT_BACKEND_URING, RT_BACKEND_THREADS };

struct rt_options {
	unsigned workers;        /* 0: one per online CPU, at most 4 */
	enum rt_backend backend; /* AUTO tries uring and says why if not */
	bool calling_thread; /* one worker, on the thread that calls rt_run */
	bool pin;            /* worker i on the i-th CPU of the affinity mask */
	unsigned queue_depth;  /* operations in flight per worker; 0: 256 */
	unsigned slots;        /* requests in work per worker; 0: 64 */
	unsigned backlog;      /* requests waiting, per class; 0: 1024 */
	unsigned job_threads;  /* 0: online CPUs, 2 to 8 */
	unsigned file_threads; /* 0: 16; the threads engine only */
	const char
		*probe_dir; /* borrowed until rt_create returns; NULL: /tmp */
	const char *name;   /* thread names "<name>-w0"; NULL: "rt" */
};

/*
 * Check what this machine allows and make a runtime; starts no thread. A forced
 * backend that does not work here is an error that says why. INIT_ONLY.
 */
int rt_create(const struct rt_options *o, struct rt **ret, struct err *e);
/*
 * Start the workers; returns when all of them run. Call after daemonizing.
 * A runtime with calling_thread starts nothing. INIT_ONLY.
 */
int rt_start(struct rt *rt, struct err *e);
/*
 * calling_thread only: run the worker here until rt_stop is called from one of
 * its callbacks (or another thread) and everything has drained. 0, or -errno of
 * an engine that cannot be made. BLOCKING, on the thread that owns the ring.
 */
int rt_run(struct rt *rt);
/*
 * Refuse new requests, let what runs end, then end the threads. From a thread
 * that is no worker: returns when they have ended. NULL and twice are fine.
 * ANY_THREAD.
 */
void rt_stop(struct rt *rt);
/* After rt_stop. NULL is fine. INIT_ONLY. */
void rt_destroy(struct rt *rt);

/* The backend in force, and one sentence why. ANY_THREAD. */
enum rt_backend rt_backend(const struct rt *rt);
const char *rt_backend_name(enum rt_backend b); /* "uring", "threads", "auto" */
const char *rt_backend_reason(const struct rt *rt);

/* How many there are; at most 63. ANY_THREAD. */
unsigned rt_worker_count(const struct rt *rt);
/* Requests that they work on at once, all together. ANY_THREAD. */
unsigned rt_slot_count(const struct rt *rt);
/* The i-th of them; i < rt_worker_count. ANY_THREAD. */
struct rt_worker *rt_worker_at(struct rt *rt, unsigned i);
/* Whose worker w is. ANY_THREAD. */
struct rt *rt_worker_runtime(struct rt_worker *w);
/* Which of them w is. ANY_THREAD. */
unsigned rt_worker_index(const struct rt_worker *w);
/* The CPU that w is pinned to; -1: to none. After rt_start. ANY_THREAD. */
int rt_worker_cpu(const struct rt_worker *w);
/* The worker this thread is; NULL on any other thread. ANY_THREAD. */
struct rt_worker *rt_worker_self(void);
/* Programmer's check: this thread is w. ANY_THREAD. */
void rt_worker_assert(const struct rt_worker *w);

/* ---- a message to a worker: the only way in from another thread ---- */

struct rt_task {
	void (*run)(struct rt_task *t); /* on the worker; may free t */
	struct rt_task *next;           /* private */
};

/*
 * Run t on w, after those posted before it by this thread. Never fails, never
 * blocks; wakes w only if it sleeps. t is w's until run. ANY_THREAD.
 */
void rt_post(struct rt_worker *w, struct rt_task *t);

/*
 * For start-up code and tests: run start(arg, op) on worker 0 and wait until
 * somebody has called rt_block_on_done(op). Returns op->result. On a
 * calling_thread runtime the loop runs here meanwhile. BLOCKING.
 */
int64_t rt_block_on(
	struct rt *rt, void (*start)(void *arg, struct rt_op *op), void *arg);
/* ON_WORKER: end the rt_block_on that op belongs to. */
void rt_block_on_done(struct rt_op *op, int64_t result);

/* ---- jobs: CPU work (decode, digest) ---- */

/* An entry of a thread pool's queue; private to the runtime. */
struct rt_work {
	struct list node;
	void (*run)(struct rt_work *k);
	enum rt_class cls;
};

struct rt_job {
	void (*work)(struct rt_job *j); /* IN_JOB */
	void (*done)(struct rt_job *j); /* ON_WORKER: on home */
	struct rt_worker *home;
	enum rt_class cls; /* demand goes first */
	/* private to the runtime */
	struct rt_work pooled;
	struct rt_task task;
};

/* ANY_THREAD. Never fails; work runs in the pool, then done on j->home. */
void rt_job_submit(struct rt_job *j);

/* ---- timers on the worker's clock ---- */

struct rt_timer {
	void (*fire)(struct rt_timer *t);
	/* private to the runtime: a node of the worker's pairing heap */
	uint64_t due_ns;
	struct rt_timer *child, *next, *prev;
	bool armed;
};

/*
 * (Re)arm: fire runs once on this worker, not before ms have passed, never
 * inside this call. Zero t before its first use. An armed timer does not hold
 * up rt_stop: it is forgotten. ON_WORKER.
 */
void rt_timer_start(struct rt_worker *w, struct rt_timer *t, uint64_t ms);
/* fire will not run. Fine when not armed. ON_WORKER. */
void rt_timer_stop(struct rt_worker *w, struct rt_timer *t);

/* ---- counters ---- */

struct rt_stats {
	uint64_t turns;
	uint64_t waits;   /* turns that ended in the engine, nothing to do */
	uint64_t wakeups; /* by the doorbell */
	uint64_t io_submitted, io_completed;
	uint64_t io_inline; /* reads served by rt_file_try_read */
	/*
	 * Given to threads: to our pool, or by the kernel to its own, as far as
	 * that is known (kinds that it never tries at once, and what the trial
	 * in the probe directory showed).
	 */
	uint64_t io_punted;
	uint64_t tasks, jobs;
	uint64_t idle_ns; /* in those waits; a ring also works there */
	uint64_t longest_turn_ns;
	uint64_t requests[RT_CLASSES];
	uint32_t in_flight, queue_depth; /* of this moment */
};

/* A consistent enough copy. ANY_THREAD. */
void rt_worker_stats(const struct rt_worker *w, struct rt_stats *ret);
