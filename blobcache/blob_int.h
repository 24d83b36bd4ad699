/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the blob share: blob.c (open, close, figures), blob_read.c
 * (one read), blob_piece.c (where its bytes go), blob_run.c (fetch, hand out),
 * blob_decode.c (decode, verify), blob_store.c (the write to the cache beside
 * it), blob_sync.c (durable bits), blob_room.c (eviction), blob_want.c (what is
 * wanted before it is read).
 *
 * Threads. A read belongs to the worker that started it. A run belongs to the
 * worker that runs its request; its job belongs to a job thread between submit
 * and done. What others touch is under the blob's lock or atomic.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "blobcache/blob.h"
#include "blobcache/budget.h"
#include "blobcache/fill.h"
#include "blobcache/plan.h"
#include "runtime/base/util.h"
#include "runtime/file.h"
#include "runtime/flight.h"
#include "runtime/request.h"

/* Fetch, decode and verify so often before a group has failed. */
#define BLOB_TRIES 3
#define BLOB_STORING_BUCKETS 64
#define BLOB_STORE_IOV 128

/* Bytes that several hold; the last one frees them. */
struct blob_mem {
	atomic_uint refs;
	struct bc_spare *spare; /* where it came from, and goes */
	size_t cap;
	uint8_t data[];
};

/* One reference, the caller's. NULL: out of memory. */
struct blob_mem *blob_mem_create(struct bc_blob *b, size_t len);
void blob_mem_ref(struct blob_mem *m);
/* NULL is fine. ANY_THREAD. */
void blob_mem_unref(struct blob_mem *m);

struct blob_run;

/* One group on its way. */
struct blob_flight {
	struct rt_flight f; /* key: the group's number */
	struct bc_blob *blob;
	struct blob_run *run; /* under the blob's lock; NULL before and after */
	bool is_demand;       /* under the blob's lock: was promoted */
	/*
	 * Taken along by a demand read for its neighbour: what goes wrong with
	 * it alone costs no retry; who joined it starts again.
	 */
	bool is_extra;
	/* set before it lands with 0, read-only from then on */
	struct blob_mem *mem; /* a reference */
	const uint8_t *bytes; /* the group, decoded and verified, inside mem */
	uint32_t len;         /* of bytes */
};

/* A group of a run. */
struct run_group {
	uint32_t group;
	struct bc_group g;          /* as it was when the run was made */
	int status;                 /* of the last try */
	struct blob_flight *flight; /* until it has landed */
	struct blob_mem *mem;       /* a reference; NULL until verified */
	const uint8_t *bytes;
	struct list storing_node; /* under the blob's lock */
};

/* One range of the blob on its way; it carries the flights of its groups. */
struct blob_run {
	struct rt_req req;
	struct rt_job job;
	struct rt_io io;
	struct rt_task task;
	struct bc_fetch fetch;
	struct bc_ticket ticket, place;
	struct bc_blob *blob;
	struct rt_worker *worker; /* its owner, once it runs */
	struct list node;         /* under the blob's lock: all runs */
	atomic_uint refs;         /* the run itself, the channel, promoters */
	/* under the blob's lock */
	enum rt_class cls;
	bool is_submitted, is_fetching, is_cancelled;
	bool is_waited_for; /* counted there */
	/* the owner's */
	uint8_t state;
	bool has_slot; /* came through the channel */
	unsigned tries;
	uint64_t off;
	size_t len;
	uint64_t decoded;
	struct blob_mem *src;
	/* the write to the cache */
	bool is_storing;
	struct iovec *iov; /* owned; BLOB_STORE_IOV of them */
	uint32_t iov_count;
	uint32_t at_group, at_chunk; /* behind what is being written; the chunk
	                                counted within its group */
	uint32_t kept_from;          /* earlier groups are done with */
	uint32_t first_chunk, chunk_count; /* being written, of the map, */
	uint64_t begin, end;               /* and on the device */
	uint64_t stored;

	uint32_t count;
	struct run_group groups[];
};

struct blob_sync {
	struct rt_timer timer;
	struct rt_task task;
	struct rt_job job;
	atomic_bool is_posted;
	atomic_uint_least64_t dirty; /* bytes stored since the last sync */
	/* worker 0's */
	bool is_armed, is_running;
	int result;
};

/* worker 0's, but for is_posted */
struct blob_whole {
	struct rt_task task;
	struct bc_fill fill;
	struct bc_fill_blob self;
	atomic_bool is_posted;
	bool is_running;
};

struct bc_blob {
	struct rt *rt;
	struct bc_store *store;
	struct digest digest;
	struct bc_map map;
	struct bc_source *source; /* owned; NULL: cached bytes only */
	struct bc_cachefile file;
	struct bc_plan_limits limits; /* of a source that is near */
	struct bc_distance distance;  /* under lock */
	struct bc_recent recent;      /* under lock */
	/* what it says; 0: not known */
	atomic_uint_least64_t distance_us, distance_bytes;
	atomic_uint waited_for; /* ranges on their way that a reader needs */
	/* of the store's memory and places, as its budgets count them */
	struct bc_share memory_share, place_share;
	struct rt_flight_table flights;
	struct rt_worker *home; /* worker 0: sync and close */

	/* guards runs, storing, stamps, and what says so above */
	pthread_mutex_t lock;
	struct list runs;
	struct list storing[BLOB_STORING_BUCKETS];
	uint64_t warned_bad_ms, warned_store_ms;
	bool is_closing;

	struct blob_sync sync;
	struct blob_whole whole;
	struct rt_job room; /* whose store is_evicting */
	atomic_uint active; /* the open blob, runs, sync */
	atomic_bool was_used;
	struct rt_task closed;
	struct rt_op *close_op;

	/* set before the first read */
	struct bc_trace *trace; /* borrowed; NULL: nobody wants to know */
	uint32_t trace_index;
	_Atomic uint64_t *touched; /* owned; a bit for each group */
	atomic_uint touches;
	struct blob_ahead *ahead; /* owned; NULL: nothing is fetched ahead */

	atomic_uint_least64_t reads, hits, misses, errors, verify_failures;
};

/* Something more that close waits for. ANY_THREAD. */
void blob_hold(struct bc_blob *b);
/* The blob may be gone when this returns. ANY_THREAD. */
void blob_release(struct bc_blob *b);

/*
 * Fetch the groups of n fresh flights, sorted by group; wanted holds their
 * numbers. The flights are taken: each lands, perhaps before this returns (with
 * -EAGAIN when there is no room for a prefetch). ON_WORKER.
 */
void blob_fetch(struct bc_blob *b, const struct bc_plan_limits *limits,
	struct blob_flight *const *flights, const uint32_t *wanted, uint32_t n,
	enum rt_class cls);
/*
 * A new flight is the caller's. Perhaps its group, whose chunks [first, first +
 * count) somebody wants, landed between the caller's look at the bits and the
 * join: then it is in memory still, or ready by now. True: the flight has
 * landed. distrust: the cache file does not count. ANY_THREAD.
 */
bool blob_flight_is_late(
	struct blob_flight *fl, uint32_t first, uint32_t count, bool distrust);
/* A demand read touches chunks [first, first + count). ANY_THREAD. */
void blob_touch(struct bc_blob *b, uint32_t first, uint32_t count);
/* Room to note what was touched. -ENOMEM. INIT_ONLY. */
int blob_touched_init(struct bc_blob *b);
/*
 * blob_ahead.c. A demand read of this device range begins; perhaps more is
 * fetched. ON_WORKER.
 */
void blob_ahead_read(struct bc_blob *b, uint64_t off, uint64_t end);
/* A demand read has missed. ANY_THREAD. */
void blob_ahead_missed(struct bc_blob *b);
/* A group was touched for the first time. ON_WORKER. */
void blob_ahead_touch(struct bc_blob *b, uint32_t group);
/* Nothing of it is on its way. INIT_ONLY. */
void blob_ahead_fini(struct bc_blob *b);
/*
 * A group that has landed and is being written to the cache: gives its bytes
 * (and a reference to them) to fl. False: not there. ANY_THREAD.
 */
bool blob_storing_get(
	struct bc_blob *b, uint32_t group, struct blob_flight *fl);
/* A demand read has joined fl; takes a reference to it. ANY_THREAD. */
void blob_flight_promote(struct blob_flight *fl);
/* End early whatever is on its way. ANY_THREAD. */
void blob_cancel_runs(struct bc_blob *b);

/*
 * blob_piece.c, all about the piece [r->pos, r->stop) of a read; ON_WORKER.
 * Where device offset off lies in the buffer.
 */
uint8_t *blob_read_at(const struct bc_read *r, uint64_t off);
/* What no chunk covers is zeros, whatever the cache file holds there. */
void blob_read_fill_gaps(const struct bc_read *r);
/* Copy what is wanted of chunks [first, first + count) of fl's group. */
void blob_read_copy(const struct bc_read *r, uint32_t first, uint32_t count,
	const struct blob_flight *fl);
/* The chunks that it touches. */
void blob_read_chunks(
	const struct bc_read *r, uint32_t *ret_first, uint32_t *ret_count);
/*
 * The groups of its *ret_count chunks from first on; where they are too many at
 * once the piece becomes shorter, and *ret_count less.
 */
uint32_t blob_read_limit(
	struct bc_read *r, uint32_t first, uint32_t *ret_count);
/* It was read; true: there is another one, which is set. */
bool blob_read_next_piece(struct bc_read *r);
/* Chunks [first, first + ret) belong to one group, ret <= count. PURE. */
uint32_t blob_same_group(
	const struct bc_map *m, uint32_t first, uint32_t count);

/* Is it one of the group's chunks, inside its decoded bytes? */
static inline bool blob_chunk_is_of(
	const struct bc_chunk *c, const struct run_group *rg)
{
	return c->group == rg->group && c->len > 0 &&
	       range_fits(c->group_off, c->len, rg->g.dec_len);
}

/*
 * Decode and verify a group of run->src: into rg->mem and rg->bytes. 0,
 * -ENOMEM, -EBADMSG (digest), -EPROTO and others (codec), -EIO (the map is
 * lost). In a job.
 */
int blob_decode_group(struct blob_run *run, struct run_group *rg);

/* Write what run has verified to the cache; then blob_run_stored. ON_WORKER. */
void blob_store_start(struct blob_run *run);
void blob_run_stored(struct blob_run *run);
/* rg has been verified: found by others until it is in the cache. ANY_THREAD */
void blob_storing_add(struct bc_blob *b, struct run_group *rg);

/* See that there is room in the cache for more. ANY_THREAD. */
void blob_room_look(struct bc_blob *b);
/* bc_source.whole_begins of b's source. ANY_THREAD, during a fetch of b. */
void blob_whole_begins(struct bc_source *s);

/* bytes were stored: see that they become durable. ANY_THREAD. */
void blob_sync_note(struct bc_blob *b, uint64_t bytes);
/* INIT_ONLY. */
void blob_sync_init(struct bc_blob *b);
