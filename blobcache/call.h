/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call: one request until it is answered for good. It follows redirects,
 * authenticates, goes from mirror to mirror, retries by policy, resumes what
 * broke off; made of transfers of net.h, run on the net thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blobcache/auth.h"
#include "blobcache/net.h"
#include "runtime/base/err.h"
#include "runtime/base/list.h"

/* How long commands wait for a server that cannot be reached. */
#define BC_COLD_PATIENCE_MS 1000

enum bc_scheme { BC_SCHEME_HTTPS, BC_SCHEME_HTTP, BC_SCHEME_PROBE };

/* One server, as its calls share it. Strings are owned. */
struct bc_remote {
	char *host;   /* "host[:port]" */
	char *prefix; /* before the path of a call: "/v2/NAME"; NULL: none */
	char *query;  /* behind it: "ns=docker.io"; NULL: none */
	/* PROBE: https first, else http; then it is known. ON_NET */
	enum bc_scheme scheme;
	bool is_mirror;
	bool digests_only;     /* not asked for tags */
	struct bc_auth *auth;  /* owned; NULL: no credentials are sent */
	struct bc_net_tls tls; /* its strings are owned */
	/* private; ON_NET. A mirror that fails is left alone for a while. */
	unsigned failures; /* in a row */
	uint64_t left_until_ms;
};

#define BC_MAX_REMOTES 16

/*
 * The servers that have the same things, in the order in which they are asked.
 * The last one is where they come from; all others are mirrors.
 */
struct bc_route {
	struct bc_net *net; /* borrowed */
	char *label;        /* owned: for messages, "host/name" */
	struct bc_remote remotes[BC_MAX_REMOTES];
	unsigned count;
	/* private; ON_NET but for sweep, which anybody starts */
	struct list calls;
	struct bc_net_timer sweep;
	bool is_down;   /* counted by bc_net_count_down */
	bool said_down; /* in the log */
};

/* For a zeroed r. */
void bc_route_init(struct bc_route *r, struct bc_net *net);
/* No call is running. Frees what is owned. BLOCKING. */
void bc_route_fini(struct bc_route *r);

/* What is known of one object at one server. Zeroed before use. ON_NET. */
struct bc_target {
	char *url; /* owned; where redirects led; NULL: not known */
	uint64_t gen;
	uint64_t missing_until_ms; /* a mirror does not have it */
	/* Who asks the server anew where it leads; others wait for him. */
	struct bc_call *resolver;
};
/* One for each server of a route. */
struct bc_targets {
	struct bc_target at[BC_MAX_REMOTES];
};
void bc_targets_fini(struct bc_targets *t);

/* Zero it, fill the public part, start it; reusable after done. */
struct bc_call {
	/* request; pointers borrowed until done */
	struct bc_route *route;
	struct bc_targets *targets; /* NULL: redirects are not remembered */
	const char *method;         /* "GET", "HEAD" */
	const char *path;   /* behind the server's prefix, with its query */
	const char *accept; /* NULL: no Accept header */
	bool is_tag;        /* mirrors for digests only are not asked */
	/*
	 * Bit n: the n-th server has sent wrong bytes for this; it is asked
	 * after all others. at, after the call, is the one that answered.
	 */
	uint32_t distrusted;
	enum rt_class cls;
	bool has_range; /* [off, off + len) of total bytes into buf */
	/* A server that ignores ranges ends it with -EOPNOTSUPP. */
	bool ranges_only;
	uint64_t off, total;
	uint8_t *buf; /* NULL: the answer's headers are enough */
	size_t len;
	struct buf *grow; /* without range: the body */
	/*
	 * Without range: the body, n bytes at off. It begins at 0 again after
	 * each failure. Else than 0 ends the call. ON_NET
	 */
	int (*take)(struct bc_call *c, uint64_t off, const void *p, size_t n);
	uint32_t patience_ms; /* how long it waits for a server that cannot be
	                         reached; UINT32_MAX: for ever */
	void (*done)(struct bc_call *c); /* ON_NET */

	/*
	 * Answer. 0: 2xx. -ENOENT (404), -EACCES (401, 403), -EHOSTUNREACH
	 * (nobody there), -EIO (retries used up), -EPROTO (HTTP broken, other
	 * statuses), -EKEYREJECTED, -EOPNOTSUPP, -E2BIG, -ENOMEM, -EAGAIN,
	 * -ECANCELED; the
	 * sentence is in err. t has status and headers of the last answer.
	 */
	int result;
	struct err err;
	struct bc_transfer t;

	/* private */
	struct list node; /* of the route's calls */
	struct bc_net_timer timer;
	struct bc_auth_waiter waiter;
	struct bc_remote *remote; /* of the route: the at-th */
	unsigned at;
	uint32_t tried;        /* bit n: failed in this round */
	unsigned last_verdict; /* of the last server of the route ... */
	struct err last_err;   /* ... and its sentence; code 0: none yet */
	atomic_bool is_cancelled, is_promoted;
	unsigned state;
	char *url; /* of the transfer on its way */
	char *auth_header, *accept_header;
	uint64_t auth_gen, target_gen, got, first_failure_ms, sent_ms;
	unsigned attempt, hops;
	unsigned pair, pairs_tried; /* of the server's client certificates */
	bool is_redirected; /* url came from a redirect, now or earlier */
	bool is_away;       /* ... and is another server's */
	bool is_probe, is_http_probe;
	bool was_challenged, was_renewed, was_retargeted;
	bool had_turn; /* waits for no other's way to the target any more */
	bool is_said;  /* err says already why */
	void *wait;    /* bc_call_run's */
};

/* ANY_THREAD. done comes, never before this returns. */
void bc_call_start(struct bc_call *c);
/* Ask for an early end; only while c is running. ANY_THREAD. */
void bc_call_cancel(struct bc_call *c);
/* Somebody waits for it now; only while c is running. ANY_THREAD. */
void bc_call_promote(struct bc_call *c);
/* Start and wait. done is taken. Returns c->result. BLOCKING. */
int bc_call_run(struct bc_call *c);
/* The same with n of them at once; each has its result. BLOCKING. */
void bc_call_run_all(struct bc_call *c, unsigned n);
/* Frees what the answer owns. */
void bc_call_fini(struct bc_call *c);
