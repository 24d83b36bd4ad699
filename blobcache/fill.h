/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completing blobs: what is missing goes into the cache, in device order, in
 * large ranges, several at a time. For `fetch`, for prefetching everything, and
 * for whoever wants a blob whole.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/blob.h"
#include "blobcache/pace.h"
#include "runtime/op.h"
#include "runtime/runtime.h"

#define BC_FILL_READS 8 /* ranges on their way at once, at most */

struct bc_fill_blob {
	struct bc_blob *blob;   /* borrowed */
	const uint64_t *wanted; /* as in bc_blob_wanted_bytes; borrowed */
};

struct bc_fill;

/* One range on its way; private. */
struct bc_fill_read {
	struct bc_read r;
	struct bc_fill *fill;
	uint64_t missing; /* bytes of the chunks that it is for */
	uint8_t state;
};

/* Zero it, fill the public part; it must not move until done. */
struct bc_fill {
	struct rt *rt;                    /* borrowed */
	const struct bc_fill_blob *blobs; /* borrowed until done; one store's */
	size_t blob_count;
	enum rt_class cls;
	uint64_t rate;  /* bytes of the blobs per second; 0: no limit */
	unsigned reads; /* at once; 0: BC_FILL_READS */
	/*
	 * Nobody has asked for it: at most half of what the cache may hold,
	 * together with what is in brought at the start. Then -ENOSPC.
	 */
	bool is_ahead;
	uint64_t brought; /* bytes of chunks that were fetched */
	/* After each range, on the worker. May be NULL. */
	void (*progress)(struct bc_fill *f);
	void (*done)(struct bc_fill *f); /* on the worker that started it */
	/*
	 * At done. 0: all that is wanted is in the cache. -ENOSPC: it came, but
	 * the cache did not keep it, or could not; -ECANCELED; else what the
	 * first range that failed came to (bc_blob_read): the others were
	 * fetched all the same, unless too many failed.
	 */
	int result;
	/* For whoever watches, from any thread. */
	atomic_uint_least64_t bytes_total, bytes_ready; /* of wanted chunks */
	/* private, the worker's */
	struct rt_worker *worker;
	struct rt_op *op; /* of bc_fill_run */
	struct rt_timer timer;
	size_t at_blob; /* the cursor */
	uint32_t at_chunk;
	struct bc_pace pace;
	uint64_t full_ms; /* since when the cache has been full; 0: it is not */
	uint64_t settle_ms; /* when the last range had ended; 0: not yet */
	unsigned active, failures;
	bool is_stopping;
	struct bc_fill_read slots[BC_FILL_READS];
};

/* done runs once, never before this returns. ON_WORKER. */
void bc_fill_start(struct bc_fill *f);
/* Ask for an early end; done still runs, soon. ON_WORKER, the same. */
void bc_fill_cancel(struct bc_fill *f);
/* Start on worker 0 and wait; returns f->result. done is not used. BLOCKING. */
int bc_fill_run(struct bc_fill *f);
