/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser's states: what the next bytes of a tar are. See tar.h.
 *
 *   HEADER -> META, PADDING -> HEADER     extended header, long name, ignored
 *   HEADER -> SKIP, PADDING -> HEADER     an entry and its data
 *   HEADER -> SPARSE_EXT... -> SKIP       an old GNU sparse file
 *   HEADER -> SPARSE_MAP... -> SKIP       a PAX 1.0 sparse file
 *   HEADER -> HEADER -> END               two blocks of zeros
 */
#include "loader/tar.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "loader/tar_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

int tar_broken(struct ld_tar *t, struct err *e, const char *fmt, ...)
{
	char what[400];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap); /* cut if long */
	va_end(ap);
	return err_set(e, -EPROTO, "the tar is broken before byte %llu: %s",
		(unsigned long long)t->pos, what);
}

int tar_shown(size_t len)
{
	return (int)min_u64(len, 200);
}

int ld_tar_create(ld_tar_entry_fn *fn, void *arg, struct ld_tar **ret)
{
	struct ld_tar *t = mem_zalloc(sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->fn = fn;
	t->arg = arg;
	buf_init(&t->pax, LD_TAR_MAX_PAX);
	buf_init(&t->long_name, LD_TAR_MAX_LONG_NAME);
	buf_init(&t->long_link, LD_TAR_MAX_LONG_NAME);
	buf_init(&t->name, LD_TAR_BLOCK);
	buf_init(&t->map, (size_t)2 * LD_TAR_BLOCK);
	*ret = t;
	return 0;
}

void ld_tar_destroy(struct ld_tar *t)
{
	if (!t)
		return;
	buf_fini(&t->pax);
	buf_fini(&t->long_name);
	buf_fini(&t->long_link);
	buf_fini(&t->name);
	buf_fini(&t->map);
	mem_free(t->xattrs);
	mem_free(t->pieces);
	mem_free(t);
}

/* len bytes of contents come, then up to the end of their block. */
static void expect(struct ld_tar *t, enum tar_state state, uint64_t len)
{
	t->state = state;
	t->left = len;
	t->padding = (unsigned)(-len % LD_TAR_BLOCK);
}

/* What was said of one entry does not count for the next one. */
static void forget(struct ld_tar *t)
{
	t->pax.len = 0;
	t->long_name.len = 0;
	t->long_link.len = 0;
	t->has_pax = false;
	t->has_name = false;
	t->has_link = false;
	t->x = (struct tar_pax){0};
	t->xattr_count = 0;
	t->piece_count = 0;
}

/* ---- entries ---- */

/* Everything but the data is known: hand it out, then read over the data. */
static int emit(struct ld_tar *t, struct err *e)
{
	int r;

	t->entry.pieces = t->pieces;
	t->entry.piece_count = t->piece_count;
	r = t->fn(t->arg, &t->entry, e);
	expect(t, TAR_SKIP, t->stored);
	forget(t);
	return r;
}

static int emit_sparse(struct ld_tar *t, struct err *e)
{
	int r = tar_sparse_place(t, e);

	return r < 0 ? r : emit(t, e);
}

static int start_gnu_sparse(struct ld_tar *t, struct err *e)
{
	const uint8_t *h = t->header;
	int64_t size;
	int r;

	if (tar_number(h + TAR_GNU_REALSIZE, TAR_NUM_LEN, &size) < 0 ||
		size < 0)
		return tar_broken(t, e, "a sparse file's size is no number");
	t->entry.size = (uint64_t)size;
	t->piece_count = 0;
	r = tar_sparse_gnu(t, h + TAR_GNU_SPARSE, TAR_GNU_SPARSE_COUNT, e);
	if (r < 0)
		return r;
	if (h[TAR_GNU_EXTENDED] == 0)
		return emit_sparse(t, e);
	t->state = TAR_SPARSE_EXT;
	return 0;
}

static int start_pax_sparse(struct ld_tar *t, struct err *e)
{
	if (!t->x.has_real_size)
		return tar_broken(t, e, "a sparse file has no size");
	t->entry.size = t->x.real_size;
	if (!t->x.is_map_in_data)
		return emit_sparse(t, e);
	t->piece_count = 0;
	t->map.len = 0;
	t->has_map_count = false;
	t->state = TAR_SPARSE_MAP;
	return 0;
}

static int take_entry(struct ld_tar *t, struct err *e)
{
	int r;

	r = tar_header_read(t, &t->stored, e);
	if (r < 0)
		return r;
	t->zeros_wanted = false;
	if (t->entry.type == LD_TAR_FILE) {
		if (t->header[TAR_TYPE] == 'S')
			return start_gnu_sparse(t, e);
		if (t->x.is_sparse)
			return start_pax_sparse(t, e);
	}
	t->piece_count = 0;
	if (t->stored > 0) {
		r = tar_sparse_add(t, 0, t->stored, e);
		if (r < 0)
			return r;
		t->pieces[0].tar_off = t->pos;
	}
	return emit(t, e);
}

/* ---- blocks ---- */

/* The contents of the header go to b; NULL: they do not matter. */
static int take_meta(
	struct ld_tar *t, struct buf *b, uint64_t max, struct err *e)
{
	int64_t size;

	if (tar_number(t->header + TAR_SIZE, TAR_NUM_LEN, &size) < 0 ||
		size < 0)
		return tar_broken(t, e, "the size of a header is no number");
	if ((uint64_t)size > max)
		return err_set(e, -E2BIG,
			"the tar has a header of %lld bytes, %llu is the limit",
			(long long)size, (unsigned long long)max);
	if (b)
		b->len = 0;
	t->meta = b;
	t->zeros_wanted = false;
	expect(t, TAR_META, (uint64_t)size);
	return 0;
}

static int take_header(struct ld_tar *t, struct err *e)
{
	if (tar_is_zero(t->block, LD_TAR_BLOCK)) {
		if (++t->zero_blocks == 2)
			t->state = TAR_END;
		return 0;
	}
	if (t->zero_blocks > 0)
		return tar_broken(t, e, "a block of zeros is in the middle");
	if (!tar_sum_is_right(t->block))
		return tar_broken(t, e, "a header has a wrong checksum");
	memcpy(t->header, t->block, LD_TAR_BLOCK);
	switch (t->header[TAR_TYPE]) {
	case 'x':
		t->has_pax = true;
		return take_meta(t, &t->pax, LD_TAR_MAX_PAX, e);
	case 'g':
		return take_meta(t, NULL, LD_TAR_MAX_PAX, e);
	case 'L':
		t->has_name = true;
		return take_meta(t, &t->long_name, LD_TAR_MAX_LONG_NAME, e);
	case 'K':
		t->has_link = true;
		return take_meta(t, &t->long_link, LD_TAR_MAX_LONG_NAME, e);
	default:
		return take_entry(t, e);
	}
}

static int take_sparse_ext(struct ld_tar *t, struct err *e)
{
	int r = tar_sparse_gnu(t, t->block, TAR_GNU_EXT_COUNT, e);

	if (r < 0 || t->block[TAR_GNU_EXT_EXTENDED] != 0)
		return r;
	return emit_sparse(t, e);
}

static int take_sparse_map(struct ld_tar *t, struct err *e)
{
	int r;

	if (t->stored < LD_TAR_BLOCK)
		return tar_broken(t, e, "a sparse map is cut short");
	t->stored -= LD_TAR_BLOCK;
	r = buf_append(&t->map, t->block, LD_TAR_BLOCK);
	if (r < 0)
		return err_set(e, r, "out of memory");
	r = tar_sparse_map(t, e);
	return r == 1 ? emit_sparse(t, e) : r;
}

static int take_block(struct ld_tar *t, struct err *e)
{
	switch (t->state) {
	case TAR_SPARSE_EXT:
		return take_sparse_ext(t, e);
	case TAR_SPARSE_MAP:
		return take_sparse_map(t, e);
	default:
		return take_header(t, e);
	}
}

/* ---- bytes ---- */

static size_t feed_block(
	struct ld_tar *t, const uint8_t *p, size_t n, struct err *e, int *ret)
{
	size_t take = (size_t)min_u64(n, LD_TAR_BLOCK - t->block_len);

	memcpy(t->block + t->block_len, p, take);
	t->block_len += take;
	t->pos += take;
	if (t->block_len == LD_TAR_BLOCK) {
		t->block_len = 0;
		*ret = take_block(t, e);
	}
	return take;
}

/* The contents that were expected are over. */
static int contents_end(struct ld_tar *t, struct err *e)
{
	bool is_pax = t->state == TAR_META && t->meta == &t->pax;

	t->state = TAR_PADDING;
	t->left = t->padding;
	return is_pax ? tar_pax_read(t, e) : 0;
}

static size_t feed_contents(
	struct ld_tar *t, const uint8_t *p, size_t n, struct err *e, int *ret)
{
	size_t take = (size_t)min_u64(n, t->left);

	if (t->state == TAR_META && t->meta &&
		buf_append(t->meta, p, take) < 0) {
		*ret = err_set(e, -ENOMEM, "out of memory");
		return take;
	}
	if (t->state == TAR_PADDING && t->zeros_wanted &&
		!tar_is_zero(p, take)) {
		*ret = err_set(e, -EOPNOTSUPP,
			"a sparse file in the tar ends inside a block that "
			"holds other bytes too, which cannot be shown");
		return take;
	}
	t->left -= take;
	t->pos += take;
	return take;
}

int ld_tar_feed(struct ld_tar *t, const uint8_t *p, size_t n, struct err *e)
{
	size_t take;
	int r = 0;

	for (;;) {
		if (r == 0 && t->left == 0) {
			if (t->state == TAR_SKIP || t->state == TAR_META)
				r = contents_end(t, e);
			if (t->state == TAR_PADDING && t->left == 0)
				t->state = TAR_HEADER;
		}
		if (r < 0 || n == 0)
			return r;
		if (t->pos > LD_TAR_MAX_SIZE)
			return err_set(e, -E2BIG,
				"a tar of more than %llu bytes",
				(unsigned long long)LD_TAR_MAX_SIZE);
		switch (t->state) {
		case TAR_END:
			t->pos += n;
			return 0;
		case TAR_SKIP:
		case TAR_META:
		case TAR_PADDING:
			take = feed_contents(t, p, n, e, &r);
			break;
		default:
			take = feed_block(t, p, n, e, &r);
			break;
		}
		p += take;
		n -= take;
	}
}

int ld_tar_finish(struct ld_tar *t, struct err *e)
{
	if (t->state == TAR_END)
		return 0;
	/* Some writers leave the zeros at the end out, or half of them. */
	if (t->state != TAR_HEADER || t->block_len > 0)
		return tar_broken(t, e, "it ends in the middle of an entry");
	if (t->has_pax || t->has_name || t->has_link)
		return tar_broken(
			t, e, "the entry of its last header is not there");
	return 0;
}
