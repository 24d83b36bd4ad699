/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable bits: some time after bytes were stored, or soon after many were, a
 * job syncs the data file. Timer and flags belong to worker 0; other threads
 * only add to the count and post the task.
 */
#include <errno.h>

#include "blobcache/blob_int.h"
#include "blobcache/store_int.h"
#include "runtime/base/log.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "blob"
#define SYNC_INTERVAL_MS 5000
#define SYNC_BYTES (64u << 20)

static void sync_work(struct rt_job *j)
{
	struct bc_blob *b = container_of(j, struct bc_blob, sync.job);

	b->sync.result = bc_cachefile_sync(&b->file);
}

static bool is_closing(struct bc_blob *b)
{
	bool r;

	(void)pthread_mutex_lock(&b->lock); /* a plain mutex cannot fail */
	r = b->is_closing;
	(void)pthread_mutex_unlock(&b->lock);
	return r;
}

static void sync_start(struct bc_blob *b)
{
	b->sync.is_running = true;
	b->sync.is_armed = false;
	rt_timer_stop(b->home, &b->sync.timer);
	atomic_store(&b->sync.dirty, 0);
	blob_hold(b);
	rt_job_submit(&b->sync.job);
}

/* On worker 0: whatever is due now. */
static void sync_look(struct bc_blob *b)
{
	uint64_t dirty = atomic_load(&b->sync.dirty);

	if (b->sync.is_running || dirty == 0 || is_closing(b))
		return;
	if (dirty >= SYNC_BYTES) {
		sync_start(b);
	} else if (!b->sync.is_armed) {
		b->sync.is_armed = true;
		rt_timer_start(b->home, &b->sync.timer, SYNC_INTERVAL_MS);
	}
}

static void sync_done(struct rt_job *j)
{
	struct bc_blob *b = container_of(j, struct bc_blob, sync.job);

	b->sync.is_running = false;
	bc_spare_drop(&b->store->spare);
	if (b->sync.result == -EAGAIN || b->sync.result == -ENOMEM)
		atomic_fetch_add(&b->sync.dirty, 1); /* once more, later */
	else if (b->sync.result < 0)
		log_warn("cannot sync the cache '%s' (error %d), what was not "
			 "synced will be fetched again",
			bc_store_path(b->store), -b->sync.result);
	sync_look(b);
	blob_release(b);
}

static void sync_fire(struct rt_timer *t)
{
	struct bc_blob *b = container_of(t, struct bc_blob, sync.timer);

	b->sync.is_armed = false;
	if (!b->sync.is_running && atomic_load(&b->sync.dirty) > 0)
		sync_start(b);
}

static void sync_posted(struct rt_task *t)
{
	struct bc_blob *b = container_of(t, struct bc_blob, sync.task);

	atomic_store(&b->sync.is_posted, false);
	sync_look(b);
	blob_release(b);
}

void blob_sync_note(struct bc_blob *b, uint64_t bytes)
{
	uint64_t old = atomic_fetch_add(&b->sync.dirty, bytes);

	if (old != 0 && (old >= SYNC_BYTES || old + bytes < SYNC_BYTES))
		return; /* the timer, or a task, is on its way */
	if (atomic_exchange(&b->sync.is_posted, true))
		return;
	blob_hold(b);
	rt_post(b->home, &b->sync.task);
}

void blob_sync_init(struct bc_blob *b)
{
	b->sync.timer.fire = sync_fire;
	b->sync.task.run = sync_posted;
	b->sync.job.work = sync_work;
	b->sync.job.done = sync_done;
	b->sync.job.home = b->home;
	b->sync.job.cls = RT_PREFETCH;
}
