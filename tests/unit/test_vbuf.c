/* SPDX-License-Identifier: Apache-2.0 */
/* Volatile buffers: what is initialised, what is room, slices of both. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/vbuf.h"

static void a_buffer_is_filled_from_the_front(void **state)
{
	uint8_t mem[100];
	struct rt_vbuf v = rt_vbuf_borrow(mem, sizeof(mem));

	assert_int_equal(rt_vbuf_filled(&v).iov_len, 0);
	assert_ptr_equal(rt_vbuf_room(&v).iov_base, mem);
	assert_int_equal(rt_vbuf_room(&v).iov_len, 100);
	rt_vbuf_advance(&v, 30);
	assert_int_equal(rt_vbuf_filled(&v).iov_len, 30);
	assert_ptr_equal(rt_vbuf_filled(&v).iov_base, mem);
	assert_ptr_equal(rt_vbuf_room(&v).iov_base, mem + 30);
	assert_int_equal(rt_vbuf_room(&v).iov_len, 70);
	rt_vbuf_advance(&v, 70);
	assert_int_equal(rt_vbuf_room(&v).iov_len, 0);
	rt_vbuf_fini(&v); /* borrowed: nothing is freed */
	assert_null(v.addr);
}

static void slices_know_what_is_initialised_in_them(void **state)
{
	const struct {
		size_t off, want, len, cap;
	} t[] = {{0, 100, 40, 100}, {0, 10, 10, 10}, {30, 20, 10, 20},
		{40, 20, 0, 20}, {50, 1000, 0, 50}, {100, 1, 0, 0},
		{1000, 1000, 0, 0}, {SIZE_MAX, SIZE_MAX, 0, 0},
		{10, SIZE_MAX, 30, 90}};
	uint8_t mem[100];
	struct rt_vbuf v = rt_vbuf_borrow_inited(mem, 40, sizeof(mem)), s;

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		s = rt_vbuf_slice(&v, t[i].off, t[i].want);
		assert_int_equal(s.len, t[i].len);
		assert_int_equal(s.cap, t[i].cap);
		assert_false(s.owned);
		if (s.cap)
			assert_ptr_equal(s.addr, mem + t[i].off);
	}
	v = (struct rt_vbuf){0};
	s = rt_vbuf_slice(&v, 0, 10);
	assert_null(s.addr);
	assert_int_equal(s.cap, 0);
}

static void an_owned_buffer_is_aligned_and_freed_once(void **state)
{
	struct rt_vbuf v;

	assert_int_equal(rt_vbuf_alloc(&v, 10000), 0);
	assert_int_equal((uintptr_t)v.addr % 4096, 0);
	assert_int_equal(v.cap, 10000);
	assert_int_equal(v.len, 0);
	memset(v.addr, 1, v.cap);
	rt_vbuf_fini(&v);
	rt_vbuf_fini(&v);
	(void)mem_fail_nth(1, 0);
	assert_int_equal(rt_vbuf_alloc(&v, 1), -ENOMEM);
	(void)mem_fail_nth(0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_is_filled_from_the_front),
		cmocka_unit_test(slices_know_what_is_initialised_in_them),
		cmocka_unit_test(an_owned_buffer_is_aligned_and_freed_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
