/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader/index from files: every hostile sample gives the error that its name
 * states, on opening, on walking or on merging.
 */
#include <fcntl.h>

#include "tests/lib/hostile.h"
#include "tests/lib/layers.h"

/* Open, walk, and merge as an image's only layer. */
static int use(int dirfd, const char *name, struct err *e)
{
	const struct ld_index *layers[1];
	struct ld_tree *t;
	struct ld_index x;
	int r;

	r = ld_index_open(dirfd, name, &x, e);
	if (r < 0)
		return r;
	r = index_walk_all(&x);
	assert_int_equal(ld_tree_create(&t), 0);
	layers[0] = &x;
	/* A layer's open hard link has nothing below it here. */
	if (!x.has_links)
		r = ld_merge(layers, 1, t, e);
	ld_tree_destroy(t);
	/* The merge has let its pages go: it is still what it was. */
	if (r == 0)
		r = index_walk_all(&x);
	assert_false(ld_index_is_lost(&x));
	ld_index_close(&x);
	return r;
}

static void try_index(void *arg, int dir, const char *name)
{
	struct err e = {0};

	hostile_judge(name, use(dir, name, &e), e.text);
}

static void samples_give_the_error_that_they_are_named_after(void **state)
{
	hostile_files("index", 40, try_index, NULL);
}

static void what_is_no_index_is_told(void **state)
{
	struct ld_index x;
	struct err e = {0};

	assert_int_equal(
		ld_index_open(AT_FDCWD, "/nonexistent", &x, &e), -ENOENT);
	assert_non_null(strstr(e.text, "'/nonexistent'"));
	assert_int_equal(ld_index_open(AT_FDCWD, "/tmp", &x, &e), -EPROTO);
	assert_int_equal(ld_index_open(AT_FDCWD, "/dev/null", &x, &e), -EPROTO);
	assert_int_equal(
		ld_index_open(AT_FDCWD, "/proc/self/exe", &x, &e), -EPROTO);
	assert_non_null(strstr(e.text, "no EROFS superblock"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			samples_give_the_error_that_they_are_named_after),
		cmocka_unit_test(what_is_no_index_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
