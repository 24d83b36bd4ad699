/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer tree from a tar stream. The device of its blob is the tar itself:
 * a file's data lies on it where it lies in the stream. PURE.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "loader/layer.h"
#include "loader/tar.h"
#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

struct ld_tar_layer {
	struct ld_tree *tree; /* owned until ld_tar_layer_finish */
	struct ld_tar *tar;   /* owned */
	struct buf path, link;
	bool has_slot;
	uint64_t pos; /* bytes fed */
	uint64_t entries, size_uncompressed;
	uint64_t chunks;    /* that sparse files will need in an index */
	struct digest blob; /* who the tree's device slot is */
};

/* blob is the layer's digest. -ENOMEM. t must not move. */
int ld_tar_layer_init(
	struct ld_tar_layer *t, const struct digest *blob, struct err *e);
void ld_tar_layer_fini(struct ld_tar_layer *t);
/* As ld_tar_feed; also what a tree refuses. */
int ld_tar_layer_feed(
	struct ld_tar_layer *t, const uint8_t *p, size_t n, struct err *e);
/*
 * The stream has ended: tree, entries and size go to ret. A layer without data
 * has no device slot. -EPROTO.
 */
int ld_tar_layer_finish(
	struct ld_tar_layer *t, struct ld_layer *ret, struct err *e);
