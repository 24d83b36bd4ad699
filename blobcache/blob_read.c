/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One read of a blob.
 *
 *   inline ---------------------------------> 0 (served)
 *     | not ready, or it would block
 *   parts: FILE (read the cache file), FLIGHT (wait for a group)
 *     | all parts ended
 *   finish --> done        or once more, when what was read cannot be trusted
 *
 * Reasons to start again: the generation moved (something was evicted under
 * us), a part of the cache file could not be read (its bits are cleared and
 * from then on this read goes by flights alone), a group became ready between
 * the look at its bit and the join (-ESTALE), a prefetch that we joined found
 * no room (-EAGAIN). A read and all its parts live on the worker that started
 * it; only landed runs elsewhere, and only posts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/blob_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* Look at the bits so often before this read goes by flights alone. */
#define READ_ROUNDS 3

enum part_kind { PART_FILE, PART_FLIGHT };

struct read_part {
	struct bc_blob_read *br;
	uint32_t first, count; /* chunks */
	uint64_t off, end;     /* PART_FILE: of the device */
	uint8_t kind;
	bool is_active; /* not ended yet */
	union {
		struct {
			struct rt_waiter wt;
			struct rt_task task;
			int result;
		} flight;
		struct rt_io io;
	} u;
};

struct fresh {
	uint32_t group;
	struct blob_flight *flight;
};

struct bc_blob_read {
	struct bc_read *r;
	struct bc_blob *blob;
	struct rt_worker *worker;
	struct rt_task task;
	uint64_t generation; /* before the first look at a bit */
	unsigned rounds;
	bool distrust; /* of the cache file */
	bool is_cancelled, is_again;
	int result;
	uint32_t pending, part_count, part_cap;
	struct read_part parts[];
};

static int read_start(struct bc_read *r, unsigned rounds, bool distrust);
static int read_on(struct bc_read *r);

/* ---- the end ---- */

/* What a map said that is lost was nothing. */
static int read_judge(const struct bc_blob *b, int result)
{
	return result == 0 && bc_map_is_lost(&b->map) ? -EIO : result;
}

static void read_finish(struct bc_blob_read *br)
{
	struct bc_read *r = br->r;
	struct bc_blob *b = br->blob;
	bool again = br->is_again && !br->is_cancelled;
	unsigned rounds = br->rounds + 1;
	bool distrust = br->distrust || rounds >= READ_ROUNDS;
	int result = br->is_cancelled ? -ECANCELED : br->result;

	r->priv = NULL;
	mem_free(br);
	if (result == 0 && again)
		result = read_start(r, rounds, distrust);
	if (result == 0)
		result = read_on(r);
	if (result == -EINPROGRESS) {
		blob_release(b); /* the new round has its own hold */
		return;
	}
	result = read_judge(b, result);
	if (result < 0 && result != -ECANCELED)
		atomic_fetch_add(&b->errors, 1);
	r->result = result;
	r->done(r);
	blob_release(b);
}

static void read_finish_posted(struct rt_task *t)
{
	read_finish(container_of(t, struct bc_blob_read, task));
}

static void part_end(struct read_part *p)
{
	struct bc_blob_read *br = p->br;

	p->is_active = false;
	if (--br->pending == 0)
		read_finish(br);
}

/* ---- parts by flight ---- */

static void part_landed_here(struct rt_task *t)
{
	struct read_part *p = container_of(t, struct read_part, u.flight.task);
	struct bc_blob_read *br = p->br;
	struct rt_flight *f = p->u.flight.wt.flight;
	struct blob_flight *fl = container_of(f, struct blob_flight, f);
	int result = p->u.flight.result;

	if (result == 0 && br->r->buf && !br->is_cancelled)
		blob_read_copy(br->r, p->first, p->count, fl);
	else if (result == -ESTALE ||
		 (result == -EAGAIN && br->r->cls == RT_DEMAND))
		br->is_again = true;
	else if (result < 0)
		br->result = result;
	rt_flight_unref(&br->blob->flights, f);
	part_end(p);
}

static void part_landed(struct rt_waiter *wt, struct rt_flight *f, int result)
{
	struct read_part *p = container_of(wt, struct read_part, u.flight.wt);

	p->u.flight.result = result;
	p->u.flight.task.run = part_landed_here;
	rt_post(p->br->worker, &p->u.flight.task);
}

/* Returns a flight for the caller to submit, or NULL. */
static struct blob_flight *part_join(struct read_part *p)
{
	struct bc_blob *b = p->br->blob;
	uint32_t group = bc_map_chunk(&b->map, p->first).group;
	struct blob_flight *fresh = mem_zalloc(sizeof(*fresh)), *fl;
	struct rt_flight *f;
	bool is_new, promote;

	if (!fresh) {
		p->br->result = -ENOMEM;
		return NULL;
	}
	fresh->blob = b;
	p->u.flight.wt = (struct rt_waiter){.landed = part_landed};
	p->is_active = true;
	p->br->pending++;
	f = rt_flight_join(&b->flights, group, p->br->r->cls, &fresh->f,
		&p->u.flight.wt, &is_new, &promote);
	fl = container_of(f, struct blob_flight, f);
	if (is_new)
		return blob_flight_is_late(
			       fl, p->first, p->count, p->br->distrust)
		               ? NULL
		               : fl;
	mem_free(fresh);
	if (promote)
		blob_flight_promote(fl);
	return NULL;
}

static int cmp_fresh(const void *a, const void *b)
{
	const struct fresh *x = a, *y = b;

	return x->group < y->group ? -1 : x->group > y->group;
}

/* A flight for a group that nobody asked for; NULL: it needs none. */
static struct blob_flight *around_join(struct bc_blob *b, uint32_t group)
{
	const struct bc_group g = bc_map_group(&b->map, group);
	struct blob_flight *fl;
	bool is_new, promote;

	if (bc_cachefile_is_ready(&b->file, g.first_chunk, g.chunk_count))
		return NULL;
	fl = mem_zalloc(sizeof(*fl));
	if (!fl)
		return NULL;
	fl->blob = b;
	fl->is_extra = true;
	(void)rt_flight_join(&b->flights, group, RT_PREFETCH, &fl->f, NULL,
		&is_new, &promote);
	if (!is_new) {
		mem_free(fl);
		return NULL;
	}
	return blob_flight_is_late(fl, g.first_chunk, g.chunk_count, false)
	               ? NULL
	               : fl;
}

/*
 * A request costs more than the bytes of small neighbours: take those along
 * that lie around a single missing group. fresh has room for them; returns the
 * new count.
 */
static uint32_t fresh_add_around(struct bc_blob *b,
	const struct bc_plan_limits *limits, struct fresh *fresh, uint32_t n)
{
	uint32_t group = fresh[0].group, first, count, i;
	struct blob_flight *fl;

	if (n > 1)
		return n;
	first = bc_plan_around(&b->map, limits, group, &count);
	for (i = first; i < first + count; i++) {
		fl = i == group ? NULL : around_join(b, i);
		if (fl)
			fresh[n++] = (struct fresh){i, fl};
	}
	return n;
}

/* A reader has to ask for group. */
static struct bc_plan_limits plan_now(struct bc_blob *b, uint32_t group)
{
	struct bc_plan_line line = {.us = atomic_load(&b->distance_us),
		.bytes = atomic_load(&b->distance_bytes),
		.waited_for = atomic_load(&b->waited_for),
		.recent = &b->recent,
		.off = bc_map_group(&b->map, group).src_off};
	struct bc_plan_limits limits;

	(void)pthread_mutex_lock(&b->lock); /* a plain mutex cannot fail */
	limits = bc_plan_now(&b->limits, &line);
	bc_recent_note(&b->recent, line.off);
	(void)pthread_mutex_unlock(&b->lock);
	return limits;
}

/* Put the read's new flights, n of them, on their way. */
static void fresh_submit(struct bc_blob_read *br, struct fresh *fresh,
	struct blob_flight **flights, uint32_t *wanted, uint32_t n)
{
	struct bc_plan_limits limits = br->blob->limits;
	uint32_t i;

	if (br->r->cls == RT_DEMAND) {
		limits = plan_now(br->blob, fresh[0].group);
		n = fresh_add_around(br->blob, &limits, fresh, n);
	}
	qsort(fresh, n, sizeof(*fresh), cmp_fresh);
	for (i = 0; i < n; i++) {
		flights[i] = fresh[i].flight;
		wanted[i] = fresh[i].group;
	}
	blob_fetch(br->blob, &limits, flights, wanted, n, br->r->cls);
}

/* ---- parts by file ---- */

/* False: there is nothing to read, the map is lost. */
static bool part_set_range(struct read_part *p)
{
	const struct bc_read *r = p->br->r;
	const struct bc_map *m = &r->blob->map;
	struct bc_chunk c = bc_map_chunk(m, p->first);

	p->off = max_u64(c.dev_off, r->pos);
	c = bc_map_chunk(m, p->first + p->count - 1);
	p->end = min_u64(c.dev_off + c.len, r->stop);
	if (p->off < p->end)
		return true;
	bc_map_set_lost(m);
	return false;
}

/* The cache file does not hold what its bits say. */
static void distrust_chunks(struct bc_blob *b, uint32_t first, uint32_t count)
{
	uint32_t i;

	for (i = first; i < first + count; i++)
		bc_cachefile_clear_ready(&b->file, i);
}

static void part_read(struct rt_op *op)
{
	struct rt_io *io = container_of(op, struct rt_io, op);
	struct read_part *p = container_of(io, struct read_part, u.io);
	struct bc_blob_read *br = p->br;

	if (op->result == -ECANCELED && br->is_cancelled) {
		part_end(p);
		return;
	}
	if (op->result != (int64_t)(p->end - p->off)) {
		/* What is not the file's fault leaves its bits alone. */
		if (op->result >= 0 || op->result == -EIO)
			distrust_chunks(br->blob, p->first, p->count);
		br->distrust = true;
		br->is_again = true;
	} else if (bc_cachefile_generation(&br->blob->file) != br->generation) {
		br->is_again = true;
	}
	part_end(p);
}

static void part_read_start(struct read_part *p)
{
	struct bc_blob_read *br = p->br;

	if (!part_set_range(p))
		return;
	p->u.io = (struct rt_io){.flags = RT_IO_ALL, .cls = br->r->cls};
	p->is_active = true;
	br->pending++;
	rt_file_read(br->worker, &p->u.io, br->blob->file.data.fd,
		blob_read_at(br->r, p->off), p->end - p->off, p->off,
		part_read);
}

/* ---- start ---- */

/* One part for each missing group and each stretch of ready ones. */
static void make_parts(struct bc_blob_read *br, uint32_t first, uint32_t count)
{
	struct bc_blob *b = br->blob;
	struct read_part *p = NULL;
	uint32_t n;

	for (; count > 0; count -= n, first += n) {
		enum part_kind kind = PART_FLIGHT;

		n = blob_same_group(&b->map, first, count);
		if (!br->distrust && bc_cachefile_is_ready(&b->file, first, n))
			kind = PART_FILE;
		if (p && kind == PART_FILE && p->kind == PART_FILE) {
			p->count += n;
			continue;
		}
		if (br->part_count == br->part_cap) {
			bc_map_set_lost(&b->map);
			return;
		}
		p = &br->parts[br->part_count++];
		p->br = br;
		p->kind = (uint8_t)kind;
		p->first = first;
		p->count = n;
	}
}

/* Who needs no bytes needs no reading; who misses needs a source. */
static uint32_t count_missing(const struct bc_blob_read *br)
{
	uint32_t i, n = 0;

	for (i = 0; i < br->part_count; i++)
		n += br->parts[i].kind == PART_FLIGHT;
	return n;
}

static int start_flights(struct bc_blob_read *br, uint32_t n)
{
	struct blob_flight **flights;
	struct blob_flight *fl;
	struct fresh *fresh;
	uint32_t i, at = 0;

	if (n == 0)
		return 0;
	if (!br->blob->source)
		return -EIO;
	n += br->blob->limits.max_groups; /* what may be taken along */
	fresh = mem_calloc(
		n, sizeof(*fresh) + sizeof(*flights) + sizeof(uint32_t));
	if (!fresh)
		return -ENOMEM;
	flights = (struct blob_flight **)(fresh + n);
	for (i = 0; i < br->part_count; i++) {
		if (br->parts[i].kind != PART_FLIGHT)
			continue;
		fl = part_join(&br->parts[i]);
		if (!fl)
			continue;
		fresh[at].flight = fl;
		fresh[at++].group = (uint32_t)fl->f.key;
	}
	if (at > 0)
		fresh_submit(br, fresh, flights, (uint32_t *)(flights + n), at);
	mem_free(fresh);
	return 0;
}

static int read_start(struct bc_read *r, unsigned rounds, bool distrust)
{
	struct bc_blob *b = r->blob;
	struct bc_blob_read *br;
	uint32_t first, count, groups, missing, i;
	int result;

	blob_read_chunks(r, &first, &count);
	groups = blob_read_limit(r, first, &count);
	br = mem_zalloc(sizeof(*br) + groups * sizeof(struct read_part));
	if (!br)
		return -ENOMEM;
	br->r = r;
	br->blob = b;
	br->worker = rt_worker_self();
	br->rounds = rounds;
	br->part_cap = groups;
	br->distrust = distrust;
	br->generation = bc_cachefile_generation(&b->file);
	make_parts(br, first, count);
	bc_cachefile_touch(&b->file, first, count);
	missing = count_missing(br);
	if (rounds == 0 && r->pos == r->off)
		atomic_fetch_add(missing ? &b->misses : &b->hits, 1);
	if (missing && r->cls == RT_DEMAND)
		blob_ahead_missed(b);
	blob_hold(b);
	result = start_flights(br, missing);
	for (i = 0; result == 0 && r->buf && i < br->part_count; i++)
		if (br->parts[i].kind == PART_FILE)
			part_read_start(&br->parts[i]);
	if (br->pending > 0) {
		r->priv = br;
		return -EINPROGRESS;
	}
	if (result == 0)
		result = br->result;
	mem_free(br);
	blob_release(b);
	return read_judge(b, result);
}

/* The piece is there: go on with the next ones. */
static int read_on(struct bc_read *r)
{
	int result = 0;

	while (result == 0 && blob_read_next_piece(r))
		result = read_start(r, 0, false);
	return result;
}

/*
 * The hit path: everything is ready and in the page cache. 0, or -EAGAIN when
 * it takes more than that.
 */
static int read_inline(struct bc_read *r)
{
	struct bc_cachefile *file = &r->blob->file;
	uint64_t generation = bc_cachefile_generation(file);
	size_t len = (size_t)(r->end - r->off);
	uint32_t first, count;
	ssize_t n;

	blob_read_chunks(r, &first, &count);
	if (r->cls == RT_DEMAND && r->blob->touched)
		blob_touch(r->blob, first, count);
	if (count > 0 && !bc_cachefile_is_ready(file, first, count))
		return -EAGAIN;
	if (count > 0 && r->buf) {
		n = rt_file_try_read(&file->data, r->buf, len, r->off);
		if (n < 0 || (size_t)n != len ||
			bc_cachefile_generation(file) != generation)
			return -EAGAIN;
	}
	bc_cachefile_touch(file, first, count);
	atomic_fetch_add(&r->blob->hits, 1);
	blob_read_fill_gaps(r);
	return read_judge(r->blob, 0);
}

int bc_blob_read(struct bc_read *r)
{
	struct bc_blob *b = r->blob;
	uint64_t size = b->map.device_size;
	size_t on_device;
	int result;

	r->priv = NULL;
	atomic_fetch_add(&b->reads, 1);
	on_device = r->off < size ? (size_t)min_u64(r->len, size - r->off) : 0;
	if (r->buf && on_device < r->len)
		memset(r->buf + on_device, 0, r->len - on_device);
	if (on_device == 0)
		return 0;
	r->pos = r->off;
	r->end = r->stop = r->off + on_device;
	result = read_inline(r);
	if (result == -EAGAIN) {
		result = read_start(r, 0, false);
		if (result == 0)
			result = read_judge(b, read_on(r));
	}
	if (result < 0 && result != -EINPROGRESS)
		atomic_fetch_add(&b->errors, 1);
	/* behind what somebody waits for */
	if (b->ahead && r->cls == RT_DEMAND)
		blob_ahead_read(b, r->off, r->end);
	return result;
}

void bc_blob_cancel(struct bc_read *r)
{
	struct bc_blob_read *br = r->priv;
	struct read_part *p;
	uint32_t i;

	if (!br || br->is_cancelled)
		return;
	rt_worker_assert(br->worker);
	br->is_cancelled = true;
	for (i = 0; i < br->part_count; i++) {
		p = &br->parts[i];
		if (!p->is_active)
			continue;
		if (p->kind == PART_FILE) {
			rt_io_cancel(br->worker, &p->u.io);
		} else if (rt_flight_leave(
				   &br->blob->flights, &p->u.flight.wt)) {
			p->is_active = false;
			br->pending--;
		}
	}
	if (br->pending == 0) {
		br->task.run = read_finish_posted;
		rt_post(br->worker, &br->task);
	}
}
