/* SPDX-License-Identifier: Apache-2.0 */
/* What calls tell people: one sentence for each way to fail; see call.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blobcache/call_int.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "http"

/* The server spoken to, for messages: "host[:port]" of the URL. */
char *bc_call_host(const struct bc_call *c, char *out, size_t cap)
{
	const char *p = c->url ? strstr(c->url, "://") : NULL;

	if (p)
		(void)snprintf(
			out, cap, "%.*s", (int)strcspn(p + 3, "/?#"), p + 3);
	else
		(void)snprintf(out, cap, "%s", c->remote->host);
	return out;
}

int bc_call_say_refused(struct bc_call *c)
{
	char places[320] = "";

	if (c->is_away)
		return err_set_kind(&c->err, ERR_REFUSED, -EACCES,
			"the storage behind '%s' refused access (status %ld)",
			c->route->label, c->t.status);
	if (c->remote->auth)
		bc_auth_looked_in(c->remote->auth, places, sizeof(places));
	if (!places[0])
		return err_set_kind(&c->err, ERR_REFUSED, -EACCES,
			"access to '%s' was refused", c->route->label);
	return err_set_kind(&c->err, ERR_REFUSED, -EACCES,
		"access to '%s' was refused; looked for credentials in %s",
		c->route->label, places);
}

static int say_failure(struct bc_call *c, enum bc_verdict v)
{
	const char *words = c->t.error[0] ? c->t.error : "no answer";
	struct err *e = &c->err;
	char host[300];

	(void)bc_call_host(c, host, sizeof(host));
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

	(void)bc_call_host(c, host, sizeof(host));
	switch (v) {
	case BC_ANSWER_UNAUTHORIZED:
	case BC_ANSWER_FORBIDDEN:
		return bc_call_say_refused(c);
	case BC_ANSWER_MISSING:
		return err_set_kind(e, ERR_NOT_FOUND, -ENOENT,
			"'%s' was not found (status 404)", c->route->label);
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

int bc_call_say(struct bc_call *c, enum bc_verdict v)
{
	if (c->is_said)
		return c->err.code; /* said already */
	return c->t.result < 0 ? say_failure(c, v) : say_status(c, v);
}

void bc_call_say_down(struct bc_call *c, bool is_retry)
{
	struct bc_route *r = c->route;

	if (!r->is_down)
		bc_net_count_down(r->net, 1);
	r->is_down = true;
	if (r->said_down || !is_retry)
		return;
	r->said_down = true;
	log_warn("%s, retrying", c->err.text);
}

void bc_call_say_up(struct bc_call *c)
{
	if (!c->route->is_down)
		return;
	bc_net_count_down(c->route->net, -1);
	c->route->is_down = false;
	if (c->route->said_down)
		log_warn("'%s' can be reached again", c->route->label);
	c->route->said_down = false;
}
