/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small blob with every whole-buffer codec, its map, what its device must
 * read as, and a cache directory of its own.
 */
#pragma once

#include <fcntl.h>
#include <lz4.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "blobcache/blob.h"
#include "blobcache/store.h"
#include "runtime/base/buf.h"
#include "tests/lib/fake_source.h"

#define FIXTURE_GROUPS 48

struct fixture {
	char dir[64]; /* cache directory */
	uint8_t *device;
	size_t device_len;
	struct buf blob;     /* the compressed bytes */
	struct buf map_file; /* the map's bytes */
	struct digest digest;
	struct bc_store *store;
	struct fake_source *source; /* the open blob's */
	struct bc_blob *b;
};

static inline size_t fixture_pack(enum bc_codec codec, const uint8_t *p,
	size_t n, uint8_t *to, size_t cap)
{
	z_stream z = {0};
	size_t r = n;

	if (codec == BC_CODEC_NONE) {
		memcpy(to, p, n);
	} else if (codec == BC_CODEC_ZSTD) {
		r = ZSTD_compress(to, cap, p, n, 1);
	} else if (codec == BC_CODEC_LZ4_BLOCK) {
		r = (size_t)LZ4_compress_default(
			(const char *)p, (char *)to, (int)n, (int)cap);
	} else {
		deflateInit2(&z, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
		z.next_in = (uint8_t *)p;
		z.avail_in = (unsigned)n;
		z.next_out = to;
		z.avail_out = (unsigned)cap;
		deflate(&z, Z_FINISH);
		r = cap - z.avail_out;
		deflateEnd(&z);
	}
	return r;
}

/* Group i: one to three chunks, the later ones on blocks of their own. */
static inline void fixture_group(
	struct fixture *f, struct bc_map_builder *b, unsigned i, uint64_t *dev)
{
	static const enum bc_codec codecs[] = {BC_CODEC_ZSTD, BC_CODEC_NONE,
		BC_CODEC_GZIP, BC_CODEC_LZ4_BLOCK};
	enum bc_codec codec = codecs[i % 4];
	uint8_t plain[3 * 9000], packed[sizeof(plain) + 4096];
	unsigned chunks = 1 + i % 3, c;
	uint64_t at[3], off = f->blob.len;
	uint32_t g, x = i * 7919 + 1;
	size_t len = 1000 + i * 150 % 8000, n, k;
	struct digest d;

	for (k = 0; k < chunks * len; k++) {
		x = x * 1664525 + 1013904223;
		plain[k] = (uint8_t)(x >> 24) % 31;
	}
	n = fixture_pack(codec, plain, chunks * len, packed, sizeof(packed));
	assert_int_equal(buf_append(&f->blob, packed, n), 0);
	assert_int_equal(
		bc_map_add_group(b, off, n, chunks * len, codec, NULL, 0, &g),
		0);
	for (c = 0; c < chunks; c++) {
		at[c] = *dev;
		memcpy(f->device + at[c], plain + c * len, len);
		assert_int_equal(
			digest_of(c % 2 ? DIGEST_BLAKE3 : DIGEST_SHA256,
				plain + c * len, len, &d),
			0);
		assert_int_equal(
			bc_map_add_chunk(b, g, at[c], len, c * len, &d), 0);
		*dev += i % 5 ? round_up(len, 4096) : len;
	}
	*dev = round_up(*dev, 4096);
}

static inline void fixture_init(struct fixture *f)
{
	struct bc_map_builder *b;
	struct err e = {0};
	uint64_t dev = 0;
	unsigned i;

	*f = (struct fixture){0};
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/bc-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	buf_init(&f->blob, 0);
	buf_init(&f->map_file, 0);
	f->device = mem_calloc(FIXTURE_GROUPS + 1, 3 * 12288);
	assert_non_null(f->device);
	assert_int_equal(bc_map_builder_create(&b), 0);
	for (i = 0; i < FIXTURE_GROUPS; i++)
		fixture_group(f, b, i, &dev);
	f->device_len = dev;
	assert_int_equal(
		bc_map_finish(b, dev, f->blob.len, &f->map_file, &e), 0);
	bc_map_builder_destroy(b);
	assert_int_equal(
		digest_of(DIGEST_SHA256, f->blob.data, f->blob.len, &f->digest),
		0);
}

/* The map again, for each time the blob is opened. */
static inline struct bc_map fixture_map(const struct fixture *f)
{
	uint8_t *copy = mem_alloc(f->map_file.len);
	struct bc_map m;

	assert_non_null(copy);
	memcpy(copy, f->map_file.data, f->map_file.len);
	assert_int_equal(bc_map_from_bytes(copy, f->map_file.len, &m, NULL), 0);
	return m;
}

/* In f->store, which is open. */
static inline void fixture_open_blob(struct fixture *f, struct rt *rt)
{
	struct bc_blob_options o = {.rt = rt, .digest = f->digest};
	struct err e = {0};

	f->source = fake_create(f->blob.data, f->blob.len);
	o.store = f->store;
	o.map = fixture_map(f);
	o.source = &f->source->s;
	assert_int_equal(bc_blob_open(&o, &f->b, &e), 0);
}

static inline void fixture_open(struct fixture *f, struct rt *rt)
{
	struct err e = {0};

	if (bc_store_open(f->dir, &f->store, &e) < 0)
		fail_msg("%s", e.text);
	fixture_open_blob(f, rt);
}

static inline void fixture_close(struct fixture *f)
{
	bc_blob_close(f->b);
	bc_store_close(f->store);
	f->b = NULL;
	f->store = NULL;
	f->source = NULL;
}

static inline void fixture_fini(struct fixture *f)
{
	char cmd[128];

	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	assert_int_equal(system(cmd), 0);
	buf_fini(&f->blob);
	buf_fini(&f->map_file);
	mem_free(f->device);
}

static inline void fixture_start(struct fixture *f, struct rt *rt)
{
	fixture_init(f);
	fixture_open(f, rt);
}

static inline void fixture_end(struct fixture *f)
{
	fixture_close(f);
	fixture_fini(f);
}

/* "<cache>/blobs/<algo>/<hex>/<map id>/<name>"; ret holds 512 bytes. */
static inline char *fixture_path(
	const struct fixture *f, const char *name, char *ret)
{
	char b[129], m[129];
	struct digest id;

	assert_int_equal(digest_of(DIGEST_SHA256, f->map_file.data,
				 f->map_file.len, &id),
		0);
	(void)snprintf(ret, 512, "%s/blobs/sha256/%s/%s/%s", f->dir,
		digest_hex(&f->digest, b), digest_hex(&id, m), name);
	return ret;
}

/* ---- one read, waited for ---- */

struct one_read {
	struct bc_read r;
	struct rt_op *op;
};

static inline void one_read_done(struct bc_read *r)
{
	struct one_read *o = container_of(r, struct one_read, r);

	rt_block_on_done(o->op, r->result);
}

static inline void one_read_start(void *arg, struct rt_op *op)
{
	struct one_read *o = arg;
	int r;

	o->op = op;
	r = bc_blob_read(&o->r);
	if (r != -EINPROGRESS)
		rt_block_on_done(op, r);
}

/* On worker 0. buf may be NULL. */
static inline int read_class(struct rt *rt, struct bc_blob *b, uint64_t off,
	void *buf, size_t len, enum rt_class cls)
{
	struct one_read o = {.r = {.blob = b,
				     .off = off,
				     .len = len,
				     .buf = buf,
				     .cls = cls,
				     .done = one_read_done}};

	return (int)rt_block_on(rt, one_read_start, &o);
}

static inline int read_at(
	struct rt *rt, struct bc_blob *b, uint64_t off, void *buf, size_t len)
{
	return read_class(rt, b, off, buf, len, RT_DEMAND);
}

/* The whole device in reads of step bytes. */
static inline void expect_all(struct rt *rt, struct fixture *f, size_t step)
{
	uint8_t *buf = mem_alloc(step);
	size_t off, n;

	assert_non_null(buf);
	for (off = 0; off < f->device_len; off += step) {
		n = min_u64(step, f->device_len - off);
		memset(buf, 0xa5, step);
		assert_int_equal(read_at(rt, f->b, off, buf, step), 0);
		assert_memory_equal(buf, f->device + off, n);
		for (; n < step; n++)
			assert_int_equal(buf[n], 0);
	}
	mem_free(buf);
}

/* Until the store that goes on beside the replies has ended. */
static inline void wait_cached(struct bc_blob *b, uint64_t bytes)
{
	while (bc_blob_cached_bytes(b) < bytes)
		sched_yield();
}

static inline uint64_t total(struct bc_blob *b)
{
	struct bc_blob_stats s;

	bc_blob_stats(b, &s);
	return s.bytes_total;
}

/* ---- reads that go on by themselves ---- */

/* A read that runs by itself and counts itself down. */
struct bg {
	struct rt_task task;
	struct bc_read r;
	uint8_t buf[100];
	atomic_int result; /* 1 while it runs */
	atomic_int is_started;
};

static inline void bg_done(struct bc_read *r)
{
	atomic_store(&container_of(r, struct bg, r)->result, r->result);
}

static inline void bg_start(struct rt_task *t)
{
	struct bg *g = container_of(t, struct bg, task);
	int r = bc_blob_read(&g->r);

	if (r != -EINPROGRESS)
		atomic_store(&g->result, r);
	atomic_store(&g->is_started, 1);
}

static inline void bg_post(struct rt *rt, struct bg *g, struct bc_blob *b,
	enum rt_class cls, bool has_buf, uint64_t off)
{
	*g = (struct bg){.task.run = bg_start,
		.r = {.blob = b,
			.off = off,
			.len = 100,
			.buf = has_buf ? g->buf : NULL,
			.cls = cls,
			.done = bg_done}};
	atomic_store(&g->result, 1);
	rt_post(rt_worker_at(rt, 0), &g->task);
}
