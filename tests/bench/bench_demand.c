/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a demand request takes, alone and in a flood of prefetch.
 *
 * A request is a miss in small: it waits for its bytes (a timer, as long as a
 * near server takes) and is decoded in the job pool; "read" is a 4 KiB read of
 * the disk instead, with as few slots as a disk needs: more would only queue in
 * it. Demands come at random moments from a thread outside,
 * whether or not those before have ended. The flood is as many prefetch
 * requests as the channel takes, each submitted again when it ends.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/file.h"
#include "runtime/request.h"
#include "tests/bench/bench.h"

enum {
	DEMANDS = 500,
	FLOOD = 512,
	FETCH_MS = 2,
	DECODE_NS = 50000,
	GAP_NS = 1000000,
	BLOCK = 4096,
	DISK_SLOTS = 16,
};

struct miss {
	struct rt_req req;
	struct rt_timer timer;
	struct rt_job job;
	struct rt_io io;
	uint64_t since_ns, took_ns;
	uint64_t off;
	uint8_t *buf; /* owned, a block */
};

static struct {
	struct rt *rt, *of_fetches, *of_reads;
	bool reads;
	int fd;
	uint64_t file_len, random;
	struct miss *demands, *prefetches; /* owned */
	atomic_uint under_way;
	atomic_bool over;
	atomic_ulong prefetched;
} scene;

static void miss_end(struct miss *m)
{
	bool again = m->req.cls == RT_PREFETCH && !atomic_load(&scene.over);

	m->took_ns = clock_ns() - m->since_ns;
	rt_req_done(&m->req);
	if (m >= scene.prefetches && m < scene.prefetches + FLOOD)
		atomic_fetch_add(&scene.prefetched, 1);
	if (again)
		bench_need(rt_submit(scene.rt, &m->req) == 0,
			"the channel is full");
	else
		atomic_fetch_sub(&scene.under_way, 1);
}

static void miss_read(struct rt_op *op)
{
	bench_need(op->result == BLOCK, "a read failed");
	miss_end(container_of(op, struct miss, io.op));
}

static void miss_decode(struct rt_job *j)
{
	uint64_t end = bench_thread_ns() + DECODE_NS;

	while (bench_thread_ns() < end)
		continue;
}

static void miss_decoded(struct rt_job *j)
{
	miss_end(container_of(j, struct miss, job));
}

static void miss_fetched(struct rt_timer *t)
{
	struct miss *m = container_of(t, struct miss, timer);

	m->job.work = miss_decode;
	m->job.done = miss_decoded;
	m->job.home = m->req.worker;
	m->job.cls = m->req.cls;
	rt_job_submit(&m->job);
}

static void miss_run(struct rt_req *r)
{
	struct miss *m = container_of(r, struct miss, req);

	if (!scene.reads) {
		rt_timer_start(r->worker, &m->timer, FETCH_MS);
		return;
	}
	m->io.cls = r->cls;
	/* prefetches start again by themselves, so each has its own series */
	m->off = (m->off * 2862933555777941757u + 3037000493u) &
	         ~(uint64_t)(BLOCK - 1);
	rt_file_read(r->worker, &m->io, scene.fd, m->buf, BLOCK,
		m->off % scene.file_len & ~(uint64_t)(BLOCK - 1), miss_read);
}

static struct miss *misses_make(unsigned n, enum rt_class cls)
{
	struct miss *all = mem_calloc(n, sizeof(*all));

	bench_need(all, "no memory");
	for (unsigned i = 0; i < n; i++) {
		all[i].req.run = miss_run;
		all[i].req.cls = cls;
		all[i].timer.fire = miss_fetched;
		all[i].off = bench_random(&scene.random) * BLOCK;
		all[i].buf = mem_alloc_aligned(BLOCK, BLOCK);
		bench_need(all[i].buf, "no memory");
	}
	return all;
}

static void misses_free(struct miss *all, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		mem_free(all[i].buf);
	mem_free(all);
}

static void nap(uint64_t ns)
{
	const struct timespec ts = {.tv_nsec = (long)ns};

	(void)nanosleep(&ts, NULL);
}

static void submit(struct miss *m, enum rt_class cls)
{
	m->req.cls = cls;
	m->since_ns = clock_ns();
	atomic_fetch_add(&scene.under_way, 1);
	bench_need(rt_submit(scene.rt, &m->req) == 0, "the channel is full");
}

static int by_time(const void *a, const void *b)
{
	const struct miss *x = a, *y = b;

	return (x->took_ns > y->took_ns) - (x->took_ns < y->took_ns);
}

/* Demands at random moments; prints their quantiles. */
static void demands_once(const char *series, unsigned n)
{
	char name[80];

	for (unsigned i = 0; i < n; i++) {
		nap(GAP_NS / 2 + bench_random(&scene.random) % GAP_NS);
		submit(&scene.demands[i], RT_DEMAND);
	}
	atomic_store(&scene.over, true);
	while (atomic_load(&scene.under_way) > 0)
		nap(1000000);
	qsort(scene.demands, n, sizeof(*scene.demands), by_time);
	(void)snprintf(name, sizeof(name), "demand.%s_p50_us", series);
	bench_print(name, (double)scene.demands[n / 2].took_ns / 1000);
	(void)snprintf(name, sizeof(name), "demand.%s_p99_us", series);
	bench_print(name, (double)scene.demands[n * 99 / 100].took_ns / 1000);
}

static void phase(const char *series, bool flooded, unsigned n)
{
	uint64_t began;

	scene.rt = scene.reads ? scene.of_reads : scene.of_fetches;
	atomic_store(&scene.over, false);
	atomic_store(&scene.prefetched, 0);
	if (scene.reads)
		bench_need(
			posix_fadvise(scene.fd, 0, 0, POSIX_FADV_DONTNEED) == 0,
			"the cache cannot be emptied");
	began = clock_ns();
	for (unsigned i = 0; flooded && i < FLOOD; i++)
		submit(&scene.prefetches[i], RT_PREFETCH);
	demands_once(series, n);
	if (!flooded)
		return;
	bench_print(scene.reads ? "demand.read_prefetched"
				: "demand.fetch_prefetched",
		(double)atomic_load(&scene.prefetched) * 1e9 /
			(double)(clock_ns() - began));
}

static void scene_open(const char *path)
{
	struct stat st;

	scene.random = clock_ns();
	scene.fd = open(path, O_RDONLY | O_CLOEXEC);
	bench_need(scene.fd >= 0 && fstat(scene.fd, &st) == 0 &&
			   st.st_size >= BLOCK,
		"cannot open the file");
	scene.file_len = (uint64_t)st.st_size;
	bench_need(posix_fadvise(scene.fd, 0, 0, POSIX_FADV_RANDOM) == 0,
		"no advice about the file");
}

void bench_demand(const struct bench_args *a)
{
	unsigned n = a->ops ? a->ops : DEMANDS;

	scene_open(a->file);
	scene.of_fetches =
		bench_runtime((struct rt_options){0}, RT_BACKEND_AUTO);
	scene.of_reads = bench_runtime(
		(struct rt_options){.slots = DISK_SLOTS}, RT_BACKEND_AUTO);
	scene.demands = misses_make(n, RT_DEMAND);
	scene.prefetches = misses_make(FLOOD, RT_PREFETCH);
	for (unsigned i = 0; i < a->rounds; i++) {
		scene.reads = false;
		phase("fetch_alone", false, n);
		phase("fetch_flood", true, n);
		scene.reads = true;
		phase("read_alone", false, n);
		phase("read_flood", true, n);
	}
	rt_stop(scene.of_fetches);
	rt_destroy(scene.of_fetches);
	rt_stop(scene.of_reads);
	rt_destroy(scene.of_reads);
	misses_free(scene.demands, n);
	misses_free(scene.prefetches, FLOOD);
	(void)close(scene.fd); /* only read */
}
