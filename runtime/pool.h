/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded set of threads that run queued work, demand before prefetch. Two of
 * them in a runtime: CPU jobs, and the files of the threads engine. A thread
 * starts when work finds none idle, up to the limit, and stays until the end.
 */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/runtime.h"

struct rt_pool;

struct rt_pool_options {
	unsigned max_threads;
	const char *name; /* borrowed; threads are "<name>-<letter><i>" */
	char letter;
	const cpu_set_t
		*cpus; /* borrowed; where threads may run; NULL: as is */
	size_t cpus_size;
};

/* Starts no thread. 0 or -ENOMEM. INIT_ONLY. */
int rt_pool_create(const struct rt_pool_options *o, struct rt_pool **ret);
/* Runs what is queued, then ends the threads. NULL is fine. INIT_ONLY. */
void rt_pool_destroy(struct rt_pool *p);
/*
 * Queue k; k->run will be called once by a pool thread (by the caller, if not
 * one thread could be started). k is the pool's until then. ANY_THREAD.
 */
void rt_pool_submit(struct rt_pool *p, struct rt_work *k);
/* True if k was still queued: it will not run. ANY_THREAD. */
bool rt_pool_remove(struct rt_pool *p, struct rt_work *k);
/* Threads that exist now. ANY_THREAD. */
unsigned rt_pool_threads(struct rt_pool *p);

/*
 * Start a thread with all signals blocked and a visible name. 0 or -errno.
 * ANY_THREAD.
 */
int rt_thread_start(
	pthread_t *ret, const char *name, void *(*main)(void *), void *arg);
/*
 * Have the kernel run this thread in turns of ns (0: as long as usual). A
 * thread with short turns that wakes up does not wait for the end of a long
 * one's turn. Kernels before 6.12 take no notice. ANY_THREAD.
 */
void rt_thread_set_turn(uint64_t ns);
