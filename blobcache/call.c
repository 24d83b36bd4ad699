/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request until it is answered for good.
 *
 *   NEW --> SENT --> END
 *    |      ^  |
 *    |      |  +--> AUTH (waits for a header) --> SENT
 *    +------+  +--> WAIT (for its next try)   --> SENT
 *              +--> TURN (another call finds the way) --> SENT
 *              +--> SENT (redirect, known target gone, ranges ignored,
 *                         the next server)
 *
 * What bounds it, at one server: five redirects; one new Authorization after a
 * 401 or 403; one new way to the target when a remembered or redirected URL has
 * expired; each client certificate once (call_pair.c). What fails there goes on
 * at the next server of the route (call_route.c); when all have failed, retries
 * by retry.h begin a new round. A cancelled call leaves every state at once,
 * except SENT, where the transfer is cancelled and ends the call.
 */
#include "blobcache/call_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "blobcache/retry.h"
#include "blobcache/url.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define LOG_TOPIC "http"

#define MAX_HOPS 5
#define RESUME_MIN_BYTES 65536
#define PROBE_TIMEOUT_MS 3000
#define FIRST_CONNECT_MS 10000
#define NEXT_CONNECT_MS 5000
#define STALL_MS 30000
#define HASTY_STALL_MS 10000
#define MIRROR_CONNECT_MS 3000

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
	bc_target_release(c);
	c->state = C_END;
	c->result = result;
	forget_request(c);
	list_remove(&c->node);
	c->done(c);
}

void bc_call_end(struct bc_call *c, int result)
{
	(void)err_set(&c->err, result, "%s",
		result == -ECANCELED ? "cancelled" : "out of memory");
	call_finish(c, result);
}

/* ---- waiting for the next try ---- */

static uint32_t random_bits(void)
{
	uint32_t v = 0;

	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != sizeof(v))
		v = (uint32_t)clock_ns(); /* only spreads retries */
	return v;
}

/*
 * Every server has failed; v is what counts. Wait and begin a new round, or
 * give up.
 */
static void call_retry(struct bc_call *c, enum bc_verdict v)
{
	uint64_t now = clock_ms(), delay;
	bool may;

	if (c->first_failure_ms == 0)
		c->first_failure_ms = now;
	c->attempt++;
	delay = bc_retry_delay_ms(
		c->attempt, c->t.retry_after_ms, random_bits());
	/* What a try without any answer took was a wait already. */
	if (v == BC_FAIL_REACH)
		delay -= min_u64(delay - 1, now - c->sent_ms);
	may = bc_retry_may(v, now - c->first_failure_ms, delay, c->patience_ms);
	if (v == BC_FAIL_REACH)
		bc_call_say_down(
			c, may && c->patience_ms > BC_COLD_PATIENCE_MS);
	if (!may) {
		call_finish(c, c->err.code);
		return;
	}
	/*
	 * Where a redirect led may have died or expired during the wait, and
	 * so may a token: ask the server itself, with all chances anew.
	 */
	c->tried = 0;
	c->had_turn = false;
	bc_route_choose(c);
	bc_net_count_retry(c->route->net);
	c->state = C_WAIT;
	bc_net_timer_start(c->route->net, &c->timer, delay);
}

/* Nothing more can be done at this server: the next one, a wait, or the end. */
static void call_fail(struct bc_call *c, enum bc_verdict v)
{
	if (bc_pair_next(c, v)) {
		bc_call_send(c);
		return;
	}
	(void)bc_call_say(c, v);
	bc_target_release(c);
	if (bc_route_next(c, &v))
		bc_call_send(c);
	else if (bc_verdict_is_transient(v))
		call_retry(c, v);
	else
		call_finish(c, c->err.code);
}

/* ---- redirects and targets ---- */

/* Once: a URL that came from a redirect does not work (any more). */
static bool call_retarget(struct bc_call *c)
{
	if (!c->is_redirected || c->was_retargeted)
		return false;
	c->was_retargeted = true;
	bc_target_forget(c);
	bc_call_go_home(c);
	bc_call_send(c);
	return true;
}

static void refuse_redirect(struct bc_call *c, const char *why)
{
	char host[300];

	(void)err_set_kind(&c->err, ERR_FAILED, -EPROTO, "'%s' redirects %s",
		bc_call_host(c, host, sizeof(host)), why);
	c->is_said = true;
	call_fail(c, BC_FAIL_PROTO);
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
		bc_call_end(c, rc);
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
	c->is_redirected = true;
	bc_call_send(c);
}

/* ---- authorization ---- */

static void auth_ready(
	struct bc_auth_waiter *w, int result, const struct err *err)
{
	struct bc_call *c = container_of(w, struct bc_call, waiter);
	enum bc_verdict v = bc_retry_judge(result, 200);

	if (result == 0) {
		bc_call_send(c);
		return;
	}
	if (result == -EACCES) {
		v = BC_ANSWER_UNAUTHORIZED;
		(void)bc_call_say_refused(c);
	} else {
		c->err = *err;
	}
	c->is_said = true;
	c->t.retry_after_ms = 0;
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
		bc_call_send(c);
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

/* Is that the server itself, to which credentials and certificates belong? */
static bool call_is_home(struct bc_call *c)
{
	char home[BC_ORIGIN_MAX];
	int n;

	if (!c->is_redirected)
		return true;
	n = snprintf(home, sizeof(home), "%s://%s",
		call_is_http(c) ? "http" : "https", c->remote->host);
	return n > 0 && (size_t)n < sizeof(home) &&
	       bc_url_is_same_origin(home, c->url);
}

static int call_choose_url(struct bc_call *c)
{
	const struct bc_target *t = bc_target_of(c);
	const struct bc_remote *r = c->remote;
	const char *query = r->query ? r->query : "";

	c->is_probe = !c->is_redirected && c->remote->scheme == BC_SCHEME_PROBE;
	if (c->url && c->is_redirected)
		return 0;
	mem_free(c->url);
	if (t && t->url && (!c->was_retargeted || t->gen != c->target_gen)) {
		c->url = mem_strdup(t->url);
		c->target_gen = t->gen;
		c->is_redirected = true;
		c->is_probe = false;
		return c->url ? 0 : -ENOMEM;
	}
	c->url = mem_printf("%s://%s%s%s%s%s",
		call_is_http(c) ? "http" : "https", r->host,
		r->prefix ? r->prefix : "", c->path,
		!query[0]              ? ""
		: strchr(c->path, '?') ? "&"
				       : "?",
		query);
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
	/* There is somebody else who has it. */
	if (c->remote->is_mirror) {
		t->connect_timeout_ms = MIRROR_CONNECT_MS;
		t->stall_timeout_ms = HASTY_STALL_MS;
	}
	if (c->is_probe && !c->is_http_probe)
		t->connect_timeout_ms = PROBE_TIMEOUT_MS;
}

static void call_answered(struct bc_transfer *t);

static int call_take(struct bc_transfer *t, const void *p, size_t n)
{
	struct bc_call *c = container_of(t, struct bc_call, t);

	return c->take(c, t->body_len, p, n);
}

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
		t->accept_whole =
			c->buf && !c->ranges_only &&
			bc_net_host_has_no_ranges(c->route->net, c->url);
	}
	t->buf = c->buf ? c->buf + c->got : NULL;
	t->buf_len = c->buf ? c->len - c->got : 0;
	t->take = c->take ? call_take : NULL;
	t->grow = c->grow;
	if (c->grow)
		c->grow->len = 0;
	t->done = call_answered;
	set_patience(c);
}

/* Who asks for ranges only is told that there are none. */
static void call_refuse_ranges(struct bc_call *c)
{
	call_finish(
		c, err_set(&c->err, -EOPNOTSUPP, "the server ignores ranges"));
}

void bc_call_send(struct bc_call *c)
{
	int rc;

	if (atomic_load(&c->is_cancelled)) {
		bc_call_end(c, -ECANCELED);
		return;
	}
	if (atomic_load(&c->is_promoted))
		c->cls = RT_DEMAND;
	c->is_said = false;
	if (bc_target_wait(c))
		return;
	bc_pair_note(c);
	rc = call_choose_url(c);
	if (rc == 0) {
		c->is_away = !call_is_home(c);
		rc = call_authorize(c);
	}
	if (rc == -EINPROGRESS) {
		c->state = C_AUTH;
		return;
	}
	if (rc == 0 && c->ranges_only &&
		bc_net_host_has_no_ranges(c->route->net, c->url)) {
		call_refuse_ranges(c);
		return;
	}
	if (rc == 0 && c->accept && !c->accept_header) {
		c->accept_header = mem_printf("Accept: %s", c->accept);
		rc = c->accept_header ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		bc_call_end(c, rc);
		return;
	}
	fill_transfer(c);
	c->state = C_SENT;
	c->sent_ms = clock_ms();
	bc_net_start(c->route->net, &c->t);
}

/* ---- the answer ---- */

/* A loopback server whose scheme is not known: settle it, or try the other. */
static bool call_probe(struct bc_call *c, enum bc_verdict v)
{
	/*
	 * Any status at all is HTTP; a bad certificate is TLS, and so is a
	 * request that was sent and is not answered.
	 */
	bool has_failed =
		c->t.status == 0 && v != BC_FAIL_TRUST && c->t.result != -ETIME;

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
	bc_call_send(c);
	return true;
}

/* Keep what came before the connection broke. */
static void call_keep_prefix(struct bc_call *c)
{
	uint64_t n = c->t.body_len;

	if (c->take ? n < c->got + RESUME_MIN_BYTES
		    : !c->has_range || !c->buf || n < RESUME_MIN_BYTES ||
				n >= c->len - c->got)
		return;
	/* A body that is taken begins anew, but has come further. */
	c->got = c->take ? n : c->got + n;
	c->attempt = 0;
	c->first_failure_ms = 0;
}

static void call_succeed(struct bc_call *c)
{
	bc_route_works(c);
	bc_pair_works(c);
	c->err = (struct err){0};
	call_finish(c, 0);
}

static void call_judge(struct bc_call *c, enum bc_verdict v)
{
	switch (v) {
	case BC_ANSWER_OK:
		bc_target_remember(c);
		call_succeed(c);
		return;
	case BC_ANSWER_REDIRECT:
		bc_pair_works(c);
		call_redirect(c);
		return;
	case BC_ANSWER_UNAUTHORIZED:
	case BC_ANSWER_FORBIDDEN:
		if (!call_retarget(c))
			call_renew(c, v);
		return;
	case BC_FAIL_BROKE:
		call_keep_prefix(c);
		call_fail(c, v);
		return;
	case BC_ANSWER_BUSY:
	case BC_ANSWER_FAULT:
		call_fail(c, v);
		return;
	default: /* REACH: perhaps only the node that we were sent to is dead */
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
		bc_call_end(c, -ECANCELED);
		return;
	}
	if (t->result == -ENOMEM) {
		bc_call_end(c, -ENOMEM);
		return;
	}
	/* Plain HTTP only where no certificate helps. */
	if (t->status == 0 && c->is_probe && bc_pair_next(c, v)) {
		bc_call_send(c);
		return;
	}
	if (call_probe(c, v))
		return;
	/* What only sends us elsewhere is not what we came for. */
	if (t->result == 0 && v != BC_ANSWER_REDIRECT &&
		v != BC_ANSWER_UNAUTHORIZED)
		bc_call_say_up(c);
	/* A size probe is content with the headers of a whole answer. */
	if (t->range_ignored && !c->buf) {
		bc_target_remember(c);
		call_succeed(c);
		return;
	}
	if (t->range_ignored && c->ranges_only) {
		bc_net_host_set_no_ranges(c->route->net, c->url);
		bc_target_remember(c);
		call_refuse_ranges(c);
		return;
	}
	if (t->range_ignored && !t->accept_whole) {
		bc_net_host_set_no_ranges(c->route->net, c->url);
		if (bc_net_host_has_no_ranges(c->route->net, c->url)) {
			bc_call_send(c);
			return;
		}
	}
	call_judge(c, v);
}
