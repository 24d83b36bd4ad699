/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request until it is answered for good.
 *
 *   NEW --> SENT --> END
 *    |      ^  |
 *    |      |  +--> AUTH (waits for a header) --> SENT
 *    +------+  +--> WAIT (for its next try)   --> SENT
 *              +--> SENT (redirect, known target gone, ranges ignored)
 *
 * What bounds it: five redirects; one new Authorization after a 401 or 403; one
 * new way to the target when a remembered or redirected URL has expired;
 * retries by retry.h. A cancelled call leaves every state at once, except SENT,
 * where the transfer is cancelled and ends the call.
 */
#include "blobcache/call.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "blobcache/retry.h"
#include "blobcache/url.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define LOG_TOPIC "http"

#define MAX_HOPS 5
#define RESUME_MIN_BYTES 65536
#define PROBE_TIMEOUT_MS 3000
#define FIRST_CONNECT_MS 10000
#define NEXT_CONNECT_MS 5000
#define STALL_MS 30000
#define HASTY_STALL_MS 10000

enum { C_NEW, C_SENT, C_AUTH, C_WAIT, C_END };

static void call_send(struct bc_call *c);

/* ---- the end ---- */

static void forget_request(struct bc_call *c)
{
	mem_free(c->url);
	mem_free(c->accept_header);
	bc_auth_header_free(c->auth_header);
	c->url = c->accept_header = c->auth_header = NULL;
}

static void call_finish(struct bc_call *c, int result)
{
	c->state = C_END;
	c->result = result;
	forget_request(c);
	list_remove(&c->node);
	c->done(c);
}

static void finish_here(struct bc_call *c, int result)
{
	(void)err_set(&c->err, result, "%s",
		result == -ECANCELED ? "cancelled" : "out of memory");
	call_finish(c, result);
}

/* The server spoken to, for messages: "host[:port]" of the URL. */
static char *host_text(const struct bc_call *c, char *out, size_t cap)
{
	const char *p = c->url ? strstr(c->url, "://") : NULL;

	if (p)
		(void)snprintf(
			out, cap, "%.*s", (int)strcspn(p + 3, "/?#"), p + 3);
	else
		(void)snprintf(out, cap, "%s", c->remote->host);
	return out;
}

static int say_refused(struct bc_call *c)
{
	char places[320] = "";

	if (c->is_away)
		return err_set_kind(&c->err, ERR_REFUSED, -EACCES,
			"the storage behind '%s' refused access (status %ld)",
			c->remote->label, c->t.status);
	if (c->remote->auth)
		bc_auth_looked_in(c->remote->auth, places, sizeof(places));
	if (!places[0])
		return err_set_kind(&c->err, ERR_REFUSED, -EACCES,
			"access to '%s' was refused", c->remote->label);
	return err_set_kind(&c->err, ERR_REFUSED, -EACCES,
		"access to '%s' was refused; looked for credentials in %s",
		c->remote->label, places);
}

static int say_failure(struct bc_call *c, enum bc_verdict v)
{
	const char *words = c->t.error[0] ? c->t.error : "no answer";
	struct err *e = &c->err;
	char host[300];

	(void)host_text(c, host, sizeof(host));
	switch (v) {
	case BC_FAIL_REACH:
		return err_set(e, -EHOSTUNREACH, "cannot reach '%s' (%s)", host,
			words);
	case BC_FAIL_BROKE:
		return err_set(
			e, -EIO, "no full answer from '%s' (%s)", host, words);
	case BC_FAIL_TLS:
		return err_set(e, -EHOSTUNREACH,
			"no TLS connection with '%s' (%s); --plain-http allows "
			"plain HTTP",
			host, words);
	case BC_FAIL_TRUST:
		return err_set(e, -EKEYREJECTED,
			"the certificate of '%s' is not trusted (%s); its "
			"authority can be given by --cert-dir",
			host, words);
	case BC_FAIL_PROTO:
		if (c->t.result == -E2BIG)
			return err_set(e, -E2BIG,
				"the answer of '%s' is too large", host);
		return err_set_kind(e, ERR_FAILED, -EPROTO,
			"'%s' breaks HTTP (%s)", host, words);
	default:
		return err_set(e, c->t.result, "%s", words);
	}
}

static int say_status(struct bc_call *c, enum bc_verdict v)
{
	struct err *e = &c->err;
	char host[300];

	(void)host_text(c, host, sizeof(host));
	switch (v) {
	case BC_ANSWER_UNAUTHORIZED:
	case BC_ANSWER_FORBIDDEN:
		return say_refused(c);
	case BC_ANSWER_MISSING:
		return err_set_kind(e, ERR_NOT_FOUND, -ENOENT,
			"'%s' was not found (status 404)",
			c->remote->label);
	case BC_ANSWER_BUSY:
	case BC_ANSWER_FAULT:
		return err_set(e, -EIO,
			"'%s' answered with status %ld too often", host,
			c->t.status);
	case BC_ANSWER_BAD_RANGE:
		return err_set_kind(e, ERR_FAILED, -EPROTO,
			"'%s' has not the range that was asked for: the object "
			"is shorter than it should be",
			host);
	default:
		return err_set_kind(e, ERR_FAILED, -EPROTO,
			"'%s' answered with status %ld", host, c->t.status);
	}
}

static void call_fail(struct bc_call *c, enum bc_verdict v)
{
	int rc;

	if (c->is_auth_failure)
		rc = c->err.code;
	else
		rc = c->t.result < 0 ? say_failure(c, v) : say_status(c, v);
	call_finish(c, rc);
}

/* ---- waiting for the next try ---- */

static void say_down(struct bc_call *c)
{
	struct bc_remote *r = c->remote;
	char host[300];

	if (r->is_down)
		return;
	r->is_down = true;
	if (c->is_auth_failure)
		log_warn("%s, retrying", c->err.text);
	else
		log_warn("cannot reach '%s' (%s), retrying",
			host_text(c, host, sizeof(host)), c->t.error);
}

static void say_up(struct bc_call *c)
{
	if (!c->remote->is_down)
		return;
	c->remote->is_down = false;
	log_warn("'%s' can be reached again", c->remote->label);
}

static uint32_t random_bits(void)
{
	uint32_t v = 0;

	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != sizeof(v))
		v = (uint32_t)clock_ns(); /* only spreads retries */
	return v;
}

/* The transient failure v: wait and try again, or give up. */
static void call_retry(struct bc_call *c, enum bc_verdict v)
{
	uint64_t now = clock_ms(), delay;

	if (c->first_failure_ms == 0)
		c->first_failure_ms = now;
	c->attempt++;
	delay = bc_retry_delay_ms(
		c->attempt, c->t.retry_after_ms, random_bits());
	if (!bc_retry_may(
		    v, now - c->first_failure_ms, delay, c->patience_ms)) {
		call_fail(c, v);
		return;
	}
	if (v == BC_FAIL_REACH && c->patience_ms > BC_COLD_PATIENCE_MS)
		say_down(c);
	bc_net_count_retry(c->remote->net);
	c->state = C_WAIT;
	bc_net_timer_start(c->remote->net, &c->timer, delay);
}

static void call_wake(struct bc_net_timer *t)
{
	call_send(container_of(t, struct bc_call, timer));
}

/* ---- redirects and targets ---- */

void bc_target_fini(struct bc_target *t)
{
	mem_free(t->url);
	*t = (struct bc_target){0};
}

static void target_forget(struct bc_call *c)
{
	struct bc_target *t = c->target;

	if (!t || !t->url || t->gen != c->target_gen)
		return;
	mem_free(t->url);
	t->url = NULL;
	t->gen++;
}

static void target_remember(struct bc_call *c)
{
	struct bc_target *t = c->target;

	if (!t || !c->is_away || t->url)
		return;
	t->url = mem_strdup(c->url); /* without memory it is asked again */
	t->gen++;
}

/* Start over at the server itself. */
static void call_go_home(struct bc_call *c)
{
	mem_free(c->url);
	c->url = NULL;
	c->hops = 0;
	c->is_away = false;
}

/* Once: a URL that came from a redirect does not work (any more). */
static bool call_retarget(struct bc_call *c)
{
	if (!c->is_away || c->was_retargeted)
		return false;
	c->was_retargeted = true;
	target_forget(c);
	call_go_home(c);
	call_send(c);
	return true;
}

static void refuse_redirect(struct bc_call *c, const char *why)
{
	char host[300];

	call_finish(c,
		err_set_kind(&c->err, ERR_FAILED, -EPROTO, "'%s' redirects %s",
			host_text(c, host, sizeof(host)), why));
}

static void call_redirect(struct bc_call *c)
{
	char *next;
	int rc;

	if (++c->hops > MAX_HOPS) {
		refuse_redirect(c, "too often");
		return;
	}
	if (!c->t.location) {
		refuse_redirect(c, "without saying where to");
		return;
	}
	rc = bc_url_join(c->url, c->t.location, &next);
	if (rc == -ENOMEM) {
		finish_here(c, rc);
		return;
	}
	if (rc < 0) {
		refuse_redirect(c, "to something that is no http(s) URL");
		return;
	}
	if (bc_url_is_https(c->url) && !bc_url_is_https(next)) {
		mem_free(next);
		refuse_redirect(c, "from https to http");
		return;
	}
	mem_free(c->url);
	c->url = next;
	c->is_away = true;
	call_send(c);
}

/* ---- authorization ---- */

static void auth_ready(
	struct bc_auth_waiter *w, int result, const struct err *err)
{
	struct bc_call *c = container_of(w, struct bc_call, waiter);
	enum bc_verdict v = bc_retry_judge(result, 200);

	if (result == 0) {
		call_send(c);
		return;
	}
	if (result == -EACCES) {
		call_finish(c, say_refused(c));
		return;
	}
	c->err = *err;
	c->is_auth_failure = true;
	c->t.retry_after_ms = 0;
	if (bc_verdict_is_transient(v))
		call_retry(c, v);
	else
		call_fail(c, v);
}

/* 401, or 403, from the server itself. */
static void call_renew(struct bc_call *c, enum bc_verdict v)
{
	bool had_header = c->auth_header != NULL;
	int rc;

	if (!c->remote->auth || c->is_away || c->was_renewed ||
		(!had_header && c->was_challenged) ||
		(!had_header && v == BC_ANSWER_FORBIDDEN)) {
		call_fail(c, v);
		return;
	}
	if (had_header)
		c->was_renewed = true;
	else
		c->was_challenged = true;
	c->waiter.ready = auth_ready;
	c->state = C_AUTH;
	rc = bc_auth_renew(c->remote->auth, &c->waiter,
		v == BC_ANSWER_UNAUTHORIZED ? c->t.www_authenticate : NULL,
		c->auth_gen, !bc_url_is_https(c->url));
	if (rc == -EINPROGRESS)
		return;
	if (rc == 0)
		call_send(c);
	else
		call_fail(c, v);
}

/* 0: the header is set if one is needed. */
static int call_authorize(struct bc_call *c)
{
	bc_auth_header_free(c->auth_header);
	c->auth_header = NULL;
	c->auth_gen = 0;
	/* Nobody else ever sees it. */
	if (!c->remote->auth || c->is_away)
		return 0;
	c->waiter.ready = auth_ready;
	return bc_auth_get(
		c->remote->auth, &c->waiter, &c->auth_header, &c->auth_gen);
}

/* ---- sending ---- */

static bool call_is_http(struct bc_call *c)
{
	switch (c->remote->scheme) {
	case BC_SCHEME_HTTP:
		return true;
	case BC_SCHEME_HTTPS:
		return false;
	default:
		return c->is_http_probe;
	}
}

static int call_choose_url(struct bc_call *c)
{
	const struct bc_target *t = c->target;

	c->is_probe = !c->is_away && c->remote->scheme == BC_SCHEME_PROBE;
	if (c->url && c->is_away)
		return 0;
	mem_free(c->url);
	if (t && t->url && !c->was_retargeted) {
		c->url = mem_strdup(t->url);
		c->target_gen = t->gen;
		c->is_away = true;
		c->is_probe = false;
		return c->url ? 0 : -ENOMEM;
	}
	c->url = mem_printf("%s://%s%s", call_is_http(c) ? "http" : "https",
		c->remote->host, c->path);
	return c->url ? 0 : -ENOMEM;
}

static void set_patience(struct bc_call *c)
{
	struct bc_transfer *t = &c->t;

	t->connect_timeout_ms = c->attempt > 0 || c->patience_ms == 0
	                                ? NEXT_CONNECT_MS
	                                : FIRST_CONNECT_MS;
	t->stall_timeout_ms =
		c->patience_ms < STALL_MS ? HASTY_STALL_MS : STALL_MS;
	if (c->is_probe && !c->is_http_probe)
		t->connect_timeout_ms = t->stall_timeout_ms = PROBE_TIMEOUT_MS;
}

static void call_answered(struct bc_transfer *t);

static void fill_transfer(struct bc_call *c)
{
	struct bc_transfer *t = &c->t;

	bc_transfer_fini(t);
	t->method = c->method;
	t->url = c->url;
	t->header_count = 0;
	if (c->auth_header)
		t->headers[t->header_count++] = c->auth_header;
	if (c->accept_header)
		t->headers[t->header_count++] = c->accept_header;
	/* Certificates are given for the server, not for where it leads. */
	t->tls = c->is_away ? NULL : &c->remote->tls;
	t->cls = c->cls;
	t->has_range = c->has_range;
	if (c->has_range) {
		t->range_off = c->off + c->got;
		t->range_len = c->len - c->got;
		t->range_total = c->total;
		t->accept_whole = c->buf && bc_net_host_has_no_ranges(
						    c->remote->net, c->url);
	}
	t->buf = c->buf ? c->buf + c->got : NULL;
	t->buf_len = c->buf ? c->len - c->got : 0;
	t->grow = c->grow;
	if (c->grow)
		c->grow->len = 0;
	t->done = call_answered;
	set_patience(c);
}

static void call_send(struct bc_call *c)
{
	int rc;

	if (atomic_load(&c->is_cancelled)) {
		finish_here(c, -ECANCELED);
		return;
	}
	if (atomic_load(&c->is_promoted))
		c->cls = RT_DEMAND;
	c->is_auth_failure = false;
	rc = call_choose_url(c);
	if (rc == 0)
		rc = call_authorize(c);
	if (rc == -EINPROGRESS) {
		c->state = C_AUTH;
		return;
	}
	if (rc == 0 && c->accept && !c->accept_header) {
		c->accept_header = mem_printf("Accept: %s", c->accept);
		rc = c->accept_header ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		finish_here(c, rc);
		return;
	}
	fill_transfer(c);
	c->state = C_SENT;
	bc_net_start(c->remote->net, &c->t);
}

/* ---- the answer ---- */

/* A loopback server whose scheme is not known: settle it, or try the other. */
static bool call_probe(struct bc_call *c, enum bc_verdict v)
{
	/* Any status at all is HTTP; a bad certificate is TLS. */
	bool has_failed = c->t.status == 0 && v != BC_FAIL_TRUST;

	if (!c->is_probe)
		return false;
	if (!has_failed) {
		c->remote->scheme =
			c->is_http_probe ? BC_SCHEME_HTTP : BC_SCHEME_HTTPS;
		return false;
	}
	c->is_http_probe = !c->is_http_probe;
	if (!c->is_http_probe)
		return false; /* both have failed */
	call_send(c);
	return true;
}

/* Keep what came before the connection broke. */
static void call_keep_prefix(struct bc_call *c)
{
	if (!c->has_range || !c->buf || c->t.body_len < RESUME_MIN_BYTES ||
		c->t.body_len >= c->len - c->got)
		return;
	c->got += c->t.body_len;
	c->attempt = 0;
	c->first_failure_ms = 0;
}

static void call_judge(struct bc_call *c, enum bc_verdict v)
{
	switch (v) {
	case BC_ANSWER_OK:
		target_remember(c);
		c->err = (struct err){0};
		call_finish(c, 0);
		return;
	case BC_ANSWER_REDIRECT:
		call_redirect(c);
		return;
	case BC_ANSWER_UNAUTHORIZED:
	case BC_ANSWER_FORBIDDEN:
		if (!call_retarget(c))
			call_renew(c, v);
		return;
	case BC_FAIL_BROKE:
		call_keep_prefix(c);
		call_retry(c, v);
		return;
	case BC_FAIL_REACH:
	case BC_FAIL_TLS:
		/* Perhaps only the node that we were sent to is dead. */
		if (!call_retarget(c))
			call_retry(c, v);
		return;
	case BC_ANSWER_BUSY:
	case BC_ANSWER_FAULT:
		call_retry(c, v);
		return;
	default:
		if (!call_retarget(c))
			call_fail(c, v);
		return;
	}
}

static void call_answered(struct bc_transfer *t)
{
	struct bc_call *c = container_of(t, struct bc_call, t);
	enum bc_verdict v = bc_retry_judge(t->result, t->status);

	if (t->result == -ECANCELED || atomic_load(&c->is_cancelled)) {
		finish_here(c, -ECANCELED);
		return;
	}
	if (t->result == -ENOMEM) {
		finish_here(c, -ENOMEM);
		return;
	}
	if (call_probe(c, v))
		return;
	if (t->result == 0 && !c->is_away)
		say_up(c);
	/* A size probe is content with the headers of a whole answer. */
	if (t->range_ignored && !c->buf) {
		target_remember(c);
		call_finish(c, 0);
		return;
	}
	if (t->range_ignored && !t->accept_whole) {
		bc_net_host_set_no_ranges(c->remote->net, c->url);
		if (bc_net_host_has_no_ranges(c->remote->net, c->url)) {
			call_send(c);
			return;
		}
	}
	call_judge(c, v);
}

/* ---- from outside ---- */

static void call_begin(struct bc_net_timer *t)
{
	struct bc_call *c = container_of(t, struct bc_call, timer);

	list_init(&c->node);
	list_push_back(&c->remote->calls, &c->node);
	c->timer.fire = call_wake;
	call_send(c);
}

void bc_call_start(struct bc_call *c)
{
	c->result = 0;
	c->err = (struct err){0};
	atomic_store(&c->is_cancelled, false);
	atomic_store(&c->is_promoted, false);
	c->state = C_NEW;
	c->url = c->auth_header = c->accept_header = NULL;
	c->got = c->first_failure_ms = c->target_gen = 0;
	c->attempt = c->hops = 0;
	c->is_away = c->is_probe = c->is_http_probe = false;
	c->was_challenged = c->was_renewed = c->was_retargeted = false;
	c->is_auth_failure = false;
	c->timer = (struct bc_net_timer){.fire = call_begin};
	c->waiter = (struct bc_auth_waiter){0};
	bc_net_timer_start(c->remote->net, &c->timer, 0);
}

/* Look for calls that somebody cancelled or promoted. */
static void remote_sweep(struct bc_net_timer *t)
{
	struct bc_remote *r = container_of(t, struct bc_remote, sweep);

	list_for_each_safe(it, &r->calls) {
		struct bc_call *c = container_of(it, struct bc_call, node);

		if (atomic_load(&c->is_promoted) && c->cls != RT_DEMAND) {
			c->cls = RT_DEMAND;
			if (c->state == C_SENT)
				bc_net_promote(r->net, &c->t);
		}
		if (!atomic_load(&c->is_cancelled))
			continue;
		if (c->state == C_SENT) {
			bc_net_cancel(r->net, &c->t);
			continue;
		}
		bc_net_timer_stop(r->net, &c->timer);
		bc_auth_leave(&c->waiter);
		finish_here(c, -ECANCELED);
	}
}

void bc_call_cancel(struct bc_call *c)
{
	atomic_store(&c->is_cancelled, true);
	bc_net_timer_start(c->remote->net, &c->remote->sweep, 0);
}

void bc_call_promote(struct bc_call *c)
{
	atomic_store(&c->is_promoted, true);
	bc_net_timer_start(c->remote->net, &c->remote->sweep, 0);
}

struct call_wait {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool is_ended;
};

static void run_ended(struct bc_call *c)
{
	struct call_wait *w = c->wait;

	pthread_mutex_lock(&w->lock);
	w->is_ended = true;
	pthread_cond_signal(&w->ended);
	pthread_mutex_unlock(&w->lock);
}

int bc_call_run(struct bc_call *c)
{
	struct call_wait w = {.is_ended = false};
	int rc = bc_net_ensure(c->remote->net);

	if (rc < 0)
		return err_set(&c->err, rc, "cannot start the net thread");
	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.ended, NULL);
	c->wait = &w;
	c->done = run_ended;
	bc_call_start(c);
	pthread_mutex_lock(&w.lock);
	while (!w.is_ended)
		pthread_cond_wait(&w.ended, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.ended);
	pthread_mutex_destroy(&w.lock);
	return c->result;
}

void bc_call_fini(struct bc_call *c)
{
	bc_transfer_fini(&c->t);
}

void bc_remote_init(struct bc_remote *r)
{
	list_init(&r->calls);
	r->sweep = (struct bc_net_timer){.fire = remote_sweep};
	r->is_down = false;
}

void bc_remote_fini(struct bc_remote *r)
{
	bc_auth_destroy(r->auth);
	if (r->net)
		bc_net_barrier(r->net); /* a sweep may still be due */
	mem_free(r->host);
	mem_free(r->label);
	mem_free((char *)r->tls.ca_file);
	mem_free((char *)r->tls.cert_file);
	mem_free((char *)r->tls.key_file);
	*r = (struct bc_remote){0};
}
