/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authorization headers and their renewal.
 *
 *   none --challenge--> renewing --landed--> header --80 % of its life--> ...
 *                          ^                    |
 *                          +--- 401, 403 -------+
 *
 * A renewal runs on a thread of its own (auth_main), writes its outcome into
 * `fresh`, and posts `landed` to the net thread, which alone reads and changes
 * everything else. A renewal before the end of a token's life happens while the
 * token is still used.
 */
#include "blobcache/auth.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "blobcache/challenge.h"
#include "blobcache/credentials.h"
#include "blobcache/token.h"
#include "blobcache/url.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define LOG_TOPIC "auth"

#define LOOKED_IN_MAX 320
#define TOKEN_CONNECT_MS 5000
#define TOKEN_STALL_MS 15000
/* After a renewal ahead of time has failed. */
#define EARLY_PAUSE_MS 5000
/* After a renewal was refused: files and helpers are not asked in a storm. */
#define REFUSED_PAUSE_MS 2000

struct outcome {
	int result;
	struct err err;
	char *header;                    /* owned */
	uint64_t refresh_ms, expires_ms; /* UINT64_MAX: never */
	char looked_in[LOOKED_IN_MAX];
};

struct bc_auth {
	struct bc_net *net;
	char *host, *repository, *authfile; /* owned */
	struct bc_net_tls tls;              /* borrowed strings */

	/* ON_NET */
	bool is_renewing, has_challenge;
	struct bc_challenge challenge; /* read by auth_main while it runs */
	char *header;
	uint64_t gen, refresh_ms, expires_ms, early_ms;
	uint64_t refused_ms; /* renewals before this are useless; 0: no */
	unsigned refusals;   /* in a row */
	char looked_in[LOOKED_IN_MAX];
	struct list waiters;
	struct bc_net_timer landed;

	/* the renewal on its way */
	pthread_t thread;
	struct outcome fresh; /* auth_main's, then the net thread's */
	pthread_mutex_t lock; /* guards asking, and changes of is_renewing */
	pthread_cond_t ended;
	struct bc_transfer *asking;
	atomic_bool stop;
};

void bc_auth_header_free(char *header)
{
	if (header)
		explicit_bzero(header, strlen(header));
	mem_free(header);
}

/* ---- the renewal's thread ---- */

static int set_asking(struct bc_auth *a, struct bc_transfer *t)
{
	int rc = 0;

	pthread_mutex_lock(&a->lock);
	if (t && atomic_load(&a->stop))
		rc = -ECANCELED;
	else
		a->asking = t;
	pthread_mutex_unlock(&a->lock);
	return rc;
}

static int judge_token(struct bc_auth *a, const struct bc_transfer *t,
	const struct buf *body, uint64_t asked_ms, struct outcome *o)
{
	char shown[200];
	uint64_t life_s;
	int rc;

	(void)bc_url_redact(a->challenge.realm, shown, sizeof(shown));
	if (t->result < 0)
		return err_set(&o->err, t->result,
			"cannot get a token from '%s' (%s)", shown, t->error);
	if (t->status == 401 || t->status == 403 || t->status == 400)
		return err_set_kind(&o->err, ERR_REFUSED, -EACCES,
			"token server '%s' refused access", shown);
	if (t->status == 429 || t->status >= 500)
		return err_set(&o->err, -ECONNRESET,
			"token server '%s' answered with status %ld", shown,
			t->status);
	if (t->status != 200)
		return err_set_kind(&o->err, ERR_FAILED, -EPROTO,
			"token server '%s' answered with status %ld", shown,
			t->status);
	rc = bc_token_parse(
		(const char *)body->data, body->len, &o->header, &life_s);
	if (rc < 0)
		return err_set_kind(&o->err, ERR_FAILED, rc,
			"token server '%s' gave an answer without a token",
			shown);
	o->refresh_ms = asked_ms + life_s * 800;
	o->expires_ms = asked_ms + life_s * 1000;
	return 0;
}

static int run_token(
	struct bc_auth *a, struct bc_transfer *t, struct outcome *o)
{
	uint64_t asked_ms = clock_ms();
	struct buf body;
	char registry[BC_ORIGIN_MAX + 8];
	int rc = set_asking(a, t);

	if (rc < 0)
		return err_set(&o->err, rc, "cancelled");
	buf_init(&body, BC_TOKEN_MAX_BODY);
	t->grow = &body;
	t->connect_timeout_ms = TOKEN_CONNECT_MS;
	t->stall_timeout_ms = TOKEN_STALL_MS;
	(void)snprintf(registry, sizeof(registry), "https://%s/", a->host);
	if (bc_url_is_same_origin(registry, t->url))
		t->tls = &a->tls;
	(void)bc_net_run(a->net, t); /* judge_token reads t->result */
	(void)set_asking(a, NULL);
	rc = judge_token(a, t, &body, asked_ms, o);
	if (body.data)
		explicit_bzero(body.data, body.len);
	buf_fini(&body);
	bc_transfer_fini(t);
	return rc;
}

/* Identity tokens are exchanged by POST. */
static int post_token(
	struct bc_auth *a, const struct bc_credentials *cred, struct outcome *o)
{
	char *form = bc_token_form(
		&a->challenge, a->repository, cred->identity_token);
	struct bc_transfer t = {
		.method = "POST",
		.url = a->challenge.realm,
		.headers = {"Content-Type: application/x-www-form-urlencoded"},
		.header_count = 1,
		.body = form,
	};
	int rc;

	if (!form)
		return err_set(&o->err, -ENOMEM, "out of memory");
	rc = run_token(a, &t, o);
	explicit_bzero(form, strlen(form));
	mem_free(form);
	return rc;
}

static int get_token(
	struct bc_auth *a, const struct bc_credentials *cred, struct outcome *o)
{
	char *url = bc_token_url(&a->challenge, a->repository, cred);
	char *basic = cred->user ? bc_basic_header(cred) : NULL;
	struct bc_transfer t = {.method = "GET", .url = url};
	int rc;

	if (!url || (cred->user && !basic)) {
		rc = err_set(&o->err, -ENOMEM, "out of memory");
	} else {
		if (basic)
			t.headers[t.header_count++] = basic;
		rc = run_token(a, &t, o);
	}
	bc_auth_header_free(basic);
	mem_free(url);
	return rc;
}

static int make_basic(
	struct bc_auth *a, const struct bc_credentials *cred, struct outcome *o)
{
	if (!cred->user)
		return err_set_kind(&o->err, ERR_REFUSED, -EACCES,
			"no credentials for '%s'", a->host);
	o->header = bc_basic_header(cred);
	if (!o->header)
		return err_set(&o->err, -ENOMEM, "out of memory");
	o->refresh_ms = o->expires_ms = UINT64_MAX;
	return 0;
}

static void *auth_main(void *arg)
{
	struct bc_auth *a = arg;
	struct outcome *o = &a->fresh;
	struct bc_credentials cred;
	int rc;

	(void)pthread_setname_np(pthread_self(), "auth"); /* only a name */
	rc = bc_credentials_find(a->host, a->repository, a->authfile, &a->stop,
		&cred, o->looked_in, sizeof(o->looked_in));
	if (rc < 0)
		rc = err_set(&o->err, rc,
			rc == -ENOMEM ? "out of memory" : "cancelled");
	else if (!a->challenge.has_bearer)
		rc = make_basic(a, &cred, o);
	else if (cred.identity_token)
		rc = post_token(a, &cred, o);
	else
		rc = get_token(a, &cred, o);
	bc_credentials_fini(&cred);
	o->result = rc;
	bc_net_timer_start(a->net, &a->landed, 0);
	return NULL;
}

/* ---- the net thread's side ---- */

static void auth_landed(struct bc_net_timer *t)
{
	struct bc_auth *a = container_of(t, struct bc_auth, landed);
	struct outcome o = a->fresh;
	struct list waiters, *it;

	(void)pthread_join(a->thread, NULL); /* it ends right now */
	pthread_mutex_lock(&a->lock);
	a->is_renewing = false;
	pthread_cond_signal(&a->ended);
	pthread_mutex_unlock(&a->lock);
	a->fresh = (struct outcome){0};
	memcpy(a->looked_in, o.looked_in, sizeof(a->looked_in));
	if (o.result == 0) {
		bc_auth_header_free(a->header);
		a->header = o.header;
		a->refresh_ms = o.refresh_ms;
		a->expires_ms = o.expires_ms;
		a->gen++;
		a->refused_ms = 0;
		a->refusals = 0;
	} else {
		/* The first one may have been bad luck, and costs little. */
		if (o.result == -EACCES && ++a->refusals > 1)
			a->refused_ms = clock_ms() + REFUSED_PAUSE_MS;
		a->early_ms = clock_ms() + EARLY_PAUSE_MS;
		log_debug("%s", o.err.text);
	}
	list_init(&waiters);
	list_splice(&waiters, &a->waiters);
	while ((it = list_pop_front(&waiters))) {
		struct bc_auth_waiter *w =
			container_of(it, struct bc_auth_waiter, node);

		w->ready(w, o.result, &o.err);
	}
}

static int renew_start(struct bc_auth *a)
{
	sigset_t all, old;
	int rc;

	a->fresh = (struct outcome){0};
	a->landed.fire = auth_landed;
	/* Also SIGPIPE: a helper may not read what it is told. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_mutex_lock(&a->lock);
	rc = pthread_create(&a->thread, NULL, auth_main, a);
	a->is_renewing = rc == 0;
	pthread_mutex_unlock(&a->lock);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc == 0 ? 0 : -ENOMEM;
}

static int wait_for(struct bc_auth *a, struct bc_auth_waiter *w)
{
	list_init(&w->node);
	list_push_back(&a->waiters, &w->node);
	return -EINPROGRESS;
}

static void drop_header(struct bc_auth *a)
{
	bc_auth_header_free(a->header);
	a->header = NULL;
}

int bc_auth_get(struct bc_auth *a, struct bc_auth_waiter *w, char **ret_header,
	uint64_t *ret_gen)
{
	uint64_t now = clock_ms();

	if (a->header && now >= a->expires_ms)
		drop_header(a);
	if (a->header) {
		if (now >= a->refresh_ms && now >= a->early_ms &&
			!a->is_renewing)
			(void)renew_start(a); /* else at its end */
		*ret_header = mem_strdup(a->header);
		*ret_gen = a->gen;
		return *ret_header ? 0 : -ENOMEM;
	}
	if (a->is_renewing)
		return wait_for(a, w);
	/* Refused a moment ago: the server may say so itself. */
	if (!a->has_challenge || now < a->refused_ms) {
		*ret_header = NULL;
		*ret_gen = a->gen;
		return 0;
	}
	return renew_start(a) < 0 ? -ENOMEM : wait_for(a, w);
}

/* May credentials be sent where the challenge says? */
static int take_challenge(struct bc_auth *a, const char *text, bool is_plain)
{
	struct bc_challenge c;
	char origin[BC_ORIGIN_MAX], shown[200];

	if (bc_challenge_parse(text, strlen(text), &c) < 0 ||
		(!c.has_bearer && !c.has_basic))
		return -EACCES;
	if (c.has_bearer && (bc_url_origin(c.realm, origin) < 0 ||
				    (!bc_url_is_https(c.realm) && !is_plain))) {
		log_warn("'%s' sends for a token to '%s', which is not https, "
			 "refusing",
			a->host, bc_url_redact(c.realm, shown, sizeof(shown)));
		return -EACCES;
	}
	a->challenge = c;
	a->has_challenge = true;
	return 0;
}

int bc_auth_renew(struct bc_auth *a, struct bc_auth_waiter *w,
	const char *challenge, uint64_t gen, bool is_plain)
{
	int rc;

	/* The challenge belongs to auth_main while that runs. */
	if (a->is_renewing)
		return wait_for(a, w);
	if (a->header && a->gen != gen)
		return 0;
	if (challenge) {
		rc = take_challenge(a, challenge, is_plain);
		if (rc < 0)
			return rc;
	}
	if (!a->has_challenge || clock_ms() < a->refused_ms)
		return -EACCES;
	drop_header(a);
	return renew_start(a) < 0 ? -EACCES : wait_for(a, w);
}

void bc_auth_leave(struct bc_auth_waiter *w)
{
	if (w->node.next)
		list_remove(&w->node);
}

void bc_auth_looked_in(struct bc_auth *a, char *out, size_t cap)
{
	(void)snprintf(out, cap, "%s", a->looked_in);
}

/* ---- life ---- */

int bc_auth_create(struct bc_net *net, const char *host, const char *repository,
	const char *authfile, const struct bc_net_tls *tls,
	struct bc_auth **ret)
{
	struct bc_auth *a = mem_zalloc(sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->net = net;
	list_init(&a->waiters);
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->ended, NULL);
	a->host = mem_strdup(host);
	a->repository = mem_strdup(repository);
	a->authfile = authfile ? mem_strdup(authfile) : NULL;
	if (tls)
		a->tls = *tls;
	if (!a->host || !a->repository || (authfile && !a->authfile)) {
		bc_auth_destroy(a);
		return -ENOMEM;
	}
	*ret = a;
	return 0;
}

/*
 * Ends a renewal. Asked more than once: the token's transfer may be about to be
 * queued, where a cancel does not find it yet.
 */
static void stop_renewal(struct bc_auth *a)
{
	struct timespec until;

	atomic_store(&a->stop, true);
	pthread_mutex_lock(&a->lock);
	while (a->is_renewing) {
		if (a->asking)
			bc_net_cancel(a->net, a->asking);
		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += until.tv_nsec >= 950000000;
		until.tv_nsec = (until.tv_nsec + 50000000) % 1000000000;
		(void)pthread_cond_timedwait(&a->ended, &a->lock, &until);
	}
	pthread_mutex_unlock(&a->lock);
}

void bc_auth_destroy(struct bc_auth *a)
{
	if (!a)
		return;
	stop_renewal(a);
	bc_net_barrier(a->net); /* its landing is over, too */
	bc_auth_header_free(a->header);
	pthread_cond_destroy(&a->ended);
	pthread_mutex_destroy(&a->lock);
	mem_free(a->host);
	mem_free(a->repository);
	mem_free(a->authfile);
	mem_free(a);
}
