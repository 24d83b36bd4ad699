/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 4 KiB reads at random places: plain system calls, the hit path, and both
 * engines with 32 reads under way. Everything is called from one thread, each
 * runtime's worker included, so that only what is compared differs.
 *
 * Each series of a round reads the same blocks (cached), or blocks that nobody
 * has read before (uncached), and looks at the first bytes of each.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/file.h"
#include "tests/bench/bench.h"

enum {
	BLOCK = 4096,
	DEPTH = 32,
	CACHED_OPS = 10000,
	UNCACHED_OPS = 2000,
	/* what fits in a processor's cache would measure that */
	CACHED_WINDOW = (128 << 20) / BLOCK,
};

struct lane {
	struct rt_io io;
	struct reads *r;
	uint32_t number;
	uint8_t *buf;
};

/* One series of one round. */
struct reads {
	const uint32_t *blocks;
	unsigned count, next, ended;
	struct rt_file file;
	struct rt_op *block;
	struct lane lanes[DEPTH];
	uint8_t *buffers; /* owned, DEPTH blocks */
	int fd;
	bool ok;
};

static bool is_block(const uint8_t *buf, uint32_t number)
{
	uint64_t first;

	memcpy(&first, buf, sizeof(first));
	return first == number;
}

/* ---- one after the other ---- */

static void plain_pread(struct reads *r)
{
	for (unsigned i = 0; i < r->count; i++)
		r->ok &= pread(r->fd, r->buffers, BLOCK,
				 (off_t)r->blocks[i] * BLOCK) == BLOCK &&
		         is_block(r->buffers, r->blocks[i]);
}

static void bare_nowait(struct reads *r)
{
	struct iovec one = {.iov_base = r->buffers, .iov_len = BLOCK};

	for (unsigned i = 0; i < r->count; i++)
		r->ok &= preadv2(r->fd, &one, 1, (off_t)r->blocks[i] * BLOCK,
				 RWF_NOWAIT) == BLOCK &&
		         is_block(r->buffers, r->blocks[i]);
}

static void hits_start(void *arg, struct rt_op *op)
{
	struct reads *r = arg;

	for (unsigned i = 0; i < r->count; i++)
		r->ok &= rt_file_try_read(&r->file, r->buffers, BLOCK,
				 (uint64_t)r->blocks[i] * BLOCK) == BLOCK &&
		         is_block(r->buffers, r->blocks[i]);
	rt_block_on_done(op, 0);
}

/* ---- DEPTH at a time ---- */

static void lane_done(struct rt_op *op);

static void lane_start(struct lane *l, struct rt_worker *w)
{
	struct reads *r = l->r;

	l->number = r->blocks[r->next++];
	rt_file_read(w, &l->io, r->fd, l->buf, BLOCK,
		(uint64_t)l->number * BLOCK, lane_done);
}

static void lane_done(struct rt_op *op)
{
	struct lane *l = container_of(op, struct lane, io.op);
	struct reads *r = l->r;

	r->ok &= op->result == BLOCK && is_block(l->buf, l->number);
	r->ended++;
	if (r->next < r->count)
		lane_start(l, op->worker);
	else if (r->ended == r->count)
		rt_block_on_done(r->block, 0);
}

static void lanes_start(void *arg, struct rt_op *op)
{
	struct reads *r = arg;

	r->block = op;
	for (unsigned i = 0; i < DEPTH && r->next < r->count; i++) {
		r->lanes[i].r = r;
		r->lanes[i].buf = r->buffers + (size_t)i * BLOCK;
		lane_start(&r->lanes[i], op->worker);
	}
}

/* ---- a round ---- */

struct series {
	const char *name;
	enum rt_backend backend; /* AUTO: none, a plain loop */
	void (*loop)(struct reads *r);
	void (*start)(void *arg, struct rt_op *op);
};

static struct rt *engines[RT_BACKEND_THREADS + 1];

static void engines_make(void)
{
	struct rt_options o = {.calling_thread = true};

	engines[RT_BACKEND_URING] = bench_runtime(o, RT_BACKEND_URING);
	engines[RT_BACKEND_THREADS] = bench_runtime(o, RT_BACKEND_THREADS);
}

static void engines_end(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(engines); i++) {
		rt_stop(engines[i]);
		rt_destroy(engines[i]);
	}
}

static bool is_wanted(const struct bench_args *a, const struct series *s)
{
	if (a->only && strcmp(a->only, s->name) != 0)
		return false;
	return s->loop || engines[s->backend];
}

static void measure(struct reads *r, const struct series *s)
{
	uint64_t cpu, wall;
	char name[80];

	r->next = r->ended = 0;
	r->ok = true;
	wall = clock_ns();
	cpu = bench_cpu_ns();
	if (s->loop)
		s->loop(r);
	else
		(void)rt_block_on(engines[s->backend], s->start, r);
	cpu = bench_cpu_ns() - cpu;
	wall = clock_ns() - wall;
	bench_need(r->ok, s->name);
	(void)snprintf(name, sizeof(name), "%s.cpu_ns", s->name);
	bench_print(name, (double)cpu / r->count);
	(void)snprintf(name, sizeof(name), "%s.iops", s->name);
	bench_print(name, r->count * 1e9 / (double)wall);
}

static void reads_init(struct reads *r, const char *path)
{
	*r = (struct reads){.fd = open(path, O_RDONLY | O_CLOEXEC)};
	bench_need(r->fd >= 0, "cannot open the file");
	r->buffers = mem_alloc_aligned(BLOCK, (size_t)DEPTH * BLOCK);
	bench_need(r->buffers, "no memory");
	memset(r->buffers, 0, (size_t)DEPTH * BLOCK);
	bench_need(posix_fadvise(r->fd, 0, 0, POSIX_FADV_RANDOM) == 0,
		"no advice about the file");
	rt_file_init(&r->file, r->fd);
}

static void reads_fini(struct reads *r)
{
	mem_free(r->buffers);
	(void)close(r->fd); /* only read */
}

static uint32_t file_blocks(int fd)
{
	struct stat st;

	bench_need(fstat(fd, &st) == 0 && st.st_size >= BLOCK, "no file");
	return (uint32_t)(st.st_size / BLOCK);
}

/* The share of the file's first blocks that is in the page cache. */
static double resident(int fd, uint32_t blocks)
{
	size_t len = (size_t)blocks * BLOCK, in = 0;
	uint8_t *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	uint8_t *vec = mem_alloc(blocks);

	bench_need(map != MAP_FAILED && vec && mincore(map, len, vec) == 0,
		"cannot see what is cached");
	for (uint32_t i = 0; i < blocks; i++)
		in += vec[i] & 1;
	(void)munmap(map, len);
	mem_free(vec);
	return (double)in / blocks;
}

static void warm(struct reads *r, uint32_t blocks)
{
	for (uint32_t i = 0; i < blocks; i++)
		bench_need(pread(r->fd, r->buffers, BLOCK, (off_t)i * BLOCK) ==
				   BLOCK,
			"cannot read the file");
}

void bench_cached(const struct bench_args *a)
{
	static const struct series all[] = {
		{.name = "cached.pread", .loop = plain_pread},
		{.name = "cached.nowait", .loop = bare_nowait},
		{"cached.hit_uring", RT_BACKEND_URING, .start = hits_start},
		{"cached.hit_threads", RT_BACKEND_THREADS, .start = hits_start},
		{"cached.uring32", RT_BACKEND_URING, .start = lanes_start},
		{"cached.threads32", RT_BACKEND_THREADS, .start = lanes_start},
	};
	unsigned ops = a->ops ? a->ops : CACHED_OPS;
	uint32_t *blocks = mem_alloc(ops * sizeof(*blocks)), window;
	uint64_t seed = clock_ns();
	struct reads r;

	reads_init(&r, a->file);
	window = (uint32_t)min_u64(file_blocks(r.fd), CACHED_WINDOW);
	r.blocks = blocks;
	engines_make();
	for (unsigned n = 0; n < a->rounds; n++) {
		for (unsigned i = 0; i < ops; i++)
			blocks[i] = (uint32_t)(bench_random(&seed) % window);
		r.count = ops;
		do { /* something may push it out at any time */
			warm(&r, window);
		} while (resident(r.fd, window) < 1);
		for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
			/* nobody is always first */
			const struct series *s = &all[(i + n) % ARRAY_LEN(all)];

			if (!is_wanted(a, s))
				continue;
			measure(&r, s);
		}
		bench_print("cached.resident", resident(r.fd, window));
	}
	engines_end();
	reads_fini(&r);
	mem_free(blocks);
}

static void shuffle(uint32_t *v, uint32_t n)
{
	uint64_t seed = clock_ns();
	uint32_t k, t;

	for (uint32_t i = 0; i < n; i++)
		v[i] = i;
	for (uint32_t i = n; i > 1; i--) {
		k = (uint32_t)(bench_random(&seed) % i);
		t = v[k];
		v[k] = v[i - 1];
		v[i - 1] = t;
	}
}

void bench_uncached(const struct bench_args *a)
{
	static const struct series all[] = {
		{.name = "uncached.pread", .loop = plain_pread},
		{"uncached.uring32", RT_BACKEND_URING, .start = lanes_start},
		{"uncached.threads32", RT_BACKEND_THREADS,
			.start = lanes_start},
	};
	unsigned ops = a->ops ? a->ops : UNCACHED_OPS, used = 0;
	uint32_t blocks, *order;
	struct reads r;

	reads_init(&r, a->file);
	blocks = file_blocks(r.fd);
	order = mem_alloc(blocks * sizeof(*order));
	bench_need(order && blocks >= ops, "the file is too short");
	shuffle(order, blocks);
	engines_make();
	for (unsigned n = 0; n < a->rounds; n++) {
		for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
			const struct series *s = &all[(i + n) % ARRAY_LEN(all)];

			if (!is_wanted(a, s))
				continue;
			if (used + ops > blocks)
				used = 0; /* long ago, and dropped since */
			r.blocks = order + used;
			r.count = ops;
			used += ops;
			bench_need(posix_fadvise(r.fd, 0, 0,
					   POSIX_FADV_DONTNEED) == 0,
				"the cache cannot be emptied");
			bench_print(
				"uncached.resident", resident(r.fd, blocks));
			measure(&r, s);
		}
	}
	engines_end();
	reads_fini(&r);
	mem_free(order);
}
