/* SPDX-License-Identifier: Apache-2.0 */
/* Timers on the net thread, and its counters; see net.h. */
#include "blobcache/net_int.h"
#include "runtime/base/clock.h"

static bool timer_is_armed(const struct bc_net_timer *t)
{
	return t->node.next && !list_is_empty(&t->node);
}

void bc_net_timer_start(struct bc_net *n, struct bc_net_timer *t, uint64_t ms)
{
	struct list *at;

	pthread_mutex_lock(&n->lock);
	if (timer_is_armed(t))
		list_remove(&t->node);
	list_init(&t->node);
	t->due_ms = clock_ms() + ms;
	/* From the end: equal times keep their order. */
	for (at = n->timers.prev; at != &n->timers; at = at->prev)
		if (container_of(at, struct bc_net_timer, node)->due_ms <=
			t->due_ms)
			break;
	list_push_front(at, &t->node);
	(void)net_wake_locked(n);
	pthread_mutex_unlock(&n->lock);
}

void bc_net_timer_stop(struct bc_net *n, struct bc_net_timer *t)
{
	pthread_mutex_lock(&n->lock);
	if (timer_is_armed(t))
		list_remove(&t->node);
	pthread_mutex_unlock(&n->lock);
}

struct barrier {
	struct bc_net_timer timer;
	struct bc_net *net;
	bool is_passed;
};

static void barrier_fire(struct bc_net_timer *t)
{
	struct barrier *b = container_of(t, struct barrier, timer);

	pthread_mutex_lock(&b->net->lock);
	b->is_passed = true;
	pthread_cond_broadcast(&b->net->ended);
	pthread_mutex_unlock(&b->net->lock);
}

void bc_net_barrier(struct bc_net *n)
{
	struct barrier b = {.timer.fire = barrier_fire, .net = n};
	bool is_running;

	pthread_mutex_lock(&n->lock);
	is_running = n->is_started && !n->is_stopping;
	pthread_mutex_unlock(&n->lock);
	if (!is_running)
		return;
	bc_net_timer_start(n, &b.timer, 0);
	pthread_mutex_lock(&n->lock);
	while (!b.is_passed)
		pthread_cond_wait(&n->ended, &n->lock);
	pthread_mutex_unlock(&n->lock);
}

/* ---- counters ---- */

void bc_net_count_retry(struct bc_net *n)
{
	pthread_mutex_lock(&n->lock);
	n->stats.retries++;
	pthread_mutex_unlock(&n->lock);
}

void bc_net_count_down(struct bc_net *n, int by)
{
	pthread_mutex_lock(&n->lock);
	n->down_count += (unsigned)by;
	pthread_mutex_unlock(&n->lock);
}

void bc_net_stats(struct bc_net *n, struct bc_net_stats *ret)
{
	pthread_mutex_lock(&n->lock);
	*ret = n->stats;
	ret->offline = n->down_count > 0;
	pthread_mutex_unlock(&n->lock);
}
