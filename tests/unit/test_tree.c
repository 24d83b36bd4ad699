/* SPDX-License-Identifier: Apache-2.0 */
/* loader/tree: names, replacing, limits, whiteouts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loader/tree.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "tests/lib/tree_count.h"

static const struct ld_attr a_dir = {.mode = S_IFDIR | 0700, .uid = 5};
static const struct ld_attr a_file = {.mode = S_IFREG | 0644};
static const struct ld_attr a_link = {.mode = S_IFLNK | 0777};

static struct ld_tree *new_tree(void)
{
	struct ld_tree *t = NULL;

	assert_int_equal(ld_tree_create(&t), 0);
	return t;
}

static int add_n(struct ld_tree *t, const char *path, size_t len,
	const struct ld_attr *a, struct ld_inode **ret)
{
	struct ld_inode *i = NULL;
	struct err e = {0};
	int r;

	r = ld_tree_add(t, path, len, a, &i, &e);
	if (r < 0)
		assert_true(e.text[0] != '\0');
	if (ret)
		*ret = i;
	return r;
}

static struct ld_inode *add(
	struct ld_tree *t, const char *path, const struct ld_attr *a)
{
	struct ld_inode *i;

	assert_int_equal(add_n(t, path, strlen(path), a, &i), 0);
	return i;
}

static struct ld_inode *find(struct ld_tree *t, const char *path)
{
	return ld_tree_find(t, path, strlen(path));
}

static bool whiteout(struct ld_tree *t, const char *path)
{
	bool was_one = false;

	assert_int_equal(
		ld_tree_add_whiteout(t, path, strlen(path), &was_one, NULL), 0);
	return was_one;
}

static void paths_of_all_spellings_meet(void **state)
{
	struct ld_tree *t = new_tree();
	struct ld_inode *i;

	i = add(t, "./a/b/", &a_dir);
	assert_ptr_equal(find(t, "a/b"), i);
	assert_ptr_equal(find(t, "/a/b"), i);
	assert_ptr_equal(find(t, "."), ld_tree_root(t));
	assert_ptr_equal(find(t, ""), ld_tree_root(t));
	assert_true(find(t, "a")->implied);
	assert_int_equal(find(t, "a")->attr.mode, S_IFDIR | 0755);
	assert_ptr_equal(add(t, "/a", &a_dir), find(t, "a"));
	assert_false(find(t, "a")->implied);
	assert_ptr_equal(find(t, "a/b"), i);
	assert_true(ld_tree_root(t)->implied);
	(void)add(t, "/", &a_dir);
	assert_int_equal(ld_tree_root(t)->attr.uid, 5);
	assert_int_equal(count_inodes(t), 3);
	ld_tree_destroy(t);
}

static void bad_paths_are_refused(void **state)
{
	static const char *const bad[] = {"..", "a/../b", "a//b", "//", "a/.",
		"a/./b", "/.", "a/..", "../a"};
	struct ld_tree *t = new_tree();
	char longer[300];
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			add_n(t, bad[i], strlen(bad[i]), &a_file, NULL),
			-EPROTO);
	assert_int_equal(add_n(t, "a\0b", 3, &a_file, NULL), -EPROTO);
	assert_int_equal(add_n(t, "", 0, &a_file, NULL), -EPROTO);
	memset(longer, 'x', sizeof(longer));
	assert_int_equal(add_n(t, longer, 256, &a_file, NULL), -EPROTO);
	assert_int_equal(add_n(t, longer, 255, &a_file, NULL), 0);
	ld_tree_destroy(t);
}

static void bad_attributes_are_refused(void **state)
{
	const struct ld_attr bad[] = {
		{.mode = 0644},
		{.mode = S_IFREG | 0200000},
		{.mode = S_IFREG, .mtime_ns = 1000000000},
		{.mode = S_IFCHR, .rdev_major = 4096},
		{.mode = S_IFBLK, .rdev_minor = 1 << 20},
	};
	struct ld_tree *t = new_tree();
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(add_n(t, "a", 1, &bad[i], NULL), -EPROTO);
	ld_tree_destroy(t);
}

static void depth_has_a_limit(void **state)
{
	struct ld_tree *t = new_tree();
	char path[5000];
	size_t i;

	for (i = 0; i < sizeof(path); i += 2)
		memcpy(path + i, "a/", 2);
	assert_int_equal(add_n(t, path, 2 * 1024, &a_dir, NULL), 0);
	assert_int_equal(add_n(t, path, 2 * 1025, &a_dir, NULL), -E2BIG);
	assert_int_equal(add_n(t, path, 4200, &a_dir, NULL), -E2BIG);
	ld_tree_destroy(t);
}

static void later_things_replace_earlier_ones(void **state)
{
	struct ld_tree *t = new_tree();
	struct ld_inode *f;

	f = add(t, "x/f", &a_file);
	(void)add(t, "x", &a_dir);
	assert_ptr_equal(find(t, "x/f"), f);
	(void)add(t, "x", &a_file);
	assert_null(find(t, "x/f"));
	(void)add(t, "x/g/h", &a_file);
	assert_true(find(t, "x")->implied);
	assert_null(find(t, "x/f"));
	assert_int_equal(find(t, "x")->child_count, 1);
	(void)add(t, "x/g", &a_link);
	assert_null(find(t, "x/g/h"));
	assert_int_equal(count_inodes(t), 3);
	ld_tree_destroy(t);
}

static void links_count_names(void **state)
{
	struct ld_tree *t = new_tree();
	struct ld_inode *f = add(t, "f", &a_file);

	assert_int_equal(ld_tree_link(t, "d/g", 3, f, NULL), 0);
	assert_int_equal(ld_tree_link(t, "f", 1, f, NULL), 0);
	assert_int_equal(f->nlink, 2);
	assert_int_equal(count_inodes(t), 3);
	assert_int_equal(ld_tree_link(t, "h", 1, find(t, "d"), NULL), -EPROTO);
	(void)add(t, "f", &a_link);
	assert_int_equal(f->nlink, 1);
	assert_ptr_equal(find(t, "d/g"), f);
	ld_tree_remove(t, ld_tree_child(t, find(t, "d"), "g", 1));
	assert_int_equal(f->nlink, 0);
	assert_null(find(t, "d/g"));
	assert_int_equal(find(t, "d")->child_count, 0);
	ld_tree_destroy(t);
}

static void a_cleared_directory_can_be_filled_again(void **state)
{
	struct ld_tree *t = new_tree();
	struct ld_inode *d;

	(void)add(t, "d/a", &a_file);
	(void)add(t, "d/b/c", &a_file);
	d = find(t, "d");
	ld_tree_clear(t, d);
	assert_int_equal(d->child_count, 0);
	assert_null(find(t, "d/a"));
	(void)add(t, "d/a", &a_file);
	assert_int_equal(d->child_count, 1);
	assert_int_equal(count_inodes(t), 3);
	ld_tree_destroy(t);
}

static void many_names_are_all_found(void **state)
{
	struct ld_tree *t = new_tree();
	char path[32];
	int i;

	for (i = 0; i < 20000; i++) {
		(void)snprintf(path, sizeof(path), "d%d/f%d", i % 7, i);
		add(t, path, &a_file)->size = (uint64_t)i;
	}
	for (i = 0; i < 20000; i++) {
		(void)snprintf(path, sizeof(path), "d%d/f%d", i % 7, i);
		assert_int_equal(find(t, path)->size, i);
	}
	assert_int_equal(count_inodes(t), 20008);
	ld_tree_destroy(t);
}

static void xattrs_are_sorted_and_replaced(void **state)
{
	static const char *const names[] = {"user.b", "user.a", "user.ab",
		"security.capability", "trusted.z", "system.posix_acl_access"};
	struct ld_tree *t = new_tree();
	struct ld_inode *f = add(t, "f", &a_file);
	const struct ld_xattr *x;
	size_t i, round;

	for (round = 0; round < 2; round++)
		for (i = 0; i < ARRAY_LEN(names); i++)
			assert_int_equal(ld_tree_set_xattr(t, f, names[i],
						 strlen(names[i]), names[i],
						 round, NULL),
				0);
	assert_int_equal(f->xattr_count, ARRAY_LEN(names));
	for (x = f->xattrs; x->next; x = x->next)
		assert_true(strcmp(x->name, x->next->name) < 0);
	assert_int_equal(ld_tree_xattr(f, "user.a")->value_len, 1);
	ld_tree_destroy(t);
}

static void unknown_xattrs_are_refused_and_overlay_ones_dropped(void **state)
{
	static const char *const bad[] = {"user.", "user", "", "lustre.x",
		"system.nfs4_acl", "com.apple.x", "system.posix_acl_accessx"};
	static uint8_t value[LD_MAX_XATTR_VAL + 1];
	struct ld_tree *t = new_tree();
	struct ld_inode *d = add(t, "d", &a_dir);
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(ld_tree_set_xattr(t, d, bad[i], strlen(bad[i]),
					 "", 0, NULL),
			-EPROTO);
	assert_int_equal(
		ld_tree_set_xattr(t, d, "user.a\0b", 8, "", 0, NULL), -EPROTO);
	assert_int_equal(ld_tree_set_xattr(
				 t, d, "user.a", 6, value, sizeof(value), NULL),
		-E2BIG);
	assert_int_equal(ld_tree_set_xattr(t, d, "trusted.overlay.opaque", 22,
				 "y", 1, NULL),
		0);
	assert_int_equal(d->xattr_count, 0);
	assert_false(d->opaque);
	ld_tree_destroy(t);
}

static void extents_join_and_do_not_overlap(void **state)
{
	const struct ld_blob_ref b = {.device_size = 1 << 20};
	struct ld_tree *t = new_tree();
	struct ld_inode *f = add(t, "f", &a_file);
	uint32_t slot = 9;

	assert_int_equal(ld_tree_add_blob(t, &b, &slot), 0);
	assert_int_equal(slot, 0);
	assert_int_equal(ld_tree_add_extent(t, f, 0, 10, 0, 4096, NULL), 0);
	assert_int_equal(ld_tree_add_extent(t, f, 10, 5, 0, 4106, NULL), 0);
	assert_int_equal(f->extent_count, 1);
	assert_int_equal(f->extents[0].len, 15);
	assert_int_equal(
		ld_tree_add_extent(t, f, 14, 5, 0, 8192, NULL), -EPROTO);
	assert_int_equal(
		ld_tree_add_extent(t, f, 20, 5, 1, 8192, NULL), -EPROTO);
	assert_int_equal(
		ld_tree_add_extent(t, f, 20, UINT64_MAX, 0, 0, NULL), -EPROTO);
	assert_int_equal(
		ld_tree_add_extent(t, f, 20, 1, 0, INT64_MAX, NULL), -EPROTO);
	assert_int_equal(ld_tree_add_extent(t, f, 20, 5, 0, 8192, NULL), 0);
	assert_int_equal(f->extent_count, 2);
	ld_tree_destroy(t);
}

static void whiteouts_are_told_from_names(void **state)
{
	struct ld_tree *t = new_tree();
	bool was_one;

	assert_false(whiteout(t, "a/wh.b"));
	assert_false(whiteout(t, "a/.whb"));
	assert_true(whiteout(t, "a/.wh.b"));
	assert_true(ld_inode_is_whiteout(find(t, "a/b")));
	assert_true(whiteout(t, ".wh..wh.plnk/x"));
	assert_true(whiteout(t, ".wh..wh.aufs"));
	assert_null(find(t, ".wh..wh.plnk"));
	assert_int_equal(
		ld_tree_add_whiteout(t, "d/.wh.", 6, &was_one, NULL), -EPROTO);
	assert_int_equal(
		ld_tree_add_whiteout(t, "d/.wh..", 7, &was_one, NULL), -EPROTO);
	assert_int_equal(ld_tree_add_whiteout(t, "d/.wh...", 8, &was_one, NULL),
		-EPROTO);
	ld_tree_destroy(t);
}

static void a_whiteout_spares_its_own_layer(void **state)
{
	struct ld_tree *t = new_tree();
	struct ld_inode *f = add(t, "f", &a_file);

	assert_true(whiteout(t, ".wh.f"));
	assert_ptr_equal(find(t, "f"), f);
	assert_true(whiteout(t, ".wh.g"));
	f = add(t, "g", &a_file);
	assert_ptr_equal(find(t, "g"), f);
	ld_tree_destroy(t);
}

static void a_directory_in_place_of_a_whiteout_is_opaque(void **state)
{
	struct ld_tree *t = new_tree();

	assert_true(whiteout(t, ".wh.before"));
	(void)add(t, "before", &a_dir);
	assert_true(find(t, "before")->opaque);
	(void)add(t, "after/x", &a_file);
	assert_true(whiteout(t, ".wh.after"));
	assert_true(find(t, "after")->opaque);
	assert_false(find(t, "after")->implied);
	assert_non_null(find(t, "after/x"));
	assert_true(whiteout(t, ".wh.parent"));
	(void)add(t, "parent/x", &a_file);
	assert_true(find(t, "parent")->opaque);
	assert_false(find(t, "parent")->implied);
	ld_tree_destroy(t);
}

static void opaque_stays_when_the_directory_is_described_later(void **state)
{
	struct ld_tree *t = new_tree();

	assert_true(whiteout(t, "d/.wh..wh..opq"));
	assert_true(find(t, "d")->implied);
	(void)add(t, "d", &a_dir);
	assert_true(find(t, "d")->opaque);
	assert_false(find(t, "d")->implied);
	assert_true(whiteout(t, ".wh..wh..opq"));
	assert_true(ld_tree_root(t)->opaque);
	ld_tree_destroy(t);
}

static int build_something(void)
{
	struct ld_blob_ref b = {.device_size = 4096};
	struct ld_inode *i = NULL;
	struct ld_tree *t = NULL;
	char path[32];
	uint32_t slot;
	int k, r;

	r = ld_tree_create(&t);
	if (r == 0)
		r = ld_tree_add_blob(t, &b, &slot);
	for (k = 0; r == 0 && k < 3000; k++) {
		(void)snprintf(path, sizeof(path), "%d/%d", k % 3, k);
		r = ld_tree_add(t, path, strlen(path), &a_file, &i, NULL);
		if (r == 0)
			r = ld_tree_add_extent(t, i, 0, 1, 0, 0, NULL);
		if (r == 0)
			r = ld_tree_set_xattr(t, i, "user.a", 6, "b", 1, NULL);
	}
	ld_tree_destroy(t);
	return r;
}

static void running_out_of_memory_is_an_error(void **state)
{
	unsigned long n;
	int r = -ENOMEM;

	for (n = 1; r != 0; n++) {
		assert_true(n < 1000);
		(void)mem_fail_nth(n, 1);
		r = build_something();
		(void)mem_fail_nth(0, 0);
		assert_true(r == 0 || r == -ENOMEM);
	}
	assert_true(n > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_of_all_spellings_meet),
		cmocka_unit_test(bad_paths_are_refused),
		cmocka_unit_test(bad_attributes_are_refused),
		cmocka_unit_test(depth_has_a_limit),
		cmocka_unit_test(later_things_replace_earlier_ones),
		cmocka_unit_test(links_count_names),
		cmocka_unit_test(a_cleared_directory_can_be_filled_again),
		cmocka_unit_test(many_names_are_all_found),
		cmocka_unit_test(xattrs_are_sorted_and_replaced),
		cmocka_unit_test(
			unknown_xattrs_are_refused_and_overlay_ones_dropped),
		cmocka_unit_test(extents_join_and_do_not_overlap),
		cmocka_unit_test(whiteouts_are_told_from_names),
		cmocka_unit_test(a_whiteout_spares_its_own_layer),
		cmocka_unit_test(a_directory_in_place_of_a_whiteout_is_opaque),
		cmocka_unit_test(
			opaque_stays_when_the_directory_is_described_later),
		cmocka_unit_test(running_out_of_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
