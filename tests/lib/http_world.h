/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole read path in tests: a blob with its cache over HTTP from the fault
 * server, whose byte i is i % 251. Its device is the object itself, in groups
 * of WORLD_GROUP bytes, each of two chunks.
 */
#pragma once

#include "blobcache/blob.h"
#include "blobcache/registry.h"
#include "runtime/base/util.h"
#include "tests/lib/fetching.h"

#define WORLD_SIZE (1u << 20)
#define WORLD_GROUP (32u << 10)

struct http_world {
	struct rt *rt;      /* the caller's */
	struct bc_net *net; /* the caller's */
	char dir[40];
	struct buf map_file;
	struct digest digest;
	struct bc_store *store;
	struct bc_blob *blob;
};

static inline void world_map(struct buf *out)
{
	struct bc_map_builder *b;
	uint8_t half[WORLD_GROUP / 2];
	struct digest d;
	uint32_t g;

	assert_int_equal(bc_map_builder_create(&b), 0);
	for (uint64_t at = 0; at < WORLD_SIZE; at += sizeof(half)) {
		uint64_t in_group = at % WORLD_GROUP;

		for (size_t i = 0; i < sizeof(half); i++)
			half[i] = (uint8_t)((at + i) % 251);
		assert_int_equal(
			digest_of(DIGEST_SHA256, half, sizeof(half), &d), 0);
		assert_int_equal(
			bc_map_add_group(b, at - in_group, WORLD_GROUP,
				WORLD_GROUP, BC_CODEC_NONE, NULL, 0, &g),
			0);
		assert_int_equal(
			bc_map_add_chunk(b, g, at, sizeof(half), in_group, &d),
			0);
	}
	assert_int_equal(
		bc_map_finish(b, WORLD_SIZE, WORLD_SIZE, out, NULL), 0);
	bc_map_builder_destroy(b);
}

static inline void world_init(
	struct http_world *w, struct rt *rt, struct bc_net *net)
{
	*w = (struct http_world){.rt = rt, .net = net};
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/sluice-world-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	buf_init(&w->map_file, 0);
	world_map(&w->map_file);
	assert_int_equal(digest_of(DIGEST_SHA256, "world", 5, &w->digest), 0);
}

static inline void world_fini(struct http_world *w)
{
	buf_fini(&w->map_file);
	must_run("rm -rf %s", w->dir);
}

/* 0, or what failed; then nothing is open. */
static inline int world_open(
	struct http_world *w, const char *url, uint32_t offline_ms)
{
	struct bc_registry_options ro = {.offline_ms = offline_ms};
	struct bc_blob_options o = {.rt = w->rt, .digest = w->digest};
	uint8_t *copy = mem_alloc(w->map_file.len);
	struct err e = {0};
	int rc;

	if (!copy)
		return -ENOMEM;
	memcpy(copy, w->map_file.data, w->map_file.len);
	rc = bc_map_from_bytes(copy, w->map_file.len, &o.map, NULL);
	if (rc < 0) {
		mem_free(copy);
		return rc;
	}
	rc = bc_store_open(w->dir, &w->store, &e);
	if (rc < 0) {
		bc_map_close(&o.map);
		return rc;
	}
	o.store = w->store;
	rc = bc_http_source_open(w->net, &ro, url, WORLD_SIZE, &o.source, &e);
	if (rc == 0)
		rc = bc_blob_open(&o, &w->blob, &e);
	if (rc == 0)
		return 0;
	bc_source_destroy(o.source);
	bc_map_close(&o.map);
	bc_store_close(w->store);
	return rc;
}

static inline void world_close(struct http_world *w)
{
	bc_blob_close(w->blob);
	bc_store_close(w->store);
}

struct world_read {
	struct bc_read r;
	struct rt_op *op;
};

static inline void world_read_done(struct bc_read *r)
{
	rt_block_on_done(container_of(r, struct world_read, r)->op, r->result);
}

static inline void world_read_start(void *arg, struct rt_op *op)
{
	struct world_read *o = arg;
	int r;

	o->op = op;
	r = bc_blob_read(&o->r);
	if (r != -EINPROGRESS)
		rt_block_on_done(op, r);
}

/* A read on worker 0; what it says is there has to be right. */
static inline int world_read(struct http_world *w, uint64_t off, size_t len)
{
	uint8_t *buf = mem_zalloc(len);
	struct world_read o = {.r = {.blob = w->blob,
				       .off = off,
				       .len = len,
				       .buf = buf,
				       .cls = RT_DEMAND,
				       .done = world_read_done}};
	int rc;

	if (!buf)
		return -ENOMEM;
	rc = (int)rt_block_on(w->rt, world_read_start, &o);
	for (size_t i = 0; rc == 0 && i < len; i++)
		if (buf[i] != (off + i) % 251)
			fail_msg("wrong byte at %zu", (size_t)off + i);
	mem_free(buf);
	return rc;
}

/* Until all of it is in the cache; fails after 20 s. */
static inline void world_wait_cached(struct http_world *w)
{
	for (int i = 0; bc_blob_cached_bytes(w->blob) < WORLD_SIZE; i++) {
		if (i == 2000)
			fail_msg("only %llu bytes come",
				(unsigned long long)bc_blob_cached_bytes(
					w->blob));
		(void)poll(NULL, 0, 10);
	}
}
