/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where everything of an index goes: made by index_plan.c, written out by
 * index_write.c. ONE_THREAD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/tree.h"
#include "runtime/base/err.h"

/* One inode, in the order of the file: as a walk of the tree meets them. */
struct plan_item {
	struct ld_inode *inode;
	const struct ld_dirent *name; /* its first name; NULL: the root */
	uint64_t off;                 /* in the file */
	uint64_t size;
	uint32_t parent, next;  /* items; next: directories still to do */
	uint32_t first, count;  /* directories: their part of names */
	uint32_t block, blocks; /* outside the inode; block counts from data */
	uint32_t tail_len;      /* inline behind the xattrs */
	uint32_t xattr_len;     /* 0, or head and entries */
	uint32_t chunk_count;
	uint8_t chunk_bits;
	uint8_t layout;
};

struct plan {
	struct ld_tree *tree;
	unsigned block_bits;
	uint32_t block_size;
	struct plan_item *items; /* owned; [0] is the root */
	size_t item_count, item_cap;
	const struct ld_dirent **names; /* owned; sorted in each directory */
	size_t name_count, name_cap;
	struct ld_dirent dot, dotdot; /* stand for "." and ".." in names */
	uint64_t meta_end;            /* behind the last inode */
	uint64_t data_off;            /* of block 0 */
	uint64_t end;
	bool has_xattrs, has_links;
	uint32_t chunk_count; /* of all files so far */
};

/* -E2BIG, -ENOMEM, -EPROTO as ld_index_write. plan_fini in any case. */
int plan_make(
	struct plan *p, struct ld_tree *t, unsigned block_bits, struct err *e);
void plan_fini(struct plan *p);

/* Suffix of a known xattr name; *ret_prefix is enum erofs_xattr_prefix. */
const char *plan_xattr_suffix(const char *name, uint8_t *ret_prefix);
