/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How calls are started, promoted and cancelled from other threads.
 *
 * A call belongs to the net thread from its first timer on. Who wants something
 * of it sets a flag and starts the sweep of its route, which looks through all
 * calls of that route: so nothing has to be queued that could be gone.
 */
#include <errno.h>
#include <pthread.h>

#include "blobcache/call_int.h"
#include "blobcache/curl_lib.h"
#include "blobcache/tls_dir.h"
#include "runtime/base/mem.h"

static void call_wake(struct bc_net_timer *t)
{
	bc_call_send(container_of(t, struct bc_call, timer));
}

static void call_begin(struct bc_net_timer *t)
{
	struct bc_call *c = container_of(t, struct bc_call, timer);

	list_init(&c->node);
	list_push_back(&c->route->calls, &c->node);
	c->timer.fire = call_wake;
	bc_route_choose(c);
	bc_call_send(c);
}

void bc_call_start(struct bc_call *c)
{
	c->result = 0;
	c->err = (struct err){0};
	atomic_store(&c->is_cancelled, false);
	atomic_store(&c->is_promoted, false);
	c->state = C_NEW;
	c->url = c->auth_header = c->accept_header = NULL;
	c->tried = 0;
	c->last_err = (struct err){0};
	c->got = c->sent_ms = c->first_failure_ms = c->target_gen = 0;
	c->attempt = c->hops = 0;
	c->is_redirected = c->is_away = c->is_probe = c->is_http_probe = false;
	c->was_challenged = c->was_renewed = c->was_retargeted = false;
	c->is_said = c->had_turn = false;
	c->timer = (struct bc_net_timer){.fire = call_begin};
	c->waiter = (struct bc_auth_waiter){0};
	bc_net_timer_start(c->route->net, &c->timer, 0);
}

/* Look for calls that somebody cancelled or promoted. */
static void route_sweep(struct bc_net_timer *t)
{
	struct bc_route *r = container_of(t, struct bc_route, sweep);

	list_for_each_safe(it, &r->calls) {
		struct bc_call *c = container_of(it, struct bc_call, node);

		if (atomic_load(&c->is_promoted) && c->cls != RT_DEMAND) {
			c->cls = RT_DEMAND;
			if (c->state == C_SENT)
				bc_net_promote(r->net, &c->t);
			if (c->state == C_TURN)
				bc_call_hurry(c);
		}
		if (!atomic_load(&c->is_cancelled))
			continue;
		if (c->state == C_SENT) {
			bc_net_cancel(r->net, &c->t);
			continue;
		}
		bc_net_timer_stop(r->net, &c->timer);
		bc_auth_leave(&c->waiter);
		bc_call_end(c, -ECANCELED);
	}
}

void bc_call_cancel(struct bc_call *c)
{
	atomic_store(&c->is_cancelled, true);
	bc_net_timer_start(c->route->net, &c->route->sweep, 0);
}

void bc_call_promote(struct bc_call *c)
{
	atomic_store(&c->is_promoted, true);
	bc_net_timer_start(c->route->net, &c->route->sweep, 0);
}

struct call_wait {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned left; /* calls that have not ended */
};

static void run_ended(struct bc_call *c)
{
	struct call_wait *w = c->wait;

	pthread_mutex_lock(&w->lock);
	if (--w->left == 0)
		pthread_cond_signal(&w->ended);
	pthread_mutex_unlock(&w->lock);
}

/* What every call needs; else c has its error. */
static bool may_start(struct bc_call *c)
{
	int rc = bc_curl_load(&c->err);

	if (rc == 0) {
		rc = bc_net_ensure(c->route->net);
		if (rc < 0)
			(void)err_set(
				&c->err, rc, "cannot start the net thread");
	}
	c->result = rc;
	return rc == 0;
}

void bc_call_run_all(struct bc_call *c, unsigned n)
{
	struct call_wait w = {.left = n};
	unsigned i;

	for (i = 0; i < n; i++)
		if (!may_start(&c[i]))
			w.left--;
	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.ended, NULL);
	for (i = 0; i < n; i++) {
		if (c[i].result < 0)
			continue;
		c[i].wait = &w;
		c[i].done = run_ended;
		bc_call_start(&c[i]);
	}
	pthread_mutex_lock(&w.lock);
	while (w.left > 0)
		pthread_cond_wait(&w.ended, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.ended);
	pthread_mutex_destroy(&w.lock);
}

int bc_call_run(struct bc_call *c)
{
	bc_call_run_all(c, 1);
	return c->result;
}

void bc_call_fini(struct bc_call *c)
{
	bc_transfer_fini(&c->t);
}

void bc_route_init(struct bc_route *r, struct bc_net *net)
{
	r->net = net;
	list_init(&r->calls);
	r->sweep = (struct bc_net_timer){.fire = route_sweep};
}

static void remote_fini(struct bc_remote *r)
{
	bc_auth_destroy(r->auth);
	mem_free(r->host);
	mem_free(r->prefix);
	mem_free(r->query);
	bc_tls_fini(&r->tls);
}

void bc_route_fini(struct bc_route *r)
{
	for (unsigned i = 0; i < r->count; i++)
		remote_fini(&r->remotes[i]);
	if (r->net)
		bc_net_barrier(r->net); /* a sweep may still be due */
	if (r->is_down)
		bc_net_count_down(r->net, -1);
	mem_free(r->label);
	*r = (struct bc_route){0};
}
