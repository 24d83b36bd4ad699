/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob as the loader sees it: device offsets to verified bytes.
 *
 * A read is a hit when every chunk it touches is ready: then it is one File
 * read on the cache file, inline if it does not block. Otherwise it joins the
 * flights of the groups that hold the missing chunks; a flight fetches,
 * decodes, verifies, hands out, and stores (blobcache/README.md).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/map.h"
#include "blobcache/source.h"
#include "blobcache/store.h"
#include "blobcache/trace.h"
#include "runtime/op.h"
#include "runtime/runtime.h"

struct bc_blob;
struct bc_blob_read;

struct bc_blob_options {
	struct rt *rt;            /* borrowed; outlives the blob */
	struct bc_store *store;   /* borrowed */
	struct digest digest;     /* the name of the blob */
	struct bc_map map;        /* taken */
	struct bc_source *source; /* taken; NULL: cached bytes only */
};

/* INIT_ONLY. On failure nothing is taken. */
int bc_blob_open(
	const struct bc_blob_options *o, struct bc_blob **ret, struct err *e);
/*
 * Cancels every fetch, also those that are still to come; waits for nothing.
 * Blobs of one runtime are all stopped before the first one is closed: what
 * one has in the channel may wait for a slot, or for memory, that a fetch of
 * another holds for as long as its server is silent. ANY_THREAD.
 */
void bc_blob_stop(struct bc_blob *b);
/*
 * Stops b (reads on their way end with -ECANCELED), waits until
 * every flight has landed and every store has ended, syncs. No read is started
 * any more; the workers still run. NULL is fine. BLOCKING.
 */
void bc_blob_close(struct bc_blob *b);

/* What it was opened with; valid until it is closed. ANY_THREAD. */
const struct bc_map *bc_blob_map(const struct bc_blob *b);

/*
 * One read. Zero it, fill the public part. Bytes outside every chunk, also
 * behind the device's end, are zeros.
 */
struct bc_read {
	struct bc_blob *blob;
	uint64_t off; /* device offset */
	size_t len;
	/*
	 * Borrowed until done; may be volatile memory. NULL: the bytes only
	 * have to be in the cache (prefetch).
	 */
	uint8_t *buf;
	enum rt_class cls;
	void (*done)(struct bc_read *r); /* on the worker that started it */
	int result; /* at done: 0 (all of buf is filled) or -errno */
	/* private */
	struct bc_blob_read *priv;
	uint64_t pos, stop; /* of the device: what is being read now */
	uint64_t end;       /* of what lies on the device */
};

/*
 * Start r on the calling worker. Returns 0 when it was served at once (done is
 * not called), -EINPROGRESS when done will be called, or -errno at once.
 * Errors: -EIO (fetch failed for good), -EBADMSG (verification failed on every
 * try), -ENOMEM, -ETIMEDOUT, -ECANCELED; for prefetch also -EAGAIN (too much
 * waits already, try later). ON_WORKER.
 */
int bc_blob_read(struct bc_read *r);
/* Ask for an early end; done still runs, soon. ON_WORKER, the same. */
void bc_blob_cancel(struct bc_read *r);

/*
 * Tell t of the first demand read of each group; index is b's number there.
 * Before the first read; NULL, after the last one, ends it. -ENOMEM.
 * INIT_ONLY.
 */
int bc_blob_set_trace(struct bc_blob *b, struct bc_trace *t, uint32_t index);

/*
 * Groups that are to be in the cache before anybody asks for them. Zero it,
 * fill the public part.
 */
#define BC_WANT_MAX_GROUPS 1024u

struct bc_want {
	struct bc_blob *blob;
	const uint32_t
		*groups; /* ascending; borrowed until the start returns */
	uint32_t count;  /* at most BC_WANT_MAX_GROUPS */
	void (*done)(struct bc_want *w); /* on the worker that started it */
	/*
	 * At done: 0, or what one of them came to; -EAGAIN: too much waits
	 * already.
	 */
	int result;
	/* private */
	struct blob_want *priv;
};

/*
 * Prefetch what is neither cached nor on its way, in ranges as large as they
 * may be (bc_plan_bulk); done comes when all of it has landed. Groups that only
 * come with the whole blob are passed over. 0: there was nothing to do (done is
 * not called), -EINPROGRESS, -EIO (no source), -ENOMEM. ON_WORKER.
 */
int bc_blob_want(struct bc_want *w);
/*
 * Fetch ahead of demand reads that follow each other, as prefetch. bulk, if not
 * NULL, is called once when b turns out to be read whole, on any worker; at is
 * the group that was read last. Before the first read. -ENOMEM. INIT_ONLY.
 */
int bc_blob_set_ahead(struct bc_blob *b,
	void (*bulk)(void *arg, struct bc_blob *b, uint32_t at), void *arg);
/* Is the group in the cache? ANY_THREAD. */
bool bc_blob_has_group(const struct bc_blob *b, uint32_t group);
/* Would the cache keep what is fetched now? ANY_THREAD. */
bool bc_blob_can_cache(const struct bc_blob *b);
/* Most bytes that its cache may hold; UINT64_MAX: any. ANY_THREAD. */
uint64_t bc_blob_cache_limit(const struct bc_blob *b);

struct bc_blob_stats {
	uint64_t reads, hits, misses, errors, verify_failures;
	uint64_t bytes_total; /* of all chunks */
};

/* ANY_THREAD. */
void bc_blob_stats(const struct bc_blob *b, struct bc_blob_stats *ret);
/* Walks the bitmap. ANY_THREAD. */
uint64_t bc_blob_cached_bytes(const struct bc_blob *b);
/* Every chunk is in the cache; reads nothing of the map. ANY_THREAD. */
bool bc_blob_is_complete(const struct bc_blob *b);
/*
 * The same for some chunks: bit i of wanted (64 to a word) stands for chunk i
 * of the map, NULL for all of them. Bytes of the wanted ones, and of those
 * among them that are cached. ANY_THREAD.
 */
void bc_blob_wanted_bytes(const struct bc_blob *b, const uint64_t *wanted,
	uint64_t *ret_total, uint64_t *ret_cached);
/*
 * Seal its cache file (bc_cachefile_seal: what that promises, and the errors).
 * Reads go on as before. BLOCKING.
 */
int bc_blob_seal(struct bc_blob *b);
/*
 * The file that was sealed, for the kernel: the very one, whatever its name
 * stands for by now. Borrowed, open for reading and writing; -1: it is not
 * sealed. ANY_THREAD.
 */
int bc_blob_sealed_fd(const struct bc_blob *b);
