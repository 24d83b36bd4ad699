/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader/index: attributes and directories that were written are read back,
 * and broken indexes are safe.
 */
#include <errno.h>

#include "tests/lib/index_fixture.h"

#include "loader/erofs_format.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

static void expect_attr(const struct ld_attr *have, const struct ld_attr *want)
{
	assert_int_equal(have->mode, want->mode);
	assert_int_equal(have->uid, want->uid);
	assert_int_equal(have->gid, want->gid);
	assert_int_equal(have->rdev_major, want->rdev_major);
	assert_int_equal(have->rdev_minor, want->rdev_minor);
	assert_int_equal(have->mtime, want->mtime);
	assert_int_equal(have->mtime_ns, want->mtime_ns);
}

static void attributes_come_back(void **state)
{
	static const unsigned sizes[] = {9, 12};
	const struct ld_attr dev = {.mode = S_IFBLK | 0600,
		.rdev_major = 4095,
		.rdev_minor = 0xfffff};
	struct ld_inode_view v;
	struct fixture f;
	size_t i;

	setup(&f);
	(void)add(&f, "d", &a_dir);
	(void)add(&f, "d/f", &a_file);
	(void)add(&f, "d/b", &dev);
	(void)add(&f, "d/sub/implied", &a_file);
	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		write_out(&f, sizes[i]);
		v = look(&f, "d");
		expect_attr(&v.attr, &a_dir);
		assert_int_equal(v.nlink, 3);
		assert_false(ld_index_is_implied(&v));
		v = look(&f, "d/f");
		expect_attr(&v.attr, &a_file);
		assert_int_equal(v.nlink, 1);
		assert_int_equal(v.size, 0);
		v = look(&f, "d/b");
		expect_attr(&v.attr, &dev);
		v = look(&f, "d/sub");
		assert_true(ld_index_is_implied(&v));
		assert_int_equal(f.x.inode_count, 6);
		assert_false(f.x.has_xattrs);
	}
	teardown(&f);
}

static void the_same_tree_gives_the_same_bytes(void **state)
{
	struct fixture a, b;
	char path[32];
	int i;

	setup(&a);
	setup(&b);
	for (i = 0; i < 2000; i++) {
		(void)snprintf(path, sizeof(path), "%d/%d", i % 9, i);
		(void)add(&a, path, &a_file);
		(void)snprintf(
			path, sizeof(path), "%d/%d", (1999 - i) % 9, 1999 - i);
		(void)add(&b, path, &a_file);
	}
	write_out(&a, 12);
	write_out(&b, 12);
	write_out(&b, 12);
	assert_int_equal(a.out.len, b.out.len);
	assert_memory_equal(a.out.data, b.out.data, a.out.len);
	teardown(&a);
	teardown(&b);
}

/* Every entry is found by lookup and by listing, in order, from any cookie. */
static void check_dir(struct fixture *f, const char *path, size_t want)
{
	struct ld_inode_view dir = look(f, path);
	struct ld_index_dirent d, again;
	uint64_t cookie = 0, nid;
	char last[256] = "";
	size_t n = 0, last_len = 0;
	int r;

	for (;;) {
		r = ld_index_next(&f->x, &dir, cookie, &d);
		if (r == 0)
			break;
		assert_int_equal(r, 1);
		assert_int_equal(ld_index_next(&f->x, &dir, cookie, &again), 1);
		assert_int_equal(again.cookie, d.cookie);
		assert_true(d.cookie > cookie);
		cookie = d.cookie;
		assert_int_equal(
			ld_index_lookup(&f->x, &dir, d.name, d.name_len, &nid),
			0);
		assert_int_equal(nid, d.nid);
		r = memcmp(last, d.name, min_u64(last_len, d.name_len));
		assert_true(r < 0 || (r == 0 && last_len < d.name_len));
		memcpy(last, d.name, d.name_len);
		last_len = d.name_len;
		n++;
	}
	assert_int_equal(n, want + 2);
	assert_int_equal(ld_index_lookup(&f->x, &dir, "~~~", 3, &nid), -ENOENT);
	assert_int_equal(
		ld_index_lookup(&f->x, &dir, "\1\1", 2, &nid), -ENOENT);
	assert_int_equal(ld_index_lookup(&f->x, &dir, "f1.", 3, &nid), -ENOENT);
}

static void directories_of_all_sizes_can_be_searched(void **state)
{
	static const int counts[] = {0, 1, 20, 30, 36, 40, 170, 333, 5000};
	static const unsigned sizes[] = {9, 12};
	struct fixture f;
	char path[32];
	size_t i, k;
	int n;

	setup(&f);
	for (i = 0; i < ARRAY_LEN(counts); i++) {
		(void)snprintf(path, sizeof(path), "d%d", counts[i]);
		(void)add(&f, path, &a_dir);
		for (n = 0; n < counts[i]; n++) {
			(void)snprintf(
				path, sizeof(path), "d%d/f%d", counts[i], n);
			(void)add(&f, path, &a_file);
		}
	}
	for (k = 0; k < ARRAY_LEN(sizes); k++) {
		write_out(&f, sizes[k]);
		for (i = 0; i < ARRAY_LEN(counts); i++) {
			(void)snprintf(path, sizeof(path), "d%d", counts[i]);
			check_dir(&f, path, (size_t)counts[i]);
		}
		assert_int_equal(index_walk_all(&f.x), 0);
	}
	teardown(&f);
}

static void long_and_binary_names_are_found(void **state)
{
	static const unsigned sizes[] = {9, 12};
	struct ld_inode *i;
	struct fixture f;
	char path[300];
	size_t k, n;

	setup(&f);
	memcpy(path, "d/", 2);
	for (n = 1; n < 256; n++) {
		memset(path + 2, (int)(n == '/' ? 'x' : n), 255);
		assert_int_equal(
			ld_tree_add(f.t, path, 2 + 255, &a_file, &i, NULL), 0);
		memset(path + 2, (int)(n == '/' || n == '.' ? 'x' : n), 1);
		assert_int_equal(
			ld_tree_add(f.t, path, 3, &a_file, &i, NULL), 0);
	}
	for (k = 0; k < ARRAY_LEN(sizes); k++) {
		write_out(&f, sizes[k]);
		check_dir(&f, "d", 254 + 253);
	}
	teardown(&f);
}

static void dot_and_dot_dot_are_where_they_sort(void **state)
{
	struct ld_inode_view d;
	struct fixture f;
	uint64_t nid;

	setup(&f);
	(void)add(&f, "d/!", &a_file);
	(void)add(&f, "d/.!", &a_file);
	(void)add(&f, "d/...", &a_file);
	(void)add(&f, "d/e", &a_dir);
	write_out(&f, 12);
	check_dir(&f, "d", 4);
	d = look(&f, "d/e");
	assert_int_equal(ld_index_lookup(&f.x, &d, "..", 2, &nid), 0);
	assert_int_equal(nid, look(&f, "d").nid);
	d = look(&f, "");
	assert_int_equal(ld_index_lookup(&f.x, &d, "..", 2, &nid), 0);
	assert_int_equal(nid, f.x.root_nid);
	teardown(&f);
}

static void hard_links_are_one_inode(void **state)
{
	struct ld_inode *i;
	struct fixture f;
	char path[32];
	int n;

	setup(&f);
	i = add(&f, "f", &a_file);
	for (n = 0; n < 70000; n++) {
		(void)snprintf(path, sizeof(path), "%d/%d", n % 3, n);
		assert_int_equal(
			ld_tree_link(f.t, path, strlen(path), i, NULL), 0);
	}
	/* Names in a directory that went away do not count. */
	ld_tree_remove(f.t, ld_tree_child(f.t, ld_tree_root(f.t), "2", 1));
	write_out(&f, 12);
	assert_int_equal(look(&f, "1/1").nid, look(&f, "f").nid);
	assert_int_equal(look(&f, "f").nlink, 46668);
	assert_int_equal(f.x.inode_count, 4);
	teardown(&f);
}

/* Something of everything, small. */
static void build_mixture(struct fixture *f)
{
	const struct ld_attr link = {.mode = S_IFLNK | 0777};
	const struct ld_attr fifo = {.mode = S_IFIFO | 0600};
	char path[300];
	struct ld_inode *i;
	uint32_t a;
	int n;

	a = add_blob(f, DIGEST_SHA256, "a", 1u << 20);
	i = add(f, "f", &a_file);
	i->size = 70000;
	assert_int_equal(
		ld_tree_add_extent(f->t, i, 0, 4096, a, 4096, NULL), 0);
	assert_int_equal(
		ld_tree_add_extent(f->t, i, 8192, 4096, a, 0, NULL), 0);
	assert_int_equal(
		ld_tree_set_xattr(f->t, i, "user.a", 6, "value", 5, NULL), 0);
	assert_int_equal(ld_tree_link(f->t, "d/link", 6, i, NULL), 0);
	assert_int_equal(ld_tree_set_symlink(
				 f->t, add(f, "d/s", &link), "target", 6, NULL),
		0);
	memset(path, 'l', sizeof(path));
	assert_int_equal(ld_tree_set_symlink(f->t, add(f, "d/long", &link),
				 path, sizeof(path), NULL),
		0);
	(void)add(f, "d/fifo", &fifo);
	for (n = 0; n < 40; n++) {
		(void)snprintf(path, sizeof(path), "e/name-%d", n);
		(void)add(f, path, &a_file);
	}
}

static void fix_checksum(uint8_t *p, unsigned bits)
{
	uint8_t *s = p + EROFS_SB_OFF;

	put_le32(s + SB_CHECKSUM, 0);
	put_le32(s + SB_CHECKSUM,
		crc32c(~0u, s, erofs_checksum_len(1u << bits)));
}

/* Change each byte in several ways; walk what can still be opened. */
static void mutate(unsigned bits)
{
	static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x10};
	struct fixture f;
	struct ld_index x;
	uint8_t *copy;
	size_t n, k, opened = 0, broken = 0;

	setup(&f);
	build_mixture(&f);
	write_out(&f, bits);
	assert_int_equal(index_walk_all(&f.x), 0);
	copy = mem_alloc(f.out.len);
	for (n = EROFS_SB_OFF; n < f.out.len; n++) {
		for (k = 0; k < ARRAY_LEN(masks); k++) {
			memcpy(copy, f.out.data, f.out.len);
			copy[n] ^= masks[k];
			if (n < EROFS_SB_OFF + SB_CHECKSUM ||
				n >= EROFS_SB_OFF + SB_CHECKSUM + 4)
				fix_checksum(copy, bits);
			if (ld_index_from_bytes(copy, f.out.len, &x, NULL) < 0)
				continue;
			opened++;
			broken += index_walk_all(&x) < 0;
		}
	}
	assert_true(opened > 1000);
	assert_true(broken > 100);
	mem_free(copy);
	teardown(&f);
}

static void changed_bytes_do_no_harm(void **state)
{
	mutate(9);
	mutate(12);
}

static void cut_indexes_do_not_open(void **state)
{
	struct fixture f;
	struct ld_index x;
	uint8_t *copy;
	size_t n;

	setup(&f);
	build_mixture(&f);
	write_out(&f, 9);
	for (n = 0; n < f.out.len; n += 7) {
		/* Memory of exactly that size, for the sanitizer. */
		copy = mem_alloc(n);
		memcpy(copy, f.out.data, n);
		assert_int_equal(
			ld_index_from_bytes(copy, n, &x, NULL), -EPROTO);
		mem_free(copy);
	}
	teardown(&f);
}

static void a_wrong_checksum_or_version_does_not_open(void **state)
{
	struct fixture f;
	struct ld_index x;
	struct err e;

	setup(&f);
	build_mixture(&f);
	write_out(&f, 12);
	f.out.data[EROFS_SB_OFF + SB_INODES] ^= 1;
	assert_int_equal(
		ld_index_from_bytes(f.out.data, f.out.len, &x, &e), -EPROTO);
	assert_non_null(strstr(e.text, "checksum"));
	f.out.data[EROFS_SB_OFF + SB_INODES] ^= 1;
	f.out.data[EROFS_SB_OFF + SB_VOLUME_NAME + 6]++;
	fix_checksum(f.out.data, 12);
	assert_int_equal(
		ld_index_from_bytes(f.out.data, f.out.len, &x, &e), -EPROTO);
	assert_non_null(strstr(e.text, "version"));
	teardown(&f);
}

static void running_out_of_memory_is_an_error(void **state)
{
	struct fixture f;
	unsigned long n;
	int r = -ENOMEM;

	setup(&f);
	build_mixture(&f);
	for (n = 1; r != 0; n++) {
		assert_true(n < 100);
		buf_fini(&f.out);
		(void)mem_fail_nth(n, 1);
		r = ld_index_write(f.t, 12, &f.out, NULL);
		(void)mem_fail_nth(0, 0);
		assert_true(r == 0 || r == -ENOMEM);
	}
	assert_true(n > 3);
	teardown(&f);
}

static void crc32c_gives_the_standard_check_value(void **state)
{
	assert_int_equal(~crc32c(~0u, "123456789", 9), 0xe3069283);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attributes_come_back),
		cmocka_unit_test(the_same_tree_gives_the_same_bytes),
		cmocka_unit_test(directories_of_all_sizes_can_be_searched),
		cmocka_unit_test(long_and_binary_names_are_found),
		cmocka_unit_test(dot_and_dot_dot_are_where_they_sort),
		cmocka_unit_test(hard_links_are_one_inode),
		cmocka_unit_test(changed_bytes_do_no_harm),
		cmocka_unit_test(cut_indexes_do_not_open),
		cmocka_unit_test(a_wrong_checksum_or_version_does_not_open),
		cmocka_unit_test(running_out_of_memory_is_an_error),
		cmocka_unit_test(crc32c_gives_the_standard_check_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
