/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which server of a route a call asks: mirrors in order, then where things come
 * from. A mirror that fails is left alone, for twice as long each time; then
 * one call tries it again. Only when all others have failed in a way that may
 * pass, those are asked as well: somebody has to be back first.
 */

#include "blobcache/call_int.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "http"

#define LEFT_MIN_MS 1000
#define LEFT_MAX_MS 60000
/* As long as one call finds out whether a mirror is back. */
#define PROBE_MS 5000
/* Wrong bytes count as so many failures. */
#define LIAR_FAILURES 6
/* How long a mirror is believed that does not have an object. */
#define MISSING_MS 60000

void bc_targets_fini(struct bc_targets *t)
{
	for (unsigned i = 0; i < BC_MAX_REMOTES; i++)
		mem_free(t->at[i].url);
	*t = (struct bc_targets){0};
}

void bc_call_go_home(struct bc_call *c)
{
	mem_free(c->url);
	c->url = NULL;
	c->hops = 0;
	c->is_redirected = false;
}

static bool is_last(const struct bc_call *c, unsigned i)
{
	return i + 1 == c->route->count;
}

static bool is_left(const struct bc_call *c, unsigned i, uint64_t now)
{
	const struct bc_targets *t = c->targets;

	if (is_last(c, i))
		return false;
	return c->route->remotes[i].left_until_ms > now ||
	       (t && t->at[i].missing_until_ms > now);
}

/* The next one; -1: there is none. */
static int find(const struct bc_call *c, bool with_left, bool with_distrusted)
{
	uint64_t now = clock_ms();
	uint32_t no = c->tried | (with_distrusted ? 0 : c->distrusted);

	for (unsigned i = 0; i < c->route->count; i++) {
		const struct bc_remote *r = &c->route->remotes[i];

		if (no >> i & 1 || (c->is_tag && r->digests_only))
			continue;
		if (with_left || !is_left(c, i, now))
			return (int)i;
	}
	return -1;
}

static void choose(struct bc_call *c, unsigned i)
{
	struct bc_remote *r = &c->route->remotes[i];
	uint64_t now = clock_ms();

	c->at = i;
	c->remote = r;
	c->is_http_probe = false;
	c->pairs_tried = 0;
	c->was_retargeted = c->was_renewed = c->was_challenged = false;
	bc_call_go_home(c);
	/* The others wait for what this one finds. */
	if (r->failures > 0 && r->left_until_ms <= now && !is_last(c, i))
		r->left_until_ms = now + PROBE_MS;
}

/* Who sends wrong bytes is left for long. */
static void distrust(struct bc_call *c)
{
	struct bc_remote *r;

	for (unsigned i = 0; i + 1 < c->route->count; i++) {
		r = &c->route->remotes[i];
		if (!(c->distrusted >> i & 1))
			continue;
		if (r->failures == 0)
			log_warn("mirror '%s' sent wrong bytes for '%s', "
				 "leaving it for a while",
				r->host, c->route->label);
		r->failures = LIAR_FAILURES;
		r->left_until_ms = clock_ms() + LEFT_MAX_MS;
	}
}

void bc_route_choose(struct bc_call *c)
{
	int i;

	c->last_err.code = 0;
	distrust(c);
	i = find(c, false, false);
	if (i < 0)
		i = find(c, false, true);
	choose(c, i < 0 ? c->route->count - 1 : (unsigned)i);
}

static void leave(struct bc_call *c)
{
	struct bc_remote *r = c->remote;
	unsigned shift = min_u64(r->failures, 6);
	uint64_t ms = min_u64((uint64_t)LEFT_MIN_MS << shift, LEFT_MAX_MS);

	if (r->failures++ == 0)
		log_warn("%s, leaving this mirror of '%s' for a while",
			c->err.text, c->route->label);
	r->left_until_ms = clock_ms() + ms;
}

/* What v says of the mirror that c has asked. */
static void note_failure(struct bc_call *c, enum bc_verdict v)
{
	if (v != BC_ANSWER_MISSING) {
		leave(c);
		return;
	}
	/* It is well, but for this. */
	c->remote->failures = 0;
	c->remote->left_until_ms = 0;
	if (c->targets)
		c->targets->at[c->at].missing_until_ms =
			clock_ms() + MISSING_MS;
}

bool bc_route_next(struct bc_call *c, enum bc_verdict *v)
{
	int next;

	c->tried |= 1u << c->at;
	if (is_last(c, c->at)) {
		c->last_err = c->err;
		c->last_verdict = *v;
	} else {
		note_failure(c, *v);
	}
	next = find(c, false, false);
	if (next < 0)
		next = find(c, false, true);
	if (next < 0 &&
		(!c->last_err.code || bc_verdict_is_transient(c->last_verdict)))
		next = find(c, true, true);
	if (next >= 0) {
		choose(c, (unsigned)next);
		return true;
	}
	if (c->last_err.code) {
		c->err = c->last_err;
		*v = c->last_verdict;
	}
	return false;
}

void bc_route_works(struct bc_call *c)
{
	struct bc_remote *r = c->remote;

	if (r->failures > 0 && !is_last(c, c->at))
		log_warn("mirror '%s' of '%s' works again", r->host,
			c->route->label);
	r->failures = 0;
	r->left_until_ms = 0;
}
