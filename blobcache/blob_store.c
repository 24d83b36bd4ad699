/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write to the cache, beside the replies: every group that a run has
 * verified. Chunks that are neighbours on the device share a write, also those
 * of several groups: small files have a group each, and a write costs as much
 * as many of them. What no chunk covers between two is written as zeros. After
 * a write the bits of its chunks are set.
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
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "blob"
#define WARN_INTERVAL_MS 60000
#define MAX_GAP 4096u        /* files begin at blocks */
#define MAX_WRITE (4u << 20) /* bytes of a write of several stretches */

static const uint8_t zeros[MAX_GAP];

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

/* Groups before end need no bytes any more. */
static void finish_groups(struct blob_run *run, uint32_t end)
{
	for (; run->kept_from < end; run->kept_from++)
		if (run->groups[run->kept_from].mem)
			group_finish(run, &run->groups[run->kept_from]);
}

static void store_finish(struct blob_run *run)
{
	if (run->is_storing)
		bc_cachefile_store_end(&run->blob->file);
	run->is_storing = false;
	mem_free(run->iov);
	run->iov = NULL;
	finish_groups(run, run->count);
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

/* Where chunks [first, first + count) of m begin and end on the device. */
static uint64_t chunks_begin(const struct bc_map *m, uint32_t first)
{
	return m->chunks[first].dev_off;
}

static uint64_t chunks_end(
	const struct bc_map *m, uint32_t first, uint32_t count)
{
	const struct bc_chunk *last = &m->chunks[first + count - 1];

	return last->dev_off + last->len;
}

static void iov_add(struct blob_run *run, const void *p, uint64_t len)
{
	/* it is only read */
	run->iov[run->iov_count++] =
		(struct iovec){.iov_base = (void *)p, .iov_len = (size_t)len};
}

/* Chunks [first, first + n), at bytes, join the write. False: they do not. */
static bool write_add(
	struct blob_run *run, uint32_t first, uint32_t n, const uint8_t *bytes)
{
	const struct bc_map *m = &run->blob->map;
	uint64_t begin = chunks_begin(m, first), len, end;

	len = chunks_end(m, first, n) - begin;
	if (run->chunk_count == 0) {
		run->first_chunk = first;
	} else {
		end = chunks_end(m, run->first_chunk, run->chunk_count);
		if (first != run->first_chunk + run->chunk_count ||
			begin - end > MAX_GAP ||
			begin + len - chunks_begin(m, run->first_chunk) >
				MAX_WRITE ||
			run->iov_count + 2 > BLOB_STORE_IOV)
			return false;
		if (begin > end)
			iov_add(run, zeros, begin - end);
	}
	iov_add(run, bytes, len);
	run->chunk_count += n;
	return true;
}

/* From at_group and at_chunk on, which move behind what joined the write. */
static void write_gather(struct blob_run *run)
{
	const struct bc_map *m = &run->blob->map;
	const struct bc_group *g;
	struct run_group *rg;
	uint32_t first, n;

	run->iov_count = run->chunk_count = 0;
	for (; run->at_group < run->count; run->at_group++, run->at_chunk = 0) {
		rg = &run->groups[run->at_group];
		g = &m->groups[rg->group];
		while (rg->mem && run->at_chunk < g->chunk_count) {
			first = g->first_chunk + run->at_chunk;
			n = stretch(m, g, run->at_chunk);
			if (!write_add(run, first, n,
				    rg->bytes + m->chunks[first].group_off))
				return;
			run->at_chunk += n;
		}
	}
}

static void store_written(struct rt_op *op)
{
	struct rt_io *io = container_of(op, struct rt_io, op);
	struct blob_run *run = container_of(io, struct blob_run, io);
	const struct bc_map *m = &run->blob->map;
	uint64_t len;

	rt_worker_assert(run->worker);
	len = chunks_end(m, run->first_chunk, run->chunk_count) -
	      chunks_begin(m, run->first_chunk);
	if (op->result != (int64_t)len) {
		warn_store(
			run->blob, op->result < 0 ? (int)op->result : -ENOSPC);
		store_finish(run);
		return;
	}
	if (bc_cachefile_set_ready(
		    &run->blob->file, run->first_chunk, run->chunk_count) < 0) {
		warn_store(run->blob, -EIO);
		store_finish(run);
		return;
	}
	run->stored += len;
	store_next(run);
}

static void store_next(struct blob_run *run)
{
	finish_groups(run, run->at_group);
	write_gather(run);
	if (run->chunk_count == 0) {
		store_finish(run);
		return;
	}
	run->io = (struct rt_io){.flags = RT_IO_ALL, .cls = RT_PREFETCH};
	rt_file_writev(run->worker, &run->io, run->blob->file.data.fd, run->iov,
		run->iov_count, chunks_begin(&run->blob->map, run->first_chunk),
		store_written);
}

/* Is there anything to write, and may it be written? */
static bool store_begin(struct blob_run *run)
{
	struct bc_blob *b = run->blob;

	if (bc_store_is_full(b->store) || bc_cachefile_store_begin(&b->file))
		return false;
	run->is_storing = true;
	run->iov = mem_calloc(BLOB_STORE_IOV, sizeof(*run->iov));
	return run->iov != NULL;
}

void blob_store_start(struct blob_run *run)
{
	run->at_group = 0;
	run->at_chunk = 0;
	run->kept_from = 0;
	if (store_begin(run))
		store_next(run);
	else
		store_finish(run);
}
