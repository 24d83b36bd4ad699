/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that wait, so that an INTERRUPT finds them.
 *
 * The kernel hands an INTERRUPT to whichever worker reads next, while the
 * request it is about belongs to another one. Answering it with EAGAIN, so that
 * the kernel sends it again, works only on the device that read the request:
 * hence a table over all workers, and a message to the owner. An INTERRUPT may
 * also overtake its request between that worker's read and its hold; such
 * numbers are remembered (they are never used twice, so a stale one harms
 * nobody).
 */
#include "loader/fs_int.h"

#include <errno.h>

void ld_fs_held_init(struct ld_fs_held *h)
{
	unsigned i;

	(void)pthread_mutex_init(&h->lock, NULL); /* cannot fail */
	for (i = 0; i < LD_FS_HELD_BUCKETS; i++)
		list_init(&h->buckets[i]);
}

void ld_fs_held_fini(struct ld_fs_held *h)
{
	(void)pthread_mutex_destroy(&h->lock);
}

/* The lowest bits of a number are flags of the kernel's. */
static struct list *bucket_of(struct ld_fs_held *h, uint64_t unique)
{
	return &h->buckets[(unique >> 1) % LD_FS_HELD_BUCKETS];
}

static bool take_early(struct ld_fs_held *h, uint64_t unique)
{
	unsigned i;

	for (i = 0; i < LD_FS_EARLY_INTERRUPTS; i++)
		if (h->early[i] == unique) {
			h->early[i] = 0;
			return true;
		}
	return false;
}

void ld_fs_hold(struct ld_fs_req *r)
{
	struct ld_fs_held *h = &r->fs->held;
	bool was_interrupted;

	if (r->held)
		return;
	(void)pthread_mutex_lock(&h->lock);
	r->held = true;
	r->is_over = false;
	list_push_back(bucket_of(h, r->unique), &r->held_node);
	was_interrupted = take_early(h, r->unique);
	(void)pthread_mutex_unlock(&h->lock);
	if (was_interrupted)
		ld_fs_cancel(r, -EINTR);
}

bool ld_fs_release(struct ld_fs_req *r)
{
	struct ld_fs_held *h = &r->fs->held;
	bool may_free;

	if (!r->held)
		return true;
	(void)pthread_mutex_lock(&h->lock);
	r->held = false;
	list_remove(&r->held_node);
	may_free = !r->task_posted;
	r->is_over = true;
	(void)pthread_mutex_unlock(&h->lock);
	return may_free;
}

static void cancel_posted(struct rt_task *t)
{
	struct ld_fs_req *r = container_of(t, struct ld_fs_req, cancel_task);
	struct ld_fs_held *h = &r->fs->held;
	bool is_over;

	rt_worker_assert(r->worker);
	(void)pthread_mutex_lock(&h->lock);
	r->task_posted = false;
	is_over = r->is_over;
	(void)pthread_mutex_unlock(&h->lock);
	if (is_over)
		r->ops->free(r);
	else
		ld_fs_cancel(r, -EINTR);
}

static struct ld_fs_req *find_held(struct ld_fs_held *h, uint64_t unique)
{
	list_for_each(it, bucket_of(h, unique)) {
		struct ld_fs_req *r =
			container_of(it, struct ld_fs_req, held_node);

		if (r->unique == unique)
			return r;
	}
	return NULL;
}

/* The table's lock is held. */
static void post_cancel(struct ld_fs_req *r)
{
	if (r->task_posted)
		return;
	r->task_posted = true;
	r->cancel_task.run = cancel_posted;
	rt_post(r->worker, &r->cancel_task);
}

void ld_fs_cancel_held(struct ld_fs *fs)
{
	struct ld_fs_held *h = &fs->held;
	unsigned i;

	(void)pthread_mutex_lock(&h->lock);
	for (i = 0; i < LD_FS_HELD_BUCKETS; i++)
		list_for_each(it, &h->buckets[i])
			post_cancel(
				container_of(it, struct ld_fs_req, held_node));
	(void)pthread_mutex_unlock(&h->lock);
}

void ld_fs_interrupt(struct ld_fs *fs, uint64_t unique)
{
	struct ld_fs_held *h = &fs->held;
	struct ld_fs_req *r;

	(void)pthread_mutex_lock(&h->lock);
	r = find_held(h, unique);
	if (r)
		post_cancel(r);
	else
		h->early[h->early_next++ % LD_FS_EARLY_INTERRUPTS] = unique;
	(void)pthread_mutex_unlock(&h->lock);
}
