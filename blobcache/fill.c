/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completing blobs; see fill.h.
 *
 *   FREE -> READING -> FREE         one range (a slot)
 *             |  ^
 *             v  |  a prefetch found no room
 *           WAITING
 *
 *   pump (start ranges) -> settle (nothing is on its way but stores) -> done
 *
 * A read is over when its bytes are verified; the write to the cache goes on
 * beside it. So after the last one the bits are looked at until all are set or
 * no write is left that could set them.
 */
#include "blobcache/fill.h"

#include <errno.h>

#include "blobcache/blob_int.h"
#include "blobcache/evict.h"
#include "runtime/base/clock.h"
#include "runtime/base/util.h"

#define RANGE_BYTES (4u << 20) /* of a range, of the device and of the blob */
#define RATE_PARTS 4           /* at least so many ranges a second */
#define RETRY_MS 20            /* after a prefetch found no room */
#define MAX_FAILURES 16        /* ranges that may fail */
#define FULL_WAIT_MS 50
#define FULL_MAX_MS 5000
#define SETTLE_STEP_MS 10
#define SETTLE_MAX_MS 30000

enum slot_state { SLOT_FREE, SLOT_READING, SLOT_WAITING };

static void pump(struct bc_fill *f);

/* ---- what is missing ---- */

static bool is_wanted(const struct bc_fill_blob *fb, uint32_t chunk)
{
	return !fb->wanted || fb->wanted[chunk / 64] >> chunk % 64 & 1;
}

static bool is_missing(const struct bc_fill_blob *fb, uint32_t chunk)
{
	return is_wanted(fb, chunk) &&
	       !bc_cachefile_is_ready(&fb->blob->file, chunk, 1);
}

/* The next missing chunk from the cursor on. False: there is none. */
static bool find_missing(struct bc_fill *f)
{
	const struct bc_fill_blob *fb;

	for (; f->at_blob < f->blob_count; f->at_blob++, f->at_chunk = 0) {
		fb = &f->blobs[f->at_blob];
		for (; f->at_chunk < fb->blob->map.chunk_count; f->at_chunk++)
			if (is_missing(fb, f->at_chunk))
				return true;
	}
	return false;
}

static uint64_t range_limit(const struct bc_fill *f)
{
	uint64_t n = RANGE_BYTES;

	return f->rate ? min_u64(n, f->rate / RATE_PARTS + 1) : n;
}

/*
 * Set s to a range from the cursor on, which moves behind it: an empty one if
 * nothing is missing there any more. Returns its bytes of the blob. What nobody
 * wants ends a range; what is ready already costs nothing inside it.
 */
static uint64_t take_range(struct bc_fill *f, struct bc_fill_read *s)
{
	const struct bc_fill_blob *fb = &f->blobs[f->at_blob];
	const struct bc_map *m = &fb->blob->map;
	uint64_t limit = range_limit(f), cost = 0, from = 0, end = 0;
	uint32_t i, src_len, group = UINT32_MAX;
	struct bc_chunk c;

	s->missing = 0;
	for (i = f->at_chunk; i < m->chunk_count && is_wanted(fb, i); i++) {
		c = bc_map_chunk(m, i);
		if (end > 0 && c.dev_off + c.len - from > RANGE_BYTES)
			break;
		if (!is_missing(fb, i))
			continue;
		src_len =
			c.group == group ? 0 : bc_map_group(m, c.group).src_len;
		if (src_len > 0 && end > 0 && cost + src_len > limit)
			break;
		if (end == 0)
			from = c.dev_off;
		cost += src_len;
		group = c.group;
		s->missing += c.len;
		end = c.dev_off + c.len;
	}
	f->at_chunk = i;
	end = max_u64(end, from); /* of a map that is lost */
	s->r = (struct bc_read){.blob = fb->blob,
		.off = from,
		.len = (size_t)(end - from),
		.cls = f->cls};
	return cost;
}

/* ---- the end ---- */

static bool is_all_ready(const struct bc_fill *f)
{
	uint32_t i;
	size_t k;

	for (k = 0; k < f->blob_count; k++)
		for (i = 0; i < f->blobs[k].blob->map.chunk_count; i++)
			if (is_missing(&f->blobs[k], i))
				return false;
	return true;
}

/* Something is on its way that may still be stored. */
static bool is_busy(const struct bc_fill *f)
{
	bool is_empty = true;
	size_t k;

	for (k = 0; k < f->blob_count && is_empty; k++) {
		struct bc_blob *b = f->blobs[k].blob;

		(void)pthread_mutex_lock(&b->lock); /* a plain mutex */
		is_empty = list_is_empty(&b->runs);
		(void)pthread_mutex_unlock(&b->lock);
	}
	return !is_empty;
}

static void settle(struct bc_fill *f)
{
	uint64_t now = clock_ms();

	if (f->settle_ms == 0)
		f->settle_ms = now;
	if (!f->is_stopping && !is_all_ready(f)) {
		if (is_busy(f) && now - f->settle_ms < SETTLE_MAX_MS) {
			rt_timer_start(f->worker, &f->timer, SETTLE_STEP_MS);
			return;
		}
		/* A store may have ended between the two looks. */
		if (f->result == 0 && !is_all_ready(f))
			f->result = -ENOSPC;
	}
	f->done(f);
}

/* ---- ranges ---- */

static void stop(struct bc_fill *f, int result)
{
	if (f->result == 0)
		f->result = result;
	f->is_stopping = true;
}

static void read_ended(struct bc_fill_read *s, int result)
{
	struct bc_fill *f = s->fill;

	if (result == -EAGAIN && !f->is_stopping) {
		s->state = SLOT_WAITING;
		return;
	}
	s->state = SLOT_FREE;
	f->active--;
	if (result == 0)
		atomic_fetch_add(&f->bytes_ready, s->missing);
	else if (result == -ECANCELED || ++f->failures >= MAX_FAILURES)
		stop(f, result);
	else if (f->result == 0)
		f->result = result;
	if (f->progress)
		f->progress(f);
}

static void read_done(struct bc_read *r)
{
	struct bc_fill_read *s = container_of(r, struct bc_fill_read, r);
	struct bc_fill *f = s->fill;

	read_ended(s, r->result);
	pump(f);
}

static void read_start(struct bc_fill_read *s)
{
	int r;

	s->r.done = read_done;
	s->state = SLOT_READING;
	r = bc_blob_read(&s->r);
	if (r != -EINPROGRESS)
		read_ended(s, r);
}

/* A place for another range; NULL: none now. */
static struct bc_fill_read *free_slot(struct bc_fill *f)
{
	unsigned i, n = f->reads;

	for (i = 0; i < n; i++)
		if (f->slots[i].state == SLOT_FREE)
			return &f->slots[i];
	return NULL;
}

/* A full cache has some time to become less full. Then that is the end. */
static bool has_no_room(struct bc_fill *f, uint64_t now)
{
	struct bc_blob *b = f->blobs[f->at_blob].blob;
	uint64_t limit = bc_store_limit(b->store);

	/* What came first would leave for what comes now. */
	if (limit != UINT64_MAX &&
		atomic_load(&f->bytes_ready) > limit - limit / 8) {
		stop(f, -ENOSPC);
		return true;
	}
	/* Or what readers want would: nobody has asked for this. */
	if (f->is_ahead && f->brought >= limit / 2) {
		stop(f, -ENOSPC);
		return true;
	}
	if (!bc_store_is_full(b->store)) {
		f->full_ms = 0;
		return false;
	}
	blob_room_look(b);
	if (f->full_ms == 0)
		f->full_ms = now;
	if (now - f->full_ms >= FULL_MAX_MS)
		stop(f, -ENOSPC);
	return true;
}

/* Milliseconds until something is to be done; 0: nothing is. */
static uint64_t start_ranges(struct bc_fill *f)
{
	struct bc_fill_read *s;
	uint64_t now, ms;

	while (!f->is_stopping && (s = free_slot(f)) != NULL &&
		find_missing(f)) {
		now = clock_ms();
		/* Nothing, but not before what was owed is paid. */
		ms = bc_pace_take(&f->pace, 0, now);
		if (ms > 0)
			return ms;
		if (has_no_room(f, now)) {
			if (f->is_stopping)
				break;
			return FULL_WAIT_MS;
		}
		bc_pace_owe(&f->pace, take_range(f, s), now);
		if (s->r.len == 0)
			continue; /* others have stored it since */
		f->brought += s->missing;
		f->active++;
		read_start(s);
	}
	return 0;
}

static void pump(struct bc_fill *f)
{
	uint64_t ms = start_ranges(f);
	unsigned i, waiting = 0;

	for (i = 0; i < BC_FILL_READS; i++) {
		if (f->slots[i].state != SLOT_WAITING)
			continue;
		waiting++;
		if (f->is_stopping)
			read_ended(&f->slots[i], -ECANCELED);
	}
	if (waiting > 0 && !f->is_stopping)
		ms = ms ? min_u64(ms, RETRY_MS) : RETRY_MS;
	if (ms == 0 && f->active == 0)
		ms = 1; /* done never runs inside bc_fill_start */
	if (ms > 0)
		rt_timer_start(f->worker, &f->timer, ms);
}

static void fire(struct rt_timer *t)
{
	struct bc_fill *f = container_of(t, struct bc_fill, timer);
	unsigned i;

	if (f->active == 0 && (f->is_stopping || !find_missing(f))) {
		settle(f);
		return;
	}
	for (i = 0; i < BC_FILL_READS; i++)
		if (f->slots[i].state == SLOT_WAITING)
			read_start(&f->slots[i]);
	pump(f);
}

void bc_fill_start(struct bc_fill *f)
{
	uint64_t total, ready;
	size_t k;

	f->worker = rt_worker_self();
	f->timer.fire = fire;
	bc_pace_init(&f->pace, f->rate, clock_ms());
	if (f->reads == 0 || f->reads > BC_FILL_READS)
		f->reads = BC_FILL_READS;
	for (k = 0; k < BC_FILL_READS; k++)
		f->slots[k].fill = f;
	for (k = 0; k < f->blob_count; k++) {
		bc_blob_wanted_bytes(
			f->blobs[k].blob, f->blobs[k].wanted, &total, &ready);
		atomic_fetch_add(&f->bytes_total, total);
		atomic_fetch_add(&f->bytes_ready, ready);
	}
	pump(f);
}

void bc_fill_cancel(struct bc_fill *f)
{
	unsigned i;

	rt_worker_assert(f->worker);
	stop(f, -ECANCELED);
	for (i = 0; i < BC_FILL_READS; i++)
		if (f->slots[i].state == SLOT_READING)
			bc_blob_cancel(&f->slots[i].r);
	pump(f);
}

/* ---- waited for ---- */

static void run_done(struct bc_fill *f)
{
	rt_block_on_done(f->op, f->result);
}

static void run_start(void *arg, struct rt_op *op)
{
	struct bc_fill *f = arg;

	f->op = op;
	bc_fill_start(f);
}

int bc_fill_run(struct bc_fill *f)
{
	f->done = run_done;
	return (int)rt_block_on(f->rt, run_start, f);
}
