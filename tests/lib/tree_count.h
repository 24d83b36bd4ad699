/* SPDX-License-Identifier: Apache-2.0 */
/* How many inodes a tree shows. */
#pragma once

#include <sys/stat.h>

#include "loader/tree_int.h"

static inline uint64_t count_below(
	const struct ld_tree *t, const struct ld_inode *dir)
{
	uint64_t n = 0;

	for (const struct ld_dirent *d = dir->children; d; d = d->next) {
		if (d->removed || d->inode->mark == t->mark)
			continue;
		d->inode->mark = t->mark;
		n++;
		if (S_ISDIR(d->inode->attr.mode))
			n += count_below(t, d->inode);
	}
	return n;
}

/* Distinct ones that can be reached, the root included. */
static inline uint64_t count_inodes(struct ld_tree *t)
{
	t->mark++;
	return 1 + count_below(t, t->root);
}
