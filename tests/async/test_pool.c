/* SPDX-License-Identifier: Apache-2.0 */
/* Thread pools: order of classes, taking back, running out at the end. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/util.h"
#include "runtime/pool.h"

enum { ITEMS = 60 };

struct item {
	struct rt_work work;
	unsigned number;
};

static struct item items[ITEMS];
static unsigned order[ITEMS], ran;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t meeting;

static struct rt_pool *new_pool(unsigned threads)
{
	struct rt_pool_options o = {
		.max_threads = threads, .name = "test", .letter = 'x'};
	struct rt_pool *p = NULL;

	assert_int_equal(rt_pool_create(&o, &p), 0);
	ran = 0;
	return p;
}

/* One thread only runs these, so they need no lock. */
static void item_run(struct rt_work *k)
{
	order[ran++] = container_of(k, struct item, work)->number;
}

static void gate_run(struct rt_work *k)
{
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
}

static void submit(struct rt_pool *p, unsigned i, enum rt_class cls)
{
	items[i] = (struct item){
		.work = {.run = item_run, .cls = cls}, .number = i};
	rt_pool_submit(p, &items[i].work);
}

static void demand_goes_first_but_not_for_ever(void **state)
{
	struct rt_pool *p = new_pool(1);
	struct rt_work first = {.run = gate_run};
	unsigned i, at = 0;

	pthread_mutex_lock(&gate);
	rt_pool_submit(p, &first);
	for (i = 0; i < 2; i++)
		submit(p, i, RT_PREFETCH);
	for (; i < ITEMS; i++)
		submit(p, i, RT_DEMAND);
	pthread_mutex_unlock(&gate);
	rt_pool_destroy(p); /* runs what is queued */
	assert_int_equal(ran, ITEMS);
	while (order[at] != 0)
		at++;
	/* the prefetch items came out one by one, after their turns of demand
	 */
	assert_true(at >= 15 && at <= 16);
	assert_int_equal(order[at + 17], 1);
	assert_int_equal(order[0], 2);
	assert_int_equal(order[ITEMS - 1], ITEMS - 1);
}

static void what_is_queued_can_be_taken_back(void **state)
{
	struct rt_pool *p = new_pool(1);
	struct rt_work first = {.run = gate_run};

	pthread_mutex_lock(&gate);
	rt_pool_submit(p, &first);
	for (unsigned i = 0; i < 10; i++)
		submit(p, i, RT_DEMAND);
	for (unsigned i = 0; i < 10; i += 2) {
		assert_true(rt_pool_remove(p, &items[i].work));
		assert_false(rt_pool_remove(p, &items[i].work));
	}
	pthread_mutex_unlock(&gate);
	rt_pool_destroy(p);
	assert_int_equal(ran, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(order[i], 2 * i + 1);
}

static void meet(struct rt_work *k)
{
	(void)pthread_barrier_wait(&meeting);
}

/* Ends only if all of them run at the same time. */
static void threads_work_in_parallel_up_to_the_limit(void **state)
{
	struct rt_pool *p = new_pool(4);
	struct rt_work k[8];

	assert_int_equal(pthread_barrier_init(&meeting, NULL, 4), 0);
	assert_int_equal(rt_pool_threads(p), 0);
	for (unsigned i = 0; i < ARRAY_LEN(k); i++) {
		k[i] = (struct rt_work){.run = meet};
		rt_pool_submit(p, &k[i]);
	}
	assert_int_equal(rt_pool_threads(p), 4);
	rt_pool_destroy(p);
	(void)pthread_barrier_destroy(&meeting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(demand_goes_first_but_not_for_ever),
		cmocka_unit_test(what_is_queued_can_be_taken_back),
		cmocka_unit_test(threads_work_in_parallel_up_to_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
