/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Servers that cannot be reached: who waits for them, for how long, and that
 * nobody else does.
 */
#include "blobcache/registry.h"
#include "runtime/base/clock.h"
#include "tests/lib/fetching.h"

#define CROWD 40

static struct server faults;
static struct bc_net *net;
static struct rt *rt;

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

static int net_setup(void **state)
{
	struct bc_net_options o = {.max_transfers = 9};
	struct err e = {0};

	return bc_net_create(&o, &net, &e);
}

static int net_teardown(void **state)
{
	bc_net_destroy(net);
	return 0;
}

static struct bc_source *open_at(int port, uint32_t offline_ms)
{
	struct bc_registry_options o = {.offline_ms = offline_ms};
	struct bc_source *s;
	struct err e = {0};
	char url[100];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/ok/a", port);
	assert_int_equal(bc_http_source_open(net, &o, url, SIZE, &s, &e), 0);
	return s;
}

/* A port that swallows connections: its queue is full. */
struct hole {
	int fd, fill[4], port;
};

static void hole_open(struct hole *h)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	h->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(h->fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(h->fd, 0), 0);
	assert_int_equal(getsockname(h->fd, (struct sockaddr *)&a, &n), 0);
	h->port = ntohs(a.sin_port);
	for (unsigned i = 0; i < ARRAY_LEN(h->fill); i++) {
		h->fill[i] = socket(
			AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(h->fill[i], (struct sockaddr *)&a, n);
	}
}

static void hole_close(struct hole *h)
{
	for (unsigned i = 0; i < ARRAY_LEN(h->fill); i++)
		(void)close(h->fill[i]);
	(void)close(h->fd);
}

static bool is_offline(void)
{
	struct bc_net_stats s;

	bc_net_stats(net, &s);
	return s.offline;
}

static void wait_offline(bool wanted)
{
	for (unsigned i = 0; is_offline() != wanted; i++) {
		if (i == 2000)
			fail_msg("offline stays %d", !wanted);
		(void)poll(NULL, 0, 10);
	}
}

static void a_dead_server_holds_up_nobody_else(void **state)
{
	static struct fetching dead[CROWD], alive[CROWD];
	struct bc_source *d, *a;
	struct hole hole;

	hole_open(&hole);
	d = open_at(hole.port, UINT32_MAX);
	a = open_at(faults.port[0], 0);
	for (unsigned i = 0; i < CROWD; i++)
		fetching_start(&dead[i], rt, d, i * 1000, 1000);
	wait_offline(true);
	/* Only one of them is tried at a time: the others all get through. */
	for (unsigned i = 0; i < CROWD; i++)
		fetching_start(&alive[i], rt, a, i * 1000, 1000);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(fetching_end(&alive[i]), 0);
	assert_true(is_offline());
	for (unsigned i = 0; i < CROWD; i++)
		bc_source_cancel(d, &dead[i].f);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(fetching_end(&dead[i]), -ECANCELED);
	bc_source_destroy(d);
	bc_source_destroy(a);
	assert_false(is_offline());
	hole_close(&hole);
}

static void who_waits_for_a_dead_server_fails_together(void **state)
{
	static struct fetching g[CROWD];
	struct bc_net_stats stats;
	struct bc_source *s;
	struct hole hole;

	hole_open(&hole);
	s = open_at(hole.port, 0);
	for (unsigned i = 0; i < CROWD; i++)
		fetching_start(&g[i], rt, s, i * 1000, 1000);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(fetching_end(&g[i]), -ETIMEDOUT);
	bc_net_stats(net, &stats);
	assert_true(stats.offline);
	/* One after the other it would have been each of them. */
	assert_in_range(stats.requests, 1, CROWD / 2);
	bc_source_destroy(s);
	hole_close(&hole);
}

static void everybody_goes_on_when_the_server_is_back(void **state)
{
	static struct fetching g[CROWD];
	struct server late = {0};
	int port = free_port();
	struct bc_source *s = open_at(port, UINT32_MAX);

	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < CROWD; i++)
			fetching_start(&g[i], rt, s, i * 1000, 1000);
		wait_offline(true);
		faultserver_start(&late, port);
		for (unsigned i = 0; i < CROWD; i++)
			assert_int_equal(fetching_end(&g[i]), 0);
		assert_false(is_offline());
		server_stop(&late);
	}
	bc_source_destroy(s);
}

static void a_time_is_waited_for(void **state)
{
	struct bc_source *s = open_at(free_port(), 1500);
	uint64_t began = clock_ms();
	struct fetching g;

	fetching_start(&g, rt, s, 0, 10);
	wait_offline(true);
	assert_int_equal(fetching_end(&g), -ETIMEDOUT);
	/* The last wait that would have ended later is not begun. */
	assert_true(clock_ms() - began >= 100);
	bc_source_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_dead_server_holds_up_nobody_else, net_setup,
			net_teardown),
		cmocka_unit_test_setup_teardown(
			who_waits_for_a_dead_server_fails_together, net_setup,
			net_teardown),
		cmocka_unit_test_setup_teardown(
			everybody_goes_on_when_the_server_is_back, net_setup,
			net_teardown),
		cmocka_unit_test_setup_teardown(
			a_time_is_waited_for, net_setup, net_teardown),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
