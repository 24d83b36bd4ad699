/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs on disks that cannot be trusted: files cut short or changed under us,
 * full and read-only disks, I/O that fails, eviction under readers.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "blobcache/readybits.h"
#include "tests/async/engines.h"
#include "tests/lib/blob_fixture.h"

static void gaps(struct rt *rt)
{
	struct fixture f;
	char path[512];
	uint8_t byte = 0xee, got[4096];
	const struct bc_chunk *c;
	int fd;

	fixture_start(&f, rt);
	expect_all(rt, &f, 50000);
	wait_cached(f.b, total(f.b));
	c = &bc_blob_map(f.b)->chunks[0];
	fd = open(fixture_path(&f, "data", path), O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)(c->dev_off + c->len)), 1);
	(void)close(fd);
	assert_int_equal(read_at(rt, f.b, c->dev_off, got, 4096), 0);
	assert_memory_equal(got, f.device + c->dev_off, 4096);
	fixture_end(&f);
}

static void what_no_chunk_covers_is_zeros_whatever_the_file_holds(void **state)
{
	on_engines(1, gaps);
}

/* ---- what goes wrong on disk ---- */

static void truncated(struct rt *rt)
{
	struct fixture f;
	char path[512];

	fixture_start(&f, rt);
	expect_all(rt, &f, 50000);
	wait_cached(f.b, total(f.b));
	assert_int_equal(truncate(fixture_path(&f, "data", path), 5000), 0);
	/* The first store would make the file long again, with holes. */
	expect_all(rt, &f, 50000);
	wait_cached(f.b, total(f.b));
	expect_all(rt, &f, 3000);
	assert_true(atomic_load(&f.source->fetched) <= 2 * f.blob.len);
	fixture_end(&f);
}

static void a_cache_file_cut_short_under_us_is_fetched_again(void **state)
{
	on_engines(1, truncated);
}

static void truncated_half(struct rt *rt)
{
	struct fixture f;
	uint8_t *buf;
	char path[512];
	size_t half;

	fixture_start(&f, rt);
	half = f.device_len / 2;
	buf = mem_alloc(f.device_len);
	assert_non_null(buf);
	assert_int_equal(read_at(rt, f.b, 0, buf, half), 0);
	fixture_close(&f); /* until its stores have ended */
	fixture_open(&f, rt);
	assert_int_equal(truncate(fixture_path(&f, "data", path), 0), 0);
	/* This store makes the file long again: the first half is a hole. */
	assert_int_equal(read_at(rt, f.b, half, buf, f.device_len - half), 0);
	assert_memory_equal(buf, f.device + half, f.device_len - half);
	expect_all(rt, &f, 20000);
	mem_free(buf);
	fixture_end(&f);
}

static void a_store_behind_the_end_of_a_cut_file_hides_no_hole(void **state)
{
	on_engines(1, truncated_half);
}

static void bits_cut(struct rt *rt)
{
	struct fixture f;
	char path[512];

	fixture_start(&f, rt);
	expect_all(rt, &f, 50000);
	wait_cached(f.b, total(f.b));
	assert_int_equal(truncate(fixture_path(&f, "ready", path), 0), 0);
	expect_all(rt, &f, 50000);
	expect_all(rt, &f, 9000);
	fixture_close(&f);
	fixture_open(&f, rt);
	expect_all(rt, &f, 9000);
	wait_cached(f.b, total(f.b));
	fixture_end(&f);
}

static void a_ready_file_cut_short_under_us_ends_caching_only(void **state)
{
	on_engines(1, bits_cut);
}

/* ---- disks that refuse ---- */

static bool can_mount;

static void tiny_disk(const char *dir, const char *size)
{
	char options[64];

	if (!can_mount)
		skip();
	(void)snprintf(options, sizeof(options), "mode=0700,size=%s", size);
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, options), 0);
}

/* Every size from nothing at all to nearly enough. */
static void full_disk(struct rt *rt)
{
	static const char *const sizes[] = {
		"4k", "16k", "64k", "100k", "200k", "300k", "400k"};
	struct fixture f;
	size_t i;

	fixture_init(&f);
	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		tiny_disk(f.dir, sizes[i]);
		if (i < 2) {
			/* Not even the directories may fit. */
			if (bc_store_open(f.dir, &f.store, NULL) < 0) {
				assert_int_equal(umount(f.dir), 0);
				continue;
			}
			bc_store_close(f.store);
		}
		fixture_open(&f, rt);
		expect_all(rt, &f, 20000);
		expect_all(rt, &f, 20000);
		fixture_close(&f);
		fixture_open(&f, rt);
		expect_all(rt, &f, 20000);
		assert_true(bc_blob_cached_bytes(f.b) <
			    f.map_file.len + f.device_len);
		fixture_close(&f);
		assert_int_equal(umount(f.dir), 0);
	}
	fixture_fini(&f);
}

static void a_full_disk_loses_only_the_caching(void **state)
{
	if (!can_mount)
		skip();
	on_engines(2, full_disk);
}

static void below_five_percent_free_nothing_is_cached(void **state)
{
	struct bc_store *s;
	struct fixture f;
	char path[128], *zeros;

	fixture_init(&f);
	tiny_disk(f.dir, "1m");
	assert_int_equal(bc_store_open(f.dir, &s, NULL), 0);
	assert_false(bc_store_is_full(s));
	bc_store_close(s);
	zeros = mem_zalloc(1020 << 10);
	(void)snprintf(path, sizeof(path), "%s/ballast", f.dir);
	FILE *out = fopen(path, "we");
	assert_non_null(out);
	assert_int_equal(fwrite(zeros, 1, 1000 << 10, out), 1000 << 10);
	assert_int_equal(fclose(out), 0);
	mem_free(zeros);
	assert_int_equal(bc_store_open(f.dir, &s, NULL), 0);
	assert_true(bc_store_is_full(s));
	bc_store_close(s);
	assert_int_equal(umount(f.dir), 0);
	fixture_fini(&f);
}

static void read_only_disk(struct rt *rt)
{
	struct fixture f;
	uint64_t had;

	fixture_init(&f);
	tiny_disk(f.dir, "4m");
	fixture_open(&f, rt);
	expect_all(rt, &f, 20000);
	fixture_close(&f);
	assert_int_equal(
		mount(NULL, f.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	fixture_open(&f, rt);
	assert_true(bc_store_is_read_only(f.store));
	had = bc_blob_cached_bytes(f.b);
	assert_true(had > 0);
	expect_all(rt, &f, 20000);
	assert_int_equal(atomic_load(&f.source->fetches), 0);
	assert_int_equal(bc_store_put(f.store, "x", "x", 1, NULL), -EROFS);
	fixture_close(&f);
	assert_int_equal(umount(f.dir), 0);
	/* Nothing there, and nothing can be made. */
	tiny_disk(f.dir, "4m");
	assert_int_equal(
		mount(NULL, f.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	fixture_open(&f, rt);
	expect_all(rt, &f, 20000);
	assert_int_equal(bc_blob_cached_bytes(f.b), 0);
	fixture_close(&f);
	assert_int_equal(umount(f.dir), 0);
	fixture_fini(&f);
}

static void a_read_only_cache_is_read_and_not_written(void **state)
{
	if (!can_mount)
		skip();
	on_engines(2, read_only_disk);
}

static void in_a_read_only_cache_bits_are_doubted_aside(void **state)
{
	struct bc_cachefile c;
	struct bc_map map;
	struct fixture f;
	char path[512];
	uint32_t i;
	int fd;

	fixture_init(&f);
	tiny_disk(f.dir, "4m");
	assert_int_equal(bc_store_open(f.dir, &f.store, NULL), 0);
	map = fixture_map(&f);
	assert_int_equal(
		bc_cachefile_open(f.store, &f.digest, &map, &c, NULL), 0);
	for (i = 1; i <= 3; i++) {
		(void)bc_cachefile_set_ready(&c, i, 1);
		if (i == 2)
			assert_int_equal(bc_cachefile_sync(&c), 0);
	}
	bc_cachefile_close(&c);
	bc_store_close(f.store);
	fd = open(fixture_path(&f, "ready", path), O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "another boot was", 16, 32), 16);
	(void)close(fd);
	assert_int_equal(
		mount(NULL, f.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);

	assert_int_equal(bc_store_open(f.dir, &f.store, NULL), 0);
	assert_int_equal(
		bc_cachefile_open(f.store, &f.digest, &map, &c, NULL), 0);
	assert_true(bc_cachefile_is_ready(&c, 1, 2));
	assert_false(bc_cachefile_is_ready(&c, 3, 1));
	bc_cachefile_clear_ready(&c, 1);
	assert_false(bc_cachefile_is_ready(&c, 1, 1));
	assert_true(bc_cachefile_is_ready(&c, 2, 1));
	(void)bc_cachefile_set_ready(&c, 3, 1);
	assert_false(bc_cachefile_is_ready(&c, 3, 1));
	assert_int_equal(bc_cachefile_store_begin(&c), -EROFS);
	bc_cachefile_close(&c);
	bc_map_close(&map);
	bc_store_close(f.store);
	assert_int_equal(umount(f.dir), 0);
	fixture_fini(&f);
}

/* ---- I/O that fails ---- */

/* The whole device twice, with the nth operation (and later ones) failing. */
static bool with_fault(const struct rt_fault *fault)
{
	struct rt_fault_plan p = {.faults = fault, .count = 1};
	struct rt *rt =
		engine_start_faulty(&p, (struct rt_options){.workers = 2});
	struct fixture f;
	bool was_hit;

	fixture_start(&f, rt);
	expect_all(rt, &f, 30000);
	expect_all(rt, &f, 200000);
	fixture_close(&f);
	was_hit = atomic_load(&p.hits) > 0;
	fixture_open(&f, rt);
	expect_all(rt, &f, 50000);
	fixture_end(&f);
	engine_stop(rt);
	return was_hit;
}

static void any_failing_operation_loses_only_caching(void **state)
{
	static const int errors[] = {EIO, ENOSPC, EDQUOT, ENOMEM};
	struct rt_fault fault = {0};
	size_t e;

	for (e = 0; e < ARRAY_LEN(errors); e++) {
		fault = (struct rt_fault){.error = errors[e]};
		for (fault.nth = 1; with_fault(&fault); fault.nth++)
			;
		assert_true(fault.nth > 5);
	}
}

static void operations_that_go_on_failing_lose_only_caching(void **state)
{
	struct rt_fault fault = {.error = EIO, .every = 1};

	for (fault.nth = 1; fault.nth < 60; fault.nth += 7)
		(void)with_fault(&fault);
	fault = (struct rt_fault){.nth = 1, .every = 2, .error = ENOSPC};
	(void)with_fault(&fault);
	fault = (struct rt_fault){.nth = 1, .every = 3, .short_to = 100};
	(void)with_fault(&fault);
}

/* ---- eviction under readers ---- */

struct evictor {
	struct fixture *f;
	struct bc_cachefile file; /* as another process would have it */
	struct bc_map map;
	pthread_t thread;
	atomic_bool stop;
	unsigned rounds, failed;
};

/*
 * What blobcache/README.md demands of who evicts; instead of a hole now and
 * then other bytes, which stay in the page cache.
 */
static void evict(struct evictor *ev, int lock_fd, uint32_t chunk)
{
	static const uint8_t junk[4096] = {0xee, 0xee, 0xee};
	const struct bc_chunk *c = &ev->map.chunks[chunk];
	size_t len = min_u64(c->len, sizeof(junk));
	bool failed;

	if (flock(lock_fd, LOCK_EX) < 0)
		return;
	bc_ready_clear(&ev->file.bits, chunk, 1);
	if (ev->rounds % 4 == 0)
		failed = fallocate(ev->file.data.fd,
				 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)c->dev_off, c->len) < 0;
	else
		failed = pwrite(ev->file.data.fd, junk, len,
				 (off_t)c->dev_off) != (ssize_t)len;
	ev->failed += failed;
	(void)flock(lock_fd, LOCK_UN);
	ev->rounds++;
}

static void *evictor_main(void *arg)
{
	struct evictor *ev = arg;
	uint32_t x = 1;
	char path[512];
	int fd;

	fd = open(fixture_path(ev->f, "ready", path), O_RDWR | O_CLOEXEC);
	while (fd >= 0 && !atomic_load(&ev->stop)) {
		x = x * 1664525 + 1013904223;
		evict(ev, fd, (x >> 8) % ev->map.chunk_count);
		if (x % 16 == 0)
			sched_yield();
	}
	(void)close(fd);
	return NULL;
}

static void eviction(struct rt *rt)
{
	struct evictor ev = {0};
	struct fixture f;
	unsigned long i, rounds = soak_count(10);

	fixture_start(&f, rt);
	ev.f = &f;
	ev.map = fixture_map(&f);
	assert_int_equal(
		bc_cachefile_open(f.store, &f.digest, &ev.map, &ev.file, NULL),
		0);
	assert_int_equal(
		pthread_create(&ev.thread, NULL, evictor_main, &ev), 0);
	for (i = 0; i < rounds; i++) {
		expect_all(rt, &f, 4096);
		expect_all(rt, &f, 60000);
	}
	atomic_store(&ev.stop, true);
	assert_int_equal(pthread_join(ev.thread, NULL), 0);
	assert_true(ev.rounds > 0);
	assert_int_equal(ev.failed, 0);
	expect_all(rt, &f, 10000);
	bc_cachefile_close(&ev.file);
	bc_map_close(&ev.map);
	fixture_end(&f);
}

static void readers_never_see_what_was_evicted_under_them(void **state)
{
	on_engines(2, eviction);
}

/* ---- time and death ---- */

static void becomes_durable(struct rt *rt)
{
	struct fixture f;
	struct bc_ready bits;
	struct bc_map map;
	char path[512];
	struct buf b;

	fixture_start(&f, rt);
	expect_all(rt, &f, 60000);
	wait_cached(f.b, total(f.b));
	map = fixture_map(&f);
	fixture_path(&f, "ready", path);
	for (;;) {
		buf_init(&b, 0);
		assert_int_equal(buf_read_file(&b, AT_FDCWD, path), 0);
		assert_int_equal(
			bc_ready_attach(b.data, b.len, &map, &bits), 0);
		if (bc_ready_test(bits.durable, 0, map.chunk_count))
			break;
		buf_fini(&b);
		(void)poll(NULL, 0, 20);
	}
	buf_fini(&b);
	bc_map_close(&map);
	fixture_end(&f);
}

static void what_is_ready_becomes_durable_by_itself(void **state)
{
	struct rt *rt = engine_start(
		RT_BACKEND_THREADS, (struct rt_options){.workers = 1});

	becomes_durable(rt);
	engine_stop(rt);
}

/* In a process of its own: read everything until killed. */
static void victim(struct fixture *f, unsigned step)
{
	struct rt *rt = engine_start(
		RT_BACKEND_THREADS, (struct rt_options){.workers = 2});

	fixture_open(f, rt);
	expect_all(rt, f, step);
	fixture_close(f);
	engine_stop(rt);
}

/* All that is marked ready is right, without a source to help. */
static void expect_ready_right(struct rt *rt, struct fixture *f)
{
	struct bc_blob_options o = {.rt = rt, .digest = f->digest};
	const struct bc_map *m;
	uint8_t buf[9000];
	uint32_t i;
	int r;

	assert_int_equal(bc_store_open(f->dir, &f->store, NULL), 0);
	o.store = f->store;
	o.map = fixture_map(f);
	assert_int_equal(bc_blob_open(&o, &f->b, NULL), 0);
	m = bc_blob_map(f->b);
	for (i = 0; i < m->chunk_count; i++) {
		const struct bc_chunk *c = &m->chunks[i];

		r = read_at(rt, f->b, c->dev_off, buf, c->len);
		if (r == 0)
			assert_memory_equal(
				buf, f->device + c->dev_off, c->len);
		else
			assert_int_equal(r, -EIO);
	}
	bc_blob_close(f->b);
	bc_store_close(f->store);
}

static void after_a_kill_every_ready_chunk_is_right(void **state)
{
	unsigned long i, rounds = soak_count(20);
	struct fixture f;
	struct rt *rt;
	int status;
	pid_t pid;

	fixture_init(&f);
	for (i = 0; i < rounds; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			victim(&f, 2000 + (unsigned)i * 100 % 5000);
			_exit(0);
		}
		(void)poll(NULL, 0, (int)(i * 7 % 23));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		rt = engine_start(
			RT_BACKEND_THREADS, (struct rt_options){.workers = 1});
		expect_ready_right(rt, &f);
		engine_stop(rt);
	}
	fixture_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_no_chunk_covers_is_zeros_whatever_the_file_holds),
		cmocka_unit_test(
			a_cache_file_cut_short_under_us_is_fetched_again),
		cmocka_unit_test(
			a_store_behind_the_end_of_a_cut_file_hides_no_hole),
		cmocka_unit_test(
			a_ready_file_cut_short_under_us_ends_caching_only),
		cmocka_unit_test(a_full_disk_loses_only_the_caching),
		cmocka_unit_test(below_five_percent_free_nothing_is_cached),
		cmocka_unit_test(a_read_only_cache_is_read_and_not_written),
		cmocka_unit_test(in_a_read_only_cache_bits_are_doubted_aside),
		cmocka_unit_test(any_failing_operation_loses_only_caching),
		cmocka_unit_test(
			operations_that_go_on_failing_lose_only_caching),
		cmocka_unit_test(what_is_ready_becomes_durable_by_itself),
		cmocka_unit_test(after_a_kill_every_ready_chunk_is_right),
		cmocka_unit_test(readers_never_see_what_was_evicted_under_them),
	};

	/* Mounts of these tests are seen by nobody else and end with us. */
	can_mount = unshare(CLONE_NEWNS) == 0 &&
	            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	if (!can_mount)
		print_message("no mounts here: full and read-only disks are "
			      "left out\n");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
