/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The net thread: one curl multi handle, all HTTP of the process.
 *
 * One transfer is one request and one answer: no redirect is followed, nothing
 * is retried, no credential is added here (registry.c and http_source.c do
 * that). Bodies go into memory that exists before the transfer starts; nothing
 * is ever paused. The thread and libcurl start with the first transfer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"
#include "runtime/base/err.h"
#include "runtime/base/list.h"
#include "runtime/op.h"

struct bc_net;

struct bc_net_options {
	unsigned max_connections;      /* in all; 0: 32 */
	unsigned max_host_connections; /* 0: 8 */
	unsigned max_transfers;        /* at once; prefetch gets half; 0: 64 */
	const char *user_agent;        /* NULL: "sluice" */
};

/* Starts nothing. INIT_ONLY. */
int bc_net_create(
	const struct bc_net_options *o, struct bc_net **ret, struct err *e);
/* Cancels what runs, ends the thread. NULL is fine. INIT_ONLY. */
void bc_net_destroy(struct bc_net *n);

/* TLS and address choices of one host; shared by its transfers, borrowed. */
struct bc_net_tls {
	const char *ca_file;   /* NULL: the system's */
	const char *cert_file; /* client certificate, NULL: none */
	const char *key_file;
	bool insecure; /* do not verify */
};

#define BC_NET_MAX_HEADERS 8

struct bc_transfer {
	/* request; all pointers borrowed until done */
	const char *method; /* "GET", "HEAD", "POST" */
	const char *url;
	const char *headers[BC_NET_MAX_HEADERS]; /* "Name: value" */
	unsigned header_count;
	const char *body; /* POST; NUL-terminated */
	const struct bc_net_tls *tls;
	enum rt_class cls;
	bool has_range;
	uint64_t range_off, range_len;
	uint32_t connect_timeout_ms; /* 0: 10 s */
	uint32_t stall_timeout_ms;   /* no byte for so long; 0: 30 s */

	/* where the body of a 2xx answer goes: one of the two */
	uint8_t *buf; /* has buf_len bytes; more body is an error */
	size_t buf_len;
	struct buf *grow; /* up to its max; bodies of errors go here too */
	/* ON_NET; called with growing counts while the body comes; or NULL */
	void (*progress)(struct bc_transfer *t, uint64_t body_len);

	void (*done)(struct bc_transfer *t); /* ON_NET; may start others */

	/* answer */
	int result;  /* 0: an answer came (any status); else -errno */
	long status; /* HTTP status */
	uint64_t body_len;
	char *location; /* owned by the transfer; NULL: not there */
	char *content_type;
	char *digest;            /* Docker-Content-Digest */
	char *www_authenticate;  /* several joined with ", " */
	uint64_t retry_after_ms; /* 0: not said */
	bool has_content_range;
	uint64_t cr_first, cr_last, cr_total; /* cr_total 0: "*" */
	char error[256]; /* libcurl's words, when result != 0 */

	/* private */
	struct list node;
	void *priv;
	unsigned state;
};

/* Queue t; done runs on the net thread. ANY_THREAD. */
void bc_net_start(struct bc_net *n, struct bc_transfer *t);
/* Ask for an early end (-ECANCELED); done still runs once. ANY_THREAD. */
void bc_net_cancel(struct bc_net *n, struct bc_transfer *t);
/* Goes before prefetch from now on. ANY_THREAD. */
void bc_net_promote(struct bc_net *n, struct bc_transfer *t);
/* Start and wait; done must be NULL. Returns t->result. BLOCKING. */
int bc_net_run(struct bc_net *n, struct bc_transfer *t);
/* Frees what the answer owns; the request part stays. */
void bc_transfer_fini(struct bc_transfer *t);

/* Run t's fire on the net thread after ms: for retries. */
struct bc_net_timer {
	void (*fire)(struct bc_net_timer *t); /* ON_NET */
	uint64_t due_ms;
	struct list node;
};
/* ANY_THREAD. */
void bc_net_timer_start(struct bc_net *n, struct bc_net_timer *t, uint64_t ms);
/* ON_NET. Fine when it is not armed. */
void bc_net_timer_stop(struct bc_net *n, struct bc_net_timer *t);

struct bc_net_stats {
	uint64_t requests, body_bytes, retries;
	bool offline; /* the last attempts all failed to reach their server */
};
/* ANY_THREAD. */
void bc_net_stats(struct bc_net *n, struct bc_net_stats *ret);
