/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single-flight: a hash table of keys under one short mutex.
 *
 * A waiter's place in the list is all that the table knows about it. Landing
 * takes the whole list under the mutex and clears each node's prev, so that a
 * waiter that leaves afterwards sees that it is too late without looking at the
 * flight, which may be gone by then.
 */
#include "runtime/flight.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"

static const unsigned flight_max_buckets = 1u << 20;

int rt_flight_table_init(struct rt_flight_table *t, unsigned buckets,
	void (*destroy)(struct rt_flight *f))
{
	unsigned count = 1, i;
	int ret;

	*t = (struct rt_flight_table){.destroy = destroy};
	if (!buckets || buckets > flight_max_buckets)
		return -EINVAL;
	while (count < buckets)
		count *= 2;
	t->buckets = mem_calloc(count, sizeof(*t->buckets));
	if (!t->buckets)
		return -ENOMEM;
	ret = pthread_mutex_init(&t->lock, NULL);
	if (ret) {
		mem_free(t->buckets);
		t->buckets = NULL;
		return -ret;
	}
	for (i = 0; i < count; i++)
		list_init(&t->buckets[i]);
	t->bucket_count = count;
	return 0;
}

void rt_flight_table_fini(struct rt_flight_table *t)
{
	if (!t->buckets)
		return;
	assert(t->count == 0);
	(void)pthread_mutex_destroy(&t->lock); /* nobody holds it */
	mem_free(t->buckets);
	t->buckets = NULL;
}

static struct list *flight_bucket(struct rt_flight_table *t, uint64_t key)
{
	/* Keys are often small and dense: spread them over the high bits. */
	return &t->buckets[(key * 0x9e3779b97f4a7c15u >> 32) &
			   (t->bucket_count - 1)];
}

static struct rt_flight *flight_find(struct list *bucket, uint64_t key)
{
	struct rt_flight *f;

	list_for_each(it, bucket) {
		f = container_of(it, struct rt_flight, hash_node);
		if (f->key == key)
			return f;
	}
	return NULL;
}

static void flight_start(struct rt_flight_table *t, struct list *bucket,
	struct rt_flight *f, uint64_t key, enum rt_class cls)
{
	f->key = key;
	f->cls = cls;
	f->refs = 1;
	f->landed = false;
	list_init(&f->waiters);
	list_push_back(bucket, &f->hash_node);
	t->count++;
}

struct rt_flight *rt_flight_join(struct rt_flight_table *t, uint64_t key,
	enum rt_class cls, struct rt_flight *fresh, struct rt_waiter *wt,
	bool *ret_is_new, bool *ret_promote)
{
	struct list *bucket = flight_bucket(t, key);
	struct rt_flight *f;
	bool is_new, promote;

	(void)pthread_mutex_lock(&t->lock);
	f = flight_find(bucket, key);
	is_new = !f;
	if (is_new) {
		f = fresh;
		flight_start(t, bucket, f, key, cls);
	}
	promote = cls == RT_DEMAND && f->cls == RT_PREFETCH;
	if (promote) {
		f->cls = RT_DEMAND;
		f->refs++;
	}
	if (wt) {
		wt->flight = f;
		f->refs++;
		list_push_back(&f->waiters, &wt->node);
	}
	(void)pthread_mutex_unlock(&t->lock);
	*ret_is_new = is_new;
	*ret_promote = promote;
	return f;
}

void rt_flight_land(struct rt_flight_table *t, struct rt_flight *f, int result)
{
	struct list waiters, *node, *next;
	struct rt_waiter *wt;

	list_init(&waiters);
	(void)pthread_mutex_lock(&t->lock);
	assert(!f->landed);
	f->landed = true;
	list_remove(&f->hash_node);
	t->count--;
	list_splice(&waiters, &f->waiters);
	list_for_each(it, &waiters)
		it->prev = NULL;
	(void)pthread_mutex_unlock(&t->lock);

	/* Only the next pointers are ours from here; landed may free wt. */
	for (node = waiters.next; node != &waiters; node = next) {
		next = node->next;
		wt = container_of(node, struct rt_waiter, node);
		wt->landed(wt, f, result);
	}
	rt_flight_unref(t, f);
}

bool rt_flight_leave(struct rt_flight_table *t, struct rt_waiter *wt)
{
	struct rt_flight *f = NULL;

	(void)pthread_mutex_lock(&t->lock);
	if (wt->node.prev) {
		f = wt->flight;
		list_remove(&wt->node);
		wt->node.prev = NULL;
		wt->flight = NULL;
	}
	(void)pthread_mutex_unlock(&t->lock);
	if (!f)
		return false;
	rt_flight_unref(t, f);
	return true;
}

void rt_flight_unref(struct rt_flight_table *t, struct rt_flight *f)
{
	bool last;

	(void)pthread_mutex_lock(&t->lock);
	assert(f->refs > 0);
	last = --f->refs == 0;
	(void)pthread_mutex_unlock(&t->lock);
	if (last)
		t->destroy(f);
}
