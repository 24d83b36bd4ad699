/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From wanted groups to ranges of the blob. PURE.
 *
 * Neighbours share one request when the bytes between them cost less than
 * another request would, and while the range stays small enough to arrive soon.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "blobcache/map.h"

struct bc_plan_limits {
	uint32_t max_gap;     /* unwanted bytes between two groups */
	uint32_t max_len;     /* bytes of a range of several groups */
	uint32_t max_decoded; /* decoded bytes of such a range */
	uint32_t max_groups;  /* of a range, at least 1 */
	uint32_t around;      /* bytes of the blob that a demand read takes at
	                         least, if it has to ask at all */
};

/* What a demand read asks for over a network. */
extern const struct bc_plan_limits bc_plan_network;
/* A local source: a range for each group. */
extern const struct bc_plan_limits bc_plan_local;
/* What nobody waits for: fewer, larger ranges. */
extern const struct bc_plan_limits bc_plan_bulk;

/*
 * How far away the source is: the least time until an answer began of late. It
 * holds what the server needs, too; what it does not hold is how long others
 * kept the line busy.
 */
struct bc_distance {
	uint64_t least_us, before_us; /* of this lot of ranges, of the last */
	unsigned count;               /* ranges of this lot */
	uint64_t wait_us, body_us, bytes; /* of this lot, all */
	uint64_t per_wait; /* as bc_distance_bytes, of the last lot */
};

/* A range of len bytes began to come after wait_us, and came for body_us. */
void bc_distance_note(struct bc_distance *d, uint64_t wait_us, uint64_t body_us,
	uint64_t len);
/* 0: not known yet. */
uint64_t bc_distance_us(const struct bc_distance *d);
/* What a range brings while another one waits, on average; 0: not known. */
uint64_t bc_distance_bytes(const struct bc_distance *d);

#define BC_RECENT_MISSES 16

/* Where readers had to ask of late. All zero: nowhere yet. */
struct bc_recent {
	uint64_t off[BC_RECENT_MISSES]; /* in the blob */
	unsigned count, next;
};

/* Somebody asks at off. */
void bc_recent_note(struct bc_recent *r, uint64_t off);

/* What is known when a reader has to ask. */
struct bc_plan_line {
	uint64_t us, bytes;  /* as bc_distance_us, bc_distance_bytes */
	unsigned waited_for; /* ranges on their way that other readers need */
	const struct bc_recent *recent; /* before this one */
	uint64_t off;                   /* of the blob, where it asks */
};
/*
 * What to ask for now. The longer a request takes, the more of the neighbours
 * it takes along, up to four times as much. It takes more yet where that is an
 * eighth of what comes in the time that another request costs, so that nobody
 * notices; and up to all of it where others were asked for close by, up to four
 * times as much, or where many readers wait at once, because then the server
 * has all requests that it can work on.
 */
struct bc_plan_limits bc_plan_now(
	const struct bc_plan_limits *near, const struct bc_plan_line *line);

/*
 * The groups around group that a demand read takes along: those in the same
 * aligned window of limits->around bytes of the blob, and a small one that
 * hangs over its end, as far as they follow each other closely. Small files lie
 * in the order of their names, a request costs as much as many of them, and a
 * window does not depend on the order in which they are read. Gives the first
 * of them; *ret_count is at least 1, the group itself.
 */
uint32_t bc_plan_around(const struct bc_map *m,
	const struct bc_plan_limits *limits, uint32_t group,
	uint32_t *ret_count);

struct bc_range {
	uint64_t off, len; /* of the blob */
	uint64_t decoded;  /* bytes, of all its groups */
	uint32_t first;    /* its groups: wanted[first .. first + count) */
	uint32_t count;
};

/*
 * The range that begins with wanted[first]; wanted are count group numbers of
 * m, ascending. A single group is never refused, whatever its size. Call again
 * with first + ret.count until that is count.
 */
struct bc_range bc_plan_next(const struct bc_map *m,
	const struct bc_plan_limits *limits, const uint32_t *wanted,
	uint32_t first, uint32_t count);
