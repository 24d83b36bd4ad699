/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a runtime and its workers, for the files of runtime/ only.
 *
 * How a worker sleeps: it sets asleep (seq_cst), looks once more at its inbox
 * and at the channel, and only then waits in its engine. Who brings work first
 * makes it visible (a seq_cst read-modify-write), then calls rt_worker_wake.
 * One of both always sees the other.
 */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/list.h"
#include "runtime/runtime.h"

struct rt_channel;
struct rt_sched;
struct rt_engine;
struct rt_engine_ops;
struct rt_fault_plan;
struct rt_io;
struct rt_pool;

/* The worker writes, anybody reads: rt_count() and relaxed loads. */
struct rt_counters {
	_Atomic uint64_t turns, waits, wakeups;
	_Atomic uint64_t io_submitted, io_completed, io_inline, io_punted;
	_Atomic uint64_t tasks, jobs;
	_Atomic uint64_t idle_ns, longest_turn_ns;
	_Atomic uint64_t requests[RT_CLASSES];
	_Atomic uint32_t in_flight, queue_depth;
};

/* Add to a counter that only this thread writes. */
static inline void rt_count(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c,
		atomic_load_explicit(c, memory_order_relaxed) + n,
		memory_order_relaxed);
}

struct rt_worker {
	struct rt *rt;
	unsigned index;
	int doorbell; /* eventfd; written only to end a sleep */

	/* shared with other threads */
	atomic_bool asleep;
	_Atomic(struct rt_task *) inbox; /* newest first */
	struct rt_counters counters;

	/* the rest is of the worker's own thread */
	unsigned live; /* operations and requests that must end before stop */
	unsigned watches;       /* polls and commands: cancelled by stop */
	unsigned with_ring;     /* of these: RT_IO_WITH_RING */
	struct rt_sched *sched; /* owned by the scheduler */

	const struct rt_engine_ops *ops;
	struct rt_engine *engine; /* NULL until the thread runs */
	unsigned depth;           /* credits, per kind of operation */
	unsigned flying[2];       /* credits taken: operations, watches */
	struct list waiting[RT_CLASSES]; /* no credit yet: operations */
	struct list waiting_watches;
	struct list flying_watches;
	struct list ended;       /* done runs in the next turn */
	struct rt_timer *timers; /* root of a pairing heap */

	uint64_t turn_ns; /* when this turn began */
	unsigned stage;   /* of the runtime, as this worker saw it last */
	bool idle;        /* counted in rt->idle */
	int cpu;          /* pinned to it; -1: not */
	pthread_t thread;
	int start_result;
	struct err start_err;
};

/* How far a stop is; each step waits until every worker is idle. */
enum rt_stage {
	RT_RUNNING,
	RT_DRAINING,   /* operations, requests, jobs and tasks end */
	RT_CANCELLING, /* then polls and commands are cancelled */
	RT_ENDED
};

/* What the starter says when all workers have tried to make an engine. */
enum rt_verdict { RT_GO, RT_ONCE_MORE, RT_QUIT };

struct rt {
	struct rt_options opt; /* every 0 replaced by the real number */
	char name[12];
	enum rt_backend backend;
	char reason[600];
	uint64_t uring_punts; /* opcodes that the kernel gives to threads */
	struct rt_worker *workers;       /* owned, opt.workers of them */
	struct rt_channel *channel;      /* owned by the scheduler */
	struct rt_pool *jobs, *files;    /* owned */
	const struct rt_engine_ops *ops; /* NULL: the backend's */
	struct rt_fault_plan *fault;     /* borrowed; tests only */
	cpu_set_t *cpus;                 /* owned: where the creator may run */
	size_t cpus_size;

	/* tasks posted and jobs submitted that have not been run to the end */
	atomic_uint pending;
	atomic_uint stage; /* enum rt_stage; written under lock */

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	unsigned idle;     /* workers with nothing left in this stage */
	unsigned reported; /* workers whose start_result is set, this round */
	unsigned round;    /* counted up with each verdict */
	enum rt_verdict verdict;
	bool running; /* somebody is inside the calling thread's loop */
	bool threads_up;
};

/*
 * End w's sleep if it sleeps; true if this call did it. What w shall find must
 * be visible before. ANY_THREAD.
 */
bool rt_worker_wake(struct rt_worker *w);
/* The doorbell rang: make it silent. ON_WORKER. */
void rt_worker_hush(struct rt_worker *w);

/* Make the engine. On the worker's own thread; 0, or -errno and start_err. */
int rt_worker_open(struct rt_worker *w);
/* The end of rt_worker_open. On the same thread. */
void rt_worker_close(struct rt_worker *w);
/* Turn after turn, until the runtime has ended or *until. ON_WORKER. */
void rt_worker_loop(struct rt_worker *w, const bool *until);
/* Say that this thread is w (NULL: no worker any more). ANY_THREAD. */
void rt_worker_become(struct rt_worker *w);
