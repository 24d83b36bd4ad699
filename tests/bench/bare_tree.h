/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the bare FUSE loop shows: the names and attributes of a real tree, held
 * in memory. The children of a directory lie side by side, sorted.
 */
#pragma once

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>

struct bare_node {
	char *name;
	char *target; /* of a symbolic link; else NULL */
	struct fuse_attr attr;
	uint32_t first, count; /* a directory's children */
};

struct bare_tree {
	struct bare_node *nodes; /* the root first; node id = place + 1 */
	uint32_t count, room;
};

/* Read the tree at path; ends the program when it cannot. */
void bare_tree_load(struct bare_tree *t, const char *path);

/* The node with this id; NULL if there is none. */
struct bare_node *bare_tree_node(struct bare_tree *t, uint64_t id);

/* The child of that name; NULL if there is none. */
struct bare_node *bare_tree_child(
	struct bare_tree *t, struct bare_node *dir, const char *name);

/* Say what failed and end with 1, unless good. */
void bare_need(bool good, const char *what);
