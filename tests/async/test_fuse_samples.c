/* SPDX-License-Identifier: Apache-2.0 */
/* loader/fs: every sample request gives the error that its name states. */
#include "tests/lib/fs_drive.h"
#include "tests/lib/hostile.h"

static void try_request(void *arg, const char *name, struct buf *b)
{
	int rc = drive(b->data, b->len);

	if (rc != hostile_code(name))
		fail_msg("%s: %d", name, rc);
}

static void samples_give_the_error_that_they_are_named_after(void **state)
{
	hostile_each("fuse_request", 30, try_request, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			samples_give_the_error_that_they_are_named_after),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
