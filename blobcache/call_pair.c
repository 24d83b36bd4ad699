/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of several client certificates a server is shown. It does not say which
 * one it wants: what it refuses is followed by the next pair of certs.d, until
 * one has been taken; that one stays.
 *
 * A refusal may be an alert in or behind the handshake (TLS 1.3 tells only
 * after it) or an answer (nginx: 400; others: 401 or 403).
 */
#include "blobcache/call_int.h"
#include "blobcache/url.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "http"

static struct bc_net_pairs *pairs_of(const struct bc_call *c)
{
	struct bc_net_pairs *p = c->remote->tls.pairs;

	if (c->is_away || !c->url || !bc_url_is_https(c->url))
		return NULL;
	return p;
}

static bool is_refusal(const struct bc_call *c, enum bc_verdict v)
{
	switch (v) {
	case BC_ANSWER_UNAUTHORIZED:
	case BC_ANSWER_FORBIDDEN:
	case BC_ANSWER_GONE:
	case BC_FAIL_TLS:
	case BC_FAIL_TRUST:
		return true;
	case BC_FAIL_BROKE:
	case BC_FAIL_PROTO:
		return c->t.status == 0;
	default:
		return false;
	}
}

void bc_pair_note(struct bc_call *c)
{
	c->pair = c->remote->tls.pairs ? c->remote->tls.pairs->now : 0;
}

bool bc_pair_next(struct bc_call *c, enum bc_verdict v)
{
	struct bc_net_pairs *p = pairs_of(c);

	if (!p || !is_refusal(c, v) || c->pairs_tried + 1 >= p->count)
		return false;
	if (p->is_settled && p->now == c->pair)
		return false;
	c->pairs_tried++;
	/* Unless another call has done so already. */
	if (p->now == c->pair)
		p->now = (p->now + 1) % p->count;
	log_debug("'%s' refuses client certificate '%s', trying '%s'",
		c->remote->host, p->at[c->pair].cert_file,
		p->at[p->now].cert_file);
	return true;
}

void bc_pair_works(struct bc_call *c)
{
	struct bc_net_pairs *p = pairs_of(c);

	if (!p || p->is_settled)
		return;
	p->now = c->pair;
	p->is_settled = true;
}
