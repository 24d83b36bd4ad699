/* SPDX-License-Identifier: Apache-2.0 */
/* The hit path: what is in the page cache is read at once, or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/file.h"

static int new_file(void)
{
	uint8_t data[8192];
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	memset(data, 'd', sizeof(data));
	assert_int_equal(pwrite(fd, data, sizeof(data), 0), sizeof(data));
	return fd;
}

static void hits_are_read_inline(void **state)
{
	struct rt_file f;
	uint8_t buf[4096];
	ssize_t n;
	int fd = new_file();

	rt_file_init(&f, fd);
	n = rt_file_try_read(&f, buf, sizeof(buf), 0);
	if (f.nowait) { /* we have just written it */
		assert_int_equal(n, 4096);
		assert_int_equal(buf[0], 'd');
		assert_int_equal(buf[4095], 'd');
		assert_int_equal(
			rt_file_try_read(&f, buf, sizeof(buf), 8192), 0);
	} else {
		assert_int_equal(n, -EAGAIN);
	}
	f.nowait = false;
	assert_int_equal(rt_file_try_read(&f, buf, 1, 0), -EAGAIN);
	rt_file_init(&f, -1);
	assert_false(f.nowait);
	(void)close(fd);
	/* a file system that has no non-blocking reads is not asked twice */
	fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	rt_file_init(&f, fd);
	n = rt_file_try_read(&f, buf, 1, 0);
	assert_true(n == (f.nowait ? 1 : -EAGAIN));
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hits_are_read_inline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
