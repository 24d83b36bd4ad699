/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maps of sparse files ("Storing Sparse Files" in the GNU tar manual): the
 * old GNU format's in the header and blocks behind it, PAX 1.0's in front of
 * the data; 0.0's and 0.1's come from tar_pax.c.
 */
#include <errno.h>
#include <string.h>

#include "loader/tar_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

int tar_sparse_add(struct ld_tar *t, uint64_t off, uint64_t len, struct err *e)
{
	void *pieces = t->pieces;
	struct ld_tar_piece *last;
	uint64_t end;
	int r;

	if (add_overflows(off, len, &end) || end > INT64_MAX)
		return tar_broken(t, e, "a sparse map has an absurd piece");
	last = t->piece_count ? &t->pieces[t->piece_count - 1] : NULL;
	if (last && off < last->file_off + last->len)
		return tar_broken(t, e, "a sparse map's pieces overlap");
	r = mem_grow(&pieces, &t->piece_cap, t->piece_count + 1,
		LD_TAR_MAX_PIECES, sizeof(*t->pieces));
	if (r < 0)
		return err_set(e, r, "no room for a sparse file in pieces");
	t->pieces = pieces;
	t->pieces[t->piece_count++] =
		(struct ld_tar_piece){.file_off = off, .len = len};
	return 0;
}

int tar_sparse_gnu(
	struct ld_tar *t, const uint8_t *p, unsigned count, struct err *e)
{
	int64_t off, len;
	unsigned i;
	int r;

	for (i = 0; i < count; i++, p += TAR_GNU_PIECE_LEN) {
		if (p[0] == '\0')
			return 0; /* the rest is not used */
		if (tar_number(p, TAR_NUM_LEN, &off) < 0 || off < 0 ||
			tar_number(p + TAR_NUM_LEN, TAR_NUM_LEN, &len) < 0 ||
			len < 0)
			return tar_broken(t, e, "a sparse map is no numbers");
		r = tar_sparse_add(t, (uint64_t)off, (uint64_t)len, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A line at *at of the map: 1 and its number; 0: it has not come whole. */
static int map_line(struct ld_tar *t, size_t *at, uint64_t *ret, struct err *e)
{
	const char *p = (const char *)t->map.data + *at;
	const char *nl = memchr(p, '\n', t->map.len - *at);

	if (!nl && t->map.len - *at <= 20)
		return 0;
	if (!nl || tar_decimal(p, (size_t)(nl - p), ret) < 0)
		return tar_broken(t, e, "a sparse map is no numbers");
	*at += (size_t)(nl - p) + 1;
	return 1;
}

/*
 * Lines of decimal numbers: how many pieces, then offset and length of each;
 * zeros up to the end of the block. Each block is looked at with what the one
 * before left over, so the work is linear.
 */
int tar_sparse_map(struct ld_tar *t, struct err *e)
{
	uint64_t off = 0, len = 0;
	size_t at = 0, line;
	int r = 1;

	if (!t->has_map_count) {
		r = map_line(t, &at, &t->map_count, e);
		if (r <= 0)
			return r;
		if (t->map_count > LD_TAR_MAX_PIECES)
			return err_set(e, -E2BIG,
				"a sparse file in more than %u pieces",
				LD_TAR_MAX_PIECES);
		t->has_map_count = true;
	}
	while (r == 1 && t->piece_count < t->map_count) {
		line = at;
		r = map_line(t, &line, &off, e);
		if (r == 1)
			r = map_line(t, &line, &len, e);
		if (r <= 0)
			break;
		r = tar_sparse_add(t, off, len, e);
		if (r < 0)
			return r;
		r = 1;
		at = line;
	}
	if (r < 0)
		return r;
	memmove(t->map.data, t->map.data + at, t->map.len - at);
	t->map.len -= at;
	return t->piece_count == t->map_count;
}

/* ---- from a map to places in the stream ---- */

static int unaligned(struct ld_tar *t, struct err *e)
{
	return err_set(e, -EOPNOTSUPP,
		"the sparse file '%.*s' has pieces that do not lie on blocks "
		"of %d bytes, which cannot be shown from a tar",
		tar_shown(t->entry.path_len), t->entry.path, LD_TAR_BLOCK);
}

/* The last piece may end inside a block if zeros follow in the stream. */
static int place_piece(
	struct ld_tar *t, struct ld_tar_piece *p, bool is_last, struct err *e)
{
	uint64_t end = p->file_off + p->len;

	if ((p->file_off | p->tar_off) % LD_TAR_BLOCK != 0)
		return unaligned(t, e);
	if (end % LD_TAR_BLOCK == 0 || end == t->entry.size)
		return 0;
	if (!is_last)
		return unaligned(t, e);
	t->zeros_wanted = true;
	end = min_u64(round_up(end, LD_TAR_BLOCK), t->entry.size);
	p->len = end - p->file_off;
	return 0;
}

int tar_sparse_place(struct ld_tar *t, struct err *e)
{
	uint64_t at = 0;
	struct ld_tar_piece *p;
	size_t i, n = 0;
	int r;

	for (i = 0; i < t->piece_count; i++) {
		p = &t->pieces[i];
		if (p->file_off + p->len > t->entry.size)
			return tar_broken(t, e,
				"the sparse file '%.*s' has data behind its "
				"end",
				tar_shown(t->entry.path_len), t->entry.path);
		p->tar_off = t->pos + at;
		if (add_overflows(at, p->len, &at))
			return tar_broken(t, e, "a sparse map is absurd");
		if (p->len > 0)
			t->pieces[n++] = *p;
	}
	t->piece_count = n;
	if (at != t->stored)
		return tar_broken(t, e,
			"the sparse file '%.*s' holds %llu bytes, its map says "
			"%llu",
			tar_shown(t->entry.path_len), t->entry.path,
			(unsigned long long)t->stored, (unsigned long long)at);
	for (i = 0; i < n; i++) {
		r = place_piece(t, &t->pieces[i], i + 1 == n, e);
		if (r < 0)
			return r;
	}
	return 0;
}
