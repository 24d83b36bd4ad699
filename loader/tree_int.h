/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a tree, for its own files and the index writer. ONE_THREAD. */
#pragma once

#include "loader/tree.h"

struct tree_arena;

struct ld_tree {
	struct tree_arena *arena; /* owned; the newest block first */
	struct ld_inode *root;
	struct ld_dirent **buckets; /* owned; by (directory, name) */
	size_t bucket_count;        /* a power of two */
	uint64_t name_count;        /* in the buckets */
	/* Ever: what was replaced or removed stays in the arena. */
	uint64_t names_made, inodes_made;
	uint64_t seed[2];
	uint32_t mark;             /* of the newest walk */
	struct ld_blob_ref *blobs; /* owned */
	size_t blob_count, blob_cap;
};

/* Memory that lives as long as the tree; align a power of two <= 16. */
void *ld_tree_alloc(struct ld_tree *t, size_t n, size_t align);
/* n bytes and a NUL. */
char *ld_tree_copy_text(struct ld_tree *t, const char *s, size_t n);
/* New attributes for a directory. -EPROTO: not a directory's. */
int ld_tree_describe(
	struct ld_inode *dir, const struct ld_attr *a, struct err *e);
/* *dir becomes its directory name, made as an implied one if need be. */
int ld_tree_enter(struct ld_tree *t, struct ld_inode **dir, const char *name,
	size_t len, struct err *e);
/*
 * What has one name and is no directory becomes something else that is none.
 * For who knows that nobody else points to it; a is valid.
 */
void ld_inode_reset(struct ld_inode *i, const struct ld_attr *a);
