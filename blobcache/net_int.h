/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the net thread: net.c and net_*.c. */
#pragma once

#include <pthread.h>

#include "blobcache/curl_lib.h"
#include "blobcache/net.h"
#include "blobcache/url.h"

#define NET_MAX_HOSTS 64
#define NET_SPARE_HANDLES 16
#define NET_MAX_HEADER_VALUE 16384
#define NET_MAX_CHALLENGE 65536

/* Bits of bc_transfer.state; guarded by bc_net.lock. */
enum {
	T_QUEUED = 1, /* in the inbox or in pending */
	T_ACTIVE = 2,
	T_DONE = 4,
	T_CANCEL = 8,
	T_PROMOTE = 16,
};

/* One origin: how much it is asked at once. ON_NET. */
struct net_host {
	struct list node;
	char origin[BC_ORIGIN_MAX];
	unsigned limit;   /* transfers at once, 1 to ceiling */
	unsigned ceiling; /* grows when the server speaks HTTP/2 */
	unsigned active, active_prefetch;
	unsigned good; /* answers since limit last changed */
	uint64_t halved_ms, used_ms;
	uint64_t no_ranges_ms; /* 0: ranges work as far as we know */
	bool is_dead;          /* the last try did not reach it */
};

/* One transfer at work; bc_transfer.priv. ON_NET. */
struct net_job {
	struct bc_net *net;
	struct bc_transfer *t;
	struct net_host *host;
	CURL *easy;
	struct curl_slist *headers;
	enum rt_class cls; /* as counted */
	int result;        /* decided inside a callback; 0: not yet */
	bool is_checked;   /* the answer's headers fit the request */
	bool is_enough;    /* all wanted bytes are there, the rest is cut off */
	uint64_t skip;     /* body bytes before the wanted range */
	uint64_t dropped;  /* bytes of an unwanted body */
	uint64_t moved_ms, window_ms, window_bytes;
	char errbuf[CURL_ERROR_SIZE];
	char range[48];
};

struct bc_net {
	struct bc_net_options o;
	char *user_agent, *ca_file, *http_proxy; /* owned; NULL: not set */
	pthread_t thread;
	pthread_mutex_t lock; /* guards the next block */
	pthread_cond_t ended; /* a transfer without done has ended */
	struct list inbox, timers;
	bool is_started, is_stopping, is_sleeping, has_flags;
	unsigned down_count; /* bc_net_count_down's */
	struct bc_net_stats stats;
	CURLM *multi; /* made with the thread; wakeup is called by anybody */

	/* ON_NET */
	struct list pending[RT_CLASSES], active;
	unsigned active_count, active_prefetch;
	bool may_admit; /* pending or room has changed */
	struct list hosts;
	unsigned host_count;
	CURL *spare[NET_SPARE_HANDLES];
	unsigned spare_count;
};

/* ---- net.c ---- */

/*
 * Make the thread if it is not there yet, and wake it. The lock is held. 0 or
 * -EAGAIN. ANY_THREAD.
 */
int net_wake_locked(struct bc_net *n);

/* ---- net_host.c; all ON_NET ---- */

/* Could the server of a transfer with that result not be reached? */
bool net_is_unreached(int result);
/* NULL: out of memory, or no URL of ours. */
struct net_host *net_host_get(struct bc_net *n, const char *url);
/* May a transfer of that class start now? */
bool net_host_has_room(const struct net_host *h, enum rt_class cls);
/*
 * t has ended: 429 and 503 halve, others let it grow again. One that cannot be
 * reached is tried by one transfer at a time, until it answers.
 */
void net_host_judge(struct net_host *h, const struct bc_transfer *t);
void net_host_set_h2(struct net_host *h);
void net_hosts_fini(struct bc_net *n);

/* ---- net_curl.c; all ON_NET ---- */

/* Hand t to libcurl. 0, -ENOMEM, -EPROTO; t has no job then. */
int net_job_start(
	struct bc_net *n, struct bc_transfer *t, struct net_host *host);
/* libcurl is through with it: t->result, and so on. Frees the job. */
void net_job_finish(struct net_job *j, CURLcode code);
/* Take it away from libcurl with this result. Frees the job. */
void net_job_abort(struct net_job *j, int result, const char *words);
/* Too slow now? */
bool net_job_is_stalled(struct net_job *j, uint64_t now_ms);

/* ---- net_answer.c; all ON_NET ---- */

/* libcurl's callbacks; arg is the job. */
size_t net_on_header(char *p, size_t size, size_t count, void *arg);
/* The same for the body. */
size_t net_on_body(char *p, size_t size, size_t count, void *arg);
/* The answer is complete: is it what was asked for? 0, or j->result. */
int net_check_end(struct net_job *j);
