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
		fl->len = rg->g.dec_len;
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

/*
 * How many of the group's chunks from at_chunk on, the first of which is c, lie
 * alike in the group and on the device, and how many bytes that is. 0: they are
 * not what was verified, the map is lost.
 */
static uint32_t stretch(const struct blob_run *run, const struct run_group *rg,
	struct bc_chunk *c, uint64_t *ret_len)
{
	const struct bc_map *m = &run->blob->map;
	struct bc_chunk next;
	uint64_t len;
	uint32_t i;

	*c = bc_map_chunk(m, rg->g.first_chunk + run->at_chunk);
	len = c->len;
	for (i = run->at_chunk + 1; i < rg->g.chunk_count; i++) {
		next = bc_map_chunk(m, rg->g.first_chunk + i);
		if (next.dev_off != c->dev_off + len ||
			next.group_off != c->group_off + len)
			break;
		len += next.len;
	}
	if (!blob_chunk_is_of(c, rg) ||
		!range_fits(c->group_off, len, rg->g.dec_len))
		bc_map_set_lost(m);
	*ret_len = len;
	return bc_map_is_lost(m) ? 0 : i - run->at_chunk;
}

static void iov_add(struct blob_run *run, const void *p, uint64_t len)
{
	/* it is only read */
	run->iov[run->iov_count++] =
		(struct iovec){.iov_base = (void *)p, .iov_len = (size_t)len};
}

/*
 * Chunks [first, first + n), at bytes, which go to [begin, begin + len) of the
 * device, join the write. False: they do not.
 */
static bool write_add(struct blob_run *run, uint32_t first, uint32_t n,
	uint64_t begin, uint64_t len, const uint8_t *bytes)
{
	if (run->chunk_count == 0) {
		run->first_chunk = first;
		run->begin = run->end = begin;
	} else if (first != run->first_chunk + run->chunk_count ||
		   begin < run->end || begin - run->end > MAX_GAP ||
		   begin + len - run->begin > MAX_WRITE ||
		   run->iov_count + 2 > BLOB_STORE_IOV) {
		return false;
	}
	if (begin > run->end)
		iov_add(run, zeros, begin - run->end);
	iov_add(run, bytes, len);
	run->end = begin + len;
	run->chunk_count += n;
	return true;
}

/* From at_group and at_chunk on, which move behind what joined the write. */
static void write_gather(struct blob_run *run)
{
	struct run_group *rg;
	struct bc_chunk c;
	uint64_t len;
	uint32_t n;

	run->iov_count = run->chunk_count = 0;
	for (; run->at_group < run->count; run->at_group++, run->at_chunk = 0) {
		rg = &run->groups[run->at_group];
		while (rg->mem && run->at_chunk < rg->g.chunk_count) {
			n = stretch(run, rg, &c, &len);
			if (n == 0) {
				run->chunk_count = 0; /* nothing is written */
				return;
			}
			if (!write_add(run, rg->g.first_chunk + run->at_chunk,
				    n, c.dev_off, len, rg->bytes + c.group_off))
				return;
			run->at_chunk += n;
		}
	}
}

static void store_written(struct rt_op *op)
{
	struct rt_io *io = container_of(op, struct rt_io, op);
	struct blob_run *run = container_of(io, struct blob_run, io);
	uint64_t len = run->end - run->begin;

	rt_worker_assert(run->worker);
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
		run->iov_count, run->begin, store_written);
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
