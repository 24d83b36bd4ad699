/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole read path, from a cache miss over HTTP into the cache and out of it
 * again, with each allocation and each file operation failing once: an error or
 * the right bytes, and the next read works.
 */
#include "blobcache/blob_int.h"
#include "tests/async/engines.h"
#include "tests/lib/http_world.h"

/* More would be a loop that allocates without end. */
#define MAX_STEPS 4000

static struct server faults;
static char url[100];

static int setup(void **state)
{
	faultserver_start(&faults, 0);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/signed/x",
		faults.port[0]);
	return 0;
}

static int teardown(void **state)
{
	server_stop(&faults);
	return 0;
}

static bool is_honest(int rc)
{
	return rc == 0 || rc == -ENOMEM || rc == -EIO || rc == -ETIMEDOUT ||
	       rc == -EAGAIN;
}

/*
 * Open, miss, hit, sync, all with the nth allocation failing.
 * True: there were fewer. */
static bool open_and_read(struct rt *rt, struct bc_net *net, unsigned long nth)
{
	struct http_world w;
	unsigned long asked;
	int opened, rc = 0;

	world_init(&w, rt, net);
	(void)mem_fail_nth(nth, 0);
	opened = world_open(&w, url, 1000);
	if (opened == 0) {
		rc = world_read(&w, 100000, 200000);
		if (!is_honest(rc))
			fail_msg("read %d with allocation %lu", rc, nth);
		rc = world_read(&w, 150000, 10000);
		if (!is_honest(rc))
			fail_msg("second read %d with allocation %lu", rc, nth);
		(void)bc_cachefile_sync(&w.blob->file);
	} else if (!is_honest(opened)) {
		fail_msg("open %d with allocation %lu", opened, nth);
	}
	asked = mem_fail_nth(0, 0);
	if (opened == 0) {
		rc = world_read(&w, 0, WORLD_SIZE);
		if (rc != 0)
			fail_msg("then %d after allocation %lu", rc, nth);
		world_close(&w);
	}
	world_fini(&w);
	return asked < nth;
}

static void each_allocation_may_fail_once(void **state)
{
	struct rt_options o = {.workers = 1};
	unsigned long n;

	for (n = 1;; n++) {
		struct rt *rt = engine_start(RT_BACKEND_THREADS, o);
		struct bc_net *net;
		struct err e = {0};
		bool is_over;

		assert_int_equal(bc_net_create(NULL, &net, &e), 0);
		is_over = open_and_read(rt, net, n);
		bc_net_destroy(net);
		rt_stop(rt);
		rt_destroy(rt);
		if (is_over)
			break;
		assert_true(n < MAX_STEPS);
	}
	print_message("%lu allocations\n", n);
	assert_true(n > 20);
}

static bool read_with_fault(int error, size_t short_to, uint64_t nth)
{
	struct rt_fault fault = {
		.nth = nth, .error = error, .short_to = short_to};
	struct rt_fault_plan plan = {.faults = &fault, .count = 1};
	struct rt *rt =
		engine_start_faulty(&plan, (struct rt_options){.workers = 1});
	struct http_world w;
	struct bc_net *net;
	struct err e = {0};
	int rc;

	assert_int_equal(bc_net_create(NULL, &net, &e), 0);
	world_init(&w, rt, net);
	assert_int_equal(world_open(&w, url, 1000), 0);
	for (unsigned i = 0; i < 3; i++) {
		/* A cache that fails costs caching, never an answer. */
		rc = world_read(&w, 100000, 200000);
		if (rc != 0)
			fail_msg("read %u: %d, try %llu", i, rc,
				(unsigned long long)nth);
	}
	assert_int_equal(world_read(&w, 0, WORLD_SIZE), 0);
	world_close(&w);
	/* What is in the cache is the truth, whatever happened. */
	assert_int_equal(world_open(&w, url, 1000), 0);
	assert_int_equal(world_read(&w, 0, WORLD_SIZE), 0);
	world_close(&w);
	world_fini(&w);
	bc_net_destroy(net);
	rt_stop(rt);
	rt_destroy(rt);
	return atomic_load(&plan.hits) == 0;
}

static void each_file_operation_may_fail_once(void **state)
{
	static const struct {
		int error;
		size_t short_to;
	} kinds[] = {{EIO, 0}, {ENOSPC, 0}, {0, 1000}};
	uint64_t n;

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		for (n = 1;
			!read_with_fault(kinds[i].error, kinds[i].short_to, n);
			n++)
			assert_true(n < MAX_STEPS);
		assert_true(n > 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_may_fail_once),
		cmocka_unit_test(each_file_operation_may_fail_once),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
