/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images that a cache directory knows: their records, the names that they
 * were asked for by, and what of their blobs is there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/inventory.h"
#include "blobcache/store.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

struct ld_image;
struct ld_ref;

struct ld_cached_image {
	struct digest digest, index;
	char *platform; /* owned; NULL for bundles */
	char *name;     /* owned; the last one it was asked for by */
	char *names; /* owned; all of them, a line each, the last one first */
	struct digest *blobs, *map_ids; /* owned; blob_count of each */
	size_t blob_count;
	struct digest *layers; /* owned; as the manifest has them */
	size_t layer_count;
	uint64_t bytes;                /* of the disk, data of its blobs */
	uint32_t chunks, ready;        /* of all its blobs */
	uint32_t last_used;            /* seconds since 1970 */
	bool is_pinned, has_no_chunks; /* the last: not all blobs are there */
	bool is_forgotten;             /* set by who called ld_cached_forget */
};

struct ld_cached {
	struct ld_cached_image *images; /* owned */
	size_t count, cap;
	struct bc_inventory files;
};

/* What cannot be read as a record is left out. -ENOMEM, -errno. BLOCKING. */
int ld_cached_take(struct bc_store *s, struct ld_cached *ret, struct err *e);
void ld_cached_fini(struct ld_cached *c);
/* Does an image of the list that is not forgotten need the blob or layer d? */
bool ld_cached_needs(const struct ld_cached *c, const struct digest *d);
/*
 * Is i what a user calls name? By name as it was mounted, by the manifest's
 * digest alone ("sha256:..."), or by a name with that digest.
 */
bool ld_cached_is(const struct ld_cached_image *i, const char *name);

typedef int ld_cached_fn(struct bc_store *s, const struct ld_cached *c,
	const struct ld_cached_image *i, void *arg, struct err *e);
/*
 * Call fn for each image of the cache that is what a user calls name, until one
 * fails. 1: there were some; 0: there are none; or the first error. BLOCKING.
 */
int ld_cached_each(struct bc_store *s, const char *name, ld_cached_fn *fn,
	void *arg, struct err *e);

/*
 * Note that the image was asked for by that name; a failure loses a line of
 * `cache ls`. BLOCKING.
 */
void ld_cached_note(struct bc_store *s, const struct ld_image *i);

/* The image's blobs are never evicted from now on, or again. BLOCKING. */
int ld_cached_pin(struct bc_store *s, const struct ld_cached_image *i,
	bool is_pinned, struct err *e);
/*
 * Forget the image's record; its blobs and layers stay for ld_cached_sweep.
 * BLOCKING.
 */
int ld_cached_forget(
	struct bc_store *s, const struct ld_cached_image *i, struct err *e);
/* Does its index have the digest that the record names? BLOCKING. */
bool ld_cached_index_is_right(
	struct bc_store *s, const struct ld_cached_image *i);
/*
 * Remove layers, maps and bytes that none of c's images needs: what those that
 * were forgotten had at once, other things if nobody has touched them since
 * `before` (seconds since 1970), for a mount may be making its image of them.
 * BLOCKING.
 */
int ld_cached_sweep(struct bc_store *s, const struct ld_cached *c,
	uint32_t before, uint64_t *ret_freed, struct err *e);
