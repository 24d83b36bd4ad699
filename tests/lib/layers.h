/* SPDX-License-Identifier: Apache-2.0 */
/* Small layers for tests, written as lists of steps, and trees as text. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loader/index.h"
#include "loader/merge.h"
#include "tests/lib/index_walk.h"

/*
 * One step. kind: 'd' directory, 'f' file, 's' symlink to arg, 'p' fifo, 'h'
 * hard link to arg, 'L' hard link that waits for a lower layer, 'w' a name as
 * tar spells whiteouts, 'x' xattr arg on path. id is the user id and mtime, so
 * that one can see where an entry came from.
 */
struct step {
	char kind;
	const char *path, *arg;
	unsigned id;
};

struct layer {
	struct ld_tree *t;
	struct buf bytes;
	struct ld_index x;
};

static inline struct ld_inode *layer_add(
	struct layer *l, const char *path, uint32_t mode, unsigned id)
{
	const struct ld_attr a = {
		.mode = mode, .uid = id, .gid = id, .mtime = id};
	struct ld_inode *i = NULL;
	struct err e = {0};

	if (ld_tree_add(l->t, path, strlen(path), &a, &i, &e) < 0)
		fail_msg("%s: %s", path, e.text);
	return i;
}

static inline void layer_set(struct layer *l, struct ld_inode *i,
	const char *name, const char *value)
{
	assert_non_null(i);
	assert_int_equal(ld_tree_set_xattr(l->t, i, name, strlen(name), value,
				 strlen(value), NULL),
		0);
}

static inline void layer_step(struct layer *l, const struct step *s)
{
	size_t len = strlen(s->path);
	struct ld_inode *i;
	bool was_one;

	switch (s->kind) {
	case 'd':
		(void)layer_add(l, s->path, S_IFDIR | 0750, s->id);
		break;
	case 'f':
		layer_add(l, s->path, S_IFREG | 0640, s->id)->size = s->id;
		break;
	case 'p':
		(void)layer_add(l, s->path, S_IFIFO | 0600, s->id);
		break;
	case 's':
		i = layer_add(l, s->path, S_IFLNK | 0777, s->id);
		assert_int_equal(ld_tree_set_symlink(
					 l->t, i, s->arg, strlen(s->arg), NULL),
			0);
		break;
	case 'h':
		i = ld_tree_find(l->t, s->arg, strlen(s->arg));
		assert_non_null(i);
		assert_int_equal(ld_tree_link(l->t, s->path, len, i, NULL), 0);
		break;
	case 'L':
		i = layer_add(l, s->path, S_IFREG | 0640, s->id);
		layer_set(l, i, LD_XATTR_LINK, s->arg);
		break;
	case 'x':
		layer_set(l, ld_tree_find(l->t, s->path, len), s->arg, "v");
		break;
	default:
		assert_int_equal(ld_tree_add_whiteout(
					 l->t, s->path, len, &was_one, NULL),
			0);
		assert_true(was_one);
	}
}

static inline void layer_finish(struct layer *l)
{
	struct err e = {0};

	buf_init(&l->bytes, 0);
	if (ld_index_write(l->t, 12, &l->bytes, &e) < 0 ||
		ld_index_from_bytes(l->bytes.data, l->bytes.len, &l->x, &e) < 0)
		fail_msg("%s", e.text);
}

static inline void layer_start(struct layer *l)
{
	*l = (struct layer){0};
	assert_int_equal(ld_tree_create(&l->t), 0);
}

/* steps end with kind 0. */
static inline void layer_make(struct layer *l, const struct step *steps)
{
	layer_start(l);
	for (; steps->kind; steps++)
		layer_step(l, steps);
	layer_finish(l);
}

static inline void layer_free(struct layer *l)
{
	ld_index_close(&l->x);
	buf_fini(&l->bytes);
	ld_tree_destroy(l->t);
}

/* The layers merged, as a layer. */
static inline int layer_merge(const struct layer *layers, size_t count,
	struct layer *ret, struct err *e)
{
	const struct ld_index *x[32];
	size_t k;
	int r;

	assert_true(count <= 32);
	for (k = 0; k < count; k++)
		x[k] = &layers[k].x;
	layer_start(ret);
	r = ld_merge(x, count, ret->t, e);
	if (r < 0)
		ld_tree_destroy(ret->t);
	else
		layer_finish(ret);
	return r;
}

static inline void layer_print_xattrs(const struct ld_index *x,
	const struct ld_inode_view *v, struct buf *out)
{
	struct ld_index_xattr xattr;
	size_t pos = 0;

	while (ld_index_next_xattr(x, v, &pos, &xattr) == 1)
		assert_int_equal(buf_printf(out, " %s=%.*s", xattr.name,
					 (int)xattr.value_len,
					 (const char *)xattr.value),
			0);
}

/*
 * A line for each entry below path: its path, type letter, id, for what is no
 * directory "*names" if it has several, "->target", xattrs, "implied".
 */
static inline void layer_print(
	const struct ld_index *x, const char *path, struct buf *out)
{
	struct ld_inode_view dir, v;
	struct ld_index_dirent d;
	uint64_t cookie = 0;
	char child[256];
	const char *target;
	size_t len;
	int n;

	assert_int_equal(index_find(x, path, &dir), 0);
	while (ld_index_next(x, &dir, cookie, &d) == 1) {
		cookie = d.cookie;
		if (d.name[0] == '.' && d.name_len <= 2)
			continue;
		n = snprintf(child, sizeof(child), "%s%s%.*s", path,
			*path ? "/" : "", (int)d.name_len, d.name);
		assert_in_range(n, 1, sizeof(child) - 1);
		assert_int_equal(ld_index_inode(x, d.nid, &v), 0);
		assert_int_equal(buf_printf(out, "%s %c%u", child,
					 "?pc?d?b?f?s?o???"[v.attr.mode >> 12],
					 v.attr.uid),
			0);
		if (!S_ISDIR(v.attr.mode) && v.nlink > 1)
			(void)buf_printf(out, " *%u", v.nlink);
		if (ld_index_symlink(x, &v, &target, &len) == 0)
			(void)buf_printf(out, " ->%.*s", (int)len, target);
		layer_print_xattrs(x, &v, out);
		(void)buf_printf(
			out, "%s\n", ld_index_is_implied(&v) ? " implied" : "");
		if (S_ISDIR(v.attr.mode))
			layer_print(x, child, out);
	}
}

static inline void layer_expect(const struct layer *l, const char *want)
{
	struct buf out;

	buf_init(&out, 0);
	layer_print(&l->x, "", &out);
	assert_int_equal(buf_terminate(&out), 0);
	assert_string_equal((const char *)out.data, want);
	buf_fini(&out);
}
