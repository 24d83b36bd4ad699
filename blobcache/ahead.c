/* SPDX-License-Identifier: Apache-2.0 */
/* Read-ahead windows and bulk; see ahead.h. */
#include "blobcache/ahead.h"

#include "runtime/base/util.h"

#define MAX_CHAOS 16u
#define READS_TO_BEGIN 2u /* that follow each other */
#define DENSE_BYTES (BC_BULK_PART / 4 * 3)
#define BULK_MIN_DENSE 4u
#define BULK_SHARE 8u /* one in so many parts is dense */

/* ---- streams ---- */

/* Does a read at off follow s? */
static bool follows(const struct bc_ahead_stream *s, uint64_t off)
{
	return s->used && off <= s->next + BC_AHEAD_SLACK &&
	       off + BC_AHEAD_SLACK >= s->next;
}

/* The stream that the read follows best; NULL: none. */
static struct bc_ahead_stream *find(struct bc_ahead *a, uint64_t off)
{
	struct bc_ahead_stream *s, *best = NULL;
	uint64_t gap, best_gap = UINT64_MAX;
	unsigned i;

	for (i = 0; i < BC_AHEAD_STREAMS; i++) {
		s = &a->streams[i];
		gap = off > s->next ? off - s->next : s->next - off;
		if (follows(s, off) && gap < best_gap) {
			best = s;
			best_gap = gap;
		}
	}
	return best;
}

static struct bc_ahead_stream *oldest(struct bc_ahead *a)
{
	struct bc_ahead_stream *s = &a->streams[0];
	unsigned i;

	for (i = 1; i < BC_AHEAD_STREAMS; i++)
		if (a->streams[i].used < s->used)
			s = &a->streams[i];
	return s;
}

/* The more is read here and there, the less is fetched on suspicion. */
static uint32_t max_window(const struct bc_ahead *a)
{
	return BC_AHEAD_MAX_WINDOW >> (a->chaos / 4);
}

static void grow(struct bc_ahead *a, struct bc_ahead_stream *s)
{
	if (s->window == 0)
		s->window = BC_AHEAD_MIN_WINDOW;
	else
		s->window *= 2;
	s->window = (uint32_t)min_u64(s->window, max_window(a));
}

bool bc_ahead_note(struct bc_ahead *a, uint64_t off, uint64_t len, bool may_ask,
	uint64_t *ret_off, uint64_t *ret_end)
{
	struct bc_ahead_stream *s = find(a, off);
	uint64_t end = off + len, from, to;

	a->clock++;
	if (!s) {
		if (a->chaos < MAX_CHAOS)
			a->chaos++;
		*oldest(a) = (struct bc_ahead_stream){
			.next = end, .asked = end, .used = a->clock};
		return false;
	}
	s->used = a->clock;
	if (a->chaos > 0)
		a->chaos--;
	if (end <= s->next)
		return false;
	s->next = end;
	s->reads++;
	if (!may_ask || s->reads < READS_TO_BEGIN + a->chaos / 4)
		return false;
	/* half of the window is still to come: no need for more */
	if (s->window > 0 && s->asked >= s->next + s->window / 2)
		return false;
	grow(a, s);
	from = max_u64(s->asked, s->next);
	to = s->next + s->window;
	if (to <= from)
		return false;
	s->asked = to;
	*ret_off = from;
	*ret_end = to;
	return true;
}

/* ---- bulk ---- */

bool bc_bulk_note(struct bc_bulk *b, uint64_t off, uint32_t len)
{
	uint64_t part = off / BC_BULK_PART;
	uint32_t before;

	if (b->is_on || part >= b->parts)
		return false;
	before = b->touched[part];
	b->touched[part] =
		(uint32_t)min_u64((uint64_t)before + len, UINT32_MAX);
	b->total += len;
	if (before < DENSE_BYTES && b->touched[part] >= DENSE_BYTES)
		b->dense++;
	b->is_on = b->dense >= BULK_MIN_DENSE &&
	           b->dense >= b->parts / BULK_SHARE &&
	           (uint64_t)b->dense * BC_BULK_PART >= b->total / 4 * 3;
	return b->is_on;
}
