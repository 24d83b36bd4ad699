/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer that nobody has described: read once, whole, and known for good.
 *
 *   source -> ranges ahead -> digest of the blob
 *                          -> unpack, places of entry -> DiffID
 *                                                     -> chunk digests
 *                                                     -> tmp/ file
 *                                                     -> tar -> tree
 *
 * Only when the blob's digest and the DiffID are right does anything come of
 * it: a tree, a map, and the tar as it lies on the map's device.
 */
#pragma once

#include "blobcache/source.h"
#include "blobcache/store.h"
#include "loader/layer.h"
#include "loader/progress.h"
#include "runtime/base/err.h"
#include "runtime/runtime.h"

struct ld_layer_stream_options {
	struct rt *rt;
	struct bc_store *store;
	struct bc_source *source;
	const struct ld_layer_desc *desc; /* its size is that of the source */
	struct ld_progress *progress;     /* NULL: nobody looks */
};

/*
 * How it is packed is told by its first bytes, not by its media type: so all
 * that comes of it is a function of bytes whose digest was verified.
 * ERR_BROKEN (a digest, the packing, the tar), ERR_UNSUPPORTED (named), or what
 * the source says; the sentence names the layer. BLOCKING.
 */
int ld_layer_stream(const struct ld_layer_stream_options *o,
	struct ld_layer *ret, struct err *e);
