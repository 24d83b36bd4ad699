/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The net thread's loop.
 *
 *   inbox --take--> pending (per class) --admit--> libcurl --end--> done
 *
 * Everybody may put a transfer into the inbox, set flags in its state, or arm a
 * timer, under one mutex; all else belongs to the thread. A transfer is given
 * to libcurl only when it may start at once, so that no time limit of libcurl's
 * counts time in a queue. Waits are finite while anything is on its way: some
 * versions of libcurl lose a wakeup now and then.
 */
#include "blobcache/net.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/net_int.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define LOG_TOPIC "net"

#define BUSY_WAIT_MS 250
#define IDLE_WAIT_MS 60000

static pthread_once_t global_once = PTHREAD_ONCE_INIT;

/* Stays for the life of the process: others may use libcurl or OpenSSL too. */
static void global_init(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		log_error("cannot initialise libcurl");
}

/* ---- transfers end ---- */

static void transfer_end(struct bc_net *n, struct bc_transfer *t)
{
	void (*done)(struct bc_transfer *) = t->done;

	pthread_mutex_lock(&n->lock);
	t->state = T_DONE;
	if (!done)
		pthread_cond_broadcast(&n->ended);
	pthread_mutex_unlock(&n->lock);
	if (done)
		done(t);
}

static void transfer_fail(struct bc_net *n, struct bc_transfer *t, int result)
{
	t->result = result;
	(void)snprintf(t->error, sizeof(t->error), "%s",
		result == -ECANCELED ? "cancelled"
		: result == -ENOMEM  ? "out of memory"
				     : "not a URL that can be fetched");
	transfer_end(n, t);
}

/* ---- one turn ---- */

static void take_inbox(struct bc_net *n)
{
	struct list taken, *it;

	list_init(&taken);
	pthread_mutex_lock(&n->lock);
	list_splice(&taken, &n->inbox);
	pthread_mutex_unlock(&n->lock);
	while ((it = list_pop_front(&taken))) {
		struct bc_transfer *t =
			container_of(it, struct bc_transfer, node);

		list_push_back(&n->pending[t->cls], &t->node);
		n->may_admit = true;
	}
}

/* Flags of one transfer, taken off it. */
static unsigned take_flags(struct bc_net *n, struct bc_transfer *t)
{
	unsigned flags;

	pthread_mutex_lock(&n->lock);
	flags = t->state & (T_CANCEL | T_PROMOTE);
	t->state &= ~(unsigned)T_PROMOTE;
	pthread_mutex_unlock(&n->lock);
	return flags;
}

static void obey_pending(
	struct bc_net *n, struct list *pending, struct list *cancelled)
{
	list_for_each_safe(it, pending) {
		struct bc_transfer *t =
			container_of(it, struct bc_transfer, node);
		unsigned flags = take_flags(n, t);

		if (flags & T_CANCEL) {
			list_remove(&t->node);
			list_push_back(cancelled, &t->node);
		} else if ((flags & T_PROMOTE) && t->cls != RT_DEMAND) {
			t->cls = RT_DEMAND;
			list_remove(&t->node);
			list_push_back(&n->pending[RT_DEMAND], &t->node);
		}
	}
}

static void obey_active(struct bc_net *n, struct list *cancelled)
{
	list_for_each_safe(it, &n->active) {
		struct bc_transfer *t =
			container_of(it, struct bc_transfer, node);
		struct net_job *j = t->priv;
		unsigned flags = take_flags(n, t);

		if (flags & T_CANCEL) {
			list_remove(&t->node);
			net_job_abort(j, -ECANCELED, "cancelled");
			list_push_back(cancelled, &t->node);
		} else if ((flags & T_PROMOTE) && j->cls == RT_PREFETCH) {
			j->cls = RT_DEMAND;
			j->host->active_prefetch--;
			n->active_prefetch--;
		}
	}
}

/* Somebody cancelled or promoted something: look at everything. */
static void obey_flags(struct bc_net *n)
{
	struct list cancelled, *it;
	bool has_flags;

	pthread_mutex_lock(&n->lock);
	has_flags = n->has_flags;
	n->has_flags = false;
	pthread_mutex_unlock(&n->lock);
	if (!has_flags)
		return;
	n->may_admit = true;
	list_init(&cancelled);
	obey_pending(n, &n->pending[RT_PREFETCH], &cancelled);
	obey_pending(n, &n->pending[RT_DEMAND], &cancelled);
	obey_active(n, &cancelled);
	while ((it = list_pop_front(&cancelled)))
		transfer_fail(n, container_of(it, struct bc_transfer, node),
			-ECANCELED);
}

static struct bc_net_timer *timer_pop(struct bc_net *n, uint64_t now)
{
	struct bc_net_timer *t = NULL;

	pthread_mutex_lock(&n->lock);
	if (!list_is_empty(&n->timers)) {
		t = container_of(n->timers.next, struct bc_net_timer, node);
		if (t->due_ms <= now)
			list_remove(&t->node);
		else
			t = NULL;
	}
	pthread_mutex_unlock(&n->lock);
	return t;
}

static void run_timers(struct bc_net *n)
{
	uint64_t now = clock_ms();
	struct bc_net_timer *t;

	while ((t = timer_pop(n, now)))
		t->fire(t);
}

/* Moves t from pending to active, or ends it. False: no room for it now. */
static bool admit_one(struct bc_net *n, struct bc_transfer *t)
{
	struct net_host *h = net_host_get(n, t->url);
	int rc;

	if (h && !net_host_has_room(h, t->cls))
		return false;
	list_remove(&t->node);
	rc = h ? net_job_start(n, t, h) : -EPROTO;
	if (rc < 0) {
		transfer_fail(n, t, rc);
		return true;
	}
	list_push_back(&n->active, &t->node);
	pthread_mutex_lock(&n->lock);
	t->state = (t->state & ~(unsigned)T_QUEUED) | T_ACTIVE;
	n->stats.requests++;
	pthread_mutex_unlock(&n->lock);
	return true;
}

static void admit(struct bc_net *n)
{
	/* Nothing came or ended: whoever waits has to wait on. */
	if (!n->may_admit)
		return;
	n->may_admit = false;
	list_for_each_safe(d, &n->pending[RT_DEMAND]) {
		if (n->active_count >= n->o.max_transfers)
			return;
		(void)admit_one(n, container_of(d, struct bc_transfer, node));
	}
	list_for_each_safe(p, &n->pending[RT_PREFETCH]) {
		if (n->active_count >= n->o.max_transfers ||
			n->active_prefetch >= n->o.max_transfers / 2)
			return;
		(void)admit_one(n, container_of(p, struct bc_transfer, node));
	}
}

/*
 * The server of t could not be reached: what waits for a turn with it shares
 * its fate, else each would have to find out by itself, one after the other.
 */
static void fail_alike(
	struct bc_net *n, const struct bc_transfer *t, struct list *ended)
{
	struct net_host *h = net_host_get(n, t->url);

	for (int c = 0; h && c < RT_CLASSES; c++) {
		list_for_each_safe(it, &n->pending[c]) {
			struct bc_transfer *other =
				container_of(it, struct bc_transfer, node);

			if (net_host_get(n, other->url) != h)
				continue;
			other->result = t->result;
			memcpy(other->error, t->error, sizeof(t->error));
			list_remove(&other->node);
			list_push_back(ended, &other->node);
		}
	}
}

static void reap(struct bc_net *n)
{
	struct list ended, *it;
	int left;
	CURLMsg *m;

	list_init(&ended);
	while ((m = curl_multi_info_read(n->multi, &left))) {
		CURLcode code = m->data.result;
		struct net_job *j = NULL;
		struct bc_transfer *t;

		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(
			m->easy_handle, CURLINFO_PRIVATE, (char **)&j);
		t = j->t;
		list_remove(&t->node);
		n->may_admit = true;
		net_job_finish(j, code);
		if (net_is_unreached(t->result))
			fail_alike(n, t, &ended);
		list_push_back(&ended, &t->node);
	}
	while ((it = list_pop_front(&ended)))
		transfer_end(n, container_of(it, struct bc_transfer, node));
}

static void end_stalled(struct bc_net *n)
{
	uint64_t now = clock_ms();
	struct list ended, *it;

	list_init(&ended);
	list_for_each_safe(a, &n->active) {
		struct bc_transfer *t =
			container_of(a, struct bc_transfer, node);

		if (!net_job_is_stalled(t->priv, now))
			continue;
		list_remove(&t->node);
		n->may_admit = true;
		net_job_abort(t->priv, -ETIME, "timed out");
		list_push_back(&ended, &t->node);
	}
	while ((it = list_pop_front(&ended)))
		transfer_end(n, container_of(it, struct bc_transfer, node));
}

static bool is_busy(const struct bc_net *n)
{
	return n->active_count > 0 || !list_is_empty(&n->pending[RT_DEMAND]) ||
	       !list_is_empty(&n->pending[RT_PREFETCH]);
}

/* How long the thread may sleep; marks it as sleeping unless that is 0. */
static int wait_time(struct bc_net *n)
{
	uint64_t ms = is_busy(n) ? BUSY_WAIT_MS : IDLE_WAIT_MS, now, due;

	pthread_mutex_lock(&n->lock);
	if (!list_is_empty(&n->timers)) {
		now = clock_ms();
		due = container_of(n->timers.next, struct bc_net_timer, node)
		              ->due_ms;
		ms = min_u64(ms, due > now ? due - now : 0);
	}
	if (!list_is_empty(&n->inbox) || n->has_flags || n->is_stopping)
		ms = 0;
	n->is_sleeping = ms > 0;
	pthread_mutex_unlock(&n->lock);
	return (int)ms;
}

static void turn(struct bc_net *n)
{
	int running, ms;

	take_inbox(n);
	obey_flags(n);
	run_timers(n);
	take_inbox(n); /* what the timers started */
	admit(n);
	(void)curl_multi_perform(n->multi, &running); /* ends are in reap() */
	reap(n);
	end_stalled(n);
	ms = wait_time(n);
	if (ms > 0)
		(void)curl_multi_poll(n->multi, NULL, 0, ms, NULL);
	pthread_mutex_lock(&n->lock);
	n->is_sleeping = false;
	pthread_mutex_unlock(&n->lock);
}

static bool has_inbox(struct bc_net *n)
{
	bool has;

	pthread_mutex_lock(&n->lock);
	has = !list_is_empty(&n->inbox);
	pthread_mutex_unlock(&n->lock);
	return has;
}

/* Stopping: everything ends now, also what a done starts. */
static void cancel_all(struct bc_net *n)
{
	do {
		take_inbox(n);
		for (int c = 0; c < RT_CLASSES; c++) {
			list_for_each(it, &n->pending[c])
				bc_net_cancel(
					n, container_of(it, struct bc_transfer,
						   node));
		}
		list_for_each(it, &n->active)
			bc_net_cancel(
				n, container_of(it, struct bc_transfer, node));
		obey_flags(n);
	} while (is_busy(n) || has_inbox(n));
}

static bool is_stopping(struct bc_net *n)
{
	bool stop;

	pthread_mutex_lock(&n->lock);
	stop = n->is_stopping;
	pthread_mutex_unlock(&n->lock);
	return stop;
}

static void *net_main(void *arg)
{
	struct bc_net *n = arg;

	(void)pthread_setname_np(pthread_self(), "net"); /* only a name */
	while (!is_stopping(n))
		turn(n);
	cancel_all(n);
	while (n->spare_count > 0)
		curl_easy_cleanup(n->spare[--n->spare_count]);
	net_hosts_fini(n);
	return NULL;
}

/* ---- life ---- */

static int set_environment(struct bc_net *n, const struct bc_net_options *o)
{
	const char *ca = getenv("SSL_CERT_FILE");
	const char *proxy = getenv("HTTP_PROXY");

	/* libcurl itself reads the lower-case form, and NO_PROXY. */
	if (getenv("http_proxy") || getenv("REQUEST_METHOD"))
		proxy = NULL;
	n->user_agent =
		mem_strdup(o && o->user_agent ? o->user_agent : "sluice");
	n->ca_file = ca && ca[0] ? mem_strdup(ca) : NULL;
	n->http_proxy = proxy && proxy[0] ? mem_strdup(proxy) : NULL;
	if (!n->user_agent || (ca && ca[0] && !n->ca_file) ||
		(proxy && proxy[0] && !n->http_proxy))
		return -ENOMEM;
	return 0;
}

int bc_net_create(
	const struct bc_net_options *o, struct bc_net **ret, struct err *e)
{
	struct bc_net *n = mem_zalloc(sizeof(*n));

	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	if (o)
		n->o = *o;
	if (!n->o.max_connections)
		n->o.max_connections = 64;
	if (!n->o.max_host_connections)
		n->o.max_host_connections = 8;
	if (!n->o.max_transfers)
		n->o.max_transfers = 64;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->ended, NULL);
	list_init(&n->inbox);
	list_init(&n->timers);
	list_init(&n->active);
	list_init(&n->hosts);
	for (int c = 0; c < RT_CLASSES; c++)
		list_init(&n->pending[c]);
	if (set_environment(n, o) < 0) {
		bc_net_destroy(n);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = n;
	return 0;
}

void bc_net_destroy(struct bc_net *n)
{
	if (!n)
		return;
	pthread_mutex_lock(&n->lock);
	n->is_stopping = true;
	if (n->multi)
		(void)curl_multi_wakeup(n->multi);
	pthread_mutex_unlock(&n->lock);
	if (n->is_started)
		(void)pthread_join(n->thread, NULL); /* not joined twice */
	if (n->multi)
		(void)curl_multi_cleanup(n->multi); /* it is empty */
	pthread_cond_destroy(&n->ended);
	pthread_mutex_destroy(&n->lock);
	mem_free(n->user_agent);
	mem_free(n->ca_file);
	mem_free(n->http_proxy);
	mem_free(n);
}

static CURLM *multi_create(const struct bc_net *n)
{
	CURLM *m;

	(void)pthread_once(&global_once, global_init);
	m = curl_multi_init();
	if (!m)
		return NULL;
	(void)curl_multi_setopt(
		m, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	(void)curl_multi_setopt(
		m, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)n->o.max_connections);
	(void)curl_multi_setopt(m, CURLMOPT_MAX_HOST_CONNECTIONS,
		(long)n->o.max_host_connections);
	(void)curl_multi_setopt(
		m, CURLMOPT_MAXCONNECTS, (long)n->o.max_connections);
	(void)curl_multi_setopt(m, CURLMOPT_MAX_CONCURRENT_STREAMS, 100L);
	return m;
}

int net_wake_locked(struct bc_net *n)
{
	sigset_t all, old;
	int rc;

	if (n->is_started) {
		if (n->is_sleeping)
			(void)curl_multi_wakeup(n->multi);
		return 0;
	}
	if (bc_curl_load(NULL) < 0)
		return -ELIBACC;
	if (!n->multi)
		n->multi = multi_create(n);
	if (!n->multi)
		return -EAGAIN;
	/* No signal is ever handled there; SIGPIPE becomes EPIPE. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&n->thread, NULL, net_main, n);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		log_error("cannot start the net thread (%d), trying again", rc);
		return -EAGAIN;
	}
	n->is_started = true;
	return 0;
}

/* ---- the outside ---- */

int bc_net_ensure(struct bc_net *n)
{
	int rc;

	pthread_mutex_lock(&n->lock);
	rc = net_wake_locked(n);
	pthread_mutex_unlock(&n->lock);
	return rc;
}

static int enqueue(struct bc_net *n, struct bc_transfer *t)
{
	int rc;

	t->priv = NULL;
	bc_transfer_fini(t);
	pthread_mutex_lock(&n->lock);
	t->state = T_QUEUED;
	list_init(&t->node);
	list_push_back(&n->inbox, &t->node);
	rc = net_wake_locked(n);
	pthread_mutex_unlock(&n->lock);
	return rc;
}

void bc_net_start(struct bc_net *n, struct bc_transfer *t)
{
	(void)enqueue(n, t); /* it waits in the inbox */
}

static void set_flag(struct bc_net *n, struct bc_transfer *t, unsigned flag)
{
	pthread_mutex_lock(&n->lock);
	if (t->state & (T_QUEUED | T_ACTIVE)) {
		t->state |= flag;
		n->has_flags = true;
		(void)net_wake_locked(n);
	}
	pthread_mutex_unlock(&n->lock);
}

void bc_net_cancel(struct bc_net *n, struct bc_transfer *t)
{
	set_flag(n, t, T_CANCEL);
}

void bc_net_promote(struct bc_net *n, struct bc_transfer *t)
{
	set_flag(n, t, T_PROMOTE);
}

int bc_net_run(struct bc_net *n, struct bc_transfer *t)
{
	int rc;

	assert(!t->done);
	rc = enqueue(n, t);
	pthread_mutex_lock(&n->lock);
	if (rc < 0) {
		list_remove(&t->node);
		t->state = T_DONE;
		t->result = rc;
	}
	while (!(t->state & T_DONE))
		pthread_cond_wait(&n->ended, &n->lock);
	pthread_mutex_unlock(&n->lock);
	return t->result;
}
