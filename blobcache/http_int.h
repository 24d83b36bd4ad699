/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of HTTP sources: http_source.c (ranges), http_whole.c (objects of
 * servers without ranges).
 */
#pragma once

#include <pthread.h>

#include "blobcache/http_source.h"
#include "blobcache/store.h"

/* A fetch on its way; hangs on its priv. */
struct http_fetch {
	struct bc_call call;
	struct bc_fetch *fetch;
	struct http_source *source;
	struct list node;      /* of whole.waiting */
	bool is_waiting;       /* under the source's lock: in that list */
	bool is_calling;       /* the same: call runs */
	struct bc_fetch inner; /* from the spool */
};

/*
 * An object that can only be had whole: one stream writes it to a spool file,
 * fetches wait until it has passed them. Under the source's lock, but for what
 * only the stream's callbacks use.
 */
struct http_whole {
	bool is_on;       /* ranges are ignored: all fetches come here */
	bool is_running;  /* call is a stream */
	bool has_failed;  /* no room for a spool: fetches go on alone */
	bool is_unwanted; /* the spool goes when nobody reads it */
	unsigned restarts, reading;
	struct list waiting;
	struct bc_spool spool;
	struct bc_source *file; /* reads the spool; NULL: there is none */
	uint64_t have;          /* bytes of the beginning that it has */
	uint32_t via;           /* who sent them, as bc_fetch.via */
	struct bc_call call;
	pthread_cond_t ended; /* is_running has become false */
};

struct http_source {
	struct bc_source src;
	struct bc_route *route;    /* borrowed, or own */
	struct bc_route *own;      /* owned; NULL: not used */
	char *path;                /* owned */
	struct bc_targets targets; /* ON_NET */
	uint32_t offline_ms;
	uint64_t warned_ms; /* ON_NET */
	/* Guards priv of every fetch: others promote what may just end. */
	pthread_mutex_t lock;
	uint32_t served, distrusted; /* under it; bits as in bc_fetch.via */
	struct http_whole whole;
};

/* ---- http_source.c ---- */

/* f ends with result, at home. ANY_THREAD. */
void http_fetch_end(struct bc_fetch *f, int result);
/* Ask for hf's range, in whatever way the server gives it; the lock is held. */
void http_fetch_call(struct http_fetch *hf, bool ranges_only);
/* The codes that a source promises; says why in the log now and then. ON_NET */
int http_fetch_code(struct http_source *s, const struct bc_call *c);

/* ---- http_whole.c ---- */

/* What has come is of no use. No fetch is on its way; the lock is held. */
void http_whole_reset(struct http_source *s);
/* Of a zeroed s. */
void http_whole_init(struct http_source *s);
/* Ends a stream on its way. BLOCKING. */
void http_whole_fini(struct http_source *s);
/* The server of hf ignores ranges. Nothing of hf is on its way. ANY_THREAD. */
void http_whole_join(struct http_fetch *hf);
