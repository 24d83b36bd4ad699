/* SPDX-License-Identifier: Apache-2.0 */
/* Walking an index in tests: by path, and all of it. */
#pragma once

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/index.h"

/* What path ("a/b", "" is the root) names; -errno of the reader. */
static inline int index_find(
	const struct ld_index *x, const char *path, struct ld_inode_view *ret)
{
	uint64_t nid = x->root_nid;
	size_t len;
	int r;

	r = ld_index_inode(x, nid, ret);
	while (r == 0 && *path) {
		len = strcspn(path, "/");
		r = ld_index_lookup(x, ret, path, len, &nid);
		if (r == 0)
			r = ld_index_inode(x, nid, ret);
		path += len;
		path += *path == '/';
	}
	return r;
}

/* Read every byte, so that a sanitizer sees each that is out of bounds. */
static inline unsigned index_touch(const void *p, size_t n)
{
	const volatile uint8_t *b = p;
	unsigned sum = 0;

	while (n-- > 0)
		sum += *b++;
	return sum;
}

static inline int index_walk_contents(
	const struct ld_index *x, const struct ld_inode_view *v)
{
	struct ld_index_xattr xattr;
	struct ld_extent extent;
	const char *target;
	size_t len, pos = 0;
	uint64_t off = 0;
	int r, pieces = 0;

	while ((r = ld_index_next_xattr(x, v, &pos, &xattr)) == 1)
		(void)index_touch(xattr.value, xattr.value_len);
	if (r < 0)
		return r;
	if (S_ISLNK(v->attr.mode)) {
		r = ld_index_symlink(x, v, &target, &len);
		if (r == 0)
			(void)index_touch(target, len);
	}
	/* A hostile file may have millions of pieces. */
	while (r == 0 && S_ISREG(v->attr.mode) && off < v->size &&
		pieces++ < 100) {
		r = ld_index_extent(x, v, off, &extent);
		off += extent.len;
	}
	return r;
}

/*
 * Everything that can be reached, a bounded number of entries of it. 0, or the
 * first error that was met; the walk goes on behind it.
 */
static inline int index_walk_all(const struct ld_index *x)
{
	struct ld_index_dirent d;
	struct ld_blob_ref b;
	struct ld_inode_view v, dir;
	struct {
		uint64_t nid, cookie;
	} stack[64];
	unsigned depth = 1, left = 20000;
	int r, first = 0;
	uint32_t slot;

	for (slot = 0; slot < x->slot_count; slot++) {
		r = ld_index_slot(x, slot, &b);
		first = first ? first : r;
	}
	stack[0].nid = x->root_nid;
	stack[0].cookie = 0;
	while (depth > 0 && left-- > 0) {
		r = ld_index_inode(x, stack[depth - 1].nid, &dir);
		if (r == 0)
			r = ld_index_next(x, &dir, stack[depth - 1].cookie, &d);
		if (r <= 0) {
			first = first ? first : r;
			depth--;
			continue;
		}
		stack[depth - 1].cookie = d.cookie;
		(void)index_touch(d.name, d.name_len);
		if (d.name[0] == '.' &&
			(d.name_len == 1 ||
				(d.name_len == 2 && d.name[1] == '.')))
			continue;
		r = ld_index_inode(x, d.nid, &v);
		if (r == 0)
			r = index_walk_contents(x, &v);
		if (r == 0 && S_ISDIR(v.attr.mode) && depth < 64) {
			stack[depth].nid = d.nid;
			stack[depth++].cookie = 0;
		}
		first = first ? first : r;
	}
	return first;
}
