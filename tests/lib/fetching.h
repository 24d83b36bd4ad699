/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching from a source in tests, and what the fault server says it saw. */
#pragma once

#include <semaphore.h>
#include <stdbool.h>

#include "blobcache/net.h"
#include "blobcache/source.h"
#include "runtime/base/mem.h"
#include "tests/lib/servers.h"

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

static inline void fetching_start(struct fetching *g, struct rt *rt,
	struct bc_source *s, uint64_t off, size_t len)
{
	*g = (struct fetching){.f = {
				       .off = off,
				       .len = len,
				       .buf = mem_zalloc(len),
				       .worker = rt_worker_at(rt, 0),
				       .done = fetching_done,
			       }};
	assert_non_null(g->f.buf);
	(void)sem_init(&g->ended, 0, 0);
	bc_source_fetch(s, &g->f);
}

/* The result; buf is freed. Bytes must be the fault server's. */
static inline int fetching_end(struct fetching *g)
{
	while (sem_wait(&g->ended) != 0)
		continue;
	if (g->f.result == 0)
		for (size_t i = 0; i < g->f.len; i++)
			if (g->f.buf[i] != (g->f.off + i) % 251)
				fail_msg("wrong byte at %zu", i);
	mem_free(g->f.buf);
	(void)sem_destroy(&g->ended);
	return g->f.result;
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
	struct fetching g = {.f = {
				     .off = off,
				     .len = len,
				     .buf = buf,
				     .worker = rt_worker_at(rt, 0),
				     .done = fetching_done,
			     }};

	(void)sem_init(&g.ended, 0, 0);
	bc_source_fetch(s, &g.f);
	while (sem_wait(&g.ended) != 0)
		continue;
	(void)sem_destroy(&g.ended);
	return g.f.result;
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
