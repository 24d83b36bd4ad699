/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single-flight: one operation per key, every waiter told once, nothing freed
 * early.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/flight.h"
#include "tests/async/engines.h"

static atomic_int alive; /* flights made and not destroyed */

static struct rt_flight *flight_new(void)
{
	struct rt_flight *f = mem_alloc(sizeof(*f));

	assert_non_null(f);
	atomic_fetch_add(&alive, 1);
	return f;
}

static void flight_destroy(struct rt_flight *f)
{
	atomic_fetch_sub(&alive, 1);
	mem_free(f);
}

/* A waiter that notes what it is told. */
struct note {
	struct rt_waiter wt;
	struct rt_flight_table *table;
	atomic_int told;
	int result;
};

static void note_landed(struct rt_waiter *wt, struct rt_flight *f, int result)
{
	struct note *n = container_of(wt, struct note, wt);
	struct rt_flight_table *t = n->table;

	assert_ptr_equal(wt->flight, f);
	n->result = result;
	rt_flight_unref(t, f);
	atomic_fetch_add(&n->told, 1);
}

static void setup_table(struct rt_flight_table *t, unsigned buckets)
{
	atomic_store(&alive, 0);
	assert_int_equal(rt_flight_table_init(t, buckets, flight_destroy), 0);
}

static void finish_table(struct rt_flight_table *t)
{
	assert_int_equal(t->count, 0);
	rt_flight_table_fini(t);
	assert_int_equal(atomic_load(&alive), 0);
}

static struct rt_flight *join(struct rt_flight_table *t, uint64_t key,
	enum rt_class cls, struct note *n, bool *ret_new, bool *ret_promote)
{
	struct rt_flight *fresh = flight_new(), *f;

	if (n) {
		*n = (struct note){.table = t};
		n->wt.landed = note_landed;
	}
	f = rt_flight_join(
		t, key, cls, fresh, n ? &n->wt : NULL, ret_new, ret_promote);
	if (!*ret_new)
		flight_destroy(fresh);
	return f;
}

static void who_asks_for_the_same_key_shares_the_flight(void **state)
{
	struct rt_flight_table t;
	struct rt_flight *f;
	struct note a, b, other;
	bool is_new, promote;

	setup_table(&t, 1);
	f = join(&t, 7, RT_DEMAND, &a, &is_new, &promote);
	assert_true(is_new);
	assert_ptr_equal(join(&t, 7, RT_DEMAND, &b, &is_new, &promote), f);
	assert_false(is_new);
	assert_false(promote);
	assert_ptr_not_equal(
		join(&t, 8, RT_DEMAND, &other, &is_new, &promote), f);
	assert_true(is_new);
	rt_flight_land(&t, f, -EIO);
	assert_int_equal(a.told, 1);
	assert_int_equal(b.told, 1);
	assert_int_equal(b.result, -EIO);
	assert_int_equal(other.told, 0);
	rt_flight_land(&t, other.wt.flight, 0);
	finish_table(&t);
}

static void who_comes_after_the_landing_starts_anew(void **state)
{
	struct rt_flight_table t;
	struct rt_flight *f;
	struct note a, b;
	bool is_new, promote;

	setup_table(&t, 4);
	f = join(&t, 1, RT_DEMAND, &a, &is_new, &promote);
	rt_flight_land(&t, f, 0);
	f = join(&t, 1, RT_DEMAND, &b, &is_new, &promote);
	assert_true(is_new);
	rt_flight_land(&t, f, 5);
	assert_int_equal(a.told, 1);
	assert_int_equal(b.result, 5);
	finish_table(&t);
}

static void who_leaves_is_not_told(void **state)
{
	struct rt_flight_table t;
	struct rt_flight *f;
	struct note a, b;
	bool is_new, promote;

	setup_table(&t, 4);
	f = join(&t, 1, RT_DEMAND, &a, &is_new, &promote);
	(void)join(&t, 1, RT_DEMAND, &b, &is_new, &promote);
	assert_true(rt_flight_leave(&t, &a.wt));
	assert_false(rt_flight_leave(&t, &a.wt));
	rt_flight_land(&t, f, 0);
	assert_int_equal(a.told, 0);
	assert_int_equal(b.told, 1);
	assert_false(rt_flight_leave(&t, &b.wt));
	finish_table(&t);
}

static void a_promotion_is_reported_once_with_a_reference(void **state)
{
	struct rt_flight_table t;
	struct rt_flight *f;
	struct note a, b;
	bool is_new, promote;

	setup_table(&t, 4);
	f = join(&t, 1, RT_PREFETCH, NULL, &is_new, &promote);
	assert_true(is_new);
	assert_false(promote);
	(void)join(&t, 1, RT_PREFETCH, NULL, &is_new, &promote);
	assert_false(promote);
	(void)join(&t, 1, RT_DEMAND, &a, &is_new, &promote);
	assert_true(promote);
	(void)join(&t, 1, RT_DEMAND, &b, &is_new, &promote);
	assert_false(promote);
	rt_flight_land(&t, f, 0);
	/* The promoter still holds it. */
	assert_int_equal(atomic_load(&alive), 1);
	assert_true(f->landed);
	rt_flight_unref(&t, f);
	finish_table(&t);
}

/* A waiter that asks for the same key again while it is being told. */
struct again {
	struct rt_waiter wt;
	struct rt_flight_table *table;
	struct note second;
	bool is_new;
};

static void again_landed(struct rt_waiter *wt, struct rt_flight *f, int result)
{
	struct again *a = container_of(wt, struct again, wt);
	bool promote;

	rt_flight_unref(a->table, f);
	(void)join(a->table, 1, RT_DEMAND, &a->second, &a->is_new, &promote);
}

static void a_waiter_may_start_the_next_flight_when_told(void **state)
{
	struct rt_flight_table t;
	struct again a = {.table = &t};
	bool is_new, promote;
	struct rt_flight *f;

	setup_table(&t, 4);
	a.wt.landed = again_landed;
	f = rt_flight_join(
		&t, 1, RT_DEMAND, flight_new(), &a.wt, &is_new, &promote);
	rt_flight_land(&t, f, 0);
	assert_true(a.is_new);
	rt_flight_land(&t, a.second.wt.flight, 3);
	assert_int_equal(a.second.result, 3);
	finish_table(&t);
}

static void init_refuses_what_it_cannot_make(void **state)
{
	struct rt_flight_table t;

	assert_int_equal(rt_flight_table_init(&t, 0, flight_destroy), -EINVAL);
	rt_flight_table_fini(&t);
	(void)mem_fail_nth(1, 0);
	assert_int_equal(rt_flight_table_init(&t, 8, flight_destroy), -ENOMEM);
	(void)mem_fail_nth(0, 0);
	rt_flight_table_fini(&t);
}

/* ---- threads: owners land, waiters leave ---- */

enum { THREADS = 6, KEYS = 5 };

struct race {
	struct rt_flight_table table;
	atomic_int in_air[KEYS]; /* owners between join and land */
	unsigned rounds;
	atomic_uint told, left, owned, promoted, seed;
};

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void race_round(struct race *r, uint32_t *seed)
{
	uint64_t key = next_random(seed) % KEYS;
	bool demand = next_random(seed) % 2;
	bool is_new, promote;
	struct rt_flight *f;
	struct note n;

	f = join(&r->table, key, demand ? RT_DEMAND : RT_PREFETCH,
		demand ? &n : NULL, &is_new, &promote);
	if (promote) {
		atomic_fetch_add(&r->promoted, 1);
		if (next_random(seed) % 2)
			(void)sched_yield();
		/* f is held, landed or not. */
		assert_int_equal(f->key, key);
		rt_flight_unref(&r->table, f);
	}
	if (is_new) {
		assert_int_equal(atomic_fetch_add(&r->in_air[key], 1), 0);
		atomic_fetch_add(&r->owned, 1);
		if (next_random(seed) % 4 == 0)
			(void)sched_yield();
		assert_int_equal(atomic_fetch_sub(&r->in_air[key], 1), 1);
		rt_flight_land(&r->table, f, 0);
	} else if (demand && next_random(seed) % 2) {
		if (next_random(seed) % 2)
			(void)sched_yield();
		if (rt_flight_leave(&r->table, &n.wt)) {
			atomic_fetch_add(&r->left, 1);
			assert_int_equal(atomic_load(&n.told), 0);
			return;
		}
	}
	if (!demand)
		return;
	while (!atomic_load(&n.told))
		(void)sched_yield();
	assert_int_equal(atomic_load(&n.told), 1);
	atomic_fetch_add(&r->told, 1);
}

static void *race_thread(void *arg)
{
	struct race *r = arg;
	uint32_t seed = atomic_fetch_add(&r->seed, 77) + 1;
	unsigned i;

	for (i = 0; i < r->rounds; i++)
		race_round(r, &seed);
	return NULL;
}

static void racing_owners_waiters_and_leavers_lose_nobody(void **state)
{
	struct race r = {.rounds = (unsigned)soak_count(5000)};
	pthread_t threads[THREADS];
	unsigned i;

	setup_table(&r.table, 2);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, race_thread, &r), 0);
	for (i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	assert_true(atomic_load(&r.owned) > 0);
	finish_table(&r.table);
	print_message("counted: %u joins, %u owned, %u told, %u left\n",
		THREADS * r.rounds, atomic_load(&r.owned), atomic_load(&r.told),
		atomic_load(&r.left));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_asks_for_the_same_key_shares_the_flight),
		cmocka_unit_test(who_comes_after_the_landing_starts_anew),
		cmocka_unit_test(who_leaves_is_not_told),
		cmocka_unit_test(a_promotion_is_reported_once_with_a_reference),
		cmocka_unit_test(a_waiter_may_start_the_next_flight_when_told),
		cmocka_unit_test(init_refuses_what_it_cannot_make),
		cmocka_unit_test(racing_owners_waiters_and_leavers_lose_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
