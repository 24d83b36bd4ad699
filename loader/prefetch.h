/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mount fetches before anybody asks, and what it learns for the next
 * one: the order of first reads is recorded in the cache, beside the image, and
 * replayed by later mounts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blobcache/store.h"
#include "loader/image.h"
#include "runtime/base/err.h"
#include "runtime/runtime.h"

enum ld_prefetch_what {
	LD_PREFETCH_RECORDED, /* the image's record, else its own list */
	LD_PREFETCH_NONE,
	LD_PREFETCH_LIST, /* landmarks, prefetch table */
	LD_PREFETCH_ALL,  /* as RECORDED, then everything else */
};

struct ld_prefetch_options {
	struct rt *rt;          /* borrowed, as all here; started */
	struct bc_store *store; /* of the image */
	struct ld_image *image; /* prepared, nothing was read of it yet */
	enum ld_prefetch_what what;
	const char *from;   /* RECORDED: a file instead of the image's record */
	const char *record; /* write this run's order there, too; NULL: no */
	uint64_t rate;      /* bytes of the blobs per second; 0: no limit */
};

struct ld_prefetch;

/*
 * Start to fetch, and to record. Errors of the two files of the options, and
 * -ENOMEM. BLOCKING, not on a worker.
 */
int ld_prefetch_start(const struct ld_prefetch_options *o,
	struct ld_prefetch **ret, struct err *e);
/*
 * Write what was learned, end what is on its way; stops the image's blobs
 * (bc_blob_stop), which stay open. NULL is fine. BLOCKING, not on a worker.
 */
void ld_prefetch_stop(struct ld_prefetch *p);
