/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging layer indexes into one tree, as overlayfs would show them.
 *
 * Rules (the design's): opaque directories first; whiteouts hit lower layers
 * only; a directory replaces a lower symlink or file; a hard link inside a
 * layer is one inode; link counts are those after merging; implied parents
 * leave an existing lower directory as it is; trusted.overlay.* and
 * user.overlay.* xattrs are dropped. Device slots: distinct blobs in layer
 * order.
 *
 * A hard link that its layer could not resolve (LD_XATTR_LINK in tree.h) is
 * looked up in the tree merged from the layers below, before this layer's own
 * changes: found, it becomes another name of that inode; absent, or a
 * directory, it is -EPROTO and the sentence names both paths. ONE_THREAD.
 */
#pragma once

#include <stddef.h>

#include "loader/index.h"
#include "loader/tree.h"
#include "runtime/base/err.h"

/*
 * layers[0] is the lowest; out is a new tree. Every directory walk is bounded
 * (LD_MAX_DEPTH, LD_MAX_ENTRIES, the index' own length); a directory with two
 * names is -EPROTO, and so is a cycle. -EPROTO, -E2BIG, -ENOMEM; out is then
 * good for nothing but ld_tree_destroy.
 */
int ld_merge(const struct ld_index *const *layers, size_t count,
	struct ld_tree *out, struct err *e);
