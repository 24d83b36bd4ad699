/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where redirects led: remembered, forgotten when it has expired, and then
 * asked for again by one call, for which all others wait.
 */
#include "blobcache/call_int.h"
#include "runtime/base/mem.h"

struct bc_target *bc_target_of(struct bc_call *c)
{
	return c->targets ? &c->targets->at[c->at] : NULL;
}

/*
 * The target was known and has expired: one call asks the server for it, all
 * others that want it wait. True: c has to wait.
 */
bool bc_target_wait(struct bc_call *c)
{
	struct bc_target *t = bc_target_of(c);

	if (!t || t->gen == 0 || t->url || c->is_redirected || c->had_turn ||
		!c->has_range)
		return false;
	if (t->resolver && t->resolver != c) {
		c->state = C_TURN;
		if (c->cls == RT_DEMAND)
			bc_call_hurry(c);
		return true;
	}
	t->resolver = c;
	return false;
}

void bc_call_hurry(struct bc_call *c)
{
	struct bc_target *t = bc_target_of(c);
	struct bc_call *r = t ? t->resolver : NULL;

	if (!r || r == c || r->cls == RT_DEMAND)
		return;
	r->cls = RT_DEMAND;
	if (r->state == C_SENT)
		bc_net_promote(r->route->net, &r->t);
}

/* c knows the way, or will not: those that waited go on, all at once. */
void bc_target_release(struct bc_call *c)
{
	struct bc_target *t = bc_target_of(c);

	if (!t || t->resolver != c)
		return;
	t->resolver = NULL;
	list_for_each(it, &c->route->calls) {
		struct bc_call *o = container_of(it, struct bc_call, node);

		if (o->state != C_TURN || bc_target_of(o) != t)
			continue;
		/* Not from here: that could end it, under whoever looks on. */
		o->had_turn = true;
		o->state = C_WAIT;
		bc_net_timer_start(o->route->net, &o->timer, 0);
	}
}

void bc_target_forget(struct bc_call *c)
{
	struct bc_target *t = bc_target_of(c);

	if (!t || !t->url || t->gen != c->target_gen)
		return;
	mem_free(t->url);
	t->url = NULL;
	t->gen++;
}

void bc_target_remember(struct bc_call *c)
{
	struct bc_target *t = bc_target_of(c);

	if (!t || !c->is_redirected || t->url)
		return;
	t->url = mem_strdup(c->url); /* without memory it is asked again */
	t->gen++;
}
