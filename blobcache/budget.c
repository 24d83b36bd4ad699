/* SPDX-License-Identifier: Apache-2.0 */
/* A bound on memory in flight; see budget.h. */
#include "blobcache/budget.h"

#include "runtime/base/util.h"

/* No share is more than so many times what is free. */
#define SHARE_FACTOR 3

int bc_budget_init(struct bc_budget *b, uint64_t limit)
{
	int i;

	b->limit = limit;
	b->used = 0;
	for (i = 0; i < RT_CLASSES; i++)
		list_init(&b->waiting[i]);
	return -pthread_mutex_init(&b->lock, NULL);
}

void bc_budget_set_limit(struct bc_budget *b, uint64_t limit)
{
	(void)pthread_mutex_lock(&b->lock); /* a plain mutex cannot fail */
	b->limit = limit;
	(void)pthread_mutex_unlock(&b->lock);
}

void bc_budget_fini(struct bc_budget *b)
{
	(void)pthread_mutex_destroy(&b->lock); /* nobody holds it */
}

static bool fits(const struct bc_budget *b, const struct bc_ticket *t)
{
	uint64_t limit = t->cls == RT_DEMAND ? b->limit : b->limit / 4 * 3;

	return b->used == 0 ||
	       (b->used <= limit && t->bytes <= limit - b->used);
}

/* Does it leave enough of the room to others? */
static bool is_fair(const struct bc_budget *b, const struct bc_ticket *t)
{
	const struct bc_share *s = t->share;
	uint64_t left = b->used < b->limit ? b->limit - b->used : 0;

	return !s || s->used == 0 ||
	       div_round_up(s->used + t->bytes, SHARE_FACTOR) <= left;
}

/* Who has nothing yet waits for nobody. */
static bool is_first(const struct bc_ticket *t)
{
	return t->share && t->share->used == 0 && t->cls == RT_DEMAND;
}

static void give_to(struct bc_budget *b, struct bc_ticket *t, struct list *out)
{
	list_remove(&t->node);
	list_push_back(out, &t->node);
	t->is_waiting = false;
	b->used += t->bytes;
	if (t->share)
		t->share->used += t->bytes;
}

/*
 * Move those whose turn has come to out. Nobody overtakes who waits for room,
 * but for the first of a share; whoever waits for his own share is passed.
 */
static void grant(struct bc_budget *b, struct list *out)
{
	bool is_full = false;
	int i;

	for (i = 0; i < RT_CLASSES; i++) {
		list_for_each_safe(it, &b->waiting[i]) {
			struct bc_ticket *t =
				container_of(it, struct bc_ticket, node);

			if (is_first(t)) {
				give_to(b, t, out);
				continue;
			}
			if (!is_fair(b, t))
				continue;
			is_full |= !fits(b, t);
			if (!is_full)
				give_to(b, t, out);
		}
	}
}

bool bc_budget_take(struct bc_budget *b, struct bc_ticket *t, uint64_t bytes,
	enum rt_class cls)
{
	struct list granted;
	bool ok;

	list_init(&granted);
	t->bytes = bytes;
	t->cls = cls;
	t->is_waiting = true;
	(void)pthread_mutex_lock(&b->lock); /* a plain mutex cannot fail */
	list_push_back(&b->waiting[cls], &t->node);
	/* Nothing has become free: nobody else's turn can have come. */
	grant(b, &granted);
	ok = !t->is_waiting;
	if (ok)
		list_remove(&t->node);
	(void)pthread_mutex_unlock(&b->lock);
	return ok;
}

void bc_budget_give(struct bc_budget *b, struct bc_ticket *t)
{
	struct list granted, *node;

	list_init(&granted);
	(void)pthread_mutex_lock(&b->lock);
	b->used -= t->bytes;
	if (t->share)
		t->share->used -= t->bytes;
	t->bytes = 0;
	grant(b, &granted);
	(void)pthread_mutex_unlock(&b->lock);
	while ((node = list_pop_front(&granted)) != NULL) {
		t = container_of(node, struct bc_ticket, node);
		t->granted(t);
	}
}

void bc_budget_promote(struct bc_budget *b, struct bc_ticket *t)
{
	struct list granted, *node;

	list_init(&granted);
	(void)pthread_mutex_lock(&b->lock);
	if (t->is_waiting && t->cls != RT_DEMAND) {
		t->cls = RT_DEMAND;
		list_remove(&t->node);
		list_push_back(&b->waiting[RT_DEMAND], &t->node);
		grant(b, &granted);
	}
	(void)pthread_mutex_unlock(&b->lock);
	while ((node = list_pop_front(&granted)) != NULL) {
		t = container_of(node, struct bc_ticket, node);
		t->granted(t);
	}
}
