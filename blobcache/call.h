/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call: one request to a server until it is answered for good. It follows
 * redirects, authenticates, retries by policy, resumes what broke off; made of
 * transfers of net.h, run on the net thread.
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

/* A server, as its calls share it. */
struct bc_remote {
	struct bc_net *net; /* borrowed */
	char *host;         /* owned: "host[:port]" */
	char *label;        /* owned: for messages, "host/name" */
	/* PROBE (loopback): https first, else http; then it is known. ON_NET */
	enum bc_scheme scheme;
	struct bc_auth *auth;  /* owned; NULL: no credentials are sent */
	struct bc_net_tls tls; /* its strings are owned */
	/* private; ON_NET but for sweep, which anybody starts */
	struct list calls;
	struct bc_net_timer sweep;
	bool is_down;   /* counted by bc_net_count_down */
	bool said_down; /* in the log */
};

/* No fields but net, host, label, scheme, auth and tls are to be set. */
void bc_remote_init(struct bc_remote *r);
/* No call is running. Frees what is owned. BLOCKING. */
void bc_remote_fini(struct bc_remote *r);

/* Where redirects led for one object. Zeroed before use. ON_NET. */
struct bc_target {
	char *url; /* owned; NULL: not known */
	uint64_t gen;
};
void bc_target_fini(struct bc_target *t);

/* Zero it, fill the public part, start it; reusable after done. */
struct bc_call {
	/* request; pointers borrowed until done */
	struct bc_remote *remote;
	struct bc_target *target; /* NULL: redirects are not remembered */
	const char *method;       /* "GET", "HEAD" */
	const char *path;         /* "/v2/..." with its query */
	const char *accept;       /* NULL: no Accept header */
	enum rt_class cls;
	bool has_range; /* [off, off + len) of total bytes into buf */
	uint64_t off, total;
	uint8_t *buf; /* NULL: the answer's headers are enough */
	size_t len;
	struct buf *grow;     /* without range: the body */
	uint32_t patience_ms; /* how long it waits for a server that cannot be
	                         reached; UINT32_MAX: for ever */
	void (*done)(struct bc_call *c); /* ON_NET */

	/*
	 * Answer. 0: 2xx. -ENOENT (404), -EACCES (401, 403), -EHOSTUNREACH
	 * (nobody there), -EIO (retries used up), -EPROTO (HTTP broken, other
	 * statuses), -EKEYREJECTED, -E2BIG, -ENOMEM, -EAGAIN, -ECANCELED; the
	 * sentence is in err. t has status and headers of the last answer.
	 */
	int result;
	struct err err;
	struct bc_transfer t;

	/* private */
	struct list node;
	struct bc_net_timer timer;
	struct bc_auth_waiter waiter;
	atomic_bool is_cancelled, is_promoted;
	unsigned state;
	char *url; /* of the transfer on its way */
	char *auth_header, *accept_header;
	uint64_t auth_gen, target_gen, got, first_failure_ms, sent_ms;
	unsigned attempt, hops;
	bool is_redirected; /* url came from a redirect, now or earlier */
	bool is_away;       /* ... and is another server's */
	bool is_probe, is_http_probe;
	bool was_challenged, was_renewed, was_retargeted;
	bool is_auth_failure; /* err says already why */
	void *wait;           /* bc_call_run's */
};

/* ANY_THREAD. done comes, never before this returns. */
void bc_call_start(struct bc_call *c);
/* Ask for an early end; only while c is running. ANY_THREAD. */
void bc_call_cancel(struct bc_call *c);
/* Somebody waits for it now; only while c is running. ANY_THREAD. */
void bc_call_promote(struct bc_call *c);
/* Start and wait. done is taken. Returns c->result. BLOCKING. */
int bc_call_run(struct bc_call *c);
/* Frees what the answer owns. */
void bc_call_fini(struct bc_call *c);
