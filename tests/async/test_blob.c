/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/blob: reads, flights, failures, on each engine. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/blob_int.h"
#include "blobcache/store_int.h"
#include "tests/async/engines.h"
#include "tests/lib/blob_fixture.h"

/* ---- plain use ---- */

static void cold_then_warm(struct rt *rt)
{
	struct bc_blob_stats s;
	struct fixture f;
	uint64_t fetched;

	fixture_start(&f, rt);
	expect_all(rt, &f, 3333);
	wait_cached(f.b, total(f.b));
	fetched = atomic_load(&f.source->fetched);
	assert_true(fetched <= f.blob.len);
	expect_all(rt, &f, 100000);
	expect_all(rt, &f, 4096);
	assert_int_equal(atomic_load(&f.source->fetched), fetched);
	bc_blob_stats(f.b, &s);
	assert_int_equal(s.errors, 0);
	assert_true(s.hits > 0);
	fixture_close(&f);

	fixture_open(&f, rt);
	expect_all(rt, &f, 70000);
	assert_int_equal(atomic_load(&f.source->fetches), 0);
	bc_blob_stats(f.b, &s);
	assert_int_equal(s.misses, 0);
	fixture_end(&f);
}

static void a_blob_reads_right_cold_warm_and_reopened(void **state)
{
	on_engines(2, cold_then_warm);
}

static void whole_at_once(struct rt *rt)
{
	struct fixture f;

	fixture_start(&f, rt);
	expect_all(rt, &f, f.device_len + 5000);
	/* All neighbours: far fewer requests than groups. */
	assert_true(atomic_load(&f.source->fetches) <= 2);
	assert_int_equal(atomic_load(&f.source->fetched), f.blob.len);
	fixture_end(&f);
}

static void neighbouring_groups_come_in_one_range(void **state)
{
	on_engines(1, whole_at_once);
}

static void beyond_the_end(struct rt *rt)
{
	struct fixture f;
	uint8_t buf[100];

	fixture_start(&f, rt);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(read_at(rt, f.b, f.device_len, buf, 100), 0);
	assert_int_equal(buf[0] | buf[99], 0);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(read_at(rt, f.b, UINT64_MAX, buf, 100), 0);
	assert_int_equal(buf[0] | buf[99], 0);
	assert_int_equal(read_at(rt, f.b, 0, buf, 0), 0);
	assert_int_equal(atomic_load(&f.source->fetches), 0);
	fixture_end(&f);
}

static void bytes_behind_the_device_are_zeros(void **state)
{
	on_engines(1, beyond_the_end);
}

static void mixed(struct rt *rt)
{
	struct fixture f;
	uint8_t *buf;
	size_t off;

	fixture_start(&f, rt);
	buf = mem_alloc(f.device_len);
	for (off = 0; off < f.device_len; off += 5 * 12288)
		assert_int_equal(read_at(rt, f.b, off, buf, 100), 0);
	assert_int_equal(read_at(rt, f.b, 0, buf, f.device_len), 0);
	assert_memory_equal(buf, f.device, f.device_len);
	mem_free(buf);
	fixture_end(&f);
}

static void a_read_of_ready_and_missing_groups_is_right(void **state)
{
	on_engines(2, mixed);
}

/* ---- many at once ---- */

struct many {
	struct fixture *f;
	atomic_uint left, bad;
	size_t step;
};

struct reader {
	struct many *m;
	struct rt_worker *w;
	struct rt_task task;
	struct bc_read r;
	uint8_t *buf;
	size_t off;
};

static void reader_go(struct reader *rd);

static void reader_check(struct reader *rd, int result)
{
	struct fixture *f = rd->m->f;
	size_t n = min_u64(rd->m->step, f->device_len - rd->off);

	if (result != 0 || memcmp(rd->buf, f->device + rd->off, n) != 0)
		atomic_fetch_add(&rd->m->bad, 1);
	rd->off += rd->m->step;
}

static void reader_done(struct bc_read *r)
{
	struct reader *rd = container_of(r, struct reader, r);

	reader_check(rd, r->result);
	reader_go(rd);
}

static void reader_go(struct reader *rd)
{
	int r;

	while (rd->off < rd->m->f->device_len) {
		rd->r = (struct bc_read){.blob = rd->m->f->b,
			.off = rd->off,
			.len = rd->m->step,
			.buf = rd->buf,
			.done = reader_done};
		r = bc_blob_read(&rd->r);
		if (r == -EINPROGRESS)
			return;
		reader_check(rd, r);
	}
	atomic_fetch_sub(&rd->m->left, 1);
}

static void reader_start(struct rt_task *t)
{
	reader_go(container_of(t, struct reader, task));
}

static void run_readers(
	struct rt *rt, struct fixture *f, unsigned n, size_t step)
{
	struct many m = {.f = f, .step = step};
	struct reader *rd = mem_calloc(n, sizeof(*rd));
	unsigned i;

	atomic_store(&m.left, n);
	for (i = 0; i < n; i++) {
		rd[i].m = &m;
		rd[i].buf = mem_alloc(step);
		rd[i].task.run = reader_start;
		rd[i].w = rt_worker_at(rt, i % rt_worker_count(rt));
		rt_post(rd[i].w, &rd[i].task);
	}
	while (atomic_load(&m.left))
		sched_yield();
	assert_int_equal(atomic_load(&m.bad), 0);
	for (i = 0; i < n; i++)
		mem_free(rd[i].buf);
	mem_free(rd);
}

/*
 * A range over a small gap fetches what lies in it once more when another run
 * has it on its way; without gaps every byte is fetched exactly once.
 */
static void open_without_gaps(struct fixture *f, struct rt *rt)
{
	fixture_open(f, rt);
	f->b->limits.max_gap = 0;
}

static void many_readers(struct rt *rt)
{
	unsigned long i, rounds = soak_count(8);
	struct fixture f;

	for (i = 0; i < rounds; i++) {
		fixture_init(&f);
		open_without_gaps(&f, rt);
		run_readers(rt, &f, 64, 3000 + i * 1000);
		/* Each byte once, however many asked. */
		assert_int_equal(atomic_load(&f.source->fetched), f.blob.len);
		fixture_close(&f);
		fixture_fini(&f);
	}
}

static void sixty_four_readers_fetch_every_byte_once(void **state)
{
	on_engines(4, many_readers);
}

/* ---- what goes wrong at the source ---- */

static void wrong_once(struct rt *rt)
{
	struct bc_blob_stats s;
	struct fixture f;
	uint8_t buf[500];

	fixture_start(&f, rt);
	atomic_store(&f.source->wrong_count, 2);
	assert_int_equal(read_at(rt, f.b, 0, buf, 500), 0);
	assert_memory_equal(buf, f.device, 500);
	assert_int_equal(atomic_load(&f.source->fetches), 3);
	bc_blob_stats(f.b, &s);
	/* Neighbours that came along were wrong as well. */
	assert_true(s.verify_failures >= 2);
	fixture_end(&f);
}

static void wrong_bytes_are_fetched_again(void **state)
{
	on_engines(2, wrong_once);
}

static void wrong_always(struct rt *rt)
{
	const struct bc_map *m;
	struct fixture f;
	uint8_t buf[500];
	uint32_t i;
	int r;

	fixture_start(&f, rt);
	atomic_store(&f.source->wrong_count, 1000000);
	m = bc_blob_map(f.b);
	for (i = 0; i < m->group_count; i++) {
		r = read_at(rt, f.b,
			m->chunks[m->groups[i].first_chunk].dev_off, buf, 500);
		assert_true(r == -EBADMSG || r == -EIO);
	}
	assert_int_equal(bc_blob_cached_bytes(f.b), 0);
	atomic_store(&f.source->wrong_count, 0);
	expect_all(rt, &f, 60000);
	fixture_end(&f);
}

static void what_stays_wrong_is_an_error_and_never_cached(void **state)
{
	on_engines(2, wrong_always);
}

static void source_fails(struct rt *rt)
{
	static const int codes[][2] = {{-EIO, -EIO}, {-ENOENT, -EIO},
		{-EACCES, -EIO}, {-EPROTO, -EIO}, {-ETIMEDOUT, -ETIMEDOUT},
		{-ENOMEM, -ENOMEM}};
	struct fixture f;
	uint8_t buf[100];
	size_t i;

	fixture_start(&f, rt);
	for (i = 0; i < ARRAY_LEN(codes); i++) {
		atomic_store(&f.source->fail_code, codes[i][0]);
		atomic_store(&f.source->fail_count, 1);
		assert_int_equal(read_at(rt, f.b, 0, buf, 100), codes[i][1]);
	}
	expect_all(rt, &f, 60000);
	fixture_end(&f);
}

static void errors_of_the_source_end_the_read_and_no_later_one(void **state)
{
	on_engines(2, source_fails);
}

static uint64_t last_chunk(struct bc_blob *b)
{
	const struct bc_map *m = bc_blob_map(b);

	return m->chunks[m->chunk_count - 1].dev_off;
}

static void no_source(struct rt *rt)
{
	struct bc_blob_options o = {.rt = rt};
	struct fixture f;
	uint8_t buf[100];

	fixture_start(&f, rt);
	assert_int_equal(read_at(rt, f.b, 0, buf, 100), 0);
	fixture_close(&f);
	assert_int_equal(bc_store_open(f.dir, &f.store, NULL), 0);
	o.store = f.store;
	o.digest = f.digest;
	o.map = fixture_map(&f);
	assert_int_equal(bc_blob_open(&o, &f.b, NULL), 0);
	assert_int_equal(read_at(rt, f.b, 0, buf, 100), 0);
	assert_memory_equal(buf, f.device, 100);
	assert_int_equal(read_at(rt, f.b, last_chunk(f.b), buf, 100), -EIO);
	fixture_end(&f);
}

static void without_a_source_only_cached_bytes_are_read(void **state)
{
	on_engines(1, no_source);
}

/* ---- cancel, promote, close ---- */

struct cancelled {
	struct bc_read r;
	struct fixture *f;
	struct rt_op *op;
	uint8_t buf[100];
	bool is_done;
};

static void cancelled_done(struct bc_read *r)
{
	struct cancelled *c = container_of(r, struct cancelled, r);

	assert_false(c->is_done);
	c->is_done = true;
	rt_block_on_done(c->op, r->result);
}

static void cancelled_start(void *arg, struct rt_op *op)
{
	struct cancelled *c = arg;

	c->op = op;
	assert_int_equal(bc_blob_read(&c->r), -EINPROGRESS);
	bc_blob_cancel(&c->r);
	bc_blob_cancel(&c->r);
	assert_false(c->is_done);
}

static void cancel(struct rt *rt)
{
	struct cancelled c = {0};
	struct fixture f;
	uint8_t buf[100];

	fixture_start(&f, rt);
	atomic_store(&f.source->hold, true);
	c.f = &f;
	c.r = (struct bc_read){
		.blob = f.b, .len = 100, .buf = c.buf, .done = cancelled_done};
	assert_int_equal(rt_block_on(rt, cancelled_start, &c), -ECANCELED);
	while (fake_held(f.source) == 0)
		sched_yield();
	fake_release(f.source);
	wait_cached(f.b, 1);
	assert_int_equal(read_at(rt, f.b, 0, buf, 100), 0);
	assert_memory_equal(buf, f.device, 100);
	assert_int_equal(atomic_load(&f.source->fetches), 1);
	fixture_end(&f);
}

static void a_cancelled_read_ends_and_its_flight_still_fills_the_cache(
	void **state)
{
	on_engines(2, cancel);
}

static void promote(struct rt *rt)
{
	struct bg pre, demand;
	struct fixture f;

	fixture_start(&f, rt);
	atomic_store(&f.source->hold, true);
	bg_post(rt, &pre, f.b, RT_PREFETCH, false, 0);
	while (fake_held(f.source) == 0)
		sched_yield();
	assert_int_equal(f.source->held[0]->cls, RT_PREFETCH);
	bg_post(rt, &demand, f.b, RT_DEMAND, true, 0);
	while (atomic_load(&f.source->promotes) == 0)
		sched_yield();
	fake_release(f.source);
	while (atomic_load(&demand.result) > 0 || atomic_load(&pre.result) > 0)
		sched_yield();
	assert_int_equal(atomic_load(&demand.result), 0);
	assert_int_equal(atomic_load(&pre.result), 0);
	assert_memory_equal(demand.buf, f.device, 100);
	assert_int_equal(atomic_load(&f.source->fetches), 1);
	fixture_end(&f);
}

static void a_demand_that_joins_a_prefetch_promotes_it(void **state)
{
	on_engines(2, promote);
}

static void close_early(struct rt *rt)
{
	bool destroyed = false;
	struct fixture f;
	struct bg g;

	fixture_start(&f, rt);
	f.source->destroyed = &destroyed;
	atomic_store(&f.source->hold, true);
	bg_post(rt, &g, f.b, RT_DEMAND, true, 0);
	while (fake_held(f.source) == 0)
		sched_yield();
	fixture_close(&f);
	assert_true(destroyed);
	assert_int_equal(atomic_load(&g.result), -ECANCELED);
	fixture_fini(&f);
}

static void closing_cancels_and_drains(void **state)
{
	on_engines(2, close_early);
}

static void one_at_a_time(struct rt *rt)
{
	struct fixture f;

	fixture_init(&f);
	open_without_gaps(&f, rt);
	f.store->budget.limit = 1;
	run_readers(rt, &f, 32, 5000);
	assert_int_equal(atomic_load(&f.source->fetched), f.blob.len);
	fixture_end(&f);
}

static void with_memory_for_one_flight_all_get_their_turn(void **state)
{
	on_engines(2, one_at_a_time);
}

/* ---- memory ---- */

static void no_memory(struct rt *rt)
{
	struct fixture f;
	unsigned long n, asked;
	uint8_t *buf;
	int r;

	fixture_init(&f);
	buf = mem_alloc(f.device_len);
	assert_non_null(buf);
	for (n = 1;; n++) {
		fixture_open(&f, rt);
		(void)mem_fail_nth(n, 0);
		r = read_at(rt, f.b, 0, buf, 60000);
		asked = mem_fail_nth(0, 0);
		if (r == 0)
			assert_memory_equal(buf, f.device, 60000);
		else
			assert_int_equal(r, -ENOMEM);
		assert_int_equal(read_at(rt, f.b, 0, buf, f.device_len), 0);
		assert_memory_equal(buf, f.device, f.device_len);
		fixture_close(&f);
		fixture_fini(&f);
		fixture_init(&f);
		if (asked < n)
			break;
	}
	assert_true(n > 5);
	mem_free(buf);
	fixture_fini(&f);
}

static void any_failing_allocation_fails_one_read_at_most(void **state)
{
	on_engines(1, no_memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blob_reads_right_cold_warm_and_reopened),
		cmocka_unit_test(neighbouring_groups_come_in_one_range),
		cmocka_unit_test(bytes_behind_the_device_are_zeros),
		cmocka_unit_test(a_read_of_ready_and_missing_groups_is_right),
		cmocka_unit_test(sixty_four_readers_fetch_every_byte_once),
		cmocka_unit_test(wrong_bytes_are_fetched_again),
		cmocka_unit_test(what_stays_wrong_is_an_error_and_never_cached),
		cmocka_unit_test(
			errors_of_the_source_end_the_read_and_no_later_one),
		cmocka_unit_test(without_a_source_only_cached_bytes_are_read),
		cmocka_unit_test(
			a_cancelled_read_ends_and_its_flight_still_fills_the_cache),
		cmocka_unit_test(a_demand_that_joins_a_prefetch_promotes_it),
		cmocka_unit_test(closing_cancels_and_drains),
		cmocka_unit_test(with_memory_for_one_flight_all_get_their_turn),
		cmocka_unit_test(any_failing_allocation_fails_one_read_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
