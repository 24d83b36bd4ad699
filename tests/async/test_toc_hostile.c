/* SPDX-License-Identifier: Apache-2.0 */
/* The hostile TOCs of tests/samples: each file's name says how it ends. */
#include "loader/layer.h"
#include "tests/lib/hostile.h"

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

typedef int load_fn(const struct buf *b, struct ld_layer *ret, struct err *e);

static void try_file(void *arg, const char *name, struct buf *b)
{
	load_fn *const *load = arg;
	struct ld_layer l;
	struct err e = {0};
	int r = (*load)(b, &l, &e);

	hostile_judge(name, r, e.text);
	if (r == 0)
		ld_layer_fini(&l);
}

static void every_zstd_chunked_toc_ends_as_its_name_says(void **state)
{
	load_fn *load = load_zstd;

	hostile_each("toc_zstd_chunked", 55, try_file, &load);
}

static void every_estargz_toc_ends_as_its_name_says(void **state)
{
	load_fn *load = load_estargz;

	hostile_each("toc_estargz", 10, try_file, &load);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_zstd_chunked_toc_ends_as_its_name_says),
		cmocka_unit_test(every_estargz_toc_ends_as_its_name_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
