/* SPDX-License-Identifier: Apache-2.0 */
/* The hostile TOCs of tests/samples: each file's name says how it ends. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/layer.h"

static int load_estargz(
	const struct buf *b, struct ld_layer *ret, struct err *e)
{
	const struct ld_layer_desc d = {.size = 1000000};

	return ld_toc_parse_estargz(b->data, b->len, 900000, &d, ret, e);
}

static int load_zstd(const struct buf *b, struct ld_layer *ret, struct err *e)
{
	const struct ld_layer_desc d = {.size = 1000000, .toc_off = 900000};

	return ld_toc_parse_zstd_chunked(b->data, b->len, &d, ret, e);
}

/* "x.EPROTO.json" gives -EPROTO. */
static int code_in_name(const char *name)
{
	if (strstr(name, ".ok."))
		return 0;
	if (strstr(name, ".EPROTO."))
		return -EPROTO;
	if (strstr(name, ".E2BIG."))
		return -E2BIG;
	if (strstr(name, ".EOPNOTSUPP."))
		return -EOPNOTSUPP;
	fail_msg("the name '%s' says no code", name);
	return 0;
}

static void try_file(DIR *dir, const char *name,
	int (*load)(const struct buf *, struct ld_layer *, struct err *))
{
	struct ld_layer l;
	struct err e = {0};
	struct buf b;
	int r;

	buf_init(&b, 1u << 20);
	assert_int_equal(buf_read_file(&b, dirfd(dir), name), 0);
	r = load(&b, &l, &e);
	if (r != code_in_name(name))
		fail_msg("%s: %d '%s'", name, r, e.text);
	if (r == 0)
		ld_layer_fini(&l);
	else if (strlen(e.text) < 10)
		fail_msg("%s: the sentence is '%s'", name, e.text);
	buf_fini(&b);
}

static void try_folder(const char *format,
	int (*load)(const struct buf *, struct ld_layer *, struct err *))
{
	char path[PATH_MAX];
	const struct dirent *d;
	unsigned count = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/tests/samples/hostile/toc_%s",
		getenv("SLUICE_SOURCE_ROOT"), format);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		try_file(dir, d->d_name, load);
		count++;
	}
	(void)closedir(dir);
	assert_true(count >= 10);
}

static void every_zstd_chunked_toc_ends_as_its_name_says(void **state)
{
	try_folder("zstd_chunked", load_zstd);
}

static void every_estargz_toc_ends_as_its_name_says(void **state)
{
	try_folder("estargz", load_estargz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_zstd_chunked_toc_ends_as_its_name_says),
		cmocka_unit_test(every_estargz_toc_ends_as_its_name_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
