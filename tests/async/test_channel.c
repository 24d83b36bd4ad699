/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel under real threads: every item once, order, bounds, closing, and
 * receivers that sleep.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "runtime/base/mem.h"
#include "runtime/channel.h"
#include "tests/async/engines.h"

enum { SIDES = 8, PLACES = 16 };

/* One run: senders push numbered items, receivers tick them off. */
struct run {
	struct rt_queue q;
	struct rt_sleepers sleepers;
	sem_t bell[SIDES];
	unsigned senders, receivers;
	uint64_t per_sender;
	_Atomic uint8_t *seen; /* per item */
	_Atomic uint64_t taken;
	_Atomic uint64_t accepted[SIDES];
	atomic_uint out_of_order; /* one receiver only */
	atomic_uint wakes;
};

struct side {
	struct run *run;
	unsigned index;
	pthread_t thread;
};

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void wake_one(struct run *r)
{
	int i = rt_sleepers_pick(&r->sleepers);

	if (i < 0)
		return;
	atomic_fetch_add(&r->wakes, 1);
	(void)sem_post(&r->bell[i]);
}

/* Items are never NULL: number + 1. */
static void *sender(void *arg)
{
	struct side *s = arg;
	struct run *r = s->run;
	uint32_t seed = s->index + 1;
	uint64_t n;
	int ret;

	for (n = 0; n < r->per_sender;) {
		ret = rt_queue_push(&r->q,
			(void *)(uintptr_t)(s->index * r->per_sender + n + 1));
		if (ret == -ESHUTDOWN)
			break;
		if (ret == 0) {
			n++;
			wake_one(r);
		}
		if (ret == -EAGAIN || next_random(&seed) % 64 == 0)
			(void)sched_yield();
	}
	atomic_store(&r->accepted[s->index], n);
	return NULL;
}

static void tick(struct run *r, uint64_t item, int64_t last[SIDES])
{
	uint64_t from = (item - 1) / r->per_sender;
	int64_t n = (int64_t)((item - 1) % r->per_sender);

	atomic_fetch_add(&r->seen[item - 1], 1);
	atomic_fetch_add(&r->taken, 1);
	if (n <= last[from])
		atomic_fetch_add(&r->out_of_order, 1);
	last[from] = n;
}

static void *receiver(void *arg)
{
	struct side *s = arg;
	struct run *r = s->run;
	uint32_t seed = s->index + 100;
	int64_t last[SIDES];
	void *item;
	unsigned i;
	int ret;

	for (i = 0; i < SIDES; i++)
		last[i] = -1;
	for (;;) {
		ret = rt_queue_pop(&r->q, &item);
		if (ret == -ESHUTDOWN)
			return NULL;
		if (ret == 0) {
			tick(r, (uintptr_t)item, last);
			if (rt_queue_has_item(&r->q))
				wake_one(r);
			if (next_random(&seed) % 64 == 0)
				(void)sched_yield();
			continue;
		}
		rt_sleepers_enter(&r->sleepers, s->index);
		if (!rt_queue_has_item(&r->q) && !rt_queue_is_drained(&r->q))
			(void)sem_wait(&r->bell[s->index]);
		rt_sleepers_leave(&r->sleepers, s->index);
	}
}

/* Whoever closes tells all, and so does who takes the last item. */
static void ring_all(struct run *r)
{
	unsigned i;

	for (i = 0; i < SIDES; i++)
		(void)sem_post(&r->bell[i]);
}

static void run_init(struct run *r, unsigned senders, unsigned receivers,
	uint64_t per_sender)
{
	unsigned i;

	*r = (struct run){.senders = senders,
		.receivers = receivers,
		.per_sender = per_sender};
	assert_int_equal(rt_queue_init(&r->q, PLACES), 0);
	r->seen = mem_calloc(senders * per_sender, sizeof(*r->seen));
	assert_non_null(r->seen);
	for (i = 0; i < SIDES; i++)
		assert_int_equal(sem_init(&r->bell[i], 0, 0), 0);
}

/* close_after: items taken before the queue is closed; 0: after all pushes. */
static void run_threads(struct run *r, uint64_t close_after)
{
	struct side out[SIDES], in[SIDES];
	unsigned i;

	for (i = 0; i < r->receivers; i++) {
		in[i] = (struct side){.run = r, .index = i};
		assert_int_equal(
			pthread_create(&in[i].thread, NULL, receiver, &in[i]),
			0);
	}
	for (i = 0; i < r->senders; i++) {
		out[i] = (struct side){.run = r, .index = i};
		assert_int_equal(
			pthread_create(&out[i].thread, NULL, sender, &out[i]),
			0);
	}
	while (close_after && atomic_load(&r->taken) < close_after)
		(void)sched_yield();
	if (close_after)
		assert_true(rt_queue_close(&r->q));
	for (i = 0; i < r->senders; i++)
		(void)pthread_join(out[i].thread, NULL);
	if (!close_after)
		assert_true(rt_queue_close(&r->q));
	/* The receivers empty it; then nothing comes that could wake them. */
	while (!rt_queue_is_drained(&r->q)) {
		ring_all(r);
		(void)sched_yield();
	}
	ring_all(r);
	for (i = 0; i < r->receivers; i++)
		(void)pthread_join(in[i].thread, NULL);
}

/* Every accepted item was seen once, the others never. */
static void run_check(struct run *r)
{
	uint64_t i, n, all = 0;

	for (i = 0; i < r->senders; i++) {
		all += r->accepted[i];
		for (n = 0; n < r->per_sender; n++)
			assert_int_equal(r->seen[i * r->per_sender + n],
				n < r->accepted[i]);
	}
	assert_int_equal(r->taken, all);
}

static void run_tell(const struct run *r)
{
	print_message("counted: %llu messages, %u senders, %u receivers\n",
		(unsigned long long)r->taken, r->senders, r->receivers);
}

static void run_fini(struct run *r)
{
	unsigned i;

	for (i = 0; i < SIDES; i++)
		(void)sem_destroy(&r->bell[i]);
	mem_free((void *)r->seen);
	rt_queue_fini(&r->q);
}

static void eight_senders_and_receivers_pass_every_item_once(void **state)
{
	struct run r;

	run_init(&r, SIDES, SIDES, soak_count(20000));
	run_threads(&r, 0);
	run_check(&r);
	run_tell(&r);
	run_fini(&r);
}

static void one_receiver_sees_each_sender_in_order(void **state)
{
	struct run r;

	run_init(&r, SIDES, 1, soak_count(20000));
	run_threads(&r, 0);
	run_check(&r);
	run_tell(&r);
	assert_int_equal(r.out_of_order, 0);
	run_fini(&r);
}

static void what_was_accepted_before_the_close_arrives(void **state)
{
	struct run r;
	unsigned round;

	for (round = 1; round <= 20; round++) {
		run_init(&r, 4, 4, 20000);
		run_threads(&r, round * 37);
		run_check(&r);
		run_fini(&r);
	}
}

static void a_full_queue_refuses_until_a_pop(void **state)
{
	struct rt_queue q;
	void *item;
	uintptr_t i;

	assert_int_equal(rt_queue_init(&q, 3), 0);
	for (i = 1; i <= 4; i++)
		assert_int_equal(rt_queue_push(&q, (void *)i), 0);
	assert_int_equal(rt_queue_push(&q, (void *)i), -EAGAIN);
	assert_int_equal(rt_queue_count(&q), 4);
	assert_int_equal(rt_queue_pop(&q, &item), 0);
	assert_int_equal((uintptr_t)item, 1);
	assert_int_equal(rt_queue_push(&q, (void *)i), 0);
	for (i = 2; i <= 5; i++) {
		assert_int_equal(rt_queue_pop(&q, &item), 0);
		assert_int_equal((uintptr_t)item, i);
	}
	assert_int_equal(rt_queue_pop(&q, &item), -EAGAIN);
	assert_false(rt_queue_has_item(&q));
	rt_queue_fini(&q);
}

static void a_closed_queue_is_emptied_then_says_so(void **state)
{
	struct rt_queue q;
	void *item;

	assert_int_equal(rt_queue_init(&q, 2), 0);
	assert_int_equal(rt_queue_push(&q, &q), 0);
	assert_true(rt_queue_close(&q));
	assert_false(rt_queue_close(&q));
	assert_int_equal(rt_queue_push(&q, &q), -ESHUTDOWN);
	assert_false(rt_queue_is_drained(&q));
	assert_int_equal(rt_queue_pop(&q, &item), 0);
	assert_ptr_equal(item, &q);
	assert_true(rt_queue_is_drained(&q));
	assert_int_equal(rt_queue_pop(&q, &item), -ESHUTDOWN);
	rt_queue_fini(&q);
}

static void a_queue_of_impossible_size_is_refused(void **state)
{
	struct rt_queue q;

	assert_int_equal(rt_queue_init(&q, 0), -EINVAL);
	rt_queue_fini(&q);
	assert_int_equal(rt_queue_init(&q, RT_QUEUE_MAX + 1), -EINVAL);
	(void)mem_fail_nth(1, 0);
	assert_int_equal(rt_queue_init(&q, 8), -ENOMEM);
	(void)mem_fail_nth(0, 0);
	rt_queue_fini(&q);
}

static void one_wake_is_on_its_way_at_a_time(void **state)
{
	struct rt_sleepers s = {0};

	assert_int_equal(rt_sleepers_pick(&s), -1);
	rt_sleepers_enter(&s, 3);
	rt_sleepers_enter(&s, 62);
	assert_int_equal(rt_sleepers_pick(&s), 3);
	assert_true(rt_sleepers_is_picked(&s, 3));
	assert_false(rt_sleepers_is_picked(&s, 62));
	assert_int_equal(rt_sleepers_pick(&s), -1);
	rt_sleepers_leave(&s, 3);
	rt_sleepers_enter(&s, 3);
	assert_int_equal(rt_sleepers_pick(&s), 62);
	rt_sleepers_leave(&s, 62);
	rt_sleepers_leave(&s, 3);
	assert_int_equal(rt_sleepers_pick(&s), -1);
	assert_int_equal(s.word, 0);
}

static void a_sleeper_that_leaves_by_itself_ends_no_wake(void **state)
{
	struct rt_sleepers s = {0};

	rt_sleepers_enter(&s, 0);
	rt_sleepers_enter(&s, 1);
	rt_sleepers_enter(&s, 2);
	assert_int_equal(rt_sleepers_pick(&s), 0);
	rt_sleepers_leave(&s, 1);
	assert_int_equal(rt_sleepers_pick(&s), -1);
	rt_sleepers_leave(&s, 0);
	assert_int_equal(rt_sleepers_pick(&s), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_queue_refuses_until_a_pop),
		cmocka_unit_test(a_closed_queue_is_emptied_then_says_so),
		cmocka_unit_test(a_queue_of_impossible_size_is_refused),
		cmocka_unit_test(one_wake_is_on_its_way_at_a_time),
		cmocka_unit_test(a_sleeper_that_leaves_by_itself_ends_no_wake),
		cmocka_unit_test(
			eight_senders_and_receivers_pass_every_item_once),
		cmocka_unit_test(one_receiver_sees_each_sender_in_order),
		cmocka_unit_test(what_was_accepted_before_the_close_arrives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
