/* SPDX-License-Identifier: Apache-2.0 */
/* Thread pools; see pool.h. */
#include "runtime/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/list.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

enum { DEMANDS_PER_PREFETCH = 16 };

struct rt_pool {
	struct rt_pool_options opt;
	pthread_t *threads; /* owned, opt.max_threads of them */

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t work_or_end;
	struct list queue[RT_CLASSES];
	unsigned queued;     /* in both queues */
	unsigned count;      /* threads */
	unsigned idle;       /* of these, waiting for work */
	unsigned demand_run; /* demands taken since the last prefetch */
	bool ending;
};

int rt_thread_start(
	pthread_t *ret, const char *name, void *(*main)(void *), void *arg)
{
	sigset_t all, old;
	int r;

	(void)sigfillset(&all);
	/*
	 * A fault belongs to the thread that makes it: blocked, it would end
	 * the process past any handler (a lost page of a mapping is SIGBUS).
	 */
	(void)sigdelset(&all, SIGBUS);
	(void)sigdelset(&all, SIGSEGV);
	(void)sigdelset(&all, SIGFPE);
	(void)sigdelset(&all, SIGILL);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(ret, NULL, main, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return -r;
	(void)pthread_setname_np(*ret, name); /* only for people */
	return 0;
}

/* As the kernel has it (SCHED_ATTR_SIZE_VER0); libc may not know it yet. */
struct thread_sched {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

void rt_thread_set_turn(uint64_t ns)
{
	struct thread_sched s = {.size = sizeof(s)};

	if (syscall(SYS_sched_getattr, 0, &s, sizeof(s), 0) < 0 ||
		(s.policy != SCHED_OTHER && s.policy != SCHED_BATCH))
		return; /* somebody else has plans for it */
	s.runtime_ns = ns;
	(void)syscall(SYS_sched_setattr, 0, &s, 0); /* only a wish */
}

int rt_pool_create(const struct rt_pool_options *o, struct rt_pool **ret)
{
	struct rt_pool *p = mem_zalloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->opt = *o;
	p->threads = mem_calloc(o->max_threads, sizeof(*p->threads));
	if (!p->threads) {
		mem_free(p);
		return -ENOMEM;
	}
	(void)pthread_mutex_init(&p->lock, NULL); /* cannot fail on Linux */
	(void)pthread_cond_init(&p->work_or_end, NULL);
	list_init(&p->queue[RT_DEMAND]);
	list_init(&p->queue[RT_PREFETCH]);
	*ret = p;
	return 0;
}

/* Lock held, something queued. A prefetch cannot starve for ever. */
static struct rt_work *pool_take(struct rt_pool *p)
{
	enum rt_class cls = RT_DEMAND;

	if (list_is_empty(&p->queue[RT_DEMAND]) ||
		(p->demand_run >= DEMANDS_PER_PREFETCH &&
			!list_is_empty(&p->queue[RT_PREFETCH])))
		cls = RT_PREFETCH;
	p->demand_run = cls == RT_DEMAND ? p->demand_run + 1 : 0;
	p->queued--;
	return container_of(
		list_pop_front(&p->queue[cls]), struct rt_work, node);
}

static void *pool_main(void *arg)
{
	struct rt_pool *p = arg;
	struct rt_work *k;

	/* A worker that started us passed on its pinning and its short turns.
	 */
	rt_thread_set_turn(0);
	if (p->opt.cpus)
		(void)pthread_setaffinity_np(
			pthread_self(), p->opt.cpus_size, p->opt.cpus);
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->queued && !p->ending) {
			p->idle++;
			pthread_cond_wait(&p->work_or_end, &p->lock);
			p->idle--;
		}
		if (!p->queued)
			break;
		k = pool_take(p);
		pthread_mutex_unlock(&p->lock);
		k->run(k);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Lock held. Threads that cannot be started are made up for by the others. */
static void pool_grow(struct rt_pool *p)
{
	char name[24];

	if (p->queued <= p->idle || p->count == p->opt.max_threads)
		return;
	(void)snprintf(name, sizeof(name), "%.11s-%c%u", p->opt.name,
		p->opt.letter, p->count % 100);
	if (rt_thread_start(&p->threads[p->count], name, pool_main, p) == 0)
		p->count++;
}

void rt_pool_submit(struct rt_pool *p, struct rt_work *k)
{
	bool alone;

	pthread_mutex_lock(&p->lock);
	list_push_back(&p->queue[k->cls], &k->node);
	p->queued++;
	pool_grow(p);
	alone = p->count == 0;
	if (alone) {
		list_remove(&k->node);
		p->queued--;
	} else if (p->idle) {
		pthread_cond_signal(&p->work_or_end);
	}
	pthread_mutex_unlock(&p->lock);
	if (alone)
		k->run(k);
}

bool rt_pool_remove(struct rt_pool *p, struct rt_work *k)
{
	bool was_queued;

	pthread_mutex_lock(&p->lock);
	was_queued = !list_is_empty(&k->node);
	if (was_queued) {
		list_remove(&k->node);
		p->queued--;
	}
	pthread_mutex_unlock(&p->lock);
	return was_queued;
}

unsigned rt_pool_threads(struct rt_pool *p)
{
	unsigned n;

	pthread_mutex_lock(&p->lock);
	n = p->count;
	pthread_mutex_unlock(&p->lock);
	return n;
}

void rt_pool_destroy(struct rt_pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->ending = true;
	pthread_cond_broadcast(&p->work_or_end);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->count; i++)
		(void)pthread_join(p->threads[i], NULL);
	(void)pthread_cond_destroy(&p->work_or_end);
	(void)pthread_mutex_destroy(&p->lock);
	mem_free(p->threads);
	mem_free(p);
}
