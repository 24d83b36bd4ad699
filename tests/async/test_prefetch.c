/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/prefetch: what is wanted before it is read, on every engine. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "blobcache/blob_int.h"
#include "blobcache/evict.h"
#include "blobcache/prefetch.h"
#include "blobcache/trace.h"
#include "tests/async/engines.h"
#include "tests/lib/blob_fixture.h"
#include "tests/lib/hostile.h"

static void queue_dry(void *arg)
{
	atomic_fetch_add((atomic_uint *)arg, 1);
}

/* A queue and how often it has told that it is dry. */
struct queue {
	struct bc_prefetch *p;
	atomic_uint dry;
};

static void queue_open(struct queue *q, struct rt *rt, uint64_t rate)
{
	const struct bc_prefetch_options o = {
		.rt = rt, .rate = rate, .dry = queue_dry, .arg = &q->dry};

	atomic_init(&q->dry, 0);
	assert_int_equal(bc_prefetch_create(&o, &q->p), 0);
}

static void start(struct fixture *f, struct queue *q, struct rt *rt)
{
	fixture_start(f, rt);
	queue_open(q, rt, 0);
}

static void stop(struct fixture *f, struct queue *q)
{
	bc_blob_stop(f->b);
	bc_prefetch_destroy(q->p);
	fixture_end(f);
}

static void queue_add(
	struct queue *q, struct fixture *f, uint32_t group, uint32_t count)
{
	const struct bc_prefetch_item i = {f->b, group, count};

	assert_int_equal(bc_prefetch_add(q->p, &i, 1), 0);
}

static void wait_dry(struct queue *q)
{
	struct bc_prefetch_stats s;

	do {
		sched_yield();
		bc_prefetch_stats(q->p, &s);
	} while (!s.is_idle);
}

static void wait_group(struct bc_blob *b, uint32_t group)
{
	while (!bc_blob_has_group(b, group))
		sched_yield();
}

static void some(struct rt *rt)
{
	struct fixture f;
	struct queue q;
	uint32_t i;

	start(&f, &q, rt);
	queue_add(&q, &f, 30, 3);
	queue_add(&q, &f, 2, 1);
	queue_add(&q, &f, 31, 4); /* again, and more */
	wait_dry(&q);
	for (i = 30; i < 35; i++)
		wait_group(f.b, i);
	wait_group(f.b, 2);
	assert_false(bc_blob_has_group(f.b, 3));
	assert_false(bc_blob_has_group(f.b, 35));
	queue_add(&q, &f, 0, FIXTURE_GROUPS);
	wait_cached(f.b, total(f.b));
	while (atomic_load(&q.dry) == 0)
		sched_yield();
	i = atomic_load(&f.source->fetches);
	queue_add(&q, &f, 0, FIXTURE_GROUPS);
	wait_dry(&q);
	expect_all(rt, &f, 50000);
	assert_int_equal(atomic_load(&f.source->fetches), i);
	assert_int_equal(atomic_load(&q.dry), 1);
	stop(&f, &q);
}

static void what_is_queued_comes_and_nothing_else(void **state)
{
	on_engines(2, some);
}

static void few(struct rt *rt)
{
	struct bc_prefetch_item items[FIXTURE_GROUPS];
	struct fixture f;
	struct queue q;
	uint32_t i;

	start(&f, &q, rt);
	/* backwards: neighbours share a range all the same */
	for (i = 0; i < FIXTURE_GROUPS; i++)
		items[i] = (struct bc_prefetch_item){
			f.b, FIXTURE_GROUPS - 1 - i, 1};
	assert_int_equal(bc_prefetch_add(q.p, items, FIXTURE_GROUPS), 0);
	wait_cached(f.b, total(f.b));
	assert_int_equal(atomic_load(&f.source->fetches), 1);
	stop(&f, &q);
}

static void neighbours_share_a_range_in_whatever_order_they_are_wanted(
	void **state)
{
	on_engines(2, few);
}

static void overtaken(struct rt *rt)
{
	struct fixture f;
	struct queue q;
	struct bg g;

	start(&f, &q, rt);
	atomic_store(&f.source->hold, true);
	queue_add(&q, &f, 0, 8);
	while (fake_held(f.source) == 0)
		sched_yield();
	/* a demand read of the same bytes joins, and promotes the fetch */
	bg_post(rt, &g, f.b, RT_DEMAND, true, 0);
	while (atomic_load(&f.source->promotes) == 0)
		sched_yield();
	assert_int_equal(fake_held(f.source), 1);
	fake_release(f.source);
	while (atomic_load(&g.result) == 1)
		sched_yield();
	assert_int_equal(atomic_load(&g.result), 0);
	assert_memory_equal(g.buf, f.device, sizeof(g.buf));
	wait_dry(&q);
	stop(&f, &q);
}

static void a_demand_read_joins_and_promotes(void **state)
{
	on_engines(1, overtaken);
}

static void broken(struct rt *rt)
{
	struct bc_prefetch_stats s;
	struct fixture f;
	struct queue q;

	start(&f, &q, rt);
	atomic_store(&f.source->fail_code, -EIO);
	atomic_store(&f.source->fail_count, 1000000);
	do {
		queue_add(&q, &f, 0, FIXTURE_GROUPS);
		wait_dry(&q);
		bc_prefetch_stats(q.p, &s);
	} while (!s.was_stopped);
	assert_int_equal(atomic_load(&f.source->fetches), 16);
	assert_int_equal(bc_blob_cached_bytes(f.b), 0);
	atomic_store(&f.source->fail_count, 0);
	expect_all(rt, &f, 50000);
	stop(&f, &q);
}

static void failures_end_it_and_readers_try_themselves(void **state)
{
	on_engines(1, broken);
}

static void refused(struct rt *rt)
{
	struct bc_prefetch_stats s;
	struct fixture f;
	struct queue q;
	uint32_t i;

	start(&f, &q, rt);
	atomic_store(&f.source->hold, true);
	/* each a range of its own: more than work and backlog take */
	for (i = 0; i < 8; i++) {
		queue_add(&q, &f, i, 1);
		do {
			sched_yield();
			bc_prefetch_stats(q.p, &s);
		} while (s.ranges <= i);
	}
	atomic_store(&f.source->hold, false);
	fake_release(f.source);
	for (i = 0; i < 8; i++)
		wait_group(f.b, i);
	stop(&f, &q);
}

static void what_a_full_channel_refuses_comes_later(void **state)
{
	on_engines_with(
		(struct rt_options){.workers = 1, .slots = 2, .backlog = 2},
		refused);
}

static void ended(struct rt *rt)
{
	struct fixture f;
	struct queue q;

	start(&f, &q, rt);
	atomic_store(&f.source->hold, true);
	queue_add(&q, &f, 0, FIXTURE_GROUPS);
	while (fake_held(f.source) == 0)
		sched_yield();
	bc_blob_stop(f.b);
	bc_prefetch_destroy(q.p);
	assert_int_equal(atomic_load(&q.dry), 0);
	fixture_end(&f);
}

static void it_ends_while_a_server_is_silent(void **state)
{
	on_engines(2, ended);
}

static void slow(struct rt *rt)
{
	struct bc_prefetch_stats s;
	struct fixture f;
	struct queue q;

	fixture_start(&f, rt);
	/* a second's worth is less than the blob: it has to wait */
	queue_open(&q, rt, 100);
	queue_add(&q, &f, 0, 1);
	queue_add(&q, &f, 40, 1);
	do {
		sched_yield();
		bc_prefetch_stats(q.p, &s);
	} while (s.waits == 0);
	assert_true(s.ranges <= 1);
	stop(&f, &q);
}

static void full(struct rt *rt)
{
	struct bc_prefetch_stats s;
	struct fixture f;
	struct queue q;

	start(&f, &q, rt);
	assert_int_equal(bc_store_set_limit(f.store, 1000, NULL), 0);
	queue_add(&q, &f, 0, FIXTURE_GROUPS);
	while (atomic_load(&q.dry) == 0)
		sched_yield();
	bc_prefetch_stats(q.p, &s);
	assert_true(s.was_stopped);
	assert_int_equal(s.ranges, 0);
	stop(&f, &q);
}

static void a_cache_that_is_full_already_ends_it_and_that_is_told(void **state)
{
	on_engines(2, full);
}

static void a_rate_holds_it_up(void **state)
{
	on_engines(1, slow);
}

/* ---- the trace ---- */

static void traced(struct rt *rt)
{
	struct bc_record r;
	struct bc_trace *t;
	struct fixture f;
	uint8_t buf[10];
	uint64_t off;
	uint32_t n;

	fixture_start(&f, rt);
	assert_int_equal(bc_trace_create(&t), 0);
	assert_int_equal(bc_trace_add_blob(t, &f.digest, &f.b->map.id, &n), 0);
	assert_int_equal(bc_blob_set_trace(f.b, t, n), 0);
	off = f.b->map.chunks[f.b->map.groups[20].first_chunk].dev_off;
	assert_int_equal(read_at(rt, f.b, off, buf, sizeof(buf)), 0);
	assert_int_equal(read_at(rt, f.b, 0, buf, sizeof(buf)), 0);
	assert_int_equal(read_at(rt, f.b, off, buf, sizeof(buf)), 0);
	off = f.b->map.chunks[f.b->map.groups[40].first_chunk].dev_off;
	assert_int_equal(
		read_class(rt, f.b, off, NULL, sizeof(buf), RT_PREFETCH), 0);
	assert_int_equal(bc_trace_read(t, &r), 0);
	/* what was touched, not what was taken along or prefetched */
	assert_int_equal(r.entry_count, 2);
	assert_int_equal(r.entries[0].group, 20);
	assert_int_equal(r.entries[0].count, 1);
	assert_int_equal(r.entries[1].group, 0);
	bc_record_fini(&r);
	assert_int_equal(bc_blob_set_trace(f.b, NULL, 0), 0);
	bc_trace_destroy(t);
	fixture_end(&f);
}

static void first_touches_are_noted_in_their_order(void **state)
{
	on_engines(1, traced);
}

/* ---- ahead of readers ---- */

static void ahead(struct rt *rt)
{
	uint64_t at = 0, end;
	struct fixture f;
	uint8_t buf[4096];
	uint32_t last;

	fixture_start(&f, rt);
	f.b->limits.around = 4096; /* what is taken along is not meant */
	assert_int_equal(bc_blob_set_ahead(f.b, NULL, NULL), 0);
	for (at = 0; at < 5 * sizeof(buf); at += sizeof(buf))
		assert_int_equal(read_at(rt, f.b, at, buf, sizeof(buf)), 0);
	/* all that lies in the first window */
	end = at + (200u << 10);
	last = bc_map_find(&f.b->map, end);
	while (!bc_cachefile_is_ready(&f.b->file, 0, last))
		sched_yield();
	expect_all(rt, &f, 50000);
	fixture_end(&f);
}

static void what_a_reader_will_want_is_there_before_him(void **state)
{
	on_engines(2, ahead);
}

/* ---- hostile records ---- */

static void try_record(void *arg, const char *name, struct buf *b)
{
	struct bc_record r;
	struct err e = {0};
	int rc = bc_record_parse(b->data, b->len, &r, &e);

	hostile_judge(name, rc, e.text);
	if (rc == 0)
		bc_record_fini(&r);
}

static void hostile_records_are_refused_as_their_names_say(void **state)
{
	hostile_each("record", 12, try_record, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_queued_comes_and_nothing_else),
		cmocka_unit_test(
			neighbours_share_a_range_in_whatever_order_they_are_wanted),
		cmocka_unit_test(a_demand_read_joins_and_promotes),
		cmocka_unit_test(failures_end_it_and_readers_try_themselves),
		cmocka_unit_test(what_a_full_channel_refuses_comes_later),
		cmocka_unit_test(it_ends_while_a_server_is_silent),
		cmocka_unit_test(
			a_cache_that_is_full_already_ends_it_and_that_is_told),
		cmocka_unit_test(a_rate_holds_it_up),
		cmocka_unit_test(first_touches_are_noted_in_their_order),
		cmocka_unit_test(what_a_reader_will_want_is_there_before_him),
		cmocka_unit_test(
			hostile_records_are_refused_as_their_names_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
