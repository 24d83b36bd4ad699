/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write to the cache, beside the replies: every group that a run has
 * verified, one write for each stretch of chunks that lie alike in the group
 * and on the device; after a stretch is written its bits are set.
 *
 * From landing until its bits are set a group can be found in the blob's
 * storing table, so that nobody fetches it again meanwhile. Whatever fails here
 * (full disk, read-only cache, I/O error, eviction at work) ends the writing;
 * the bits stay clear and nothing else is lost.
 */
#include <errno.h>

#include "blobcache/blob_int.h"
#include "blobcache/evict.h"
#include "runtime/base/log.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "blob"
#define WARN_INTERVAL_MS 60000

static void store_next(struct blob_run *run);

static struct list *storing_bucket(struct bc_blob *b, uint32_t group)
{
	return &b->storing[group % BLOB_STORING_BUCKETS];
}

void blob_storing_add(struct bc_blob *b, struct run_group *rg)
{
	(void)pthread_mutex_lock(&b->lock); /* a plain mutex cannot fail */
	list_push_back(storing_bucket(b, rg->group), &rg->storing_node);
	(void)pthread_mutex_unlock(&b->lock);
}

bool blob_storing_get(struct bc_blob *b, uint32_t group, struct blob_flight *fl)
{
	struct run_group *rg;
	bool found = false;

	(void)pthread_mutex_lock(&b->lock);
	list_for_each(it, storing_bucket(b, group)) {
		rg = container_of(it, struct run_group, storing_node);
		if (rg->group != group)
			continue;
		fl->mem = rg->mem;
		fl->bytes = rg->bytes;
		blob_mem_ref(rg->mem);
		found = true;
		break;
	}
	(void)pthread_mutex_unlock(&b->lock);
	return found;
}

static void group_finish(struct blob_run *run, struct run_group *rg)
{
	(void)pthread_mutex_lock(&run->blob->lock);
	list_remove(&rg->storing_node);
	(void)pthread_mutex_unlock(&run->blob->lock);
	blob_mem_unref(rg->mem);
	rg->mem = NULL;
}

static void store_finish(struct blob_run *run)
{
	uint32_t i;

	if (run->is_storing)
		bc_cachefile_store_end(&run->blob->file);
	run->is_storing = false;
	for (i = 0; i < run->count; i++)
		if (run->groups[i].mem)
			group_finish(run, &run->groups[i]);
	if (run->stored) {
		bc_store_note(run->blob->store, run->stored);
		blob_sync_note(run->blob, run->stored);
	}
	blob_room_look(run->blob);
	blob_run_stored(run);
}

static void warn_store(struct bc_blob *b, int r)
{
	bool is_due;

	(void)pthread_mutex_lock(&b->lock);
	is_due = log_ratelimit(&b->warned_store_ms, WARN_INTERVAL_MS);
	(void)pthread_mutex_unlock(&b->lock);
	if (is_due)
		log_warn("cannot write to the cache '%s' (error %d), going on "
			 "without caching",
			bc_store_path(b->store), -r);
}

/* How many chunks of g from its first-th on can be one write. */
static uint32_t stretch(
	const struct bc_map *m, const struct bc_group *g, uint32_t first)
{
	const struct bc_chunk *c = &m->chunks[g->first_chunk];
	uint32_t i;

	for (i = first + 1; i < g->chunk_count; i++)
		if (c[i].dev_off != c[i - 1].dev_off + c[i - 1].len ||
			c[i].group_off != c[i - 1].group_off + c[i - 1].len)
			break;
	return i - first;
}

static uint64_t stretch_len(const struct bc_chunk *first, uint32_t count)
{
	const struct bc_chunk *last = first + count - 1;

	return last->dev_off + last->len - first->dev_off;
}

static const struct bc_group *store_group(const struct blob_run *run)
{
	return &run->blob->map.groups[run->groups[run->at_group].group];
}

static void store_written(struct rt_op *op)
{
	struct rt_io *io = container_of(op, struct rt_io, op);
	struct blob_run *run = container_of(io, struct blob_run, io);
	uint32_t first = store_group(run)->first_chunk + run->at_chunk;
	uint64_t len;

	rt_worker_assert(run->worker);
	len = stretch_len(&run->blob->map.chunks[first], run->chunk_count);
	if (op->result != (int64_t)len) {
		warn_store(
			run->blob, op->result < 0 ? (int)op->result : -ENOSPC);
		store_finish(run);
		return;
	}
	if (bc_cachefile_set_ready(&run->blob->file, first, run->chunk_count) <
		0) {
		warn_store(run->blob, -EIO);
		store_finish(run);
		return;
	}
	run->stored += len;
	run->at_chunk += run->chunk_count;
	store_next(run);
}

static void store_write(struct blob_run *run)
{
	const struct bc_map *m = &run->blob->map;
	const struct bc_group *g = store_group(run);
	const struct bc_chunk *c = &m->chunks[g->first_chunk + run->at_chunk];

	run->chunk_count = stretch(m, g, run->at_chunk);
	run->io = (struct rt_io){.flags = RT_IO_ALL, .cls = RT_PREFETCH};
	rt_file_write(run->worker, &run->io, run->blob->file.data.fd,
		run->groups[run->at_group].bytes + c->group_off,
		stretch_len(c, run->chunk_count), c->dev_off, store_written);
}

static void store_next(struct blob_run *run)
{
	for (; run->at_group < run->count; run->at_group++) {
		struct run_group *rg = &run->groups[run->at_group];

		if (rg->mem && run->at_chunk < store_group(run)->chunk_count) {
			store_write(run);
			return;
		}
		if (rg->mem)
			group_finish(run, rg);
		run->at_chunk = 0;
	}
	store_finish(run);
}

void blob_store_start(struct blob_run *run)
{
	struct bc_blob *b = run->blob;

	run->at_group = 0;
	run->at_chunk = 0;
	run->is_storing = !bc_store_is_full(b->store) &&
	                  bc_cachefile_store_begin(&b->file) == 0;
	if (run->is_storing)
		store_next(run);
	else
		store_finish(run);
}
