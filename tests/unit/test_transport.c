/* SPDX-License-Identifier: Apache-2.0 */
/* What transports share: lists of CPUs, and requests as a ring brings them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/transport_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* ---- CPUs ---- */

static void lists_of_cpus_are_read_as_the_kernel_writes_them(void **state)
{
	uint64_t set[LD_CPUS_MAX / 64];
	unsigned n;

	assert_int_equal(ld_cpu_list("0-3\n", set, &n), 0);
	assert_int_equal(n, 4);
	assert_true(set[0] == 0xf);
	assert_int_equal(ld_cpu_list("0,2-2,63-65,4095", set, &n), 0);
	assert_int_equal(n, 6);
	assert_true(set[0] == (1ull << 63 | 5));
	assert_true(set[1] == 3);
	assert_true(set[63] == 1ull << 63);
	assert_int_equal(ld_cpu_list("1-2,2-3", set, &n), 0);
	assert_int_equal(n, 3);
}

static void broken_lists_of_cpus_are_refused(void **state)
{
	static const char *const broken[] = {"", "\n", "x", "3-1", "1-", "-1",
		"4096", "0-4096", "0-99999999999999999999", "1x", "1 2", ",1"};
	uint64_t set[LD_CPUS_MAX / 64];
	unsigned n;
	size_t i;

	for (i = 0; i < ARRAY_LEN(broken); i++)
		assert_int_equal(ld_cpu_list(broken[i], set, &n), -EPROTO);
}

static void a_transport_that_was_asked_for_is_not_given_up(void **state)
{
	struct ld_transport_plan p = {.uring = true};
	struct err e = {0};

	assert_int_equal(ld_transport_give_up(&p, &e, "why %d", 7), 0);
	assert_false(p.uring);
	assert_string_equal(p.reason, "why 7");
	assert_int_equal(e.code, 0);
	p.uring = true;
	p.forced = true;
	assert_int_equal(ld_transport_give_up(&p, &e, "why"), -EOPNOTSUPP);
	assert_int_equal(e.kind, ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "why"));
	assert_int_equal(ld_transport_decide(
				 LD_TRANSPORT_DEV, RT_BACKEND_AUTO, 0, &p, &e),
		0);
	assert_false(p.uring);
	assert_int_equal(ld_transport_decide(LD_TRANSPORT_AUTO,
				 RT_BACKEND_THREADS, 0, &p, &e),
		0);
	assert_false(p.uring);
	assert_non_null(strstr(p.reason, "threads"));
}

/* ---- requests ---- */

static int decode(struct ld_fs_req *r, uint32_t opcode,
	struct fw_uring_head *head, const char *payload, size_t len)
{
	struct fw_in_header h = {
		.opcode = opcode, .unique = 7, .nodeid = FW_ROOT_ID};
	uint8_t *exact = mem_alloc(len); /* so that ASan sees its end */
	int rc;

	assert_non_null(exact);
	memcpy(exact, payload, len);
	*r = (struct ld_fs_req){0};
	rc = ld_fs_decode_ring(r, &h, head, exact, len);
	if (rc == 0 && r->name_len)
		assert_memory_equal(r->name, payload, r->name_len);
	assert_int_equal(r->unique, 7);
	mem_free(exact);
	return rc;
}

static void names_are_taken_from_the_payload(void **state)
{
	struct fw_uring_head head = {0};
	char longest[LD_MAX_NAME + 2];
	struct ld_fs_req r;

	memset(longest, 'n', sizeof(longest));
	longest[LD_MAX_NAME] = '\0';
	assert_int_equal(decode(&r, FW_LOOKUP, &head, "name", 5), 0);
	assert_int_equal(r.name_len, 4);
	assert_int_equal(
		decode(&r, FW_LOOKUP, &head, longest, LD_MAX_NAME + 1), 0);
	assert_int_equal(r.name_len, LD_MAX_NAME);
	longest[LD_MAX_NAME] = 'n';
	longest[LD_MAX_NAME + 1] = '\0';
	assert_int_equal(decode(&r, FW_LOOKUP, &head, longest, LD_MAX_NAME + 2),
		-ENAMETOOLONG);
	assert_int_equal(decode(&r, FW_LOOKUP, &head, "name", 4), -EINVAL);
	assert_int_equal(decode(&r, FW_LOOKUP, &head, "", 1), -EINVAL);
	assert_int_equal(decode(&r, FW_LOOKUP, &head, "", 0), -EINVAL);
}

static void arguments_are_taken_from_the_head(void **state)
{
	struct fw_read_in in = {.offset = 4096, .size = 70000};
	struct fw_getxattr_in xa = {.size = 12};
	struct fw_uring_head head = {0};
	struct ld_fs_req r;

	memcpy(head.op_in, &in, sizeof(in));
	assert_int_equal(decode(&r, FW_READ, &head, "", 0), 0);
	assert_int_equal(r.arg.read.offset, 4096);
	assert_int_equal(r.out_need, 70000);
	memcpy(head.op_in, &xa, sizeof(xa));
	assert_int_equal(decode(&r, FW_GETXATTR, &head, "user.x", 7), 0);
	assert_int_equal(r.arg.getxattr.size, 12);
	assert_int_equal(r.name_len, 6);
	assert_int_equal(decode(&r, FW_GETXATTR, &head, "user.x", 6), -EINVAL);
}

static void what_cannot_come_through_a_ring_is_refused(void **state)
{
	struct fw_uring_head head = {0};
	struct ld_fs_req r;
	uint32_t op;

	assert_int_equal(decode(&r, FW_INIT, &head, "", 0), -EINVAL);
	assert_int_equal(decode(&r, 0, &head, "", 0), -ENOSYS);
	assert_int_equal(decode(&r, UINT32_MAX, &head, "", 0), -ENOSYS);
	memset(&head, 0xff, sizeof(head));
	for (op = 0; op < 100; op++) {
		if (decode(&r, op, &head, "x", 2) == 0)
			assert_true(r.out_need <= LD_FS_MAX_READ);
	}
}

static void only_a_killed_thread_counts_as_killed(void **state)
{
	assert_true(ld_status_says_killed(
		"Name:\tcat\nSigQ:\t1/7\nSigPnd:\t0000000000000100\nX:\t1\n"));
	assert_true(ld_status_says_killed("\nSigPnd:\tffffffffffffffff\n"));
	assert_false(ld_status_says_killed(
		"Name:\tcat\nSigPnd:\t0000000000000200\n"));
	assert_false(ld_status_says_killed("\nShdPnd:\t0000000000000100\n"));
	assert_false(ld_status_says_killed("\nSigPnd:\t"));
	assert_false(ld_status_says_killed(""));
	assert_false(ld_was_killed(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			lists_of_cpus_are_read_as_the_kernel_writes_them),
		cmocka_unit_test(broken_lists_of_cpus_are_refused),
		cmocka_unit_test(
			a_transport_that_was_asked_for_is_not_given_up),
		cmocka_unit_test(names_are_taken_from_the_payload),
		cmocka_unit_test(arguments_are_taken_from_the_head),
		cmocka_unit_test(what_cannot_come_through_a_ring_is_refused),
		cmocka_unit_test(only_a_killed_thread_counts_as_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
