/* SPDX-License-Identifier: Apache-2.0 */
/* What holds of every layer that a TOC parser has accepted. */
#pragma once

#include <stdlib.h>

#include "blobcache/map.h"
#include "loader/layer.h"
#include "runtime/base/util.h"

/* Ends the program if not. Takes what l owns. */
static inline void toc_check(struct ld_layer *l)
{
	struct ld_blob_ref *blob = ld_tree_blob(l->tree, 0);
	struct bc_map m = {0};
	struct err e;

	if (ld_tree_blob_count(l->tree) > 1 ||
		bc_map_from_bytes(l->map.data, l->map.len, &m, &e) ||
		m.device_size != (blob ? blob->device_size : 0) ||
		!blob != !m.chunk_count)
		abort();
	buf_init(&l->map, 0);
	bc_map_close(&m);
	ld_layer_fini(l);
}
