/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching ahead of everybody: a queue of wanted groups, in the order of the
 * wish, brought into the cache by a few large ranges at a time.
 *
 * It lives on worker 0 and asks through bc_blob_want, so demand goes first at
 * every stage. It stops by itself when the cache takes nothing any more, when
 * it has brought half of what the cache may hold, or when fetch after fetch
 * fails.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/blob.h"
#include "runtime/runtime.h"

struct bc_prefetch;

/* Groups [group, group + count) of a blob; all of them exist. */
struct bc_prefetch_item {
	struct bc_blob *blob;
	uint32_t group, count;
};

struct bc_prefetch_stats {
	uint64_t bytes;   /* of the blobs, asked for so far */
	uint64_t decoded; /* what they hold */
	uint64_t ranges;  /* in which they were asked for */
	uint64_t waits;   /* times that the rate held it up */
	bool is_idle;     /* nothing queues, nothing is on its way */
	bool was_stopped; /* for good: no room, or too many failures */
};

struct bc_prefetch_options {
	struct rt *rt; /* borrowed */
	uint64_t rate; /* bytes of the blobs per second; 0: no limit */
	/*
	 * Once, on worker 0, when the queue has run dry or has stopped for
	 * good; not after bc_prefetch_destroy was called. NULL: nobody.
	 */
	void (*dry)(void *arg);
	void *arg;
};

/* -ENOMEM. INIT_ONLY. */
int bc_prefetch_create(
	const struct bc_prefetch_options *o, struct bc_prefetch **ret);
/*
 * Queue items behind what queues already; copied. Blobs must stay open until
 * bc_prefetch_destroy. -ENOMEM. ANY_THREAD.
 */
int bc_prefetch_add(struct bc_prefetch *p, const struct bc_prefetch_item *items,
	size_t count);
/*
 * Forget what queues, wait for what is on its way: its blobs should have been
 * told to stop (bc_blob_stop). NULL is fine. BLOCKING, not on a worker.
 */
void bc_prefetch_destroy(struct bc_prefetch *p);
/* A consistent enough copy. ANY_THREAD. */
void bc_prefetch_stats(
	const struct bc_prefetch *p, struct bc_prefetch_stats *ret);
