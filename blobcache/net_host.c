/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much each server is asked at once: additive increase, halved when it says
 * that it is too much (429, 503). Prefetch never has more than three quarters.
 * A dead server has room for one transfer only, so that it takes nothing from
 * others.
 */
#include <errno.h>
#include <string.h>

#include "blobcache/net_int.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* Answers of one burst count as one complaint. */
#define HALVE_PAUSE_MS 500
#define NO_RANGES_MS (5 * 60 * 1000)
#define H2_STREAMS 32

static struct net_host *host_find(struct bc_net *n, const char *origin)
{
	list_for_each(it, &n->hosts) {
		struct net_host *h = container_of(it, struct net_host, node);

		if (strcmp(h->origin, origin) == 0)
			return h;
	}
	return NULL;
}

/* Forget the one that was idle longest. */
static void host_evict(struct bc_net *n)
{
	struct net_host *oldest = NULL;

	list_for_each(it, &n->hosts) {
		struct net_host *h = container_of(it, struct net_host, node);

		if (h->active == 0 && (!oldest || h->used_ms < oldest->used_ms))
			oldest = h;
	}
	if (!oldest)
		return;
	list_remove(&oldest->node);
	mem_free(oldest);
	n->host_count--;
}

struct net_host *net_host_get(struct bc_net *n, const char *url)
{
	char origin[BC_ORIGIN_MAX];
	struct net_host *h;

	if (bc_url_origin(url, origin) < 0)
		return NULL;
	h = host_find(n, origin);
	if (h)
		return h;
	if (n->host_count >= NET_MAX_HOSTS)
		host_evict(n);
	h = mem_zalloc(sizeof(*h));
	if (!h)
		return NULL;
	memcpy(h->origin, origin, sizeof(origin));
	h->ceiling = h->limit = n->o.max_host_connections;
	h->used_ms = clock_ms();
	list_push_back(&n->hosts, &h->node);
	n->host_count++;
	return h;
}

bool net_host_has_room(const struct net_host *h, enum rt_class cls)
{
	/* at least one, and one is left where there are two */
	unsigned spared = (unsigned)div_round_up(h->limit, 4);
	unsigned most = h->limit > 1 ? h->limit - spared : 1;

	if (h->active >= h->limit)
		return false;
	return cls == RT_DEMAND || h->active_prefetch < most;
}

bool net_is_unreached(int result)
{
	return result == -ECONNREFUSED || result == -EHOSTUNREACH ||
	       result == -ENETUNREACH || result == -ETIMEDOUT;
}

void net_host_judge(struct net_host *h, const struct bc_transfer *t)
{
	uint64_t now = clock_ms();

	h->used_ms = now;
	if (net_is_unreached(t->result)) {
		h->is_dead = true;
		h->limit = 1;
		h->good = 0;
	} else if (h->is_dead && t->status > 0) {
		h->is_dead = false;
		h->limit = h->ceiling;
	}
	if (t->result < 0)
		return;
	if (t->status == 429 || t->status == 503) {
		if (h->halved_ms && now - h->halved_ms < HALVE_PAUSE_MS)
			return;
		h->limit = h->limit > 1 ? h->limit / 2 : 1;
		h->halved_ms = now;
		h->good = 0;
		return;
	}
	if (h->limit >= h->ceiling || ++h->good < h->limit)
		return;
	h->limit++;
	h->good = 0;
}

void net_host_set_h2(struct net_host *h)
{
	if (h->ceiling >= H2_STREAMS)
		return;
	if (h->limit == h->ceiling)
		h->limit = H2_STREAMS;
	h->ceiling = H2_STREAMS;
}

void net_hosts_fini(struct bc_net *n)
{
	struct list *it;

	while ((it = list_pop_front(&n->hosts)))
		mem_free(container_of(it, struct net_host, node));
	n->host_count = 0;
}

void bc_net_host_set_no_ranges(struct bc_net *n, const char *url)
{
	struct net_host *h = net_host_get(n, url);

	if (h)
		h->no_ranges_ms = clock_ms();
}

bool bc_net_host_has_no_ranges(struct bc_net *n, const char *url)
{
	struct net_host *h = net_host_get(n, url);

	return h && h->no_ranges_ms &&
	       clock_ms() - h->no_ranges_ms < NO_RANGES_MS;
}
