/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobcache/evict, inventory: what leaves the cache first, what never does,
 * and readers in other processes meanwhile.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "blobcache/blob_int.h"
#include "blobcache/evict.h"
#include "blobcache/verify.h"
#include "runtime/base/clock.h"
#include "tests/async/engines.h"
#include "tests/lib/cache_fixture.h"

#define AT_BOOT_ID 32 /* in a ready file */

/* When the run that holds chunk was used. */
static void set_used(struct cache *c, uint32_t chunk, uint32_t when)
{
	bc_ready_touch(&c->c.bits, chunk, 1, when);
}

static void fill_with_ages(struct cache *c, uint32_t base)
{
	uint32_t i;

	cache_fill_all(c);
	for (i = 0; i < c->map.chunk_count; i++)
		set_used(c, i, base + i);
}

static uint64_t evict(struct bc_store *s, uint64_t want)
{
	struct bc_evict w = {.want = want};
	struct err e = {0};

	if (bc_store_evict(s, &w, &e) < 0)
		fail_msg("%s", e.text);
	return w.freed;
}

static uint64_t disk_bytes(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Every chunk that is ready has its bytes. */
static void expect_truth(struct cache *c)
{
	uint8_t *got = mem_alloc(c->f.device_len);
	uint32_t i;

	assert_non_null(got);
	assert_int_equal(
		pread(c->c.data.fd, got, c->f.device_len, 0), c->f.device_len);
	for (i = 0; i < c->map.chunk_count; i++)
		if (bc_cachefile_is_ready(&c->c, i, 1))
			assert_memory_equal(got + c->map.chunks[i].dev_off,
				c->f.device + c->map.chunks[i].dev_off,
				c->map.chunks[i].len);
	mem_free(got);
}

static void what_was_used_longest_ago_goes_first(void **state)
{
	struct cache c;
	uint64_t before, generation;
	uint32_t i, gone = 0;

	cache_init(&c);
	fill_with_ages(&c, 1000);
	/* the oldest ones are used again */
	for (i = 0; i < 10; i++)
		set_used(&c, i, 5000 + i);
	before = disk_bytes(c.c.data.fd);
	generation = bc_cachefile_generation(&c.c);
	assert_true(evict(c.f.store, 100000) >= 100000);
	assert_true(disk_bytes(c.c.data.fd) + 100000 <= before);
	assert_true(bc_cachefile_generation(&c.c) != generation);
	assert_true(bc_cachefile_is_ready(&c.c, 0, 10));
	for (i = 10; !bc_cachefile_is_ready(&c.c, i, 1); i++)
		gone++;
	assert_true(gone > 0 && gone < c.map.chunk_count / 2);
	assert_true(bc_cachefile_is_ready(&c.c, i, c.map.chunk_count - i));
	expect_truth(&c);
	/* there is room for them again */
	for (i = 10; i < 10 + gone; i++)
		cache_fill(&c, i);
	expect_truth(&c);
	cache_fini(&c);
}

static void only_what_is_older_goes_when_an_age_is_given(void **state)
{
	struct bc_evict w = {.want = UINT64_MAX, .before = 1020};
	struct cache c;

	cache_init(&c);
	fill_with_ages(&c, 1000);
	assert_int_equal(bc_store_evict(c.f.store, &w, NULL), 0);
	assert_true(w.freed > 0);
	assert_false(bc_cachefile_is_ready(&c.c, 19, 1));
	assert_true(bc_cachefile_is_ready(&c.c, 20, c.map.chunk_count - 20));
	expect_truth(&c);
	cache_fini(&c);
}

static void no_durable_bit_stays_over_a_hole(void **state)
{
	struct cache c;

	cache_init(&c);
	fill_with_ages(&c, 1000);
	assert_int_equal(bc_cachefile_sync(&c.c), 0);
	(void)evict(c.f.store, UINT64_MAX);
	assert_int_equal(bc_cachefile_ready_bytes(&c.c), 0);
	assert_int_equal(disk_bytes(c.c.data.fd), 0);
	cache_close(&c);
	poke(&c.f, "ready", AT_BOOT_ID, "another boot was", 16);
	cache_open(&c);
	assert_int_equal(bc_cachefile_ready_bytes(&c.c), 0);
	cache_fini(&c);
}

static void pin(struct cache *c, const char *text)
{
	assert_int_equal(bc_store_put(c->f.store, "images/sha256/aa/pin", text,
				 strlen(text), NULL),
		0);
}

static void what_is_pinned_stays(void **state)
{
	struct bc_evict forced = {.want = UINT64_MAX, .even_pinned = true};
	char text[DIGEST_MAX_TEXT], lines[400];
	struct cache c;

	cache_init(&c);
	cache_fill_all(&c);
	(void)snprintf(lines, sizeof(lines), "nonsense\n\n%s\n",
		digest_text(&c.f.digest, text));
	pin(&c, lines);
	assert_int_equal(evict(c.f.store, UINT64_MAX), 0);
	assert_true(bc_cachefile_is_ready(&c.c, 0, c.map.chunk_count));
	pin(&c, "");
	assert_true(evict(c.f.store, 1) > 0);
	pin(&c, lines);
	assert_int_equal(bc_store_evict(c.f.store, &forced, NULL), 0);
	assert_int_equal(bc_cachefile_ready_bytes(&c.c), 0);
	cache_fini(&c);
}

static void only_the_blobs_that_are_named_go(void **state)
{
	struct digest other = {.algo = DIGEST_SHA256};
	struct bc_evict w = {
		.want = UINT64_MAX, .only = &other, .only_count = 1};
	struct cache c;

	cache_init(&c);
	cache_fill_all(&c);
	assert_int_equal(bc_store_evict(c.f.store, &w, NULL), 0);
	assert_int_equal(w.freed, 0);
	other = c.f.digest;
	assert_int_equal(bc_store_evict(c.f.store, &w, NULL), 0);
	assert_true(w.freed > 0);
	cache_fini(&c);
}

/* ---- whole files ---- */

static void a_file_that_nobody_has_open_goes_as_a_whole(void **state)
{
	struct cache c;
	char path[512];

	cache_init(&c);
	cache_fill_all(&c);
	bc_cachefile_close(&c.c);
	assert_true(evict(c.f.store, UINT64_MAX) > 0);
	assert_int_equal(access(fixture_path(&c.f, "data", path), F_OK), -1);
	assert_int_equal(access(fixture_path(&c.f, "ready", path), F_OK), -1);
	/* which the image's record names */
	assert_int_equal(access(fixture_path(&c.f, "map", path), F_OK), 0);
	assert_int_equal(evict(c.f.store, UINT64_MAX), 0);
	assert_int_equal(
		bc_cachefile_open(c.f.store, &c.f.digest, &c.map, &c.c, NULL),
		0);
	assert_int_equal(bc_cachefile_ready_bytes(&c.c), 0);
	cache_fill_all(&c);
	cache_fini(&c);
}

static void a_sealed_file_goes_only_when_nobody_has_it_open(void **state)
{
	struct cache c;
	char path[512];
	int kernel;

	cache_init(&c);
	cache_fill_all(&c);
	assert_int_equal(bc_cachefile_seal(&c.c), 0);
	assert_int_equal(evict(c.f.store, UINT64_MAX), 0);
	assert_true(bc_cachefile_is_sealed(&c.c));
	bc_cachefile_close(&c.c);
	/* as a mount does, whose process is gone: open and no more */
	kernel = open(fixture_path(&c.f, "data", path), O_RDONLY | O_CLOEXEC);
	assert_int_equal(evict(c.f.store, 1), 0);
	assert_int_equal(access(path, F_OK), 0);
	(void)close(kernel);
	/* never a part of it */
	assert_true(evict(c.f.store, 1) > c.f.device_len / 2);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(
		bc_cachefile_open(c.f.store, &c.f.digest, &c.map, &c.c, NULL),
		0);
	cache_fini(&c);
}

static void what_cannot_go_does_not_keep_the_rest_here(void **state)
{
	struct digest name = {.algo = DIGEST_SHA256, .bytes = {1}};
	struct bc_cachefile other;
	struct cache c;
	uint32_t i;

	cache_init(&c);
	fill_with_ages(&c, 1000);
	assert_int_equal(bc_cachefile_seal(&c.c), 0);
	/* another blob, used later, that happens to have the same bytes */
	assert_int_equal(
		bc_cachefile_open(c.f.store, &name, &c.map, &other, NULL), 0);
	assert_int_equal(bc_cachefile_store_begin(&other), 0);
	assert_int_equal(pwrite(other.data.fd, c.f.device, c.f.device_len, 0),
		c.f.device_len);
	for (i = 0; i < c.map.chunk_count; i++)
		assert_int_equal(bc_cachefile_set_ready(&other, i, 1), 0);
	bc_cachefile_store_end(&other);
	assert_true(evict(c.f.store, 50000) >= 50000);
	assert_true(bc_cachefile_is_sealed(&c.c));
	assert_true(bc_cachefile_ready_bytes(&other) > 0);
	assert_true(evict(c.f.store, UINT64_MAX) > 0);
	assert_true(bc_cachefile_is_sealed(&c.c));
	assert_int_equal(bc_cachefile_ready_bytes(&other), 0);
	bc_cachefile_close(&other);
	cache_fini(&c);
}

static void what_is_torn_goes_first_and_does_not_harm(void **state)
{
	static const char *const names[] = {"ready", "map", "data"};
	struct cache c;
	char path[512];
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++) {
		cache_init(&c);
		fill_with_ages(&c, 1000);
		bc_cachefile_close(&c.c);
		fixture_path(&c.f, names[i], path);
		assert_int_equal(truncate(path, 100), 0);
		(void)evict(c.f.store, 1);
		assert_int_equal(
			access(fixture_path(&c.f, "data", path), F_OK), -1);
		assert_int_equal(bc_cachefile_open(c.f.store, &c.f.digest,
					 &c.map, &c.c, NULL),
			0);
		cache_fill_all(&c);
		cache_fini(&c);
	}
}

static void what_is_being_written_is_left_alone(void **state)
{
	struct cache c;

	cache_init(&c);
	cache_fill_all(&c);
	assert_int_equal(bc_cachefile_store_begin(&c.c), 0);
	assert_int_equal(evict(c.f.store, UINT64_MAX), 0);
	assert_true(bc_cachefile_is_ready(&c.c, 0, c.map.chunk_count));
	bc_cachefile_store_end(&c.c);
	assert_true(evict(c.f.store, UINT64_MAX) > 0);
	cache_fini(&c);
}

static void the_inventory_tells_what_is_there(void **state)
{
	struct bc_inventory i;
	uint64_t usage;
	struct cache c;

	cache_init(&c);
	cache_fill(&c, 3);
	cache_fill(&c, 4);
	set_used(&c, 4, UINT32_MAX);
	assert_int_equal(bc_inventory_take(c.f.store, &i, NULL), 0);
	assert_int_equal(i.count, 1);
	assert_true(digest_is_equal(&i.blobs[0].blob, &c.f.digest));
	assert_true(digest_is_equal(&i.blobs[0].map_id, &c.map.id));
	assert_int_equal(i.blobs[0].ready_count, 2);
	assert_int_equal(i.blobs[0].chunk_count, c.map.chunk_count);
	assert_int_equal(i.blobs[0].last_used, UINT32_MAX);
	assert_false(i.blobs[0].is_sealed || i.blobs[0].is_torn);
	assert_int_equal(bc_store_usage(c.f.store, &usage, NULL), 0);
	assert_true(usage > i.blobs[0].bytes);
	bc_inventory_fini(&i);
	cache_fini(&c);
}

static void memory_may_end_at_any_place(void **state)
{
	struct bc_evict w;
	struct bc_inventory i;
	struct bc_verified v;
	struct cache c;
	unsigned long n;
	int r = -ENOMEM;

	cache_init(&c);
	fill_with_ages(&c, 1000);
	for (n = 1; r < 0; n++) {
		assert_true(n < 1000);
		w = (struct bc_evict){.want = 20000};
		mem_fail_nth(n, 0);
		r = bc_inventory_take(c.f.store, &i, NULL);
		if (r == 0) {
			r = bc_store_verify(c.f.store, &i.blobs[0], &v, NULL);
			bc_inventory_fini(&i);
		}
		if (r == 0)
			r = bc_store_evict(c.f.store, &w, NULL);
		mem_fail_nth(0, 0);
		assert_true(r == 0 || r == -ENOMEM);
	}
	assert_true(n > 5);
	assert_int_equal(v.bad_chunks, 0);
	expect_truth(&c);
	cache_fini(&c);
}

/* ---- reading back ---- */

static void what_was_changed_on_the_disk_is_found(void **state)
{
	struct bc_inventory i;
	struct bc_verified v;
	struct cache c;

	cache_init(&c);
	cache_fill_all(&c);
	poke(&c.f, "data", (off_t)c.map.chunks[5].dev_off + 3, "\377", 1);
	assert_int_equal(bc_inventory_take(c.f.store, &i, NULL), 0);
	assert_int_equal(bc_store_verify(c.f.store, &i.blobs[0], &v, NULL), 0);
	assert_int_equal(v.bad_chunks, 1);
	assert_int_equal(v.bad_bytes, c.map.chunks[5].len);
	assert_false(v.is_torn);
	assert_false(bc_cachefile_is_ready(&c.c, 5, 1));
	assert_true(bc_cachefile_is_ready(&c.c, 6, c.map.chunk_count - 6));
	cache_fill(&c, 5);
	/* one that is sealed is replaced */
	assert_int_equal(bc_cachefile_seal(&c.c), 0);
	poke(&c.f, "data", (off_t)c.map.chunks[5].dev_off + 3, "\377", 1);
	assert_int_equal(bc_store_verify(c.f.store, &i.blobs[0], &v, NULL), 0);
	assert_int_equal(v.bad_chunks, 1);
	assert_false(bc_cachefile_is_sealed(&c.c));
	cache_close(&c);
	cache_open(&c);
	assert_int_equal(bc_cachefile_ready_bytes(&c.c), 0);
	bc_inventory_fini(&i);
	cache_fini(&c);
}

/* ---- a limit ---- */

static void under_a_limit(struct rt *rt)
{
	uint64_t limit, usage, empty;
	struct fixture f;

	fixture_start(&f, rt);
	assert_int_equal(bc_store_usage(f.store, &empty, NULL), 0);
	limit = empty + 400000;
	assert_int_equal(bc_store_set_limit(f.store, limit, NULL), 0);
	assert_true(f.device_len > 400000);
	expect_all(rt, &f, 20000);
	expect_all(rt, &f, 50000);
	while (atomic_load(&f.b->active) > 1)
		sched_yield();
	assert_int_equal(bc_store_usage(f.store, &usage, NULL), 0);
	/* one range may come on top */
	assert_true(usage < limit + 100000);
	assert_true(bc_blob_cached_bytes(f.b) > 0);
	assert_true(bc_blob_cached_bytes(f.b) < total(f.b));
	fixture_end(&f);
}

static void the_cache_stays_below_its_limit(void **state)
{
	on_engines(2, under_a_limit);
}

/* ---- several processes ---- */

/* Evicts some or all, again and again, until it is killed. */
static void evict_for_ever(const char *dir, unsigned seed)
{
	struct bc_evict w;
	struct bc_store *s;
	int r;

	/* also when the test fails and ends */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		_exit(255);
	r = bc_store_open(dir, &s, NULL);
	if (r < 0)
		_exit(-r);
	for (;;) {
		seed = seed * 1664525 + 1013904223;
		w = (struct bc_evict){
			.want = seed >> 31 ? UINT64_MAX : seed % 300000};
		(void)bc_store_evict(s, &w, NULL);
	}
}

/*
 * The blob is read and verified over and over while another process evicts and
 * is killed in the middle of it.
 */
static void raced(struct rt *rt)
{
	uint64_t end = clock_ms() + 1500;
	struct fixture f;
	unsigned round;
	pid_t pid;
	int status;

	fixture_start(&f, rt);
	for (round = 1; clock_ms() < end; round++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			evict_for_ever(f.dir, round);
		expect_all(rt, &f, 7000 + round * 1000 % 60000);
		expect_all(rt, &f, 50000);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status))
			fail_msg("who evicts could not begin: error %d",
				WEXITSTATUS(status));
		expect_all(rt, &f, 4096);
	}
	fixture_end(&f);
}

static void readers_see_the_truth_while_another_process_evicts(void **state)
{
	on_engines(2, raced);
}

/* A mount of its own: reads all, several times, in a cache that is too small.
 */
static void read_in_a_small_cache(struct fixture *f)
{
	struct rt *rt;
	int i;

	assert_int_equal(
		rt_create(&(struct rt_options){.workers = 2}, &rt, NULL), 0);
	assert_int_equal(rt_start(rt, NULL), 0);
	fixture_open(f, rt);
	assert_int_equal(bc_store_set_limit(f->store, 500000, NULL), 0);
	for (i = 0; i < 10; i++)
		expect_all(rt, f, 3000 + (size_t)i * 4000);
	fixture_close(f);
	rt_stop(rt);
	rt_destroy(rt);
}

static void two_processes_share_a_cache_that_is_too_small(void **state)
{
	struct fixture f;
	int status, i;
	pid_t pid;

	fixture_init(&f);
	for (i = 0; i < 3; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
				_exit(1);
			read_in_a_small_cache(&f);
			_exit(0);
		}
		read_in_a_small_cache(&f);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	fixture_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_used_longest_ago_goes_first),
		cmocka_unit_test(only_what_is_older_goes_when_an_age_is_given),
		cmocka_unit_test(no_durable_bit_stays_over_a_hole),
		cmocka_unit_test(what_is_pinned_stays),
		cmocka_unit_test(only_the_blobs_that_are_named_go),
		cmocka_unit_test(a_file_that_nobody_has_open_goes_as_a_whole),
		cmocka_unit_test(
			a_sealed_file_goes_only_when_nobody_has_it_open),
		cmocka_unit_test(what_cannot_go_does_not_keep_the_rest_here),
		cmocka_unit_test(what_is_torn_goes_first_and_does_not_harm),
		cmocka_unit_test(what_is_being_written_is_left_alone),
		cmocka_unit_test(the_inventory_tells_what_is_there),
		cmocka_unit_test(memory_may_end_at_any_place),
		cmocka_unit_test(what_was_changed_on_the_disk_is_found),
		cmocka_unit_test(the_cache_stays_below_its_limit),
		cmocka_unit_test(
			readers_see_the_truth_while_another_process_evicts),
		cmocka_unit_test(two_processes_share_a_cache_that_is_too_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
