/* SPDX-License-Identifier: Apache-2.0 */
/* How much one server is asked at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "blobcache/net_int.h"
#include "runtime/base/clock.h"

static struct bc_net net;

static int setup(void **state)
{
	net = (struct bc_net){.o.max_host_connections = 8};
	list_init(&net.hosts);
	return 0;
}

static int teardown(void **state)
{
	net_hosts_fini(&net);
	return 0;
}

static void answer(struct net_host *h, long status, unsigned times)
{
	struct bc_transfer t = {.status = status};

	for (unsigned i = 0; i < times; i++)
		net_host_judge(h, &t);
}

static void a_burst_of_complaints_halves_once(void **state)
{
	struct net_host *h = net_host_get(&net, "http://a/x");

	assert_int_equal(h->limit, 8);
	answer(h, 429, 5);
	assert_int_equal(h->limit, 4);
	h->halved_ms = clock_ms() - 1000;
	answer(h, 503, 5);
	assert_int_equal(h->limit, 2);
	for (unsigned i = 0; i < 5; i++) {
		h->halved_ms = clock_ms() - 1000;
		answer(h, 503, 1);
	}
	assert_int_equal(h->limit, 1);
}

static void good_answers_let_it_grow_to_its_ceiling(void **state)
{
	struct net_host *h = net_host_get(&net, "http://a/x");

	answer(h, 429, 1);
	answer(h, 206, 3);
	assert_int_equal(h->limit, 4);
	answer(h, 206, 1);
	assert_int_equal(h->limit, 5);
	answer(h, 206, 1000);
	assert_int_equal(h->limit, 8);
	net_host_set_h2(h);
	assert_true(h->limit > 8);
}

static void a_server_that_complained_stays_slow_with_http2(void **state)
{
	struct net_host *h = net_host_get(&net, "http://a/x");

	answer(h, 429, 1);
	net_host_set_h2(h);
	assert_int_equal(h->limit, 4);
	answer(h, 206, 1000);
	assert_true(h->limit > 8);
}

static void prefetch_has_three_quarters_of_it(void **state)
{
	struct net_host *h = net_host_get(&net, "http://a/x");

	h->active = h->active_prefetch = 5;
	assert_true(net_host_has_room(h, RT_PREFETCH));
	h->active = h->active_prefetch = 6;
	assert_false(net_host_has_room(h, RT_PREFETCH));
	assert_true(net_host_has_room(h, RT_DEMAND));
	h->active = 8;
	assert_false(net_host_has_room(h, RT_DEMAND));
	/* where there are two, one is left for those who wait */
	h->limit = 2;
	h->active = h->active_prefetch = 1;
	assert_false(net_host_has_room(h, RT_PREFETCH));
	assert_true(net_host_has_room(h, RT_DEMAND));
	h->limit = 1;
	h->active = h->active_prefetch = 0;
	assert_true(net_host_has_room(h, RT_PREFETCH));
}

static void hosts_are_origins_and_bounded_in_number(void **state)
{
	struct net_host *busy = net_host_get(&net, "https://busy/x");
	char url[40];

	busy->active = 1;
	assert_ptr_equal(net_host_get(&net, "https://BUSY:443/y"), busy);
	assert_ptr_not_equal(net_host_get(&net, "http://busy/x"), busy);
	assert_null(net_host_get(&net, "ftp://busy/x"));
	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(url, sizeof(url), "http://h%u/", i);
		assert_non_null(net_host_get(&net, url));
	}
	assert_int_equal(net.host_count, NET_MAX_HOSTS);
	assert_ptr_equal(net_host_get(&net, "https://busy/x"), busy);
}

static void a_server_without_ranges_is_remembered(void **state)
{
	assert_false(bc_net_host_has_no_ranges(&net, "http://a/x"));
	bc_net_host_set_no_ranges(&net, "http://a/x");
	assert_true(bc_net_host_has_no_ranges(&net, "http://a/y"));
	assert_false(bc_net_host_has_no_ranges(&net, "http://b/x"));
	/* Not for ever: it may have been a proxy on the way. */
	net_host_get(&net, "http://a/x")->no_ranges_ms =
		clock_ms() - 6u * 60 * 1000; /* may wrap: only compared */
	assert_false(bc_net_host_has_no_ranges(&net, "http://a/y"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_burst_of_complaints_halves_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
			good_answers_let_it_grow_to_its_ceiling, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			a_server_that_complained_stays_slow_with_http2, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			prefetch_has_three_quarters_of_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			hosts_are_origins_and_bounded_in_number, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			a_server_without_ranges_is_remembered, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
