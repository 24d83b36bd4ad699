/* SPDX-License-Identifier: Apache-2.0 */
/* loader/mountinfo: lines of /proc/self/mountinfo, good and broken. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/mountinfo.h"

static const char text[] =
	"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
	"40 22 0:35 / /mnt/a rw,nosuid shared:7 master:2 - fuse.sluice "
	"localhost:5000/x:1 ro,user_id=0\n"
	"41 40 0:36 / /mnt/a rw - tmpfs second rw\n"
	"42 22 0:37 / /mnt/with\\040blank\\134and rw - fuse.sshfs a\\040b rw\n"
	"43 22 broken / /mnt/b rw - tmpfs t rw\n"
	"44 22 0:38 / /mnt/c rw shared:1\n"
	"\n"
	"45 22 0:39 / /mnt/d rw -\n"
	"46 22 0:4294967296 / /mnt/d rw - tmpfs t rw\n"
	"47 22 1:2 / /mnt/e rw - proc none rw";

static int find(const char *dir, struct ld_mountinfo *m)
{
	return ld_mountinfo_find(text, sizeof(text) - 1, dir, m);
}

static void the_mount_on_top_is_found(void **state)
{
	struct ld_mountinfo m;

	assert_int_equal(find("/mnt/a", &m), 0);
	assert_string_equal(m.fstype, "tmpfs");
	assert_string_equal(m.source, "second");
	assert_int_equal(m.dev_minor, 36);
	assert_int_equal(find("/", &m), 0);
	assert_string_equal(m.fstype, "ext4");
	assert_int_equal(m.dev_major, 254);
	assert_int_equal(find("/mnt/e", &m), 0);
	assert_string_equal(m.source, "none");
}

static void optional_fields_are_skipped(void **state)
{
	struct ld_mountinfo m;
	const char *end = strstr(text, "41 40");

	assert_int_equal(
		ld_mountinfo_find(text, (size_t)(end - text), "/mnt/a", &m), 0);
	assert_string_equal(m.fstype, "fuse.sluice");
	assert_string_equal(m.source, "localhost:5000/x:1");
}

static void escapes_are_undone(void **state)
{
	struct ld_mountinfo m;

	assert_int_equal(find("/mnt/with blank\\and", &m), 0);
	assert_string_equal(m.source, "a b");
	assert_int_equal(find("/mnt/with\\040blank\\134and", &m), -ENOENT);
}

static void broken_lines_and_other_directories_are_no_match(void **state)
{
	struct ld_mountinfo m;

	assert_int_equal(find("/mnt/b", &m), -ENOENT);
	assert_int_equal(find("/mnt/c", &m), -ENOENT);
	assert_int_equal(find("/mnt/d", &m), -ENOENT);
	assert_int_equal(find("/mnt", &m), -ENOENT);
	assert_int_equal(find("/mnt/aa", &m), -ENOENT);
	assert_int_equal(find("", &m), -ENOENT);
}

static void a_file_cut_anywhere_does_no_harm(void **state)
{
	struct ld_mountinfo m;
	size_t i;

	for (i = 0; i < sizeof(text); i++)
		(void)ld_mountinfo_find(text, i, "/mnt/with blank\\and", &m);
}

static void long_sources_are_cut(void **state)
{
	static char line[3 * LD_MAX_PATH];
	struct ld_mountinfo m;
	size_t n;

	memcpy(line, "1 2 3:4 / /x rw - t ", 20);
	memset(line + 20, 's', sizeof(line) - 20);
	n = sizeof(line);
	assert_int_equal(ld_mountinfo_find(line, n, "/x", &m), 0);
	assert_int_equal(strlen(m.source), sizeof(m.source) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mount_on_top_is_found),
		cmocka_unit_test(optional_fields_are_skipped),
		cmocka_unit_test(escapes_are_undone),
		cmocka_unit_test(
			broken_lines_and_other_directories_are_no_match),
		cmocka_unit_test(a_file_cut_anywhere_does_no_harm),
		cmocka_unit_test(long_sources_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
