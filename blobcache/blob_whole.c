/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob whose server sends it only whole: as its bytes pass, all of its groups
 * go into the cache, in the order of the device, and then what the source has
 * kept of it is not needed any more.
 */
#include "blobcache/blob_int.h"

static void whole_filled(struct bc_fill *f)
{
	struct blob_whole *w = container_of(f, struct blob_whole, fill);
	struct bc_blob *b = container_of(w, struct bc_blob, whole);

	if (f->result == 0)
		b->source->forget(b->source);
	w->is_running = false;
	blob_release(b);
}

static void whole_start(struct rt_task *t)
{
	struct blob_whole *w = container_of(t, struct blob_whole, task);
	struct bc_blob *b = container_of(w, struct bc_blob, whole);

	atomic_store(&w->is_posted, false);
	if (w->is_running) {
		blob_release(b);
		return;
	}
	w->is_running = true;
	w->self = (struct bc_fill_blob){.blob = b};
	w->fill = (struct bc_fill){.rt = b->rt,
		.blobs = &w->self,
		.blob_count = 1,
		.cls = RT_PREFETCH,
		.done = whole_filled};
	bc_fill_start(&w->fill);
}

void blob_whole_begins(struct bc_source *s)
{
	struct bc_blob *b = s->whole_arg;

	if (atomic_exchange(&b->whole.is_posted, true))
		return;
	blob_hold(b); /* a fetch is on its way, so b is there */
	b->whole.task.run = whole_start;
	rt_post(b->home, &b->whole.task);
}
