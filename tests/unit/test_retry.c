/* SPDX-License-Identifier: Apache-2.0 */
/* The retry policy. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blobcache/retry.h"

static void answers_have_their_class(void **state)
{
	assert_int_equal(bc_retry_judge(0, 206), BC_ANSWER_OK);
	assert_int_equal(bc_retry_judge(0, 307), BC_ANSWER_REDIRECT);
	assert_int_equal(bc_retry_judge(0, 304), BC_ANSWER_ODD);
	assert_int_equal(bc_retry_judge(0, 401), BC_ANSWER_UNAUTHORIZED);
	assert_int_equal(bc_retry_judge(0, 403), BC_ANSWER_FORBIDDEN);
	assert_int_equal(bc_retry_judge(0, 404), BC_ANSWER_MISSING);
	assert_int_equal(bc_retry_judge(0, 410), BC_ANSWER_GONE);
	assert_int_equal(bc_retry_judge(0, 416), BC_ANSWER_BAD_RANGE);
	assert_int_equal(bc_retry_judge(0, 429), BC_ANSWER_BUSY);
	assert_int_equal(bc_retry_judge(0, 503), BC_ANSWER_BUSY);
	assert_int_equal(bc_retry_judge(0, 502), BC_ANSWER_BUSY);
	assert_int_equal(bc_retry_judge(0, 504), BC_ANSWER_BUSY);
	assert_int_equal(bc_retry_judge(0, 500), BC_ANSWER_FAULT);
	assert_int_equal(bc_retry_judge(0, 599), BC_ANSWER_FAULT);
	assert_int_equal(bc_retry_judge(0, 999), BC_ANSWER_ODD);
	assert_int_equal(bc_retry_judge(-ECONNREFUSED, 0), BC_FAIL_REACH);
	assert_int_equal(bc_retry_judge(-ETIMEDOUT, 0), BC_FAIL_REACH);
	assert_int_equal(bc_retry_judge(-ETIME, 206), BC_FAIL_BROKE);
	assert_int_equal(bc_retry_judge(-ECONNRESET, 206), BC_FAIL_BROKE);
	assert_int_equal(bc_retry_judge(-EKEYREJECTED, 0), BC_FAIL_TRUST);
	assert_int_equal(bc_retry_judge(-EPROTO, 206), BC_FAIL_PROTO);
}

static void only_what_may_pass_is_tried_again(void **state)
{
	for (int v = BC_ANSWER_OK; v <= BC_FAIL_HERE; v++) {
		enum bc_verdict verdict = (enum bc_verdict)v;
		int expected = v == BC_ANSWER_BUSY || v == BC_ANSWER_FAULT ||
		               v == BC_FAIL_REACH || v == BC_FAIL_BROKE ||
		               v == BC_FAIL_TLS;

		assert_int_equal(bc_verdict_is_transient(verdict), expected);
		assert_int_equal(
			bc_retry_may(verdict, 1u << 30, 5000, UINT32_MAX),
			expected && v != BC_ANSWER_FAULT);
	}
}

static void a_dead_network_is_waited_for_as_long_as_said(void **state)
{
	assert_false(bc_retry_may(BC_FAIL_REACH, 0, 1, 0));
	assert_true(bc_retry_may(BC_FAIL_REACH, 900, 100, 1000));
	assert_false(bc_retry_may(BC_FAIL_REACH, 901, 100, 1000));
	/* A server that answers badly is asked again in any case. */
	assert_true(bc_retry_may(BC_ANSWER_BUSY, 0, 5000, 0));
	assert_false(bc_retry_may(BC_ANSWER_BUSY, BC_RETRY_FLOOR_MS, 1, 0));
	/* One that reports its own errors is not asked for ever. */
	assert_true(bc_retry_may(BC_ANSWER_FAULT, 50000, 5000, UINT32_MAX));
	assert_false(bc_retry_may(BC_ANSWER_FAULT, 60000, 1, UINT32_MAX));
	assert_false(bc_retry_may(BC_ANSWER_FAULT, 60000, 1, 100000));
	assert_true(bc_retry_may(BC_ANSWER_FAULT, 9000, 1000, 0));
	assert_true(bc_retry_may(
		BC_FAIL_BROKE, BC_RETRY_FLOOR_MS, 1, 2 * BC_RETRY_FLOOR_MS));
}

static void waits_double_up_to_a_cap_with_full_jitter(void **state)
{
	for (unsigned attempt = 1; attempt < 100; attempt++) {
		uint64_t least = UINT64_MAX, most = 0;

		for (uint32_t r = 0; r < 6000; r += 7) {
			uint64_t ms = bc_retry_delay_ms(attempt, 0, r);

			least = ms < least ? ms : least;
			most = ms > most ? ms : most;
		}
		assert_true(least >= 1 && least < 10);
		assert_true(most <= BC_RETRY_CAP_MS);
		if (attempt < 7)
			assert_true(most > (90u << (attempt - 1)) &&
				    most <= 100u << (attempt - 1));
		else
			assert_true(most > BC_RETRY_CAP_MS - 10);
	}
	assert_int_equal(bc_retry_delay_ms(1, 30000, 5), 30000);
	assert_true(bc_retry_delay_ms(50, 1, UINT32_MAX) <= BC_RETRY_CAP_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_have_their_class),
		cmocka_unit_test(only_what_may_pass_is_tried_again),
		cmocka_unit_test(a_dead_network_is_waited_for_as_long_as_said),
		cmocka_unit_test(waits_double_up_to_a_cap_with_full_jitter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
