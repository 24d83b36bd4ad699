/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cache directory holds: its cache files, how much of each, when it was
 * last used, what is pinned. Looks only; other processes go on meanwhile, so
 * everything here is true of some moment not long ago.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/readybits.h"
#include "blobcache/store.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

/* One cache file: blobs/<algo>/<hex>/<map id>/. */
struct bc_inventory_blob {
	char *dir; /* owned; below the cache directory */
	struct digest blob, map_id;
	uint64_t bytes; /* that data takes on the disk */
	uint32_t chunk_count, ready_count;
	uint32_t last_used; /* seconds since 1970; 0: not known */
	bool is_sealed;
	bool is_torn; /* has no ready file that fits: worth nothing */
};

struct bc_inventory {
	struct bc_inventory_blob *blobs; /* owned */
	size_t count, cap;
};

/* 0, -ENOMEM or -errno. On failure *ret is empty. BLOCKING. */
int bc_inventory_take(
	struct bc_store *s, struct bc_inventory *ret, struct err *e);
/* A copy of b. 0 or -ENOMEM. */
int bc_inventory_add(struct bc_inventory *i, const struct bc_inventory_blob *b);
void bc_inventory_fini(struct bc_inventory *i);

/*
 * Calls each for every cache file with its bits (NULL: torn), a copy that is
 * gone when it returns; ends when it is negative. What vanishes meanwhile is
 * left out. 0, -errno or each's. BLOCKING.
 */
int bc_inventory_walk(struct bc_store *s,
	int (*each)(void *arg, const struct bc_inventory_blob *b,
		const struct bc_ready *bits),
	void *arg);

/*
 * Calls each for every digest that has a directory <top>/<algo>/<hex>; ends
 * when it is negative. 0, -errno or each's. BLOCKING.
 */
int bc_inventory_digests(struct bc_store *s, const char *top,
	int (*each)(void *arg, const struct digest *d), void *arg);

/* Bytes on the disk of everything in the cache directory. BLOCKING. */
int bc_store_usage(struct bc_store *s, uint64_t *ret, struct err *e);
/* The same for what is below top, a directory in it. BLOCKING. */
int bc_store_usage_of(
	struct bc_store *s, const char *top, uint64_t *ret, struct err *e);

/* ---- pins ---- */

/*
 * Whoever pins writes a file "pin" beside an image's record, images/<algo>/
 * <hex>/pin, with the digests of its blobs, one on each line. Here: every blob
 * that some pin names.
 */
struct bc_pins {
	struct digest *blobs; /* owned */
	size_t count, cap;
};

/* 0 or -ENOMEM: a pin that cannot be read is an error, not no pin. BLOCKING. */
int bc_pins_load(struct bc_store *s, struct bc_pins *ret, struct err *e);
void bc_pins_fini(struct bc_pins *p);
bool bc_pins_have(const struct bc_pins *p, const struct digest *blob);
