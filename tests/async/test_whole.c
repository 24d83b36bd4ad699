/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Servers that ignore ranges: one stream brings the whole blob into the cache,
 * and readers are served as their bytes pass.
 */
#include "tests/lib/http_world.h"

static struct server faults;
static struct bc_net *net;
static struct rt *rt;
static struct http_world w;

static int setup(void **state)
{
	faultserver_start(&faults, 0);
	rt = runtime_start(2);
	return 0;
}

static int teardown(void **state)
{
	runtime_stop(rt);
	server_stop(&faults);
	return 0;
}

/* A thread and a memory of servers for each case. */
static int case_setup(void **state)
{
	net = net_start();
	world_init(&w, rt, net);
	return 0;
}

static int case_teardown(void **state)
{
	bc_net_destroy(net);
	world_fini(&w);
	return 0;
}

static void open_path(const char *path, uint32_t offline_ms)
{
	char url[200];

	forget_log(net, &faults);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d%s",
		faults.port[0], path);
	assert_int_equal(world_open(&w, url, offline_ms), 0);
}

static unsigned requests(void)
{
	return asked(net, &faults, "GET");
}

static void one_stream_fills_the_cache(void **state)
{
	open_path("/whole/a", 1000);
	/* From the end: asked range by range it would be 32 times the blob. */
	for (unsigned i = 32; i > 0; i--)
		assert_int_equal(
			world_read(&w, (i - 1) * WORLD_GROUP, WORLD_GROUP), 0);
	world_wait_cached(&w);
	/* A range that is ignored, and the stream. */
	assert_in_range(requests(), 2, 2);
	world_close(&w);
	must_run("rm -rf %s/blobs", w.dir);
	/* The server is known now: no range is tried. */
	open_path("/whole/other", 1000);
	assert_int_equal(world_read(&w, 0, WORLD_SIZE), 0);
	world_wait_cached(&w);
	assert_int_equal(requests(), 1);
	world_close(&w);
	/* It stays there without the server's help. */
	open_path("/whole/a", 1000);
	assert_int_equal(world_read(&w, 0, WORLD_SIZE), 0);
	assert_int_equal(requests(), 0);
	world_close(&w);
}

static void one_read_is_enough_for_everything_to_come(void **state)
{
	open_path("/whole/b", 1000);
	assert_int_equal(world_read(&w, 500000, 10), 0);
	world_wait_cached(&w);
	assert_int_equal(requests(), 2);
	world_close(&w);
}

static void a_stream_that_breaks_goes_on(void **state)
{
	open_path("/whole-cut/300000/2/a", 1000);
	assert_int_equal(world_read(&w, WORLD_SIZE - 10, 10), 0);
	world_wait_cached(&w);
	/* The range, cut as well or not, and at most three streams. */
	assert_in_range(requests(), 3, 4);
	world_close(&w);
}

static void a_stream_that_never_comes_further_is_an_error(void **state)
{
	open_path("/whole-cut/300000/1000/b", 0);
	assert_int_equal(world_read(&w, 100000, 1000), 0);
	assert_true(world_read(&w, WORLD_SIZE - 10, 10) < 0);
	/* What has come stays. */
	assert_int_equal(world_read(&w, 200000, 1000), 0);
	world_close(&w);
}

static void closing_ends_a_stream_that_stalls(void **state)
{
	open_path("/whole-stall/200000/1000/a", UINT32_MAX);
	assert_int_equal(world_read(&w, 1000, 1000), 0);
	world_close(&w);
}

static void without_a_place_it_is_asked_range_by_range(void **state)
{
	if (geteuid() != 0)
		skip();
	must_run("mount -t tmpfs -o size=1m,mode=700 t %s", w.dir);
	open_path("/whole/c", 1000);
	must_run("head -c 1000000 /dev/zero >%s/filler 2>/dev/null || true",
		w.dir);
	for (unsigned i = 8; i > 0; i--)
		assert_int_equal(
			world_read(&w, i * WORLD_GROUP, WORLD_GROUP), 0);
	world_close(&w);
	must_run("umount %s", w.dir);
}

#define CASE(name) \
	cmocka_unit_test_setup_teardown(name, case_setup, case_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(one_stream_fills_the_cache),
		CASE(one_read_is_enough_for_everything_to_come),
		CASE(a_stream_that_breaks_goes_on),
		CASE(a_stream_that_never_comes_further_is_an_error),
		CASE(closing_ends_a_stream_that_stalls),
		CASE(without_a_place_it_is_asked_range_by_range),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
