/* SPDX-License-Identifier: Apache-2.0 */
/* The hostile maps and groups of tests/samples: a file's name says its end. */
#include <fcntl.h>
#include <stdint.h>

#include "blobcache/decode.h"
#include "blobcache/map.h"
#include "runtime/base/mem.h"
#include "tests/lib/hostile.h"

static int load_map(DIR *dir, const char *name)
{
	struct err e = {0};
	struct bc_map m;
	int r;

	r = bc_map_open(dirfd(dir), name, NULL, &m, &e);
	if (r == 0)
		bc_map_close(&m);
	else if (!strstr(e.text, name))
		fail_msg("%s: the sentence is '%s'", name, e.text);
	return r;
}

/* The form that the fuzz target decode takes. */
static int load_group(DIR *dir, const char *name)
{
	uint8_t *dst;
	struct buf b;
	size_t want, ctx;
	int r;

	buf_init(&b, 1u << 20);
	assert_int_equal(buf_read_file(&b, dirfd(dir), name), 0);
	assert_true(b.len >= 4);
	want = le16_at(b.data + 1);
	ctx = b.data[3];
	dst = mem_alloc(want);
	assert_non_null(dst);
	r = bc_decode(b.data[0], b.data + 4 + ctx, b.len - 4 - ctx, b.data + 4,
		ctx, dst, want);
	mem_free(dst);
	buf_fini(&b);
	return r;
}

static void try_folder(
	const char *kind, int (*load)(DIR *dir, const char *name))
{
	char path[PATH_MAX];
	const struct dirent *d;
	unsigned count = 0;
	DIR *dir;
	int r;

	(void)snprintf(path, sizeof(path), "%s/tests/samples/hostile/%s",
		getenv("SLUICE_SOURCE_ROOT"), kind);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		r = load(dir, d->d_name);
		if (r != hostile_code(d->d_name))
			fail_msg("%s: %d", d->d_name, r);
		count++;
	}
	(void)closedir(dir);
	assert_true(count >= 10);
}

static void every_map_ends_as_its_name_says(void **state)
{
	try_folder("map", load_map);
}

static void every_group_ends_as_its_name_says(void **state)
{
	try_folder("decode", load_group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_map_ends_as_its_name_says),
		cmocka_unit_test(every_group_ends_as_its_name_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
