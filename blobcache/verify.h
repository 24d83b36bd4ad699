/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a cache file hold what its bits say? Every ready chunk is read back and
 * compared with its digest.
 */
#pragma once

#include <stdint.h>

#include "blobcache/inventory.h"
#include "blobcache/store.h"
#include "runtime/base/err.h"

struct bc_verified {
	uint64_t bytes;     /* of chunks that are right */
	uint64_t bad_bytes; /* of those that are not */
	uint32_t bad_chunks;
	bool is_torn; /* the files do not fit each other, or the map is broken
	               */
};

/*
 * Chunks that are wrong, or cannot be read, are no longer ready afterwards, so
 * that they are fetched again. What is evicted or vanishes meanwhile is passed
 * over. 0 also when something was wrong; -ENOMEM or -errno. BLOCKING.
 */
int bc_store_verify(struct bc_store *s, const struct bc_inventory_blob *b,
	struct bc_verified *ret, struct err *e);
