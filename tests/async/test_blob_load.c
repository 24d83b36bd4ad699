/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/blob: more than there is room for, on each engine. */
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
#include "runtime/request.h"
#include "tests/async/engines.h"
#include "tests/lib/blob_fixture.h"

static void crowded(struct rt *rt)
{
	unsigned i, refused = 0;
	const struct bc_map *m;
	struct fixture f;
	struct bg *g;

	fixture_start(&f, rt);
	f.b->limits = bc_plan_local; /* each read a run of its own */
	m = bc_blob_map(f.b);
	g = mem_calloc(m->group_count, sizeof(*g));
	assert_non_null(g);
	atomic_store(&f.source->hold, true);
	for (i = 0; i < m->group_count; i++) {
		bg_post(rt, &g[i], f.b, i % 3 ? RT_PREFETCH : RT_DEMAND, true,
			m->chunks[m->groups[i].first_chunk].dev_off);
		while (atomic_load(&g[i].is_started) == 0)
			sched_yield();
	}
	fake_release(f.source);
	for (i = 0; i < m->group_count; i++) {
		while (atomic_load(&g[i].result) > 0)
			sched_yield();
		if (atomic_load(&g[i].result) == 0) {
			assert_memory_equal(
				g[i].buf, f.device + g[i].r.off, 100);
			continue;
		}
		assert_int_equal(atomic_load(&g[i].result), -EAGAIN);
		assert_int_not_equal(i % 3, 0);
		refused++;
	}
	assert_true(refused > 0);
	mem_free(g);
	fixture_end(&f);
}

static void a_full_channel_refuses_prefetch_and_never_demand(void **state)
{
	on_engines_with(
		(struct rt_options){.workers = 1, .slots = 4, .backlog = 4},
		crowded);
}

/* Every slot is held by a blob whose source is silent; another one queues. */
static void close_behind(struct rt *rt)
{
	struct fixture silent, queued;
	struct bg busy[2], late;
	unsigned i;

	fixture_init(&silent);
	fixture_init(&queued);
	fixture_open(&silent, rt);
	fixture_open(&queued, rt);
	bc_budget_set_limit(&silent.store->places, UINT64_MAX);
	atomic_store(&silent.source->hold, true);
	for (i = 0; i < ARRAY_LEN(busy); i++) {
		/* the last group first: it has no neighbours to take along */
		bg_post(rt, &busy[i], silent.b, RT_DEMAND, true,
			i == 0 ? silent.device_len - 8192 : 0);
		while (fake_held(silent.source) == i)
			sched_yield();
	}
	bg_post(rt, &late, queued.b, RT_DEMAND, true, 0);
	while (rt_backlog(rt, RT_DEMAND) == 0)
		sched_yield();
	bc_blob_stop(queued.b);
	bc_blob_stop(silent.b);
	fixture_close(&queued);
	fixture_close(&silent);
	assert_int_equal(atomic_load(&late.result), -ECANCELED);
	fixture_fini(&queued);
	fixture_fini(&silent);
}

static void a_stopped_blob_closes_while_others_hold_every_slot(void **state)
{
	on_engines_with(
		(struct rt_options){.workers = 1, .slots = 2}, close_behind);
}

/*
 * Far more readers than there are slots wait for a source that does not answer;
 * all bytes of another one in the same store are read meanwhile.
 */
static void read_beside(struct rt *rt)
{
	struct fixture dead, well;
	const struct bc_map *m;
	struct bg *g;
	unsigned i;

	fixture_init(&dead);
	fixture_init(&well);
	fixture_open(&dead, rt);
	well.digest.bytes[0] ^= 1; /* another blob, by its name */
	well.store = dead.store;
	fixture_open_blob(&well, rt);
	dead.b->limits = bc_plan_local; /* each read a run of its own */
	m = bc_blob_map(dead.b);
	g = mem_calloc(m->group_count, sizeof(*g));
	assert_non_null(g);
	atomic_store(&dead.source->hold, true);
	for (i = 0; i < m->group_count; i++) {
		bg_post(rt, &g[i], dead.b, RT_DEMAND, true,
			m->chunks[m->groups[i].first_chunk].dev_off);
		while (atomic_load(&g[i].is_started) == 0)
			sched_yield();
	}
	assert_true(m->group_count > 4 * rt_slot_count(rt));
	expect_all(rt, &well, 65536);
	for (i = 0; i < m->group_count; i++)
		assert_int_equal(atomic_load(&g[i].result), 1);
	fake_release(dead.source);
	for (i = 0; i < m->group_count; i++) {
		while (atomic_load(&g[i].result) > 0)
			sched_yield();
		assert_int_equal(atomic_load(&g[i].result), 0);
		assert_memory_equal(g[i].buf, dead.device + g[i].r.off, 100);
	}
	mem_free(g);
	bc_blob_close(well.b);
	fixture_close(&dead);
	fixture_fini(&well);
	fixture_fini(&dead);
}

static void a_dead_source_leaves_slots_to_others(void **state)
{
	on_engines_with(
		(struct rt_options){.workers = 1, .slots = 8}, read_beside);
}

#define TINY_GROUPS 5000

/* A blob whose every byte is a group, with a gap behind it. */
static void make_tiny(struct fixture *f)
{
	struct bc_map_builder *b;
	struct digest d;
	uint32_t g, i;

	fixture_init(f);
	buf_fini(&f->map_file);
	buf_init(&f->map_file, 0);
	memset(f->device, 0, f->device_len);
	f->device_len = round_up(2 * TINY_GROUPS, 4096);
	f->blob.len = TINY_GROUPS;
	assert_int_equal(bc_map_builder_create(&b), 0);
	for (i = 0; i < TINY_GROUPS; i++) {
		const uint8_t *byte = &f->blob.data[i];

		f->device[2 * i] = *byte;
		assert_int_equal(digest_of(DIGEST_SHA256, byte, 1, &d), 0);
		assert_int_equal(bc_map_add_group(b, i, 1, 1, BC_CODEC_NONE,
					 NULL, 0, &g),
			0);
		assert_int_equal(bc_map_add_chunk(b, g, 2 * i, 1, 0, &d), 0);
	}
	assert_int_equal(bc_map_finish(b, f->device_len, f->blob.len,
				 &f->map_file, NULL),
		0);
	bc_map_builder_destroy(b);
	assert_int_equal(
		digest_of(DIGEST_SHA256, f->blob.data, f->blob.len, &f->digest),
		0);
}

static void tiny_groups(struct rt *rt)
{
	struct bc_read r = {.len = 2 * TINY_GROUPS, .cls = RT_DEMAND};
	struct fixture f;
	struct bg g;

	make_tiny(&f);
	fixture_open(&f, rt);
	r.blob = f.b;
	r.buf = mem_alloc(r.len);
	memset(r.buf, 0xa5, r.len);
	r.done = bg_done;
	atomic_store(&f.source->hold, true);
	g = (struct bg){.task.run = bg_start, .r = r};
	atomic_store(&g.result, 1);
	rt_post(rt_worker_at(rt, 0), &g.task);
	while (atomic_load(&g.is_started) == 0)
		sched_yield();
	assert_true(f.b->flights.count < TINY_GROUPS / 2);
	fake_release(f.source);
	while (atomic_load(&g.result) > 0)
		sched_yield();
	assert_int_equal(atomic_load(&g.result), 0);
	assert_memory_equal(r.buf, f.device, r.len);
	wait_cached(f.b, TINY_GROUPS);
	expect_all(rt, &f, r.len);
	mem_free(r.buf);
	fixture_end(&f);
}

static void a_read_of_very_many_groups_takes_some_at_a_time(void **state)
{
	on_engines(2, tiny_groups);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dead_source_leaves_slots_to_others),
		cmocka_unit_test(
			a_full_channel_refuses_prefetch_and_never_demand),
		cmocka_unit_test(
			a_stopped_blob_closes_while_others_hold_every_slot),
		cmocka_unit_test(
			a_read_of_very_many_groups_takes_some_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
