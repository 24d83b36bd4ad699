/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prefetch queue.
 *
 *   items --batch--> candidates --sort, plan--> ranges --issue--> wants
 *
 * A batch is the next some MiB of the wish. Inside it neighbours share a range
 * whatever the order in which they are wanted; the ranges go out in the order
 * of the first thing that is wanted of each. Everything but the way in belongs
 * to worker 0. Failures cost nothing but the bytes: whoever needs them asks.
 */
#include "blobcache/prefetch.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/pace.h"
#include "blobcache/plan.h"
#include "runtime/base/clock.h"
#include "runtime/base/list.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "prefetch"

enum {
	MAX_WANTS = 16,         /* ranges on their way */
	BATCH_GROUPS = 8192,    /* candidates of a batch */
	MAX_FAILURES = 16,      /* one after the other */
	BUSY_PAUSE_MS = 100,    /* the channel is full */
	LOOKS_PER_TURN = 65536, /* groups looked at before others have a turn */
};
#define BATCH_BYTES (32u << 20)
/*
 * What comes first is waited for soon, piece by piece, and one connection that
 * is slow should not hold up much of it.
 */
#define START_BYTES (32u << 20)
#define START_RANGE (1u << 20)
#define MAX_ON_WAY (16u << 20) /* bytes, fetched and decoded */

struct candidate {
	struct bc_blob *blob;
	uint32_t group, rank;
};

/* Candidates [first, first + count), one after the other in one blob. */
struct range {
	uint32_t first, count, rank;
	uint64_t len, decoded;
};

struct queue {
	struct list node;
	size_t count;
	struct bc_prefetch_item items[];
};

struct want {
	struct bc_want w;
	struct bc_prefetch *p;
	uint64_t bytes; /* on their way */
	uint64_t len, decoded;
	bool is_busy;
	uint32_t groups[BC_WANT_MAX_GROUPS];
};

struct bc_prefetch {
	struct bc_prefetch_options o;
	struct rt_worker *home;
	struct bc_pace pace;
	pthread_mutex_t lock; /* guards queues, is_posted, is_ending */
	struct list queues;
	bool is_posted, is_ending;
	struct rt_task task;
	/* the worker's */
	struct rt_timer timer;
	struct rt_op *end_op;
	size_t item;             /* of the first queue, the next one */
	uint32_t in_item;        /* its groups that were looked at */
	struct candidate *cands; /* owned, BATCH_GROUPS of them */
	struct range *ranges;    /* owned, as many */
	uint32_t range_at, range_count;
	struct want wants[MAX_WANTS];
	unsigned busy, failures;
	uint64_t on_way; /* bytes, now */
	bool is_waiting; /* for the timer */
	atomic_uint_least64_t bytes, decoded, range_total, waits;
	atomic_bool is_idle, is_stopped;
};

static void look(struct bc_prefetch *p);

/* ---- items -> candidates ---- */

static struct queue *first_queue(struct bc_prefetch *p)
{
	struct queue *q = NULL;

	(void)pthread_mutex_lock(&p->lock); /* a plain mutex cannot fail */
	if (!list_is_empty(&p->queues))
		q = container_of(p->queues.next, struct queue, node);
	(void)pthread_mutex_unlock(&p->lock);
	return q;
}

static void drop_queue(struct bc_prefetch *p, struct queue *q)
{
	(void)pthread_mutex_lock(&p->lock);
	list_remove(&q->node);
	(void)pthread_mutex_unlock(&p->lock);
	mem_free(q);
	p->item = 0;
	p->in_item = 0;
}

/* The next candidate that is not cached; false: the batch ends here. */
static bool next_candidate(
	struct bc_prefetch *p, struct candidate *ret, uint32_t *looks)
{
	const struct bc_prefetch_item *i;
	struct queue *q;
	uint32_t group;

	while ((q = first_queue(p))) {
		if (p->item == q->count) {
			drop_queue(p, q);
			continue;
		}
		i = &q->items[p->item];
		if (p->in_item == i->count) {
			p->item++;
			p->in_item = 0;
			continue;
		}
		if ((*looks)++ == LOOKS_PER_TURN)
			return false;
		group = i->group + p->in_item++;
		if (bc_blob_has_group(i->blob, group))
			continue;
		*ret = (struct candidate){.blob = i->blob, .group = group};
		return true;
	}
	return false;
}

static int by_place(const void *va, const void *vb)
{
	const struct candidate *a = va, *b = vb;

	if (a->blob != b->blob)
		return (uintptr_t)a->blob < (uintptr_t)b->blob ? -1 : 1;
	return a->group < b->group ? -1 : a->group > b->group;
}

static int by_rank(const void *va, const void *vb)
{
	const struct range *a = va, *b = vb;

	return a->rank < b->rank ? -1 : a->rank > b->rank;
}

/* Sorted, each group once. */
static uint32_t sort_candidates(struct candidate *c, uint32_t n)
{
	uint32_t i, out = 0;

	qsort(c, n, sizeof(*c), by_place);
	for (i = 0; i < n; i++) {
		if (out == 0 || by_place(&c[out - 1], &c[i]) != 0)
			c[out++] = c[i];
		else if (c[i].rank < c[out - 1].rank)
			c[out - 1].rank = c[i].rank;
	}
	return out;
}

/* Candidates [first, first + count) of one blob become ranges. */
static void plan_blob(struct bc_prefetch *p, uint32_t first, uint32_t count)
{
	const struct bc_map *m = bc_blob_map(p->cands[first].blob);
	uint32_t numbers[BC_WANT_MAX_GROUPS], at = 0, n, i;
	struct bc_plan_limits limits = bc_plan_bulk;
	struct bc_range r;
	struct range *out;

	if (atomic_load(&p->bytes) < START_BYTES)
		limits.max_len = START_RANGE;
	for (; at < count; at += r.count) {
		n = (uint32_t)min_u64(count - at, BC_WANT_MAX_GROUPS);
		for (i = 0; i < n; i++)
			numbers[i] = p->cands[first + at + i].group;
		r = bc_plan_next(m, &limits, numbers, 0, n);
		out = &p->ranges[p->range_count++];
		*out = (struct range){.first = first + at,
			.count = r.count,
			.rank = UINT32_MAX,
			.len = r.len,
			.decoded = r.decoded};
		for (i = 0; i < r.count; i++)
			out->rank = (uint32_t)min_u64(
				out->rank, p->cands[out->first + i].rank);
	}
}

/* The next batch; false: there is nothing left, or not yet. */
static bool make_batch(struct bc_prefetch *p)
{
	uint32_t n = 0, looks = 0, first, end;
	uint64_t bytes = 0;

	p->range_at = p->range_count = 0;
	while (n < BATCH_GROUPS && bytes < BATCH_BYTES &&
		next_candidate(p, &p->cands[n], &looks)) {
		bytes += bc_map_group(
			bc_blob_map(p->cands[n].blob), p->cands[n].group)
		                 .src_len;
		p->cands[n].rank = n;
		n++;
	}
	n = n > 0 ? sort_candidates(p->cands, n) : 0;
	for (first = 0; first < n; first = end) {
		end = first + 1;
		while (end < n && p->cands[end].blob == p->cands[first].blob)
			end++;
		plan_blob(p, first, end - first);
	}
	if (p->range_count > 0)
		qsort(p->ranges, p->range_count, sizeof(*p->ranges), by_rank);
	return p->range_count > 0;
}

/* ---- ranges -> wants ---- */

static void stop_for_good(struct bc_prefetch *p, const char *why)
{
	if (!atomic_exchange(&p->is_stopped, true))
		log_info("prefetch ends early: %s", why);
}

static void wait_ms(struct bc_prefetch *p, uint64_t ms)
{
	p->is_waiting = true;
	rt_timer_start(p->home, &p->timer, ms);
}

/* It was refused: once more, after all the others. */
static void want_again(struct want *x)
{
	struct bc_prefetch *p = x->p;
	struct bc_prefetch_item *items;
	uint32_t i;

	atomic_fetch_sub(&p->decoded, x->decoded);
	atomic_fetch_sub(&p->bytes, x->len);
	wait_ms(p, BUSY_PAUSE_MS);
	items = mem_calloc(x->w.count, sizeof(*items));
	for (i = 0; items && i < x->w.count; i++)
		items[i] =
			(struct bc_prefetch_item){x->w.blob, x->groups[i], 1};
	if (!items || bc_prefetch_add(p, items, x->w.count) < 0)
		log_debug("out of memory: a range is not fetched ahead");
	mem_free(items);
}

static void note_result(struct want *x, int result)
{
	struct bc_prefetch *p = x->p;

	if (result == -EAGAIN)
		want_again(x);
	else if (result == 0)
		p->failures = 0;
	else if (result == -ECANCELED)
		p->o.dry = NULL; /* the blob ends, and soon this */
	else if (++p->failures >= MAX_FAILURES)
		stop_for_good(p, "what is fetched fails again and again");
}

static void want_done(struct bc_want *w)
{
	struct want *x = container_of(w, struct want, w);
	struct bc_prefetch *p = x->p;

	x->is_busy = false;
	p->busy--;
	p->on_way -= x->bytes;
	note_result(x, w->result);
	look(p);
}

static struct want *free_want(struct bc_prefetch *p)
{
	unsigned i = 0;

	while (p->wants[i].is_busy)
		i++;
	return &p->wants[i];
}

static void issue(struct bc_prefetch *p, const struct range *r)
{
	struct want *x = free_want(p);
	uint32_t i;
	int result;

	for (i = 0; i < r->count; i++)
		x->groups[i] = p->cands[r->first + i].group;
	x->w = (struct bc_want){.blob = p->cands[r->first].blob,
		.groups = x->groups,
		.count = r->count,
		.done = want_done};
	x->p = p;
	x->len = r->len;
	x->decoded = r->decoded;
	x->bytes = r->len + r->decoded;
	x->is_busy = true;
	p->busy++;
	p->on_way += x->bytes;
	atomic_fetch_add(&p->decoded, r->decoded);
	atomic_fetch_add(&p->bytes, r->len);
	atomic_fetch_add(&p->range_total, 1);
	result = bc_blob_want(&x->w);
	if (result == -EINPROGRESS)
		return;
	x->is_busy = false;
	p->busy--;
	p->on_way -= x->bytes;
	note_result(x, result);
}

/* May the next range go now? */
static bool may_issue(struct bc_prefetch *p, const struct range *r)
{
	struct bc_blob *b = p->cands[r->first].blob;
	uint64_t ms;

	if (p->is_waiting || p->busy == MAX_WANTS ||
		(p->busy > 0 && p->on_way + r->len + r->decoded > MAX_ON_WAY))
		return false;
	if (!bc_blob_can_cache(b)) {
		stop_for_good(p, "the cache takes nothing more");
		return false;
	}
	/* or it would push out what was fetched before, and what is read */
	if (atomic_load(&p->decoded) + r->decoded >
		bc_blob_cache_limit(b) / 2) {
		stop_for_good(p, "the cache may not hold much more");
		return false;
	}
	ms = bc_pace_take(&p->pace, r->len, clock_ms());
	if (ms == 0)
		return true;
	atomic_fetch_add(&p->waits, 1);
	wait_ms(p, ms);
	return false;
}

/* Ending, and whether anything is left that looks at p. */
static bool is_ending(struct bc_prefetch *p, bool *ret_is_over)
{
	bool r;

	(void)pthread_mutex_lock(&p->lock);
	r = p->is_ending;
	*ret_is_over = p->busy == 0 && !p->is_posted && p->end_op;
	(void)pthread_mutex_unlock(&p->lock);
	return r;
}

static void post(struct bc_prefetch *p)
{
	(void)pthread_mutex_lock(&p->lock);
	if (!p->is_posted)
		rt_post(p->home, &p->task);
	p->is_posted = true;
	(void)pthread_mutex_unlock(&p->lock);
}

static void run_dry(struct bc_prefetch *p)
{
	void (*dry)(void *arg) = p->o.dry;

	atomic_store(&p->is_idle, true);
	p->o.dry = NULL;
	if (dry)
		dry(p->o.arg);
}

/* Whatever is due now. */
static void look(struct bc_prefetch *p)
{
	struct rt_op *op = p->end_op;
	bool is_over;

	if (is_ending(p, &is_over)) {
		if (!is_over)
			return;
		rt_timer_stop(p->home, &p->timer);
		p->end_op = NULL;
		rt_block_on_done(op, 0); /* p may be gone */
		return;
	}
	while (!atomic_load(&p->is_stopped)) {
		if (p->range_at == p->range_count && !make_batch(p))
			break;
		if (!may_issue(p, &p->ranges[p->range_at])) {
			if (atomic_load(&p->is_stopped))
				break;
			return;
		}
		atomic_store(&p->is_idle, false);
		issue(p, &p->ranges[p->range_at++]);
	}
	/* a long stretch that is cached already: go on after the others */
	if (!atomic_load(&p->is_stopped) && first_queue(p))
		post(p);
	else if (p->busy == 0)
		run_dry(p);
}

static void looked(struct rt_task *t)
{
	struct bc_prefetch *p = container_of(t, struct bc_prefetch, task);

	(void)pthread_mutex_lock(&p->lock);
	p->is_posted = false;
	(void)pthread_mutex_unlock(&p->lock);
	look(p);
}

static void fired(struct rt_timer *t)
{
	struct bc_prefetch *p = container_of(t, struct bc_prefetch, timer);

	p->is_waiting = false;
	look(p);
}

/* ---- the outside ---- */

int bc_prefetch_create(
	const struct bc_prefetch_options *o, struct bc_prefetch **ret)
{
	struct bc_prefetch *p = mem_zalloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->cands = mem_calloc(BATCH_GROUPS, sizeof(*p->cands));
	p->ranges = mem_calloc(BATCH_GROUPS, sizeof(*p->ranges));
	if (!p->cands || !p->ranges ||
		pthread_mutex_init(&p->lock, NULL) != 0) {
		mem_free(p->cands);
		mem_free(p->ranges);
		mem_free(p);
		return -ENOMEM;
	}
	p->o = *o;
	p->home = rt_worker_at(o->rt, 0);
	p->task.run = looked;
	p->timer.fire = fired;
	list_init(&p->queues);
	bc_pace_init(&p->pace, o->rate, clock_ms());
	atomic_init(&p->is_idle, true);
	*ret = p;
	return 0;
}

int bc_prefetch_add(struct bc_prefetch *p, const struct bc_prefetch_item *items,
	size_t count)
{
	struct queue *q;

	if (count == 0)
		return 0;
	q = mem_alloc(sizeof(*q) + count * sizeof(*items));
	if (!q)
		return -ENOMEM;
	q->count = count;
	memcpy(q->items, items, count * sizeof(*items));
	atomic_store(&p->is_idle, false);
	(void)pthread_mutex_lock(&p->lock);
	list_push_back(&p->queues, &q->node);
	(void)pthread_mutex_unlock(&p->lock);
	post(p);
	return 0;
}

static void end_start(void *arg, struct rt_op *op)
{
	struct bc_prefetch *p = arg;

	p->end_op = op;
	look(p);
}

void bc_prefetch_destroy(struct bc_prefetch *p)
{
	struct list *it;

	if (!p)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->is_ending = true;
	(void)pthread_mutex_unlock(&p->lock);
	(void)rt_block_on(p->o.rt, end_start, p); /* always 0 */
	while ((it = list_pop_front(&p->queues)))
		mem_free(container_of(it, struct queue, node));
	(void)pthread_mutex_destroy(&p->lock); /* nobody holds it */
	mem_free(p->cands);
	mem_free(p->ranges);
	mem_free(p);
}

void bc_prefetch_stats(
	const struct bc_prefetch *p, struct bc_prefetch_stats *ret)
{
	*ret = (struct bc_prefetch_stats){.bytes = atomic_load(&p->bytes),
		.decoded = atomic_load(&p->decoded),
		.ranges = atomic_load(&p->range_total),
		.waits = atomic_load(&p->waits),
		.is_idle = atomic_load(&p->is_idle),
		.was_stopped = atomic_load(&p->is_stopped)};
}
