/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: from rt_submit through the channel to the worker that runs them.
 *
 * A queue entry is one pointer to a request and one hold on it. A promoted
 * request has two entries; nothing is taken out of the middle. Whoever pops an
 * entry tries to claim the request; who comes second finds it claimed, skips
 * the entry and lets go.
 *
 *   IDLE --submit--> QUEUED --pop--> CLAIMED --rt_req_done--> IDLE
 *
 * A generation counts submits, so that a late promotion cannot touch the next
 * round. Failure modes: a full queue refuses; a closed one refuses and is run
 * empty; a request whose run never leads to rt_req_done keeps its slot for ever
 * and holds up the stop.
 *
 * Each worker pulls for itself. Slots, ageing and what it is listed for are its
 * own; shared are the queues, the sleepers and how many workers have room.
 */
#include "runtime/sched_int.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>

#include "runtime/atomics.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/channel.h"
#include "runtime/request.h"
#include "runtime/worker_int.h"

/* At most so many requests of a class in one turn. */
#define PULL_MAX 8u
/* One prefetch grant is due after so many demand grants. */
#define PULL_AGE 16u

enum {
	REQ_IDLE = 0,
	REQ_QUEUED = 1,
	REQ_CLAIMED = 2,
	REQ_PHASE = 3,         /* mask */
	REQ_DEMAND = 4,        /* has, or is getting, an entry as demand */
	REQ_PREFETCH_SLOT = 8, /* runs in a prefetch slot */
	REQ_GENERATION = 16,   /* the rest counts */
};

struct rt_sched {
	/* from any thread */
	alignas(64) atomic_bool nudged; /* look again, whatever you think */
	/* of the worker's own thread */
	unsigned in_work[RT_CLASSES]; /* slots taken */
	unsigned aged;                /* demand since the last prefetch grant */
	unsigned listed;              /* bit per class: among its sleepers */
	bool full;                    /* not counted in roomy */
};

struct rt_channel {
	struct rt_queue queues[RT_CLASSES];
	struct rt_sleepers sleepers[RT_CLASSES];
	struct rt_sched *scheds; /* owned, one per worker */
	unsigned slots, prefetch_slots;
	alignas(64) atomic_uint roomy; /* workers that have a free slot */
	atomic_bool drained;           /* and everybody has been told */
};

int rt_sched_init(struct rt *rt)
{
	unsigned i, slots = rt->opt.slots, workers = rt->opt.workers;
	struct rt_channel *c;
	int ret = -ENOMEM;

	if (!workers || workers > RT_SLEEPERS_MAX)
		return -EINVAL;
	c = mem_alloc_aligned(alignof(struct rt_channel), sizeof(*c));
	if (!c)
		return -ENOMEM;
	*c = (struct rt_channel){.slots = slots < 2 ? 2 : slots};
	c->prefetch_slots = c->slots / 2;
	atomic_init(&c->roomy, workers);
	rt->channel = c;
	for (i = 0; i < RT_CLASSES; i++) {
		ret = rt_queue_init(&c->queues[i], rt->opt.backlog);
		if (ret)
			goto fail;
	}
	c->scheds = mem_alloc_aligned(
		alignof(struct rt_sched), workers * sizeof(*c->scheds));
	if (!c->scheds) {
		ret = -ENOMEM;
		goto fail;
	}
	for (i = 0; i < workers; i++) {
		c->scheds[i] = (struct rt_sched){0};
		rt->workers[i].sched = &c->scheds[i];
	}
	return 0;
fail:
	rt_sched_fini(rt);
	return ret;
}

static void req_release(struct rt_req *r)
{
	if (r->released)
		r->released(r);
}

void rt_sched_fini(struct rt *rt)
{
	struct rt_channel *c = rt->channel;
	void *item;
	unsigned i;

	if (!c)
		return;
	for (i = 0; i < RT_CLASSES; i++) {
		/* A runtime that never ran may still have some. */
		while (c->queues[i].cells &&
			!rt_queue_pop(&c->queues[i], &item))
			req_release(item);
		rt_queue_fini(&c->queues[i]);
	}
	mem_free(c->scheds);
	mem_free(c);
	rt->channel = NULL;
}

/* ---- waking ---- */

static void sched_nudge_all(struct rt *rt)
{
	unsigned i;

	for (i = 0; i < rt->opt.workers; i++) {
		at_store(&rt->workers[i].sched->nudged, true);
		(void)rt_worker_wake(&rt->workers[i]);
	}
}

/* Something of this class waits: one more worker shall come, if one sleeps. */
static void sched_wake_one(struct rt *rt, enum rt_class cls)
{
	int i = rt_sleepers_pick(&rt->channel->sleepers[cls]);

	if (i >= 0)
		(void)rt_worker_wake(&rt->workers[i]);
}

void rt_sched_close(struct rt *rt)
{
	bool first = false;
	unsigned i;

	for (i = 0; i < RT_CLASSES; i++)
		first |= rt_queue_close(&rt->channel->queues[i]);
	if (first)
		sched_nudge_all(rt);
}

bool rt_sched_is_drained(const struct rt *rt)
{
	unsigned i;

	for (i = 0; i < RT_CLASSES; i++) {
		if (!rt_queue_is_drained(&rt->channel->queues[i]))
			return false;
	}
	return true;
}

/* Called by who has popped something: it may have been the last. */
static void sched_note_drained(struct rt *rt)
{
	if (rt_sched_is_drained(rt) && !at_swap(&rt->channel->drained, true))
		sched_nudge_all(rt);
}

/* ---- slots ---- */

/*
 * Could the worker take one of this class now? A free slot is the last one for
 * prefetch: it stays free for demand. When a prefetch grant is due and only
 * that slot is free, demand waits for the next to become free too; otherwise a
 * worker kept full by demand would never reach a prefetch.
 */
static bool sched_has_room(const struct rt_worker *w, enum rt_class cls)
{
	const struct rt_sched *s = w->sched;
	struct rt_channel *c = w->rt->channel;
	unsigned left =
		c->slots - s->in_work[RT_DEMAND] - s->in_work[RT_PREFETCH];
	bool prefetch = s->in_work[RT_PREFETCH] < c->prefetch_slots;

	if (cls == RT_PREFETCH)
		return prefetch && left >= 2;
	if (left == 1 && prefetch && s->aged >= PULL_AGE)
		return !rt_queue_has_item(&c->queues[RT_PREFETCH]);
	return left > 0;
}

static bool sched_can_take(const struct rt_worker *w, enum rt_class cls)
{
	return sched_has_room(w, cls) &&
	       rt_queue_has_item(&w->rt->channel->queues[cls]);
}

/* Keep count of the workers that share the backlog. */
static void sched_count_room(struct rt_worker *w)
{
	struct rt_channel *c = w->rt->channel;
	struct rt_sched *s = w->sched;
	bool full = s->in_work[RT_DEMAND] + s->in_work[RT_PREFETCH] == c->slots;

	if (full == s->full)
		return;
	s->full = full;
	(void)at_add(&c->roomy, full ? -1u : 1u);
}

/* ---- the turn ---- */

/* One turn's takings. */
struct sched_pull {
	struct rt_req *reqs[2 * PULL_MAX];
	unsigned count;
	unsigned left[RT_CLASSES]; /* of the fair share */
	bool popped;
};

static unsigned sched_share(struct rt_channel *c, enum rt_class cls)
{
	uint64_t backlog = rt_queue_count(&c->queues[cls]);
	/* This worker has room, so 0 is a moment's view. */
	uint64_t roomy = max_u64(at_load(&c->roomy), 1);

	return (unsigned)min_u64(
		max_u64(div_round_up(backlog, roomy), 1), PULL_MAX);
}

/* The class to take from next, or RT_CLASSES. */
static unsigned sched_choose(
	const struct rt_worker *w, const struct sched_pull *p)
{
	struct rt_queue *queues = w->rt->channel->queues;

	if (w->sched->aged >= PULL_AGE && p->left[RT_PREFETCH] &&
		sched_can_take(w, RT_PREFETCH))
		return RT_PREFETCH;
	if (p->left[RT_DEMAND] && sched_can_take(w, RT_DEMAND))
		return RT_DEMAND;
	if (p->left[RT_PREFETCH] && !rt_queue_has_item(&queues[RT_DEMAND]) &&
		sched_can_take(w, RT_PREFETCH))
		return RT_PREFETCH;
	return RT_CLASSES;
}

static bool req_claim(struct rt_req *r, enum rt_class from)
{
	unsigned state = at_load(&r->state), claimed;

	do {
		if ((state & REQ_PHASE) != REQ_QUEUED)
			return false;
		claimed = (state & ~REQ_PHASE) | REQ_CLAIMED;
		if (from == RT_PREFETCH)
			claimed |= REQ_PREFETCH_SLOT;
	} while (!at_cas(&r->state, &state, claimed));
	r->cls = state & REQ_DEMAND ? RT_DEMAND : RT_PREFETCH;
	return true;
}

static void sched_grant(struct rt_worker *w, struct sched_pull *p,
	struct rt_req *r, enum rt_class cls)
{
	struct rt_sched *s = w->sched;

	r->worker = w;
	p->reqs[p->count++] = r;
	p->left[cls]--;
	s->in_work[cls]++;
	if (cls == RT_PREFETCH)
		s->aged = 0;
	else if (s->aged < PULL_AGE)
		s->aged++;
	w->live++;
	rt_count(&w->counters.requests[cls], 1);
}

static void sched_pull(struct rt_worker *w, struct sched_pull *p)
{
	struct rt_channel *c = w->rt->channel;
	struct rt_req *r;
	void *item;
	unsigned cls;

	for (cls = 0; cls < RT_CLASSES; cls++)
		p->left[cls] = sched_share(c, cls);
	while ((cls = sched_choose(w, p)) < RT_CLASSES) {
		if (rt_queue_pop(&c->queues[cls], &item)) {
			p->left[cls] = 0; /* others were faster */
			continue;
		}
		p->popped = true;
		r = item;
		if (req_claim(r, cls))
			sched_grant(w, p, r, cls);
		else
			req_release(r); /* its other entry came first */
	}
}

void rt_sched_turn(struct rt_worker *w)
{
	struct rt_channel *c = w->rt->channel;
	struct rt_sched *s = w->sched;
	struct sched_pull p = {0};
	void (*released)(struct rt_req * r);
	unsigned i;

	/* All this before looking at the queues: what comes later wakes again.
	 */
	if (at_load(&s->nudged))
		at_store(&s->nudged, false);
	for (i = 0; i < RT_CLASSES; i++) {
		if (s->listed & 1u << i)
			rt_sleepers_leave(&c->sleepers[i], w->index);
	}
	s->listed = 0;

	sched_pull(w, &p);
	sched_count_room(w);
	if (p.popped)
		sched_note_drained(w->rt);
	for (i = 0; i < RT_CLASSES; i++) {
		if (rt_queue_has_item(&c->queues[i]))
			sched_wake_one(w->rt, i);
	}
	for (i = 0; i < p.count; i++) {
		/* r may end and go in run, unless it is held until released. */
		released = p.reqs[i]->released;
		p.reqs[i]->run(p.reqs[i]);
		if (released)
			released(p.reqs[i]);
	}
}

bool rt_sched_has_work(struct rt_worker *w)
{
	struct rt_channel *c = w->rt->channel;
	struct rt_sched *s = w->sched;
	unsigned cls;

	for (cls = 0; cls < RT_CLASSES; cls++) {
		/* Only who could take it is worth waking. */
		if (s->listed & 1u << cls || !sched_has_room(w, cls))
			continue;
		rt_sleepers_enter(&c->sleepers[cls], w->index);
		s->listed |= 1u << cls;
	}
	for (cls = 0; cls < RT_CLASSES; cls++) {
		/*
		 * Who has been picked must come, even if somebody else has
		 * taken the message: no other wake is sent until then.
		 */
		if (s->listed & 1u << cls &&
			rt_sleepers_is_picked(&c->sleepers[cls], w->index))
			return true;
		if (sched_can_take(w, cls))
			return true;
	}
	return at_load(&s->nudged);
}

/* ---- requests ---- */

int rt_submit(struct rt *rt, struct rt_req *r)
{
	struct rt_queue *q = &rt->channel->queues[r->cls];
	unsigned state = at_load(&r->state), fresh;
	enum rt_class cls = r->cls;
	struct rt_worker *self;
	int ret;

	assert((state & REQ_PHASE) == REQ_IDLE);
	fresh = (state & ~(REQ_GENERATION - 1u)) + REQ_GENERATION;
	state = fresh | REQ_QUEUED | (cls == RT_DEMAND ? REQ_DEMAND : 0);
	at_store(&r->state, state);
	ret = rt_queue_push(q, r);
	if (ret) {
		while ((state & REQ_PHASE) == REQ_QUEUED) {
			if (at_cas(&r->state, &state, fresh | REQ_IDLE))
				return ret;
		}
		/* A promotion came between and it runs: accepted after all. */
		req_release(r);
		return 0;
	}
	/*
	 * A worker with room takes a single one itself before it sleeps: that
	 * is cheaper than waking another.
	 */
	self = rt_worker_self();
	if (self && self->rt == rt && sched_has_room(self, cls) &&
		rt_queue_count(q) <= 1)
		return 0;
	sched_wake_one(rt, cls);
	return 0;
}

bool rt_req_promote(struct rt *rt, struct rt_req *r)
{
	unsigned state = at_load(&r->state), marked;

	/*
	 * Marked first: once it is pushed, r is no longer ours to touch. Who
	 * promotes it in the same moment relies on this push.
	 */
	do {
		if ((state & REQ_PHASE) != REQ_QUEUED || state & REQ_DEMAND) {
			req_release(r);
			return true;
		}
		marked = state | REQ_DEMAND;
	} while (!at_cas(&r->state, &state, marked));
	if (rt_queue_push(&rt->channel->queues[RT_DEMAND], r)) {
		(void)at_cas(&r->state, &marked, state); /* or it runs by now */
		return false;
	}
	sched_wake_one(rt, RT_DEMAND);
	return true;
}

void rt_req_done(struct rt_req *r)
{
	struct rt_worker *w = r->worker;
	unsigned state = at_load(&r->state);
	enum rt_class slot =
		state & REQ_PREFETCH_SLOT ? RT_PREFETCH : RT_DEMAND;

	rt_worker_assert(w);
	assert((state & REQ_PHASE) == REQ_CLAIMED);
	assert(w->sched->in_work[slot] > 0);
	w->sched->in_work[slot]--;
	sched_count_room(w);
	w->live--;
	/* From here on r may be submitted again, or be gone. */
	at_store(&r->state, state & ~(REQ_GENERATION - 1u));
}

unsigned rt_backlog(const struct rt *rt, enum rt_class cls)
{
	return (unsigned)rt_queue_count(&rt->channel->queues[cls]);
}
