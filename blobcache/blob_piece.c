/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes of a read's buffer belong to which chunks, and how much of it is
 * read at a time. No state: numbers, and memory of the read.
 */
#include <string.h>

#include "blobcache/blob_int.h"
#include "runtime/base/util.h"

/*
 * Groups of one piece. A longer read is done piece by piece: a map may have a
 * group for every byte, and each needs memory while it is on its way.
 */
#define READ_GROUPS 1024

/* Where the device range [off, off + len) of the read lies in its buffer. */
uint8_t *blob_read_at(const struct bc_read *r, uint64_t off)
{
	return r->buf + (off - r->off);
}

/*
 * What no chunk covers is zeros in the piece that was read, whatever the cache
 * file holds there.
 */
void blob_read_fill_gaps(const struct bc_read *r)
{
	const struct bc_map *m = &r->blob->map;
	uint64_t at = r->pos, end = r->stop;
	uint32_t i;

	if (!r->buf)
		return;
	for (i = bc_map_find(m, at); at < end; i++) {
		struct bc_chunk c = {.dev_off = end};
		uint64_t stop;

		if (i < m->chunk_count)
			c = bc_map_chunk(m, i);
		stop = min_u64(end, c.dev_off);
		if (stop > at)
			memset(blob_read_at(r, at), 0, stop - at);
		if (stop == end)
			return;
		at = max_u64(at, c.dev_off + c.len);
	}
}

/* Copy what the read wants of chunks [first, first + count) of fl's group. */
void blob_read_copy(const struct bc_read *r, uint32_t first, uint32_t count,
	const struct blob_flight *fl)
{
	const struct bc_map *m = &r->blob->map;
	uint64_t from, to;
	struct bc_chunk c;
	uint32_t i;

	for (i = first; i < first + count; i++) {
		c = bc_map_chunk(m, i);
		if (c.group != fl->f.key ||
			!range_fits(c.group_off, c.len, fl->len)) {
			bc_map_set_lost(m);
			return;
		}
		from = max_u64(c.dev_off, r->pos);
		to = min_u64(c.dev_off + c.len, r->stop);
		if (from < to)
			memcpy(blob_read_at(r, from),
				fl->bytes + c.group_off + (from - c.dev_off),
				to - from);
	}
}

/* The chunks that the piece touches. */
void blob_read_chunks(
	const struct bc_read *r, uint32_t *ret_first, uint32_t *ret_count)
{
	const struct bc_map *m = &r->blob->map;
	uint32_t first = bc_map_find(m, r->pos);
	uint32_t last = bc_map_find(m, r->stop - 1);

	if (last < m->chunk_count && m->chunks[last].dev_off < r->stop)
		last++;
	if (last < first) {
		bc_map_set_lost(m);
		last = first;
	}
	*ret_first = first;
	*ret_count = last - first;
}

/* The piece was read; true: there is another one, which is set. */
bool blob_read_next_piece(struct bc_read *r)
{
	blob_read_fill_gaps(r);
	r->pos = r->stop;
	r->stop = r->end;
	return r->pos < r->end;
}

/* Chunks [first, first + ret) belong to one group. */
uint32_t blob_same_group(const struct bc_map *m, uint32_t first, uint32_t count)
{
	uint32_t i;

	for (i = 1; i < count; i++)
		if (m->chunks[first + i].group != m->chunks[first].group)
			break;
	return i;
}

/*
 * The groups of the piece's count chunks from first on, READ_GROUPS at most:
 * where there are more the piece becomes shorter.
 */
uint32_t blob_read_limit(struct bc_read *r, uint32_t first, uint32_t *ret_count)
{
	const struct bc_map *m = &r->blob->map;
	uint32_t left = *ret_count, groups = 0, n, at = first;

	for (; left > 0 && groups < READ_GROUPS; left -= n, at += n, groups++)
		n = blob_same_group(m, at, left);
	if (left > 0) {
		uint64_t stop = bc_map_chunk(m, at).dev_off;

		if (stop > r->pos && stop < r->stop)
			r->stop = stop;
		else
			bc_map_set_lost(m);
		*ret_count = at - first;
	}
	return groups;
}
