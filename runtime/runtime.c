/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A runtime from create to destroy, and block_on.
 *
 * Starting goes in rounds: every worker makes its engine on its own thread and
 * reports; the starter says go, or, where the backend is free to choose and a
 * ring could not be had after all, has them begin again with the threads
 * engine, so that all workers always have the same one.
 */
#include "runtime/runtime.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/backend_int.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/channel.h"
#include "runtime/engine.h"
#include "runtime/pool.h"
#include "runtime/sched_int.h"
#include "runtime/worker_int.h"

#define LOG_TOPIC "runtime"

enum {
	WORKERS_DEFAULT_MAX = 4,
	WORKERS_MAX = RT_SLEEPERS_MAX,
	DEPTH_DEFAULT = 256,
	DEPTH_MAX = 8192,
	SLOTS_DEFAULT = 64,
	BACKLOG_DEFAULT = 1024,
	JOBS_MIN = 2,
	JOBS_MAX = 8,
	FILE_THREADS_DEFAULT = 16,
	POOL_THREADS_MAX = 256,
	CPUS_MAX = 1 << 16,
	/* Somebody waits for a worker; nobody for the next ms of a decode. */
	WORKER_TURN_NS = 200000,
};

/* ---- create ---- */

static unsigned rt_or(unsigned value, unsigned otherwise, unsigned max)
{
	if (value == 0)
		value = otherwise;
	return value < max ? value : max;
}

static void rt_fill_options(struct rt_options *o)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned cpus = online < 1 ? 1 : (unsigned)online;
	unsigned jobs = cpus < JOBS_MIN ? JOBS_MIN : cpus;

	o->workers = rt_or(o->workers,
		cpus < WORKERS_DEFAULT_MAX ? cpus : WORKERS_DEFAULT_MAX,
		WORKERS_MAX);
	if (o->calling_thread)
		o->workers = 1;
	o->queue_depth = rt_or(o->queue_depth, DEPTH_DEFAULT, DEPTH_MAX);
	o->slots = rt_or(o->slots, SLOTS_DEFAULT, DEPTH_MAX);
	o->backlog = rt_or(o->backlog, BACKLOG_DEFAULT, 1u << 20);
	o->job_threads = rt_or(o->job_threads,
		jobs < JOBS_MAX ? jobs : JOBS_MAX, POOL_THREADS_MAX);
	o->file_threads =
		rt_or(o->file_threads, FILE_THREADS_DEFAULT, POOL_THREADS_MAX);
	if (!o->probe_dir)
		o->probe_dir = "/tmp";
	if (!o->name)
		o->name = "rt";
}

/* Where the creator may run; the kernel's mask may be larger than cpu_set_t. */
static int rt_read_cpus(struct rt *rt)
{
	for (int n = CPU_SETSIZE; n <= CPUS_MAX; n *= 2) {
		rt->cpus_size = CPU_ALLOC_SIZE(n);
		mem_free(rt->cpus);
		rt->cpus = mem_zalloc(rt->cpus_size);
		if (!rt->cpus)
			return -ENOMEM;
		if (sched_getaffinity(0, rt->cpus_size, rt->cpus) == 0)
			return 0;
		if (errno != EINVAL)
			break;
	}
	return -errno;
}

static int rt_make_pools(struct rt *rt)
{
	struct rt_pool_options o = {
		.max_threads = rt->opt.job_threads,
		.name = rt->name,
		.letter = 'j',
		.cpus = rt->opt.pin ? rt->cpus : NULL,
		.cpus_size = rt->cpus_size,
	};
	int r = rt_pool_create(&o, &rt->jobs);

	if (r)
		return r;
	o.max_threads = rt->opt.file_threads;
	o.letter = 'f';
	return rt_pool_create(&o, &rt->files);
}

static int rt_make_workers(struct rt *rt)
{
	struct rt_worker *w;

	rt->workers = mem_calloc(rt->opt.workers, sizeof(*rt->workers));
	if (!rt->workers)
		return -ENOMEM;
	for (unsigned i = 0; i < rt->opt.workers; i++)
		rt->workers[i].doorbell = -1;
	for (unsigned i = 0; i < rt->opt.workers; i++) {
		w = &rt->workers[i];
		w->rt = rt;
		w->index = i;
		w->cpu = -1;
		list_init(&w->waiting[RT_DEMAND]);
		list_init(&w->waiting[RT_PREFETCH]);
		list_init(&w->waiting_watches);
		list_init(&w->flying_watches);
		list_init(&w->ended);
		/* blocking, so that a ring can wait in a read of it */
		w->doorbell = eventfd(0, EFD_CLOEXEC);
		if (w->doorbell < 0)
			return -errno;
	}
	return 0;
}

int rt_create(const struct rt_options *o, struct rt **ret, struct err *e)
{
	struct rt *rt = mem_zalloc(sizeof(*rt));
	int r;

	if (!rt)
		return err_set(e, -ENOMEM, "no memory for a runtime");
	rt->opt = *o;
	rt_fill_options(&rt->opt);
	(void)snprintf(rt->name, sizeof(rt->name), "%s", rt->opt.name);
	rt->opt.name = rt->name;
	(void)pthread_mutex_init(&rt->lock, NULL); /* cannot fail on Linux */
	(void)pthread_cond_init(&rt->changed, NULL);
	r = rt_backend_choose(rt, e);
	if (r) {
		rt_destroy(rt);
		return r;
	}
	rt->opt.probe_dir = NULL; /* was borrowed */
	r = rt_read_cpus(rt);
	if (!r)
		r = rt_make_workers(rt);
	if (!r)
		r = rt_make_pools(rt);
	if (!r)
		r = rt_sched_init(rt);
	if (r) {
		rt_destroy(rt);
		return err_sys(e, r, "cannot make a runtime");
	}
	*ret = rt;
	return 0;
}

void rt_destroy(struct rt *rt)
{
	if (!rt)
		return;
	assert(!rt->threads_up);
	rt_pool_destroy(rt->jobs);
	rt_pool_destroy(rt->files);
	if (rt->workers)
		rt_sched_fini(rt);
	for (unsigned i = 0; rt->workers && i < rt->opt.workers; i++) {
		rt_worker_close(&rt->workers[i]);
		if (rt->workers[i].doorbell >= 0)
			(void)close(rt->workers[i].doorbell);
	}
	mem_free(rt->workers);
	mem_free(rt->cpus);
	(void)pthread_cond_destroy(&rt->changed);
	(void)pthread_mutex_destroy(&rt->lock);
	mem_free(rt);
}

/* ---- start ---- */

/* This thread on one of the CPUs that the creator may use. */
static void rt_pin(struct rt_worker *w)
{
	const struct rt *rt = w->rt;
	int n = CPU_COUNT_S(rt->cpus_size, rt->cpus);
	int left = n > 0 ? (int)(w->index % (unsigned)n) : 0;
	cpu_set_t *one = mem_zalloc(rt->cpus_size);

	if (!one || n <= 0) {
		mem_free(one);
		return; /* slower, not wrong */
	}
	for (unsigned c = 0; c < rt->cpus_size * 8; c++) {
		if (!CPU_ISSET_S(c, rt->cpus_size, rt->cpus) || left-- > 0)
			continue;
		CPU_SET_S(c, rt->cpus_size, one);
		if (sched_setaffinity(0, rt->cpus_size, one) == 0)
			w->cpu = (int)c;
		break;
	}
	mem_free(one);
}

/* Report, then wait for the starter's word on this round. */
static enum rt_verdict rt_report(struct rt_worker *w)
{
	struct rt *rt = w->rt;
	enum rt_verdict verdict;
	unsigned round;

	pthread_mutex_lock(&rt->lock);
	round = rt->round;
	rt->reported++;
	pthread_cond_broadcast(&rt->changed);
	while (rt->round == round)
		pthread_cond_wait(&rt->changed, &rt->lock);
	verdict = rt->verdict;
	pthread_mutex_unlock(&rt->lock);
	return verdict;
}

static void *rt_worker_main(void *arg)
{
	struct rt_worker *w = arg;
	enum rt_verdict verdict;

	rt_worker_become(w);
	rt_thread_set_turn(WORKER_TURN_NS);
	if (w->rt->opt.pin)
		rt_pin(w);
	do {
		w->start_result = rt_worker_open(w);
		verdict = rt_report(w);
		if (verdict != RT_GO)
			rt_worker_close(w);
	} while (verdict == RT_ONCE_MORE);
	if (verdict == RT_GO) {
		rt_worker_loop(w, NULL);
		rt_worker_close(w);
	}
	rt_worker_become(NULL);
	return NULL;
}

static void rt_say(struct rt *rt, enum rt_verdict verdict)
{
	pthread_mutex_lock(&rt->lock);
	rt->verdict = verdict;
	rt->reported = 0;
	rt->round++;
	pthread_cond_broadcast(&rt->changed);
	pthread_mutex_unlock(&rt->lock);
}

/* Wait for n reports; the first failure, or 0. */
static int rt_hear(struct rt *rt, unsigned n, struct err *e)
{
	int r = 0;

	pthread_mutex_lock(&rt->lock);
	while (rt->reported < n)
		pthread_cond_wait(&rt->changed, &rt->lock);
	pthread_mutex_unlock(&rt->lock);
	for (unsigned i = 0; i < n && !r; i++) {
		r = rt->workers[i].start_result;
		if (r && e)
			*e = rt->workers[i].start_err;
	}
	return r;
}

static void rt_join(struct rt *rt, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)pthread_join(rt->workers[i].thread, NULL);
}

int rt_start(struct rt *rt, struct err *e)
{
	struct err why = {0};
	char name[24];
	unsigned n = 0;
	int r = 0, made = 0;

	if (rt->opt.calling_thread)
		return 0;
	while (n < rt->opt.workers && !made) {
		(void)snprintf(name, sizeof(name), "%s-w%u", rt->name, n);
		made = rt_thread_start(&rt->workers[n].thread, name,
			rt_worker_main, &rt->workers[n]);
		if (!made)
			n++;
	}
	r = rt_hear(rt, n, &why);
	if (!made && r && rt_backend_give_up_uring(rt, &why)) {
		rt_say(rt, RT_ONCE_MORE);
		r = rt_hear(rt, n, &why);
	}
	if (!made && !r) {
		rt->threads_up = true;
		rt_say(rt, RT_GO);
		log_info("%u workers, engine %s: %s", n,
			rt_backend_name(rt->backend), rt->reason);
		return 0;
	}
	rt_say(rt, RT_QUIT);
	rt_join(rt, n);
	if (made)
		return err_sys(e, made, "cannot start a worker thread");
	return err_set(e, r, "%s", why.text);
}

/* ---- the calling thread's worker ---- */

/* Enter the loop here. 0 or -errno. */
static int rt_run_here(struct rt *rt, const bool *until)
{
	struct rt_worker *w = &rt->workers[0];
	struct rt_worker *before = rt_worker_self();
	int r = 0;

	assert(!rt->running);
	rt_worker_become(w);
	if (!w->engine) {
		r = rt_worker_open(w);
		if (r && rt_backend_give_up_uring(rt, &w->start_err))
			r = rt_worker_open(w);
		if (!r)
			log_info("one worker, engine %s: %s",
				rt_backend_name(rt->backend), rt->reason);
	}
	if (!r) {
		rt->running = true;
		rt_worker_loop(w, until);
		rt->running = false;
	}
	if (w->stage == RT_ENDED)
		rt_worker_close(w); /* on the thread that made it */
	rt_worker_become(before);
	return r;
}

int rt_run(struct rt *rt)
{
	assert(rt->opt.calling_thread);
	return rt_run_here(rt, NULL);
}

/* ---- stop ---- */

static void rt_begin_stop(struct rt *rt)
{
	unsigned running = RT_RUNNING;

	rt_sched_close(rt);
	pthread_mutex_lock(&rt->lock);
	if (atomic_compare_exchange_strong(&rt->stage, &running, RT_DRAINING)) {
		for (unsigned i = 0; i < rt->opt.workers; i++)
			(void)rt_worker_wake(&rt->workers[i]);
	}
	pthread_mutex_unlock(&rt->lock);
}

void rt_stop(struct rt *rt)
{
	if (!rt)
		return;
	rt_begin_stop(rt);
	if (rt_worker_self() && rt_worker_self()->rt == rt)
		return; /* it ends when its callbacks have returned */
	if (rt->opt.calling_thread) {
		if (!rt->running && atomic_load(&rt->stage) != RT_ENDED &&
			rt->workers[0].engine)
			(void)rt_run_here(rt, NULL);
		return;
	}
	if (!rt->threads_up)
		return;
	rt_join(rt, rt->opt.workers);
	rt->threads_up = false;
}

/* ---- block_on ---- */

struct block {
	struct rt_op op;
	struct rt_task task;
	void (*start)(void *arg, struct rt_op *op);
	void *arg;
	bool done; /* guarded by the runtime's lock, or of the calling thread */
};

static void block_start(struct rt_task *t)
{
	struct block *b = container_of(t, struct block, task);

	b->start(b->arg, &b->op);
}

int64_t rt_block_on(
	struct rt *rt, void (*start)(void *arg, struct rt_op *op), void *arg)
{
	struct block b = {
		.op.worker = &rt->workers[0],
		.task.run = block_start,
		.start = start,
		.arg = arg,
	};
	int r;

	assert(!rt_worker_self() || rt_worker_self()->rt != rt);
	rt_post(b.op.worker, &b.task);
	if (rt->opt.calling_thread) {
		r = rt_run_here(rt, &b.done);
		return r ? r : b.op.result;
	}
	pthread_mutex_lock(&rt->lock);
	while (!b.done)
		pthread_cond_wait(&rt->changed, &rt->lock);
	pthread_mutex_unlock(&rt->lock);
	return b.op.result;
}

void rt_block_on_done(struct rt_op *op, int64_t result)
{
	struct block *b = container_of(op, struct block, op);
	struct rt *rt = op->worker->rt;

	rt_worker_assert(op->worker);
	/* b may be gone as soon as the lock is free */
	pthread_mutex_lock(&rt->lock);
	op->result = result;
	b->done = true;
	pthread_cond_broadcast(&rt->changed);
	pthread_mutex_unlock(&rt->lock);
}

/* ---- what it is ---- */

unsigned rt_worker_count(const struct rt *rt)
{
	return rt->opt.workers;
}

unsigned rt_slot_count(const struct rt *rt)
{
	return rt->opt.workers * rt->opt.slots;
}

struct rt_worker *rt_worker_at(struct rt *rt, unsigned i)
{
	assert(i < rt->opt.workers);
	return &rt->workers[i];
}

struct rt *rt_worker_runtime(struct rt_worker *w)
{
	return w->rt;
}

unsigned rt_worker_index(const struct rt_worker *w)
{
	return w->index;
}

int rt_worker_cpu(const struct rt_worker *w)
{
	return w->cpu;
}
