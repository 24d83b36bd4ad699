/* SPDX-License-Identifier: Apache-2.0 */
/* What `check` and `cache verify` share: reading back, and saying what is bad.
 */
#pragma once

#include <stdint.h>

#include "loader/cached.h"
#include "runtime/base/err.h"

struct ld_verified {
	uint64_t bytes, bad_bytes;
	uint32_t files, bad_chunks, torn, bad_indexes;
};

/* One cache file; says on stdout what is wrong. 0 or -errno. BLOCKING. */
int ld_verify_file(struct bc_store *s, const struct bc_inventory_blob *b,
	struct ld_verified *v, struct err *e);
/* The index of an image; one that is wrong is forgotten. The same. */
int ld_verify_index(struct bc_store *s, const struct ld_cached_image *i,
	struct ld_verified *v, struct err *e);
/* All of an image: its index and what there is of its blobs. The same. */
int ld_verify_image(struct bc_store *s, const struct ld_cached *c,
	const struct ld_cached_image *i, struct ld_verified *v, struct err *e);
/* 0 and a line on stdout, or -EBADMSG with the sentence. */
int ld_verify_end(const struct ld_verified *v, struct err *e);
