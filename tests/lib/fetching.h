/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching from a source in tests, and what the fault server says it saw. */
#pragma once

#include <semaphore.h>
#include <stdbool.h>

#include "blobcache/net.h"
#include "blobcache/source.h"
#include "runtime/base/mem.h"
#include "runtime/runtime.h"
#include "tests/lib/servers.h"

/* Of the fault server's objects. */
#define SIZE (1u << 20)

static inline struct bc_net *net_start(void)
{
	struct bc_net *net;
	struct err e = {0};

	if (bc_net_create(NULL, &net, &e) < 0)
		fail_msg("%s", e.text);
	return net;
}

/* A started runtime on the engine that it chooses. */
static inline struct rt *runtime_start(unsigned workers)
{
	struct rt *rt;
	struct err e = {0};

	if (rt_create(&(struct rt_options){.workers = workers}, &rt, &e) < 0 ||
		rt_start(rt, &e) < 0)
		fail_msg("%s", e.text);
	return rt;
}

static inline void runtime_stop(struct rt *rt)
{
	rt_stop(rt);
	rt_destroy(rt);
}

struct fetching {
	struct bc_fetch f;
	sem_t ended;
};

static inline void fetching_done(struct bc_fetch *f)
{
	struct fetching *g = container_of(f, struct fetching, f);

	assert_ptr_equal(rt_worker_self(), f->worker);
	(void)sem_post(&g->ended);
}

static inline void fetching_init(struct fetching *g, struct rt *rt,
	uint64_t off, uint8_t *buf, size_t len)
{
	*g = (struct fetching){.f = {
				       .off = off,
				       .len = len,
				       .buf = buf,
				       .worker = rt_worker_at(rt, 0),
				       .done = fetching_done,
			       }};
	assert_non_null(buf);
	(void)sem_init(&g->ended, 0, 0);
}

/* The result, whatever the bytes are. */
static inline int fetching_wait(struct fetching *g)
{
	while (sem_wait(&g->ended) != 0)
		continue;
	(void)sem_destroy(&g->ended);
	return g->f.result;
}

/* Into a buffer of its own, until fetching_end. */
static inline void fetching_start(struct fetching *g, struct rt *rt,
	struct bc_source *s, uint64_t off, size_t len)
{
	fetching_init(g, rt, off, mem_zalloc(len), len);
	bc_source_fetch(s, &g->f);
}

/* The result. Bytes must be the fault server's. */
static inline int fetching_end(struct fetching *g)
{
	int rc = fetching_wait(g);

	if (rc == 0)
		for (size_t i = 0; i < g->f.len; i++)
			if (g->f.buf[i] != (g->f.off + i) % 251)
				fail_msg("wrong byte at %zu", i);
	mem_free(g->f.buf);
	return rc;
}

static inline int fetch_range(
	struct rt *rt, struct bc_source *s, uint64_t off, size_t len)
{
	struct fetching g;

	fetching_start(&g, rt, s, off, len);
	return fetching_end(&g);
}

/* The same into buf, whatever the bytes are. */
static inline int fetch_into(struct rt *rt, struct bc_source *s, uint64_t off,
	uint8_t *buf, size_t len)
{
	struct fetching g;

	fetching_init(&g, rt, off, buf, len);
	bc_source_fetch(s, &g.f);
	return fetching_wait(&g);
}

/* A GET that must work; its body as text. */
static inline char *fetch_text(struct bc_net *net, int port, const char *path)
{
	char url[300], *text;
	struct buf body;
	struct bc_transfer t = {.method = "GET", .url = url, .grow = &body};

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", port, path);
	buf_init(&body, 1 << 20);
	assert_int_equal(bc_net_run(net, &t), 0);
	assert_int_equal(t.status, 200);
	assert_int_equal(buf_terminate(&body), 0);
	text = mem_strdup((char *)body.data);
	bc_transfer_fini(&t);
	buf_fini(&body);
	return text;
}

static inline unsigned count_lines(const char *text, const char *with)
{
	unsigned n = 0;

	while ((text = strstr(text, with))) {
		n++;
		text += strlen(with);
	}
	return n;
}

/* How often the text stands in what a fault server was asked since the last
 * time.
 */
static inline unsigned asked(
	struct bc_net *net, const struct server *s, const char *what)
{
	char *log = fetch_text(net, s->port[0], "/_log");
	unsigned n = count_lines(log, what);

	mem_free(log);
	return n;
}

static inline void forget_log(struct bc_net *net, const struct server *s)
{
	mem_free(fetch_text(net, s->port[0], "/_log"));
}
