/* SPDX-License-Identifier: Apache-2.0 */
/* loader/fs: every sample request gives the error that its name states. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/fs_drive.h"

static int error_in(const char *name)
{
	static const struct {
		const char *text;
		int code;
	} errors[] = {{".ok.", 0}, {".EINVAL.", -EINVAL}, {".EIO.", -EIO},
		{".ENOSYS.", -ENOSYS}, {".ENAMETOOLONG.", -ENAMETOOLONG},
		{".ESTALE.", -ESTALE}, {".ENOTDIR.", -ENOTDIR},
		{".EISDIR.", -EISDIR}, {".EROFS.", -EROFS},
		{".ERANGE.", -ERANGE}, {".ENODATA.", -ENODATA},
		{".EPROTO.", -EPROTO}};
	size_t i;

	for (i = 0; i < ARRAY_LEN(errors); i++)
		if (strstr(name, errors[i].text))
			return errors[i].code;
	fail_msg("'%s' states no error", name);
	return 0;
}

static void samples_give_the_error_that_they_are_named_after(void **state)
{
	const struct dirent *d;
	char path[4096];
	struct buf b;
	int count = 0, rc;
	DIR *dir;

	(void)snprintf(path, sizeof(path),
		"%s/tests/samples/hostile/fuse_request",
		getenv("SLUICE_SOURCE_ROOT"));
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		buf_init(&b, 1 << 20);
		assert_int_equal(buf_read_file(&b, dirfd(dir), d->d_name), 0);
		rc = drive(b.data, b.len);
		buf_fini(&b);
		if (rc != error_in(d->d_name))
			fail_msg("%s: %d", d->d_name, rc);
		count++;
	}
	assert_int_equal(closedir(dir), 0);
	assert_true(count > 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			samples_give_the_error_that_they_are_named_after),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
