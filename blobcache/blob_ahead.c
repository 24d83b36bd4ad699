/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ahead of demand reads: the policy of ahead.h asked at each read and each
 * first touch, and what it says put on its way as prefetch.
 *
 * A blob whose reads are all hits is left alone, so that what is cached costs
 * nothing here, and nothing is fetched that no file shows; a miss begins anew.
 * A read that finds another one asking does not wait for it.
 */
#include <errno.h>
#include <stdlib.h>

#include "blobcache/ahead.h"
#include "blobcache/blob_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define QUIET_READS 512                 /* hits in a row */
#define MAX_ON_WAY (UINT64_C(16) << 20) /* bytes, fetched and decoded */

struct blob_ahead {
	pthread_mutex_t lock; /* guards policy, bulk, has_begun */
	struct bc_ahead policy;
	struct bc_bulk bulk;
	bool has_begun; /* bulk is made */
	void (*on_bulk)(void *arg, struct bc_blob *b, uint32_t at);
	void *arg;
	atomic_uint quiet;
	atomic_uint_least64_t on_way;
};

/* What was asked for once. */
struct ahead_want {
	struct bc_want w;
	uint64_t bytes;
	uint32_t groups[];
};

/* ---- asking ---- */

static void want_done(struct bc_want *w)
{
	struct ahead_want *x = container_of(w, struct ahead_want, w);

	/* Whoever needs what failed asks again. */
	atomic_fetch_sub(&w->blob->ahead->on_way, x->bytes);
	mem_free(x);
}

static void want_start(struct bc_blob *b, struct ahead_want *x)
{
	x->w.blob = b;
	x->w.groups = x->groups;
	x->w.done = want_done;
	/* what one stream asks for at a time is bounded by its window */
	atomic_fetch_add(&b->ahead->on_way, x->bytes);
	if (bc_blob_want(&x->w) != -EINPROGRESS)
		want_done(&x->w);
}

static int by_number(const void *va, const void *vb)
{
	const uint32_t *a = va, *b = vb;

	return *a < *b ? -1 : *a > *b;
}

/*
 * The missing groups of some chunks from *chunk on, which moves behind them.
 */
static void ask_some(struct bc_blob *b, uint32_t *chunk, uint64_t end)
{
	const struct bc_map *m = &b->map;
	struct ahead_want *x;
	uint32_t i = *chunk, n = 0, group, last = UINT32_MAX, k, out = 0;
	struct bc_group g;

	x = mem_zalloc(sizeof(*x) + BC_WANT_MAX_GROUPS * sizeof(uint32_t));
	*chunk = m->chunk_count;
	if (!x)
		return;
	for (; i < m->chunk_count && m->chunks[i].dev_off < end &&
		n < BC_WANT_MAX_GROUPS;
		i++) {
		group = bc_map_chunk(m, i).group;
		if (group == last || bc_blob_has_group(b, group))
			continue;
		last = group;
		x->groups[n++] = group;
		g = bc_map_group(m, group);
		x->bytes += g.src_len + g.dec_len;
	}
	*chunk = i;
	if (n == 0) {
		mem_free(x);
		return;
	}
	/* the device may be laid out in another order than the blob */
	qsort(x->groups, n, sizeof(*x->groups), by_number);
	for (k = 0; k < n; k++)
		if (out == 0 || x->groups[out - 1] != x->groups[k])
			x->groups[out++] = x->groups[k];
	x->w.count = out;
	want_start(b, x);
}

static void ask(struct bc_blob *b, uint64_t off, uint64_t end)
{
	uint32_t chunk = bc_map_find(&b->map, off);

	if (!b->source || !bc_blob_can_cache(b))
		return;
	while (chunk < b->map.chunk_count && b->map.chunks[chunk].dev_off < end)
		ask_some(b, &chunk, end);
}

/* ---- what is seen ---- */

void blob_ahead_read(struct bc_blob *b, uint64_t off, uint64_t end)
{
	struct blob_ahead *a = b->ahead;
	uint64_t from, to;
	bool is_due;

	if (atomic_load_explicit(&a->quiet, memory_order_relaxed) >=
		QUIET_READS)
		return;
	atomic_fetch_add_explicit(&a->quiet, 1, memory_order_relaxed);
	if (pthread_mutex_trylock(&a->lock) != 0)
		return;
	/* in bulk all comes anyway */
	is_due = !a->bulk.is_on &&
	         bc_ahead_note(&a->policy, off, end - off,
			 atomic_load(&a->on_way) < MAX_ON_WAY, &from, &to);
	(void)pthread_mutex_unlock(&a->lock);
	if (is_due)
		ask(b, from, to);
}

void blob_ahead_missed(struct bc_blob *b)
{
	if (b->ahead)
		atomic_store_explicit(
			&b->ahead->quiet, 0, memory_order_relaxed);
}

static uint32_t count_parts(const struct bc_map *m)
{
	struct bc_group last;
	uint64_t n;

	if (m->group_count == 0)
		return 0;
	last = bc_map_group(m, m->group_count - 1);
	n = (last.src_off + last.src_len) / BC_BULK_PART + 1;
	return (uint32_t)min_u64(n, BC_BULK_MAX_PARTS);
}

/* Now, and not at the mount: the map may lie on a cold disk. */
static void bulk_begin(struct blob_ahead *a, const struct bc_map *m)
{
	uint32_t parts;

	if (a->has_begun)
		return;
	a->has_begun = true;
	parts = count_parts(m);
	a->bulk.touched =
		mem_calloc((size_t)parts + 1, sizeof(*a->bulk.touched));
	/* without memory it is never read in bulk */
	a->bulk.parts = a->bulk.touched ? parts : 0;
}

void blob_ahead_touch(struct bc_blob *b, uint32_t group)
{
	struct blob_ahead *a = b->ahead;
	struct bc_group g;
	bool is_due;

	if (!a || !a->on_bulk)
		return;
	g = bc_map_group(&b->map, group);
	(void)pthread_mutex_lock(&a->lock); /* a plain mutex cannot fail */
	bulk_begin(a, &b->map);
	is_due = bc_bulk_note(&a->bulk, g.src_off, g.src_len);
	(void)pthread_mutex_unlock(&a->lock);
	if (is_due)
		a->on_bulk(a->arg, b, group);
}

/* ---- the outside ---- */

int bc_blob_set_ahead(struct bc_blob *b,
	void (*bulk)(void *arg, struct bc_blob *b, uint32_t at), void *arg)
{
	struct blob_ahead *a = mem_zalloc(sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->on_bulk = bulk;
	atomic_init(&a->quiet, QUIET_READS); /* until something is missing */
	a->arg = arg;
	if (blob_touched_init(b) < 0 ||
		pthread_mutex_init(&a->lock, NULL) != 0) {
		mem_free(a);
		return -ENOMEM;
	}
	b->ahead = a;
	return 0;
}

void blob_ahead_fini(struct bc_blob *b)
{
	if (!b->ahead)
		return;
	(void)pthread_mutex_destroy(&b->ahead->lock); /* nobody holds it */
	mem_free(b->ahead->bulk.touched);
	mem_free(b->ahead);
}
