/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/fill: blobs made whole, in both classes, on every engine. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "blobcache/blob_int.h"
#include "blobcache/evict.h"
#include "blobcache/fill.h"
#include "runtime/base/clock.h"
#include "tests/async/engines.h"
#include "tests/lib/blob_fixture.h"

static int fill(struct rt *rt, struct fixture *f, enum rt_class cls)
{
	struct bc_fill_blob one = {.blob = f->b};
	struct bc_fill fill = {
		.rt = rt, .blobs = &one, .blob_count = 1, .cls = cls};
	int r = bc_fill_run(&fill);

	if (r == 0)
		assert_int_equal(fill.bytes_ready, fill.bytes_total);
	return r;
}

static void whole(struct rt *rt)
{
	static const enum rt_class classes[] = {RT_DEMAND, RT_PREFETCH};
	struct fixture f;
	unsigned asked;
	size_t i;

	for (i = 0; i < ARRAY_LEN(classes); i++) {
		fixture_init(&f);
		fixture_open(&f, rt);
		assert_int_equal(fill(rt, &f, classes[i]), 0);
		assert_int_equal(bc_blob_cached_bytes(f.b), total(f.b));
		asked = atomic_load(&f.source->fetches);
		assert_int_equal(fill(rt, &f, classes[i]), 0);
		expect_all(rt, &f, 50000);
		assert_int_equal(atomic_load(&f.source->fetches), asked);
		fixture_close(&f);
		fixture_fini(&f);
	}
}

static void a_blob_is_made_whole_and_nothing_is_asked_twice(void **state)
{
	on_engines(2, whole);
}

static void only_wanted(struct rt *rt)
{
	struct bc_fill_blob one;
	uint64_t wanted[2] = {0}, want, have;
	struct bc_fill fill;
	struct fixture f;
	unsigned i;

	fixture_start(&f, rt);
	for (i = 10; i < 90; i += 7)
		wanted[i / 64] |= UINT64_C(1) << i % 64;
	one = (struct bc_fill_blob){f.b, wanted};
	fill = (struct bc_fill){.rt = rt,
		.blobs = &one,
		.blob_count = 1,
		.cls = RT_PREFETCH,
		.rate = 1 << 30,
		.reads = 1};
	assert_int_equal(bc_fill_run(&fill), 0);
	bc_blob_wanted_bytes(f.b, wanted, &want, &have);
	assert_int_equal(want, have);
	assert_int_equal(fill.bytes_total, want);
	/* their groups came, and no more */
	assert_true(bc_blob_cached_bytes(f.b) < total(f.b) / 2);
	fixture_end(&f);
}

static void what_nobody_wants_is_left_out(void **state)
{
	on_engines(1, only_wanted);
}

static void broken(struct rt *rt)
{
	struct fixture f;

	fixture_start(&f, rt);
	atomic_store(&f.source->fail_code, -EIO);
	atomic_store(&f.source->fail_count, 1);
	f.b->limits.max_groups = 1;
	assert_int_equal(fill(rt, &f, RT_DEMAND), -EIO);
	assert_true(bc_blob_cached_bytes(f.b) > total(f.b) / 2);
	assert_int_equal(fill(rt, &f, RT_DEMAND), 0);
	fixture_end(&f);
}

static void one_bad_range_does_not_keep_the_others_away(void **state)
{
	on_engines(1, broken);
}

/* ---- slow, and given up ---- */

struct watched {
	struct bc_fill fill;
	struct rt_op *op;
	struct rt_timer timer;
	bool is_cancelled;
};

static void watched_done(struct bc_fill *f)
{
	struct watched *w = container_of(f, struct watched, fill);

	rt_block_on_done(w->op, f->result);
}

static void watched_cancel(struct rt_timer *t)
{
	struct watched *w = container_of(t, struct watched, timer);

	w->is_cancelled = true;
	bc_fill_cancel(&w->fill);
}

static void watched_start(void *arg, struct rt_op *op)
{
	struct watched *w = arg;

	w->op = op;
	w->fill.done = watched_done;
	w->timer.fire = watched_cancel;
	rt_timer_start(rt_worker_self(), &w->timer, 50);
	bc_fill_start(&w->fill);
}

static void cancelled(struct rt *rt)
{
	struct bc_fill_blob one;
	struct watched w;
	struct fixture f;
	int i;

	for (i = 0; i < 2; i++) {
		fixture_init(&f);
		fixture_open(&f, rt);
		one = (struct bc_fill_blob){.blob = f.b};
		w = (struct watched){.fill = {.rt = rt,
					     .blobs = &one,
					     .blob_count = 1,
					     .cls = RT_PREFETCH}};
		/* the server is silent; or it may send a byte a second */
		if (i == 0)
			atomic_store(&f.source->hold, true);
		else
			w.fill.rate = 1;
		assert_int_equal(
			rt_block_on(rt, watched_start, &w), -ECANCELED);
		assert_true(w.is_cancelled);
		fake_release(f.source);
		fixture_close(&f);
		fixture_fini(&f);
	}
}

static void it_ends_when_it_is_told_to(void **state)
{
	on_engines(1, cancelled);
}

static void paced(struct rt *rt)
{
	struct bc_fill_blob one;
	struct bc_fill fill;
	struct fixture f;
	uint64_t start;

	fixture_start(&f, rt);
	one = (struct bc_fill_blob){.blob = f.b};
	fill = (struct bc_fill){.rt = rt,
		.blobs = &one,
		.blob_count = 1,
		.cls = RT_PREFETCH,
		.rate = f.blob.len / 2};
	start = clock_ms();
	assert_int_equal(bc_fill_run(&fill), 0);
	/* one second's worth comes at once, and so does the last range */
	assert_true(clock_ms() - start >= 400);
	fixture_end(&f);
}

static void it_is_no_faster_than_it_may_be(void **state)
{
	on_engines(1, paced);
}

static void half_of_the_cache(struct rt *rt)
{
	struct bc_fill_blob one;
	struct bc_fill fill;
	struct fixture f;
	uint64_t limit, have = 0;
	unsigned ahead, i;

	for (ahead = 0; ahead < 2; ahead++) {
		fixture_start(&f, rt);
		limit = total(f.b) * 3;
		assert_int_equal(bc_store_set_limit(f.store, limit, NULL), 0);
		one = (struct bc_fill_blob){.blob = f.b};
		fill = (struct bc_fill){.rt = rt,
			.blobs = &one,
			.blob_count = 1,
			.cls = RT_PREFETCH,
			.is_ahead = ahead == 1,
			.rate = f.blob.len,
			.brought = ahead ? limit / 2 - total(f.b) / 4 : 0};
		assert_int_equal(bc_fill_run(&fill), ahead ? -ENOSPC : 0);
		/* what was read may still be on its way into the cache */
		for (i = 0; i < 10000; i++) {
			have = bc_blob_cached_bytes(f.b);
			if (!ahead || have >= limit / 24)
				break;
			(void)poll(NULL, 0, 1);
		}
		if (ahead)
			assert_in_range(have, limit / 24, limit / 4);
		fixture_end(&f);
	}
}

static void what_nobody_asked_for_has_half_of_the_cache(void **state)
{
	on_engines(1, half_of_the_cache);
}

static void kept_nowhere(struct rt *rt)
{
	struct fixture f;

	fixture_start(&f, rt);
	/* as on a read-only disk */
	f.b->file.read_only = true;
	assert_int_equal(fill(rt, &f, RT_DEMAND), -ENOSPC);
	f.b->file.read_only = false;
	assert_int_equal(fill(rt, &f, RT_DEMAND), 0);
	fixture_end(&f);
}

static void what_the_cache_does_not_keep_is_told(void **state)
{
	on_engines(1, kept_nowhere);
}

/* ---- beside others ---- */

struct flipping {
	struct bc_cachefile *c;
	uint32_t chunk;
	atomic_bool is_over;
};

/* As if readers stored it and somebody evicted it, over and over. */
static void *flip(void *arg)
{
	struct flipping *p = arg;

	while (!atomic_load(&p->is_over)) {
		bc_cachefile_clear_ready(p->c, p->chunk);
		if (bc_cachefile_store_begin(p->c) < 0)
			continue;
		(void)bc_cachefile_set_ready(p->c, p->chunk, 1);
		bc_cachefile_store_end(p->c);
	}
	return NULL;
}

static void flipped(struct rt *rt)
{
	struct flipping p = {.chunk = 10};
	uint64_t wanted[2] = {UINT64_C(1) << 10};
	struct bc_fill_blob one;
	struct bc_fill fill;
	struct fixture f;
	pthread_t thread;
	uint64_t kept;
	unsigned i;

	fixture_start(&f, rt);
	one = (struct bc_fill_blob){f.b, wanted};
	f.b->limits.around = 4096; /* what is taken along is not meant */
	p.c = &f.b->file;
	for (i = 0; i <= 300; i++) {
		fill = (struct bc_fill){.rt = rt,
			.blobs = &one,
			.blob_count = 1,
			.cls = RT_DEMAND};
		(void)bc_fill_run(&fill);
		if (i > 0)
			continue;
		kept = bc_blob_cached_bytes(f.b);
		assert_int_equal(pthread_create(&thread, NULL, flip, &p), 0);
	}
	atomic_store(&p.is_over, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_in_range(bc_blob_cached_bytes(f.b), 0, kept);
	fixture_end(&f);
}

static void what_others_store_meanwhile_makes_it_ask_for_no_more(void **state)
{
	on_engines(2, flipped);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_blob_is_made_whole_and_nothing_is_asked_twice),
		cmocka_unit_test(what_nobody_wants_is_left_out),
		cmocka_unit_test(one_bad_range_does_not_keep_the_others_away),
		cmocka_unit_test(it_ends_when_it_is_told_to),
		cmocka_unit_test(it_is_no_faster_than_it_may_be),
		cmocka_unit_test(what_nobody_asked_for_has_half_of_the_cache),
		cmocka_unit_test(what_the_cache_does_not_keep_is_told),
		cmocka_unit_test(
			what_others_store_meanwhile_makes_it_ask_for_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
