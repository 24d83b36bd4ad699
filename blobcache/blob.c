/* SPDX-License-Identifier: Apache-2.0 */
/* A blob: open, close, figures; see blob_int.h for the files around it. */
#include "blobcache/blob.h"

#include <errno.h>

#include "blobcache/blob_int.h"
#include "blobcache/store_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define BLOB_FLIGHT_BUCKETS 256

struct blob_mem *blob_mem_create(struct bc_blob *b, size_t len)
{
	struct bc_spare *spare = &b->store->spare;
	struct blob_mem *m;
	size_t cap;

	m = bc_spare_get(spare, sizeof(*m) + len, &cap);
	if (!m)
		return NULL;
	atomic_init(&m->refs, 1);
	m->spare = spare;
	m->cap = cap;
	return m;
}

void blob_mem_ref(struct blob_mem *m)
{
	atomic_fetch_add(&m->refs, 1);
}

void blob_mem_unref(struct blob_mem *m)
{
	if (m && atomic_fetch_sub(&m->refs, 1) == 1)
		bc_spare_put(m->spare, m, m->cap);
}

static void flight_destroy(struct rt_flight *f)
{
	struct blob_flight *fl = container_of(f, struct blob_flight, f);

	blob_mem_unref(fl->mem);
	mem_free(fl);
}

void blob_hold(struct bc_blob *b)
{
	if (!atomic_load_explicit(&b->was_used, memory_order_relaxed))
		atomic_store(&b->was_used, true);
	atomic_fetch_add(&b->active, 1);
}

void blob_release(struct bc_blob *b)
{
	if (atomic_fetch_sub(&b->active, 1) == 1)
		rt_post(b->home, &b->closed);
}

static void blob_closed(struct rt_task *t)
{
	struct bc_blob *b = container_of(t, struct bc_blob, closed);

	rt_block_on_done(b->close_op, 0);
}

static int blob_init(
	struct bc_blob *b, const struct bc_blob_options *o, struct err *e)
{
	size_t i;
	int r;

	b->rt = o->rt;
	b->store = o->store;
	b->digest = o->digest;
	b->map = o->map;
	b->home = rt_worker_at(o->rt, 0);
	b->closed.run = blob_closed;
	atomic_init(&b->active, 1);
	list_init(&b->runs);
	for (i = 0; i < ARRAY_LEN(b->storing); i++)
		list_init(&b->storing[i]);
	b->limits = o->source && o->source->is_local ? bc_plan_local
	                                             : bc_plan_network;
	/* The other half of the slots may be prefetch's. */
	bc_budget_set_limit(
		&b->store->places, max_u64(rt_slot_count(o->rt) / 2, 1));
	blob_sync_init(b);
	r = -pthread_mutex_init(&b->lock, NULL);
	if (r < 0)
		return err_sys(e, r, "cannot make a lock for a blob");
	r = rt_flight_table_init(
		&b->flights, BLOB_FLIGHT_BUCKETS, flight_destroy);
	if (r < 0) {
		(void)pthread_mutex_destroy(&b->lock); /* nobody holds it */
		return err_sys(e, r, "cannot open a blob");
	}
	r = bc_cachefile_open(o->store, &b->digest, &b->map, &b->file, e);
	if (r < 0) {
		rt_flight_table_fini(&b->flights);
		(void)pthread_mutex_destroy(&b->lock); /* nobody holds it */
		return r;
	}
	bc_store_map_settle(o->store, &b->digest, &b->map);
	return 0;
}

int bc_blob_open(
	const struct bc_blob_options *o, struct bc_blob **ret, struct err *e)
{
	struct bc_blob *b = mem_zalloc(sizeof(*b));
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "not enough memory for a blob");
	r = blob_init(b, o, e);
	if (r < 0) {
		mem_free(b);
		return r;
	}
	b->source = o->source;
	if (b->source) {
		b->source->store = b->store;
		b->source->whole_begins = blob_whole_begins;
		b->source->whole_arg = b;
	}
	*ret = b;
	return 0;
}

static void close_start(void *arg, struct rt_op *op)
{
	struct bc_blob *b = arg;

	b->close_op = op;
	bc_blob_stop(b);
	rt_timer_stop(b->home, &b->sync.timer);
	blob_release(b);
}

void bc_blob_stop(struct bc_blob *b)
{
	(void)pthread_mutex_lock(&b->lock); /* a plain mutex cannot fail */
	b->is_closing = true;
	(void)pthread_mutex_unlock(&b->lock);
	blob_cancel_runs(b);
}

void bc_blob_close(struct bc_blob *b)
{
	if (!b)
		return;
	if (atomic_load(&b->was_used))
		(void)rt_block_on(b->rt, close_start, b); /* always 0 */
	/* What fails to become durable is fetched again by a later mount. */
	(void)bc_cachefile_sync(&b->file);
	bc_cachefile_close(&b->file);
	rt_flight_table_fini(&b->flights);
	(void)pthread_mutex_destroy(&b->lock); /* nobody holds it */
	bc_source_destroy(b->source);
	bc_store_map_doubt(b->store, &b->digest, &b->map);
	bc_map_close(&b->map);
	mem_free((void *)b->touched);
	blob_ahead_fini(b);
	mem_free(b);
}

const struct bc_map *bc_blob_map(const struct bc_blob *b)
{
	return &b->map;
}

void bc_blob_stats(const struct bc_blob *b, struct bc_blob_stats *ret)
{
	*ret = (struct bc_blob_stats){.reads = atomic_load(&b->reads),
		.hits = atomic_load(&b->hits),
		.misses = atomic_load(&b->misses),
		.errors = atomic_load(&b->errors),
		.verify_failures = atomic_load(&b->verify_failures),
		.bytes_total = b->map.bytes};
}

uint64_t bc_blob_cached_bytes(const struct bc_blob *b)
{
	return bc_cachefile_ready_bytes(&b->file);
}

bool bc_blob_is_complete(const struct bc_blob *b)
{
	return bc_cachefile_is_ready(&b->file, 0, b->map.chunk_count);
}

void bc_blob_wanted_bytes(const struct bc_blob *b, const uint64_t *wanted,
	uint64_t *ret_total, uint64_t *ret_cached)
{
	const struct bc_map *m = bc_blob_map(b);
	uint64_t total = 0, cached = 0;
	uint32_t i, len;

	if (!wanted) {
		*ret_total = m->bytes;
		*ret_cached = bc_cachefile_ready_bytes(&b->file);
		return;
	}
	for (i = 0; i < m->chunk_count; i++) {
		if (!(wanted[i / 64] >> i % 64 & 1))
			continue;
		len = bc_map_chunk(m, i).len;
		total += len;
		if (bc_cachefile_is_ready(&b->file, i, 1))
			cached += len;
	}
	*ret_total = total;
	*ret_cached = cached;
}

int bc_blob_seal(struct bc_blob *b)
{
	return bc_cachefile_seal(&b->file);
}

int bc_blob_sealed_fd(const struct bc_blob *b)
{
	return bc_cachefile_is_sealed(&b->file) ? b->file.data.fd : -1;
}
