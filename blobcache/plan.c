/* SPDX-License-Identifier: Apache-2.0 */
/* Which groups share a range; see plan.h. */
#include "blobcache/plan.h"

#include "runtime/base/util.h"

const struct bc_plan_limits bc_plan_network = {.max_gap = 64u << 10,
	.max_len = 2u << 20,
	.max_decoded = 8u << 20,
	.max_groups = 1024,
	.around = 128u << 10};

const struct bc_plan_limits bc_plan_local = {.max_groups = 1};

const struct bc_plan_limits bc_plan_bulk = {.max_gap = 128u << 10,
	.max_len = 2u << 20,
	.max_decoded = 8u << 20,
	.max_groups = 1024};

#define DISTANCE_LOT 16  /* ranges; the least of two lots counts */
#define DISTANCE_LEAST 4 /* ranges, of the first lot */
#define FAR_US 15000
#define VERY_FAR_US 40000
#define MAX_NOTED (UINT64_C(1) << 26) /* microseconds, bytes: no overflow */
#define CROWD 4u
#define NEAR_WINDOWS 4u
#define MANY_NEAR 3u
#define CHEAP_PART 8u /* of what comes while a request waits */

/* Of this lot. */
static uint64_t bytes_per_wait(const struct bc_distance *d)
{
	return d->wait_us / d->count * d->bytes / max_u64(d->body_us, 1);
}

void bc_distance_note(
	struct bc_distance *d, uint64_t wait_us, uint64_t body_us, uint64_t len)
{
	wait_us = min_u64(max_u64(wait_us, 1), MAX_NOTED);
	if (d->count == DISTANCE_LOT) {
		d->before_us = d->least_us;
		d->per_wait = bytes_per_wait(d);
		d->count = 0;
		d->wait_us = d->body_us = d->bytes = 0;
	}
	d->least_us = d->count == 0 ? wait_us : min_u64(d->least_us, wait_us);
	d->wait_us += wait_us;
	d->body_us += min_u64(body_us, MAX_NOTED);
	d->bytes += min_u64(len, MAX_NOTED);
	d->count++;
}

uint64_t bc_distance_us(const struct bc_distance *d)
{
	return d->before_us ? min_u64(d->least_us, d->before_us) : d->least_us;
}

uint64_t bc_distance_bytes(const struct bc_distance *d)
{
	if (d->before_us == 0 && d->count >= DISTANCE_LEAST)
		return bytes_per_wait(d);
	return d->per_wait;
}

void bc_recent_note(struct bc_recent *r, uint64_t off)
{
	r->off[r->next] = off;
	r->next = (r->next + 1) % BC_RECENT_MISSES;
	r->count = (unsigned)min_u64(r->count + 1, BC_RECENT_MISSES);
}

/* Of the last misses, those within distance bytes of off. */
static unsigned count_near(
	const struct bc_recent *r, uint64_t off, uint64_t distance)
{
	unsigned i, n = 0;

	for (i = 0; i < r->count; i++)
		n += (off > r->off[i] ? off - r->off[i] : r->off[i] - off) <=
		     distance;
	return n;
}

/* In bytes of the blob, for who would take around of them. */
static uint64_t widest_window(const struct bc_plan_line *line, uint64_t around)
{
	unsigned others =
		count_near(line->recent, line->off, around * NEAR_WINDOWS);
	uint64_t most = line->bytes / CHEAP_PART;

	if (line->waited_for >= CROWD)
		return line->bytes;
	if (others > 0)
		most = max_u64(
			most, min_u64(line->bytes,
				      around << (others < MANY_NEAR ? 1 : 2)));
	return most;
}

struct bc_plan_limits bc_plan_now(
	const struct bc_plan_limits *near, const struct bc_plan_line *line)
{
	unsigned shift = line->us < FAR_US ? 0 : line->us < VERY_FAR_US ? 1 : 2;
	struct bc_plan_limits l = *near;
	uint64_t widest;

	l.around <<= shift;
	l.max_gap <<= shift;
	l.max_len <<= shift;
	/* doubled, so that windows stay aligned */
	widest = min_u64(widest_window(line, l.around), l.max_len / 2);
	while (l.around > 0 && 2 * (uint64_t)l.around <= widest)
		l.around *= 2;
	return l;
}

static uint64_t group_end(const struct bc_group *g)
{
	return g->src_off + g->src_len;
}

/* Does next follow prev without too many unwanted bytes between them? */
static bool is_close(const struct bc_plan_limits *limits,
	const struct bc_group *prev, const struct bc_group *next)
{
	return next->src_off <= group_end(prev) ||
	       next->src_off - group_end(prev) <= limits->max_gap;
}

/* A small one that hangs over its end would be a request of its own. */
static bool is_in_window(const struct bc_group *g, uint64_t end,
	const struct bc_plan_limits *limits)
{
	return group_end(g) <= end ||
	       (g->src_off < end && g->src_len <= limits->around / 8);
}

uint32_t bc_plan_around(const struct bc_map *m,
	const struct bc_plan_limits *limits, uint32_t group,
	uint32_t *ret_count)
{
	const struct bc_group self = bc_map_group(m, group);
	uint32_t first = group, last = group, half = limits->max_groups / 2;
	struct bc_group at = self, other;
	uint64_t start, end;

	*ret_count = 1;
	if (self.src_len >= limits->around)
		return group;
	start = self.src_off / limits->around * limits->around;
	end = start + limits->around;
	for (; first > 0 && group - first < half; first--, at = other) {
		other = bc_map_group(m, first - 1);
		if (other.src_off < start || !is_close(limits, &other, &at))
			break;
	}
	at = self;
	for (; last + 1 < m->group_count && last - group < half;
		last++, at = other) {
		other = bc_map_group(m, last + 1);
		if (!is_in_window(&other, end, limits) ||
			!is_close(limits, &at, &other))
			break;
	}
	*ret_count = last - first + 1;
	return first;
}

struct bc_range bc_plan_next(const struct bc_map *m,
	const struct bc_plan_limits *limits, const uint32_t *wanted,
	uint32_t first, uint32_t count)
{
	struct bc_group g = bc_map_group(m, wanted[first]);
	struct bc_range r = {.off = g.src_off,
		.len = g.src_len,
		.decoded = g.dec_len,
		.first = first,
		.count = 1};
	uint64_t end;

	while (first + r.count < count && r.count < limits->max_groups) {
		g = bc_map_group(m, wanted[first + r.count]);
		/* Ranges may overlap: spans of one stream share a byte. */
		if (g.src_off > r.off + r.len &&
			g.src_off - (r.off + r.len) > limits->max_gap)
			break;
		end = max_u64(r.off + r.len, group_end(&g));
		if (end - r.off > limits->max_len ||
			r.decoded + g.dec_len > limits->max_decoded)
			break;
		r.len = end - r.off;
		r.decoded += g.dec_len;
		r.count++;
	}
	return r;
}
