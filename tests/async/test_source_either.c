/* SPDX-License-Identifier: Apache-2.0 */
/* Two sources as one: the second is for what the first does not have. */

#include "blobcache/source.h"
#include "runtime/base/clock.h"
#include "tests/async/engines.h"
#include "tests/lib/fake_source.h"

static const uint8_t left[] = "from the first", right[] = "from the second";

struct pair {
	struct fake_source *first, *second;
	bool first_gone, second_gone;
	struct bc_source *s;
};

static void pair_make(struct pair *p)
{
	*p = (struct pair){0};
	p->first = fake_create(left, sizeof(left));
	p->second = fake_create(right, sizeof(right));
	p->first->destroyed = &p->first_gone;
	p->second->destroyed = &p->second_gone;
	assert_int_equal(
		bc_source_either(&p->first->s, &p->second->s, &p->s), 0);
	assert_int_equal(p->s->size, sizeof(left));
}

static void pair_end(struct pair *p)
{
	bc_source_destroy(p->s);
	assert_true(p->first_gone && p->second_gone);
}

static void second_body(struct rt *rt)
{
	struct pair p;
	char buf[8];
	unsigned i;

	pair_make(&p);
	assert_int_equal(bc_source_read(rt, p.s, 5, buf, 5, NULL), 0);
	assert_memory_equal(buf, "the f", 5);
	assert_int_equal(atomic_load(&p.second->fetches), 0);
	atomic_store(&p.first->fail_code, -ENOENT);
	atomic_store(&p.first->fail_count, 1);
	for (i = 0; i < 3; i++) {
		assert_int_equal(bc_source_read(rt, p.s, 5, buf, 5, NULL), 0);
		assert_memory_equal(buf, "the s", 5);
	}
	/* neither keeps anything, or knows anybody else */
	p.s->forget(p.s);
	assert_false(p.s->distrust(p.s));
	/* it is not asked again */
	assert_int_equal(atomic_load(&p.first->fetches), 2);
	atomic_store(&p.second->fail_code, -ENOENT);
	atomic_store(&p.second->fail_count, 1);
	assert_int_equal(bc_source_read(rt, p.s, 5, buf, 5, NULL), -ENOENT);
	pair_end(&p);
}

static void what_the_first_does_not_have_comes_from_the_second(void **state)
{
	on_engines(2, second_body);
}

static void errors_body(struct rt *rt)
{
	struct pair p;
	char buf[4];

	pair_make(&p);
	atomic_store(&p.first->fail_code, -EACCES);
	atomic_store(&p.first->fail_count, 1);
	assert_int_equal(bc_source_read(rt, p.s, 0, buf, 4, NULL), -EACCES);
	assert_int_equal(atomic_load(&p.second->fetches), 0);
	pair_end(&p);
}

static void other_errors_are_the_first_s(void **state)
{
	on_engines(2, errors_body);
}

struct cancelled {
	struct bc_fetch fetch;
	atomic_bool is_done;
};

static void cancelled_done(struct bc_fetch *f)
{
	struct cancelled *c = container_of(f, struct cancelled, fetch);

	atomic_store(&c->is_done, true);
}

static void wait_until(atomic_bool *what)
{
	uint64_t end = clock_ms() + 20000;

	while (!atomic_load(what))
		assert_true(clock_ms() < end);
}

static void cancel_body(struct rt *rt)
{
	struct cancelled c;
	struct pair p;
	uint8_t buf[4];
	int k;

	/* while the first one has it, and while the second one has */
	for (k = 0; k < 2; k++) {
		pair_make(&p);
		c = (struct cancelled){.fetch = {.len = 4,
					       .buf = buf,
					       .worker = rt_worker_at(rt, 0),
					       .done = cancelled_done}};
		atomic_store(&(k ? p.second : p.first)->hold, true);
		atomic_store(&p.first->fail_code, -ENOENT);
		atomic_store(&p.first->fail_count, k);
		bc_source_fetch(p.s, &c.fetch);
		while (fake_held(k ? p.second : p.first) == 0)
			;
		bc_source_promote(p.s, &c.fetch);
		bc_source_cancel(p.s, &c.fetch);
		wait_until(&c.is_done);
		assert_int_equal(c.fetch.result, -ECANCELED);
		assert_int_equal(
			atomic_load(&(k ? p.second : p.first)->promotes), 1);
		bc_source_cancel(p.s, &c.fetch);
		pair_end(&p);
	}
}

static void a_cancel_reaches_whoever_has_it(void **state)
{
	on_engines(2, cancel_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_the_first_does_not_have_comes_from_the_second),
		cmocka_unit_test(other_errors_are_the_first_s),
		cmocka_unit_test(a_cancel_reaches_whoever_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
