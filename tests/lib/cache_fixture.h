/* SPDX-License-Identifier: Apache-2.0 */
/* The fixture's blob as a cache file, filled by hand. */
#pragma once

#include "tests/lib/blob_fixture.h"

/* A store and a cache file, without a blob around them. */
struct cache {
	struct fixture f;
	struct bc_map map;
	struct bc_cachefile c;
};

static inline void cache_open(struct cache *c)
{
	struct err e = {0};

	if (bc_store_open(c->f.dir, &c->f.store, &e) < 0)
		fail_msg("%s", e.text);
	c->map = fixture_map(&c->f);
	assert_int_equal(
		bc_cachefile_open(c->f.store, &c->f.digest, &c->map, &c->c, &e),
		0);
}

static inline void cache_close(struct cache *c)
{
	bc_cachefile_close(&c->c);
	bc_map_close(&c->map);
	bc_store_close(c->f.store);
	c->f.store = NULL;
}

static inline void cache_init(struct cache *c)
{
	fixture_init(&c->f);
	cache_open(c);
	assert_true(c->c.data.fd >= 0);
}

static inline void cache_fini(struct cache *c)
{
	cache_close(c);
	fixture_fini(&c->f);
}

/* Write the chunk's bytes and its bit. */
static inline void cache_fill(struct cache *c, uint32_t chunk)
{
	const struct bc_chunk *k = &c->map.chunks[chunk];

	assert_int_equal(bc_cachefile_store_begin(&c->c), 0);
	assert_int_equal(pwrite(c->c.data.fd, c->f.device + k->dev_off, k->len,
				 (off_t)k->dev_off),
		k->len);
	(void)bc_cachefile_set_ready(&c->c, chunk, 1);
	bc_cachefile_store_end(&c->c);
	assert_true(bc_cachefile_is_ready(&c->c, chunk, 1));
}

static inline void poke(const struct fixture *f, const char *name, off_t at,
	const void *p, size_t n)
{
	char path[512];
	int fd;

	fd = open(fixture_path(f, name, path), O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, n, at), n);
	(void)close(fd);
}

static inline void cache_fill_all(struct cache *c)
{
	uint32_t i;

	for (i = 0; i < c->map.chunk_count; i++)
		cache_fill(c, i);
}
