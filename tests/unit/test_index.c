/* SPDX-License-Identifier: Apache-2.0 */
/* loader/index: what was written is read back, and broken indexes are safe. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loader/erofs_format.h"
#include "loader/index.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "tests/lib/index_walk.h"

static const struct ld_attr a_dir = {
	.mode = S_IFDIR | 0755, .mtime = -5, .mtime_ns = 999999999};
static const struct ld_attr a_file = {.mode = S_IFREG | 04711,
	.uid = 70000,
	.gid = 80000,
	.mtime = 1ll << 33};

/* A tree, its index, and both open. */
struct fixture {
	struct ld_tree *t;
	struct buf out;
	struct ld_index x;
};

static void setup(struct fixture *f)
{
	*f = (struct fixture){0};
	assert_int_equal(ld_tree_create(&f->t), 0);
	buf_init(&f->out, 0);
}

static void teardown(struct fixture *f)
{
	ld_index_close(&f->x);
	buf_fini(&f->out);
	ld_tree_destroy(f->t);
}

static void write_out(struct fixture *f, unsigned bits)
{
	struct err e = {0};

	f->out.len = 0;
	if (ld_index_write(f->t, bits, &f->out, &e) < 0)
		fail_msg("%s", e.text);
	if (ld_index_from_bytes(f->out.data, f->out.len, &f->x, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(f->out.len % (1u << bits), 0);
}

static struct ld_inode *add(
	struct fixture *f, const char *path, const struct ld_attr *a)
{
	struct ld_inode *i = NULL;

	assert_int_equal(ld_tree_add(f->t, path, strlen(path), a, &i, NULL), 0);
	return i;
}

static uint32_t add_blob(
	struct fixture *f, enum digest_algo algo, const char *of, uint64_t size)
{
	struct ld_blob_ref b = {.device_size = size};
	uint32_t slot = 0;

	assert_int_equal(digest_of(algo, of, strlen(of), &b.digest), 0);
	assert_int_equal(ld_tree_add_blob(f->t, &b, &slot), 0);
	return slot;
}

static struct ld_inode_view look(struct fixture *f, const char *path)
{
	struct ld_inode_view v;

	assert_int_equal(index_find(&f->x, path, &v), 0);
	return v;
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
		assert_int_equal(v.attr.mtime, -5);
		assert_int_equal(v.attr.mtime_ns, 999999999);
		assert_int_equal(v.nlink, 3);
		assert_false(ld_index_is_implied(&v));
		v = look(&f, "d/f");
		assert_memory_equal(&v.attr, &a_file, sizeof(a_file));
		assert_int_equal(v.nlink, 1);
		assert_int_equal(v.size, 0);
		v = look(&f, "d/b");
		assert_memory_equal(&v.attr, &dev, sizeof(dev));
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
		cmocka_unit_test(crc32c_gives_the_standard_check_value),
		cmocka_unit_test(attributes_come_back),
		cmocka_unit_test(the_same_tree_gives_the_same_bytes),
		cmocka_unit_test(directories_of_all_sizes_can_be_searched),
		cmocka_unit_test(long_and_binary_names_are_found),
		cmocka_unit_test(dot_and_dot_dot_are_where_they_sort),
		cmocka_unit_test(hard_links_are_one_inode),
		cmocka_unit_test(link_targets_of_all_lengths_come_back),
		cmocka_unit_test(xattrs_come_back),
		cmocka_unit_test(
			more_xattrs_than_an_inode_holds_are_refused_by_name),
		cmocka_unit_test(slots_keep_every_digest),
		cmocka_unit_test(pieces_and_holes_come_back),
		cmocka_unit_test(pieces_that_no_index_can_hold_are_refused),
		cmocka_unit_test(changed_bytes_do_no_harm),
		cmocka_unit_test(cut_indexes_do_not_open),
		cmocka_unit_test(a_wrong_checksum_or_version_does_not_open),
		cmocka_unit_test(running_out_of_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
