/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room in the cache: after a range was stored, or could not be, a job may look
 * whether something has to be evicted. One job at a time for all blobs of a
 * store.
 */
#include "blobcache/blob_int.h"
#include "blobcache/evict.h"
#include "blobcache/store_int.h"
#include "runtime/base/util.h"

static void room_work(struct rt_job *j)
{
	struct bc_blob *b = container_of(j, struct bc_blob, room);

	(void)bc_store_make_room(b->store); /* it has said what failed */
}

static void room_done(struct rt_job *j)
{
	struct bc_blob *b = container_of(j, struct bc_blob, room);

	atomic_store(&b->store->is_evicting, false);
	/* Who stored meanwhile found that somebody was at it. */
	blob_room_look(b);
	blob_release(b);
}

void blob_room_look(struct bc_blob *b)
{
	if (!bc_store_wants_room(b->store) ||
		atomic_exchange(&b->store->is_evicting, true))
		return;
	b->room = (struct rt_job){.work = room_work,
		.done = room_done,
		.home = b->home,
		.cls = RT_PREFETCH};
	blob_hold(b);
	rt_job_submit(&b->room);
}
