/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups that somebody wants in the cache before they are read, and the note of
 * what was read first.
 *
 *   start: a flight for each group that is neither ready nor on its way
 *     | all landed, in any thread          | nothing to do
 *   done, on the worker that started it    0
 *
 * A want owns nothing but its waiters: the flights go on without it, demand
 * reads join and promote them, and what they bring is stored as for any read.
 */
#include <errno.h>

#include "blobcache/blob_int.h"
#include "blobcache/evict.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* So many groups make a start; then the map is read as files are. */
#define FEW_GROUPS 16u

struct want_part {
	struct rt_waiter wt;
	struct blob_want *want;
};

struct blob_want {
	struct bc_want *w;
	struct bc_blob *blob;
	struct rt_worker *worker;
	struct rt_task task;
	atomic_uint pending; /* parts, and the start */
	atomic_int result;
	struct want_part parts[];
};

/* ---- what was read first ---- */

void blob_touch(struct bc_blob *b, uint32_t first, uint32_t count)
{
	const struct bc_map *m = &b->map;
	uint32_t n, group;
	uint64_t bit;

	if (!b->touched)
		return;
	for (; count > 0; count -= n, first += n) {
		n = blob_same_group(m, first, count);
		group = bc_map_chunk(m, first).group;
		bit = UINT64_C(1) << group % 64;
		if (atomic_load_explicit(
			    &b->touched[group / 64], memory_order_relaxed) &
			bit)
			continue;
		if (atomic_fetch_or(&b->touched[group / 64], bit) & bit)
			continue;
		if (atomic_fetch_add(&b->touches, 1) == FEW_GROUPS)
			bc_map_read_alone(m, false);
		if (b->trace)
			bc_trace_note(b->trace, b->trace_index, group);
		blob_ahead_touch(b, group);
	}
}

int blob_touched_init(struct bc_blob *b)
{
	if (!b->touched)
		b->touched = mem_calloc(
			b->map.group_count / 64 + 1, sizeof(*b->touched));
	return b->touched ? 0 : -ENOMEM;
}

int bc_blob_set_trace(struct bc_blob *b, struct bc_trace *t, uint32_t index)
{
	b->trace = NULL;
	if (!t)
		return 0;
	if (blob_touched_init(b) < 0)
		return -ENOMEM;
	b->trace_index = index;
	b->trace = t;
	if (atomic_load(&b->touches) <= FEW_GROUPS)
		bc_map_read_alone(&b->map, true);
	return 0;
}

/* ---- wanting ---- */

bool blob_flight_is_late(
	struct blob_flight *fl, uint32_t first, uint32_t count, bool distrust)
{
	struct bc_blob *b = fl->blob;

	if (blob_storing_get(b, (uint32_t)fl->f.key, fl)) {
		rt_flight_land(&b->flights, &fl->f, 0);
		return true;
	}
	if (!distrust && bc_cachefile_is_ready(&b->file, first, count)) {
		rt_flight_land(&b->flights, &fl->f, -ESTALE);
		return true;
	}
	return false;
}

static void want_done(struct rt_task *t)
{
	struct blob_want *bw = container_of(t, struct blob_want, task);
	struct bc_want *w = bw->w;
	struct bc_blob *b = bw->blob;

	w->result = atomic_load(&bw->result);
	w->priv = NULL;
	mem_free(bw);
	w->done(w);
	blob_release(b);
}

static void want_put(struct blob_want *bw)
{
	if (atomic_fetch_sub(&bw->pending, 1) == 1)
		rt_post(bw->worker, &bw->task);
}

static void want_landed(struct rt_waiter *wt, struct rt_flight *f, int result)
{
	struct want_part *p = container_of(wt, struct want_part, wt);
	struct blob_want *bw = p->want;

	/* it became ready meanwhile: what was wanted */
	if (result < 0 && result != -ESTALE)
		atomic_store(&bw->result, result);
	rt_flight_unref(&bw->blob->flights, f);
	want_put(bw);
}

bool bc_blob_has_group(const struct bc_blob *b, uint32_t group)
{
	const struct bc_group g = bc_map_group(&b->map, group);

	return bc_cachefile_is_ready(&b->file, g.first_chunk, g.chunk_count);
}

bool bc_blob_can_cache(const struct bc_blob *b)
{
	return b->file.data.fd >= 0 && !b->file.read_only &&
	       !bc_cachefile_is_sealed(&b->file) && !bc_store_is_full(b->store);
}

uint64_t bc_blob_cache_limit(const struct bc_blob *b)
{
	return bc_store_limit(b->store);
}

/* A flight for the caller to submit, or NULL. */
static struct blob_flight *want_join(
	struct blob_want *bw, struct want_part *p, uint32_t group)
{
	struct bc_blob *b = bw->blob;
	const struct bc_group g = bc_map_group(&b->map, group);
	struct blob_flight *fresh, *fl;
	struct rt_flight *f;
	bool is_new, promote;

	if (g.codec == BC_CODEC_STREAM || bc_blob_has_group(b, group))
		return NULL;
	fresh = mem_zalloc(sizeof(*fresh));
	if (!fresh) {
		atomic_store(&bw->result, -ENOMEM);
		return NULL;
	}
	fresh->blob = b;
	p->want = bw;
	p->wt.landed = want_landed;
	atomic_fetch_add(&bw->pending, 1);
	f = rt_flight_join(&b->flights, group, RT_PREFETCH, &fresh->f, &p->wt,
		&is_new, &promote);
	if (!is_new) {
		mem_free(fresh);
		return NULL;
	}
	fl = container_of(f, struct blob_flight, f);
	return blob_flight_is_late(fl, g.first_chunk, g.chunk_count, false)
	               ? NULL
	               : fl;
}

static void want_fetch(struct blob_want *bw, struct blob_flight **flights,
	uint32_t *wanted, const struct bc_want *w)
{
	struct bc_blob *b = bw->blob;
	struct blob_flight *fl;
	uint32_t i, n = 0;

	for (i = 0; i < w->count; i++) {
		fl = want_join(bw, &bw->parts[i], w->groups[i]);
		if (!fl)
			continue;
		flights[n] = fl;
		wanted[n++] = w->groups[i];
	}
	if (n > 0)
		blob_fetch(b, b->source->is_local ? &b->limits : &bc_plan_bulk,
			flights, wanted, n, RT_PREFETCH);
}

int bc_blob_want(struct bc_want *w)
{
	struct bc_blob *b = w->blob;
	struct blob_flight **flights;
	struct blob_want *bw;
	int result;

	if (!b->source)
		return -EIO;
	bw = mem_zalloc(sizeof(*bw) + w->count * sizeof(struct want_part));
	flights = mem_calloc(w->count, sizeof(*flights) + sizeof(uint32_t));
	if (!bw || !flights) {
		mem_free(bw);
		mem_free(flights);
		return -ENOMEM;
	}
	bw->w = w;
	bw->blob = b;
	bw->worker = rt_worker_self();
	bw->task.run = want_done;
	atomic_init(&bw->pending, 1);
	w->priv = bw;
	blob_hold(b);
	want_fetch(bw, flights, (uint32_t *)(flights + w->count), w);
	mem_free(flights);
	if (atomic_fetch_sub(&bw->pending, 1) > 1)
		return -EINPROGRESS;
	result = atomic_load(&bw->result);
	w->priv = NULL;
	mem_free(bw);
	blob_release(b);
	return result;
}
