/* SPDX-License-Identifier: Apache-2.0 */
/* A bound on memory in flight; see budget.h. */
#include "blobcache/budget.h"

#include "runtime/base/util.h"

int bc_budget_init(struct bc_budget *b, uint64_t limit)
{
	int i;

	b->limit = limit;
	b->used = 0;
	for (i = 0; i < RT_CLASSES; i++)
		list_init(&b->waiting[i]);
	return -pthread_mutex_init(&b->lock, NULL);
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

bool bc_budget_take(struct bc_budget *b, struct bc_ticket *t, uint64_t bytes,
	enum rt_class cls)
{
	bool ok;

	t->bytes = bytes;
	t->cls = cls;
	(void)pthread_mutex_lock(&b->lock); /* a plain mutex cannot fail */
	ok = list_is_empty(&b->waiting[RT_DEMAND]) &&
	     (cls == RT_DEMAND || list_is_empty(&b->waiting[cls])) &&
	     fits(b, t);
	t->is_waiting = !ok;
	if (ok)
		b->used += bytes;
	else
		list_push_back(&b->waiting[cls], &t->node);
	(void)pthread_mutex_unlock(&b->lock);
	return ok;
}

/* Move those whose turn has come to out. */
static void grant(struct bc_budget *b, struct list *out)
{
	int i;

	for (i = 0; i < RT_CLASSES; i++) {
		while (!list_is_empty(&b->waiting[i])) {
			struct bc_ticket *t = container_of(
				b->waiting[i].next, struct bc_ticket, node);

			if (!fits(b, t))
				return;
			list_remove(&t->node);
			list_push_back(out, &t->node);
			t->is_waiting = false;
			b->used += t->bytes;
		}
	}
}

void bc_budget_give(struct bc_budget *b, struct bc_ticket *t)
{
	struct list granted, *node;

	list_init(&granted);
	(void)pthread_mutex_lock(&b->lock);
	b->used -= t->bytes;
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
