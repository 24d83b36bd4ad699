/* SPDX-License-Identifier: Apache-2.0 */
/* A tree and its index for unit tests. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loader/index.h"
#include "tests/lib/index_walk.h"

static const struct ld_attr a_dir = {
	.mode = S_IFDIR | 0755, .mtime = -5, .mtime_ns = 999999999};
static const struct ld_attr a_file = {.mode = S_IFREG | 04711,
	.uid = 70000,
	.gid = 80000,
	.mtime = 1ll << 33};

/* A tree, its index, and both open. */
struct fixture {
	struct ld_tree *t;
	struct buf out;
	struct ld_index x;
};

static inline void setup(struct fixture *f)
{
	*f = (struct fixture){0};
	assert_int_equal(ld_tree_create(&f->t), 0);
	buf_init(&f->out, 0);
}

static inline void teardown(struct fixture *f)
{
	ld_index_close(&f->x);
	buf_fini(&f->out);
	ld_tree_destroy(f->t);
}

static inline void write_out(struct fixture *f, unsigned bits)
{
	struct err e = {0};

	f->out.len = 0;
	if (ld_index_write(f->t, bits, &f->out, &e) < 0)
		fail_msg("%s", e.text);
	if (ld_index_from_bytes(f->out.data, f->out.len, &f->x, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(f->out.len % (1u << bits), 0);
}

static inline struct ld_inode *add(
	struct fixture *f, const char *path, const struct ld_attr *a)
{
	struct ld_inode *i = NULL;

	assert_int_equal(ld_tree_add(f->t, path, strlen(path), a, &i, NULL), 0);
	return i;
}

static inline uint32_t add_blob(
	struct fixture *f, enum digest_algo algo, const char *of, uint64_t size)
{
	struct ld_blob_ref b = {.device_size = size};
	uint32_t slot = 0;

	assert_int_equal(digest_of(algo, of, strlen(of), &b.digest), 0);
	assert_int_equal(ld_tree_add_blob(f->t, &b, &slot), 0);
	return slot;
}

static inline struct ld_inode_view look(struct fixture *f, const char *path)
{
	struct ld_inode_view v;

	assert_int_equal(index_find(&f->x, path, &v), 0);
	return v;
}
