/* SPDX-License-Identifier: Apache-2.0 */
/* loader/index: link targets, xattrs, slots and pieces of files come back. */
#include <errno.h>

#include "tests/lib/index_fixture.h"

#include "runtime/base/mem.h"
#include "runtime/base/util.h"

static void link_targets_of_all_lengths_come_back(void **state)
{
	static const size_t lengths[] = {1, 59, 400, 447, 448, 449, 511, 512,
		513, 1024, 4000, 4031, 4032, 4033, 4095};
	static const unsigned sizes[] = {9, 12};
	const struct ld_attr a = {.mode = S_IFLNK | 0777};
	struct ld_inode_view v;
	struct fixture f;
	char path[32], target[4096];
	const char *have;
	size_t i, k, len;

	setup(&f);
	memset(target, 't', sizeof(target));
	for (i = 0; i < ARRAY_LEN(lengths); i++) {
		(void)snprintf(path, sizeof(path), "%zu", lengths[i]);
		assert_int_equal(ld_tree_set_symlink(f.t, add(&f, path, &a),
					 target, lengths[i], NULL),
			0);
	}
	assert_int_equal(
		ld_tree_set_symlink(f.t, add(&f, "x", &a), target, 4096, NULL),
		-EPROTO);
	ld_tree_remove(f.t, ld_tree_child(f.t, ld_tree_root(f.t), "x", 1));
	for (k = 0; k < ARRAY_LEN(sizes); k++) {
		write_out(&f, sizes[k]);
		for (i = 0; i < ARRAY_LEN(lengths); i++) {
			(void)snprintf(path, sizeof(path), "%zu", lengths[i]);
			v = look(&f, path);
			assert_int_equal(
				ld_index_symlink(&f.x, &v, &have, &len), 0);
			assert_int_equal(len, lengths[i]);
			assert_memory_equal(have, target, len);
		}
	}
	teardown(&f);
}

static void xattrs_come_back(void **state)
{
	static uint8_t big[LD_MAX_XATTR_VAL];
	struct ld_index_xattr *x = mem_alloc(sizeof(*x));
	struct ld_inode_view v;
	struct ld_inode *i, *many;
	struct fixture f;
	char name[32];
	size_t pos = 0;
	int n;

	setup(&f);
	i = add(&f, "f", &a_file);
	assert_int_equal(
		ld_tree_set_xattr(f.t, i, "user.empty", 10, "", 0, NULL), 0);
	assert_int_equal(ld_tree_set_xattr(
				 f.t, i, "user.big", 8, big, sizeof(big), NULL),
		0);
	assert_int_equal(ld_tree_set_xattr(f.t, i, "security.capability", 19,
				 "cap", 3, NULL),
		0);
	assert_int_equal(ld_tree_set_xattr(f.t, i, "system.posix_acl_access",
				 23, "acl", 3, NULL),
		0);
	many = add(&f, "many", &a_file);
	for (n = 0; n < LD_MAX_XATTRS; n++) {
		(void)snprintf(name, sizeof(name), "user.%d", n);
		assert_int_equal(ld_tree_set_xattr(f.t, many, name,
					 strlen(name), &n, 4, NULL),
			0);
	}
	write_out(&f, 12);
	assert_true(f.x.has_xattrs);
	v = look(&f, "f");
	assert_int_equal(ld_index_next_xattr(&f.x, &v, &pos, x), 1);
	assert_string_equal(x->name, "security.capability");
	assert_memory_equal(x->value, "cap", 3);
	assert_int_equal(ld_index_next_xattr(&f.x, &v, &pos, x), 1);
	assert_string_equal(x->name, "system.posix_acl_access");
	assert_int_equal(ld_index_next_xattr(&f.x, &v, &pos, x), 1);
	assert_string_equal(x->name, "user.big");
	assert_int_equal(x->value_len, sizeof(big));
	assert_int_equal(ld_index_next_xattr(&f.x, &v, &pos, x), 1);
	assert_string_equal(x->name, "user.empty");
	assert_int_equal(x->value_len, 0);
	assert_int_equal(ld_index_next_xattr(&f.x, &v, &pos, x), 0);
	v = look(&f, "many");
	for (n = 0, pos = 0; ld_index_next_xattr(&f.x, &v, &pos, x) == 1;)
		n++;
	assert_int_equal(n, LD_MAX_XATTRS);
	mem_free(x);
	teardown(&f);
}

static void more_xattrs_than_an_inode_holds_are_refused_by_name(void **state)
{
	static uint8_t big[LD_MAX_XATTR_VAL];
	struct ld_inode *i;
	struct err e = {0};
	struct fixture f;
	char name[32];
	int n;

	setup(&f);
	i = add(&f, "dir/much", &a_file);
	for (n = 0; n < 5; n++) {
		(void)snprintf(name, sizeof(name), "user.%d", n);
		assert_int_equal(ld_tree_set_xattr(f.t, i, name, strlen(name),
					 big, sizeof(big), NULL),
			0);
	}
	assert_int_equal(ld_index_write(f.t, 12, &f.out, &e), -E2BIG);
	assert_non_null(strstr(e.text, "'much'"));
	assert_non_null(strstr(e.text, "262148"));
	teardown(&f);
}

static void slots_keep_every_digest(void **state)
{
	struct ld_blob_ref b;
	struct fixture f;
	uint32_t i;

	setup(&f);
	(void)add_blob(&f, DIGEST_SHA256, "a", 1);
	(void)add_blob(&f, DIGEST_SHA512, "b", 4097);
	(void)add_blob(&f, DIGEST_BLAKE3, "c", 1ull << 40);
	write_out(&f, 12);
	assert_int_equal(f.x.slot_count, 3);
	for (i = 0; i < 3; i++) {
		assert_int_equal(ld_index_slot(&f.x, i, &b), 0);
		assert_true(digest_is_equal(
			&b.digest, &ld_tree_blob(f.t, i)->digest));
		assert_int_equal(b.device_size,
			round_up(ld_tree_blob(f.t, i)->device_size, 4096));
	}
	assert_int_equal(ld_index_slot(&f.x, 3, &b), -EPROTO);
	teardown(&f);
}

/* Every byte of the file lies where the extents of the tree say. */
static void check_file(struct fixture *f, const struct ld_inode *i,
	const char *path, uint64_t step)
{
	struct ld_inode_view v = look(f, path);
	uint64_t off, want;
	struct ld_extent x;
	uint32_t k, slot;

	assert_int_equal(v.size, i->size);
	for (off = 0; off < i->size; off += step) {
		slot = UINT32_MAX;
		want = 0;
		for (k = 0; k < i->extent_count; k++) {
			if (off < i->extents[k].file_off ||
				off - i->extents[k].file_off >=
					i->extents[k].len)
				continue;
			slot = i->extents[k].slot;
			want = i->extents[k].dev_off + off -
			       i->extents[k].file_off;
		}
		assert_int_equal(ld_index_extent(&f->x, &v, off, &x), 0);
		assert_int_equal(x.file_off, off);
		assert_int_equal(x.slot, slot);
		assert_int_equal(x.dev_off, want);
		assert_true(x.len > 0 && x.len <= i->size - off);
	}
	assert_int_equal(ld_index_extent(&f->x, &v, i->size, &x), 0);
	assert_int_equal(x.len, 0);
}

static void pieces_and_holes_come_back(void **state)
{
	const uint64_t k = 1024;
	struct ld_inode *i[5];
	struct fixture f;
	struct ld_extent x;
	struct ld_inode_view v;
	uint32_t a, b;

	setup(&f);
	a = add_blob(&f, DIGEST_SHA256, "a", 1u << 30);
	b = add_blob(&f, DIGEST_SHA256, "b", 1u << 20);
	i[0] = add(&f, "one", &a_file);
	i[0]->size = 999999;
	assert_int_equal(
		ld_tree_add_extent(f.t, i[0], 0, 999999, a, 12 * k, NULL), 0);
	i[1] = add(&f, "hole", &a_file);
	i[1]->size = 1u << 30;
	i[2] = add(&f, "sparse", &a_file);
	i[2]->size = 100 * k;
	assert_int_equal(
		ld_tree_add_extent(f.t, i[2], 8 * k, 4 * k, a, 0, NULL), 0);
	assert_int_equal(
		ld_tree_add_extent(f.t, i[2], 64 * k, 36 * k, b, 16 * k, NULL),
		0);
	i[3] = add(&f, "back", &a_file);
	i[3]->size = 32 * k + 1;
	assert_int_equal(
		ld_tree_add_extent(f.t, i[3], 0, 16 * k, a, 64 * k, NULL), 0);
	assert_int_equal(
		ld_tree_add_extent(f.t, i[3], 16 * k, 16 * k, a, 0, NULL), 0);
	assert_int_equal(
		ld_tree_add_extent(f.t, i[3], 32 * k, 1, b, 4 * k, NULL), 0);
	i[4] = add(&f, "end", &a_file);
	i[4]->size = 20 * k;
	assert_int_equal(
		ld_tree_add_extent(f.t, i[4], 0, 4 * k, b, 0, NULL), 0);
	write_out(&f, 12);
	check_file(&f, i[0], "one", 997);
	check_file(&f, i[1], "hole", 1 << 20);
	check_file(&f, i[2], "sparse", 331);
	check_file(&f, i[3], "back", 331);
	check_file(&f, i[4], "end", 331);
	/* One stretch is told in one piece. */
	v = look(&f, "one");
	assert_int_equal(ld_index_extent(&f.x, &v, 100, &x), 0);
	assert_int_equal(x.len, 999899);
	v = look(&f, "sparse");
	assert_int_equal(ld_index_extent(&f.x, &v, 65 * k, &x), 0);
	assert_int_equal(x.len, 35 * k);
	assert_int_equal(ld_index_extent(&f.x, &v, 12 * k, &x), 0);
	assert_int_equal(x.len, 52 * k);
	write_out(&f, 9);
	check_file(&f, i[0], "one", 997);
	check_file(&f, i[2], "sparse", 331);
	check_file(&f, i[3], "back", 331);
	teardown(&f);
}

static int write_piece(uint64_t size, uint64_t off, uint64_t len, uint64_t dev)
{
	struct ld_inode *i;
	struct fixture f;
	struct err e = {0};
	uint32_t a;
	int r;

	setup(&f);
	a = add_blob(&f, DIGEST_SHA256, "a", 1u << 20);
	i = add(&f, "f", &a_file);
	i->size = size;
	assert_int_equal(ld_tree_add_extent(f.t, i, off, len, a, dev, NULL), 0);
	r = ld_index_write(f.t, 12, &f.out, &e);
	if (r < 0)
		assert_non_null(strstr(e.text, "'f'"));
	teardown(&f);
	return r;
}

static void pieces_that_no_index_can_hold_are_refused(void **state)
{
	assert_int_equal(write_piece(8192, 0, 8192, 4096), 0);
	assert_int_equal(write_piece(8192, 0, 8192, 512), -EPROTO);
	assert_int_equal(write_piece(8192, 512, 100, 0), -EPROTO);
	assert_int_equal(write_piece(8192, 0, 100, 0), -EPROTO);
	assert_int_equal(write_piece(8192, 0, 8193, 0), -EPROTO);
	assert_int_equal(write_piece(0, 0, 1, 0), -EPROTO);
	assert_int_equal(write_piece(8192, 0, 8192, 1 << 20), -EPROTO);
	/* A single block in a file so large that its chunks fill a disk. */
	assert_int_equal(write_piece(1ull << 50, 4096, 4096, 0), -E2BIG);
	assert_int_equal(write_piece(1ull << 50, 0, 4096, 0), -E2BIG);
}

/* Each of these files may have its chunks, but not all of them. */
static void the_chunks_of_all_files_have_a_limit(void **state)
{
	struct ld_inode *i;
	struct err e = {0};
	struct fixture f;
	char name[8];
	uint32_t slot;

	setup(&f);
	slot = add_blob(&f, DIGEST_SHA256, "a", 1u << 20);
	for (unsigned n = 0; n < 5; n++) {
		(void)snprintf(name, sizeof(name), "f%u", n);
		i = add(&f, name, &a_file);
		i->size = (uint64_t)4096 << 22;
		assert_int_equal(ld_tree_add_extent(f.t, i, 4096, 4096, slot,
					 4096 * n, &e),
			0);
	}
	assert_int_equal(ld_index_write(f.t, 12, &f.out, &e), -E2BIG);
	assert_non_null(strstr(e.text, "limit for all files"));
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(link_targets_of_all_lengths_come_back),
		cmocka_unit_test(xattrs_come_back),
		cmocka_unit_test(
			more_xattrs_than_an_inode_holds_are_refused_by_name),
		cmocka_unit_test(slots_keep_every_digest),
		cmocka_unit_test(pieces_and_holes_come_back),
		cmocka_unit_test(pieces_that_no_index_can_hold_are_refused),
		cmocka_unit_test(the_chunks_of_all_files_have_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
