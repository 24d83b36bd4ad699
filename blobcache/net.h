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
	unsigned max_connections;      /* in all; 0: 64 */
	unsigned max_host_connections; /* 0: 8 */
	unsigned max_transfers;        /* at once; prefetch gets half; 0: 64 */
	const char *user_agent;        /* NULL: "sluice" */
};

/* Starts nothing. INIT_ONLY. */
int bc_net_create(
	const struct bc_net_options *o, struct bc_net **ret, struct err *e);
/* Cancels what runs, ends the thread. NULL is fine. INIT_ONLY. */
void bc_net_destroy(struct bc_net *n);

/* Start the thread now. 0 or -EAGAIN. ANY_THREAD. */
int bc_net_ensure(struct bc_net *n);

/* Client certificates of one host, of which one is shown at a time. */
struct bc_net_pairs {
	unsigned count;  /* not 0 */
	unsigned now;    /* the one that is shown. ON_NET */
	bool is_settled; /* the server has taken it. ON_NET */
	struct {
		char *cert_file, *key_file; /* owned */
	} at[];
};

/* TLS and address choices of one host; shared by its transfers, borrowed. */
struct bc_net_tls {
	const char *ca_pem;         /* PEM certificates; NULL: the system's */
	struct bc_net_pairs *pairs; /* NULL: no client certificates */
	bool insecure;              /* do not verify */
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
	uint64_t range_total; /* size of the whole object; 0: not known */
	/*
	 * A server that ignores ranges sends the object whole (200). False:
	 * that ends the transfer early with -EPROTO and range_ignored, unless
	 * the range was the whole object. True: what lies before the range is
	 * dropped and the transfer ends behind it.
	 */
	bool accept_whole;
	uint32_t connect_timeout_ms; /* 0: 10 s */
	uint32_t stall_timeout_ms;   /* no byte for so long; 0: 30 s */

	/* where the body of a 2xx answer goes: one of the three */
	/* ON_NET; n more bytes, body_len are there. 0, else it ends with that.
	 */
	int (*take)(struct bc_transfer *t, const void *p, size_t n);
	uint8_t *buf; /* has buf_len bytes; more body is an error */
	size_t buf_len;
	struct buf *grow; /* up to its max; bodies of errors go here too */
	/* ON_NET; called with growing counts while the body comes; or NULL */
	void (*progress)(struct bc_transfer *t, uint64_t body_len);

	void (*done)(struct bc_transfer *t); /* ON_NET; may start others */

	/*
	 * Answer. result 0: an answer came, of any status; a 2xx answer to a
	 * range has the whole range in buf. Else -ECONNREFUSED, -EHOSTUNREACH,
	 * -ENETUNREACH, -ETIMEDOUT (no connection), -ECONNRESET, -ETIME (it
	 * broke or stalled; body_len bytes are there), -EPROTONOSUPPORT (no
	 * TLS), -EKEYREJECTED (certificate), -EPROTO, -E2BIG (grow is full),
	 * -ENOMEM, -ECANCELED.
	 */
	int result;
	long status; /* HTTP status */
	/* of a complete answer: from the request until its first byte, and from
	 * there to its last, microseconds */
	uint64_t wait_us, body_us;
	uint64_t body_len; /* kept bytes of the body */
	bool range_ignored;
	bool has_content_length;
	uint64_t content_length;
	char *location; /* owned by the transfer; NULL: not there */
	char *content_type;
	char *digest;            /* Docker-Content-Digest */
	char *www_authenticate;  /* several joined with ", " */
	uint64_t retry_after_ms; /* 0: not said */
	bool has_content_range;
	uint64_t cr_first, cr_last, cr_total; /* cr_total 0: "*" */
	char error[256]; /* a few words for people, when result != 0 */

	/* private */
	struct list node;
	void *priv;
	unsigned state;
};

/*
 * Queue t; done runs on the net thread. Where the thread cannot be made, t
 * waits and the next start tries again. ANY_THREAD.
 */
void bc_net_start(struct bc_net *n, struct bc_transfer *t);
/* Ask for an early end (-ECANCELED); done still runs once. ANY_THREAD. */
void bc_net_cancel(struct bc_net *n, struct bc_transfer *t);
/* Goes before prefetch from now on. ANY_THREAD. */
void bc_net_promote(struct bc_net *n, struct bc_transfer *t);
/* Start and wait; done must be NULL. Returns t->result, or -EAGAIN when the
 * thread cannot be made. BLOCKING. */
int bc_net_run(struct bc_net *n, struct bc_transfer *t);
/* Frees what the answer owns and clears the answer; the request part stays. */
void bc_transfer_fini(struct bc_transfer *t);

/* Run t's fire on the net thread after ms: for retries. */
struct bc_net_timer {
	void (*fire)(struct bc_net_timer *t); /* ON_NET */
	uint64_t due_ms;
	struct list node;
};
/* (Re)arm; a zeroed timer is not armed. ANY_THREAD. */
void bc_net_timer_start(struct bc_net *n, struct bc_net_timer *t, uint64_t ms);
/* ON_NET. Fine when it is not armed. */
void bc_net_timer_stop(struct bc_net *n, struct bc_net_timer *t);
/*
 * Returns once every timer that was started with 0 ms before this call has run
 * and ended. BLOCKING.
 */
void bc_net_barrier(struct bc_net *n);

/* A server of this origin (blobcache/url.h) ignored a range. ON_NET. */
void bc_net_host_set_no_ranges(struct bc_net *n, const char *url);
/* One did so within the last minutes. ON_NET. */
bool bc_net_host_has_no_ranges(struct bc_net *n, const char *url);
/* So many more (by -1: fewer) places from which nothing comes. ANY_THREAD. */
void bc_net_count_down(struct bc_net *n, int by);
/* Something is tried again: counted. ANY_THREAD. */
void bc_net_count_retry(struct bc_net *n);

struct bc_net_stats {
	uint64_t requests, body_bytes, retries;
	bool offline; /* something cannot be reached: see bc_net_count_down */
};
/* ANY_THREAD. */
void bc_net_stats(struct bc_net *n, struct bc_net_stats *ret);
