/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Others judge what the index writer writes: the kernel's EROFS driver mounts
 * it, with files as devices, and must show what our reader shows; fsck.erofs
 * must accept it. Needs root and Linux 6.12; skipped elsewhere.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/index.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "tests/lib/index_walk.h"
#include "tests/lib/tree_count.h"

#define DEVICE_SIZE (4u << 20)

struct fixture {
	char dir[64];
	struct ld_tree *t;
	struct buf out;
	struct ld_index x;
	unsigned entries;
};

/* ---- files and mounts ---- */

static const char *in_dir(const struct fixture *f, const char *name)
{
	static char path[2][128];
	static int turn;

	turn = !turn;
	(void)snprintf(path[turn], sizeof(path[0]), "%s/%s", f->dir, name);
	return path[turn];
}

static void save(const char *path, const void *p, size_t n)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(p, 1, n, file), n);
	assert_int_equal(fclose(file), 0);
}

/* The byte at off of device slot. */
static uint8_t pattern(uint32_t slot, uint64_t off)
{
	return (uint8_t)((off * 2654435761u >> 13) + slot * 77);
}

static void save_device(const struct fixture *f, uint32_t slot, size_t size)
{
	uint8_t *p = mem_alloc(size);
	char name[16];
	size_t n;

	assert_non_null(p);
	for (n = 0; n < size; n++)
		p[n] = pattern(slot, n);
	(void)snprintf(name, sizeof(name), "d%u", slot);
	save(in_dir(f, name), p, size);
	mem_free(p);
}

static void set_option(int fs, const char *key, const char *value)
{
	char log[300] = "";

	if (fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0) {
		(void)!read(fs, log, sizeof(log) - 1);
		fail_msg("%s=%s: %s", key, value, log);
	}
}

static void mount_index(const struct fixture *f)
{
	char name[16];
	uint32_t k;
	int fs, mnt;

	fs = fsopen("erofs", FSOPEN_CLOEXEC);
	assert_true(fs >= 0);
	set_option(fs, "source", in_dir(f, "index"));
	for (k = 0; k < f->x.slot_count; k++) {
		(void)snprintf(name, sizeof(name), "d%u", k);
		set_option(fs, "device", in_dir(f, name));
	}
	assert_int_equal(fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0), 0);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		fail_msg("mount: %s", strerror(errno));
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
	assert_true(mnt >= 0);
	assert_int_equal(move_mount(mnt, "", AT_FDCWD, in_dir(f, "mnt"),
				 MOVE_MOUNT_F_EMPTY_PATH),
		0);
	assert_int_equal(close(mnt), 0);
	assert_int_equal(close(fs), 0);
}

static void fsck(const struct fixture *f)
{
	const char **argv = mem_calloc(f->x.slot_count + 4, sizeof(*argv));
	int status = -1;
	uint32_t k;
	pid_t pid;

	assert_non_null(argv);
	argv[0] = "fsck.erofs";
	argv[1] = "-d1";
	for (k = 0; k < f->x.slot_count; k++)
		argv[k + 2] = mem_printf("--device=%s/d%u", f->dir, k);
	argv[k + 2] = in_dir(f, "index");
	pid = fork();
	if (pid == 0) {
		(void)!freopen("/dev/null", "we", stdout);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		print_message("no fsck.erofs here\n");
	else
		assert_int_equal(status, 0);
	for (k = 0; k < f->x.slot_count; k++)
		mem_free((void *)(uintptr_t)argv[k + 2]);
	mem_free(argv);
}

static bool can_mount(void)
{
	int fs;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		return false;
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return false;
	fs = fsopen("erofs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return false;
	assert_int_equal(close(fs), 0);
	return true;
}

static void setup(struct fixture *f)
{
	*f = (struct fixture){.dir = "/tmp/sluice-index-XXXXXX"};
	if (!can_mount())
		skip();
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(mkdir(in_dir(f, "mnt"), 0700), 0);
	assert_int_equal(ld_tree_create(&f->t), 0);
	buf_init(&f->out, 0);
}

static void teardown(struct fixture *f)
{
	char name[16];
	uint32_t k;

	for (k = 0; k < ld_tree_blob_count(f->t); k++) {
		(void)snprintf(name, sizeof(name), "d%u", k);
		(void)unlink(in_dir(f, name));
	}
	(void)unlink(in_dir(f, "index"));
	(void)rmdir(in_dir(f, "mnt"));
	assert_int_equal(rmdir(f->dir), 0);
	ld_index_close(&f->x);
	buf_fini(&f->out);
	ld_tree_destroy(f->t);
}

/* ---- comparing ---- */

static void compare_xattrs(const struct fixture *f, const char *path,
	const struct ld_inode_view *v)
{
	struct ld_index_xattr *x = mem_alloc(sizeof(*x));
	char *value = mem_alloc(1 << 16), *list = mem_alloc(1 << 16);
	ssize_t listed, n;
	size_t pos = 0, want = 0;

	while (ld_index_next_xattr(&f->x, v, &pos, x) == 1) {
		want += x->name_len + 1;
		n = lgetxattr(path, x->name, value, 1 << 16);
		if (n < 0)
			fail_msg("%s %s: %s", path, x->name, strerror(errno));
		assert_int_equal(n, x->value_len);
		assert_memory_equal(value, x->value, x->value_len);
	}
	listed = llistxattr(path, list, 1 << 16);
	assert_int_equal(listed, want);
	mem_free(value);
	mem_free(list);
	mem_free(x);
}

static uint8_t byte_at(const struct fixture *f, const struct ld_inode_view *v,
	uint64_t off, struct ld_extent *x)
{
	if (off < x->file_off || off - x->file_off >= x->len)
		assert_int_equal(ld_index_extent(&f->x, v, off, x), 0);
	if (x->slot == UINT32_MAX)
		return 0;
	return pattern(x->slot, x->dev_off + off - x->file_off);
}

/* Pieces spread over the file; all of it if it is small. */
static void compare_data(const struct fixture *f, const char *path,
	const struct ld_inode_view *v)
{
	uint64_t step = max_u64(1 << 16, v->size / 64), off, n;
	struct ld_extent x = {0};
	uint8_t *p = mem_alloc(1 << 16);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	assert_true(fd >= 0);
	for (off = 0; off < v->size; off += step) {
		got = pread(fd, p, 1 << 16, (off_t)off);
		if (got < 0)
			fail_msg("%s: %s", path, strerror(errno));
		assert_int_equal(got, min_u64(1 << 16, v->size - off));
		for (n = 0; n < (uint64_t)got; n++)
			if (p[n] != byte_at(f, v, off + n, &x))
				fail_msg("%s differs at %llu", path,
					(unsigned long long)(off + n));
	}
	assert_int_equal(close(fd), 0);
	mem_free(p);
}

static void compare_inode(
	struct fixture *f, const char *path, const struct ld_inode_view *v)
{
	char have[5000];
	const char *target;
	struct stat st;
	size_t len;

	f->entries++;
	if (lstat(path, &st) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(st.st_ino, v->nid);
	assert_int_equal(st.st_mode, v->attr.mode);
	assert_int_equal(st.st_uid, v->attr.uid);
	assert_int_equal(st.st_gid, v->attr.gid);
	assert_int_equal(st.st_nlink, v->nlink);
	assert_int_equal(st.st_size, v->size);
	assert_int_equal(st.st_mtim.tv_sec, v->attr.mtime);
	assert_int_equal(st.st_mtim.tv_nsec, v->attr.mtime_ns);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
		assert_int_equal(major(st.st_rdev), v->attr.rdev_major);
		assert_int_equal(minor(st.st_rdev), v->attr.rdev_minor);
	}
	if (S_ISLNK(st.st_mode)) {
		assert_int_equal(ld_index_symlink(&f->x, v, &target, &len), 0);
		assert_int_equal(readlink(path, have, sizeof(have)), len);
		assert_memory_equal(have, target, len);
	}
	compare_xattrs(f, path, v);
	if (S_ISREG(st.st_mode))
		compare_data(f, path, v);
}

/* The kernel lists what the reader lists, in its order. */
static void compare_dir(struct fixture *f, const char *path, uint64_t nid)
{
	struct ld_inode_view dir, v;
	struct ld_index_dirent d;
	struct dirent *k;
	uint64_t cookie = 0;
	char child[4096];
	DIR *open_dir;

	assert_int_equal(ld_index_inode(&f->x, nid, &dir), 0);
	compare_inode(f, path, &dir);
	open_dir = opendir(path);
	assert_non_null(open_dir);
	while (ld_index_next(&f->x, &dir, cookie, &d) == 1) {
		cookie = d.cookie;
		k = readdir(open_dir);
		assert_non_null(k);
		assert_int_equal(strlen(k->d_name), d.name_len);
		assert_memory_equal(k->d_name, d.name, d.name_len);
		assert_int_equal(k->d_ino, d.nid);
		assert_int_equal(k->d_type, d.type);
		if (!strcmp(k->d_name, ".") || !strcmp(k->d_name, ".."))
			continue;
		(void)snprintf(child, sizeof(child), "%s/%s", path, k->d_name);
		assert_int_equal(ld_index_inode(&f->x, d.nid, &v), 0);
		if (S_ISDIR(v.attr.mode))
			compare_dir(f, child, d.nid);
		else
			compare_inode(f, child, &v);
	}
	assert_null(readdir(open_dir));
	assert_int_equal(closedir(open_dir), 0);
}

static void judge(struct fixture *f, unsigned bits)
{
	struct err e = {0};

	f->out.len = 0;
	if (ld_index_write(f->t, bits, &f->out, &e) < 0)
		fail_msg("%s", e.text);
	save(in_dir(f, "index"), f->out.data, f->out.len);
	ld_index_close(&f->x);
	if (ld_index_open(AT_FDCWD, in_dir(f, "index"), &f->x, &e) < 0)
		fail_msg("%s", e.text);
	/* erofs-utils 1.5 know blocks of one page only. */
	if (bits == 12)
		fsck(f);
	mount_index(f);
	f->entries = 0;
	compare_dir(f, in_dir(f, "mnt"), f->x.root_nid);
	assert_int_equal(umount(in_dir(f, "mnt")), 0);
}

/* ---- trees ---- */

static struct ld_inode *add(
	struct fixture *f, const char *path, uint32_t mode, uint64_t size)
{
	const struct ld_attr a = {.mode = mode,
		.uid = 100000,
		.gid = 7,
		.mtime = -123456789,
		.mtime_ns = 123456789};
	struct ld_inode *i = NULL;

	assert_int_equal(
		ld_tree_add(f->t, path, strlen(path), &a, &i, NULL), 0);
	i->size = size;
	return i;
}

static void add_blobs(struct fixture *f, uint32_t count, uint64_t size)
{
	struct ld_blob_ref b = {.device_size = size};
	uint32_t k, slot;

	for (k = 0; k < count; k++) {
		assert_int_equal(
			digest_of(DIGEST_SHA256, &k, sizeof(k), &b.digest), 0);
		assert_int_equal(ld_tree_add_blob(f->t, &b, &slot), 0);
		save_device(f, slot, size);
	}
}

static void piece(struct fixture *f, struct ld_inode *i, uint64_t off,
	uint64_t len, uint32_t slot, uint64_t dev)
{
	assert_int_equal(
		ld_tree_add_extent(f->t, i, off, len, slot, dev, NULL), 0);
}

static void add_files(struct fixture *f, uint64_t block)
{
	struct ld_inode *i;
	char path[32];
	uint64_t n;

	for (n = 0; n < 40; n++) {
		(void)snprintf(path, sizeof(path), "files/%02llu",
			(unsigned long long)n);
		i = add(f, path, S_IFREG | 0644, n * 777);
		piece(f, i, 0, n * 777, (uint32_t)(n % 3), n * 16 * block);
	}
	i = add(f, "files/large", S_IFREG | 06755, 3000001);
	piece(f, i, 0, 3000001, 0, 5 * block);
	(void)add(f, "files/hole", S_IFREG, (uint64_t)1 << 40);
	i = add(f, "files/sparse", S_IFREG, 1000 * block + 3);
	piece(f, i, 3 * block, block, 1, 0);
	piece(f, i, 4 * block, 3 * block, 1, 9 * block);
	piece(f, i, 7 * block, 70 * block, 2, 0);
	piece(f, i, 500 * block, 500 * block + 3, 2, block);
	i = add(f, "files/far", S_IFREG, ((uint64_t)1 << 34) + 1);
	piece(f, i, (uint64_t)1 << 34, 1, 1, 7 * block);
	assert_int_equal(ld_tree_link(f->t, "another/name", 12, i, NULL), 0);
}

static void add_names(struct fixture *f)
{
	struct ld_inode *i;
	char path[300];
	int n, c;

	for (n = 0; n < 3000; n++) {
		(void)snprintf(path, sizeof(path), "many/name-%d", n * 7919);
		(void)add(f, path, S_IFREG | 0600, 0);
	}
	for (n = 1; n < 300; n++) {
		(void)snprintf(
			path, sizeof(path), "dirs/%d/%0*d", n, n % 255 + 1, n);
		(void)add(f, path, S_IFIFO | 0600, 0);
	}
	i = add(f, "linked", S_IFREG | 0600, 0);
	for (n = 0; n < 66000; n++) {
		(void)snprintf(path, sizeof(path), "links-of/%d", n);
		assert_int_equal(
			ld_tree_link(f->t, path, strlen(path), i, NULL), 0);
	}
	memcpy(path, "long/", 5);
	for (c = 1; c < 256; c++) {
		if (c == '/')
			continue;
		memset(path + 5, c, 255);
		path[260] = '\0';
		(void)add(f, path, S_IFREG | 0600, 0);
	}
}

static void add_links(struct fixture *f)
{
	static const size_t lengths[] = {
		1, 30, 380, 447, 448, 449, 512, 4000, 4031, 4032, 4095};
	char path[32], target[4096];
	struct ld_inode *i;
	size_t n, k;

	for (n = 0; n < sizeof(target); n++)
		target[n] = (char)('a' + n % 26);
	for (n = 0; n < ARRAY_LEN(lengths); n++) {
		for (k = 0; k < 6; k++) {
			(void)snprintf(path, sizeof(path), "links/%zu-%zu",
				lengths[n], k);
			i = add(f, path, S_IFLNK | 0777, 0);
			assert_int_equal(ld_tree_set_symlink(f->t, i, target,
						 lengths[n], NULL),
				0);
			if (k == 1)
				assert_int_equal(
					ld_tree_set_xattr(f->t, i, "trusted.a",
						9, target, 200, NULL),
					0);
		}
	}
}

static void set_xattr(struct fixture *f, struct ld_inode *i, const char *name,
	const void *value, size_t len)
{
	assert_int_equal(ld_tree_set_xattr(
				 f->t, i, name, strlen(name), value, len, NULL),
		0);
}

static void add_xattrs(struct fixture *f)
{
	/* Version 2; owner rwx, user 5 r--, group r-x, mask rwx, other --- */
	static const uint8_t acl[] = {2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255,
		255, 2, 0, 4, 0, 5, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16,
		0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255};
	static const uint8_t cap[20] = {1, 0, 0, 2, 0, 4};
	static uint8_t big[65535];
	struct ld_inode *i;
	char name[32];
	int n;

	memset(big, 'b', sizeof(big));
	i = add(f, "xattr/file", S_IFREG | 0770, 0);
	set_xattr(f, i, "user.empty", "", 0);
	set_xattr(f, i, "user.x", "y", 1);
	set_xattr(f, i, "trusted.t", "tt", 2);
	set_xattr(f, i, "security.capability", cap, sizeof(cap));
	set_xattr(f, i, "system.posix_acl_access", acl, sizeof(acl));
	i = add(f, "xattr/dir", S_IFDIR | 0770, 0);
	set_xattr(f, i, "system.posix_acl_default", acl, sizeof(acl));
	i = add(f, "xattr/big", S_IFREG | 0644, 5000);
	set_xattr(f, i, "user.big", big, sizeof(big));
	piece(f, i, 0, 5000, 0, 0);
	i = add(f, "xattr/many", S_IFDIR | 0755, 0);
	for (n = 0; n < 3000; n++) {
		(void)snprintf(name, sizeof(name), "user.name-%d", n);
		set_xattr(f, i, name, big, (size_t)n % 50);
	}
	(void)add(f, "xattr/many/child", S_IFREG, 0);
	/* Inodes of all lengths, so that they meet every end of a block. */
	for (n = 0; n < 600; n += 3) {
		(void)snprintf(name, sizeof(name), "xattr/%d", n);
		i = add(f, name, n % 2 ? S_IFDIR | 0755 : S_IFREG | 0644, 0);
		set_xattr(f, i, "user.v", big, (size_t)n);
	}
}

static void add_specials(struct fixture *f)
{
	struct ld_attr a = {.mode = S_IFCHR | 0666};
	struct ld_inode *i;

	assert_int_equal(ld_tree_add(f->t, "dev/0", 5, &a, &i, NULL), 0);
	a.rdev_major = 4095;
	a.rdev_minor = 0xfffff;
	a.mtime = 1ll << 33;
	assert_int_equal(ld_tree_add(f->t, "dev/1", 5, &a, &i, NULL), 0);
	a.mode = S_IFBLK | 0660;
	a.rdev_major = 8;
	a.rdev_minor = 259;
	assert_int_equal(ld_tree_add(f->t, "dev/2", 5, &a, &i, NULL), 0);
	(void)add(f, "dev/socket", S_IFSOCK | 01777, 0);
	(void)add(f, "dev/sticky", S_IFDIR | 07777, 0);
}

static void everything(unsigned bits)
{
	struct fixture f;

	setup(&f);
	add_blobs(&f, 3, DEVICE_SIZE);
	add_files(&f, 1u << bits);
	add_names(&f);
	add_links(&f);
	add_xattrs(&f);
	add_specials(&f);
	judge(&f, bits);
	assert_int_equal(f.entries, count_inodes(f.t) + 1 + 66000);
	teardown(&f);
}

static void the_kernel_shows_an_index_of_4096_byte_blocks(void **state)
{
	everything(12);
}

static void the_kernel_shows_an_index_of_512_byte_blocks(void **state)
{
	everything(9);
}

static void the_kernel_takes_hundreds_of_devices(void **state)
{
	struct fixture f;
	struct ld_inode *i;
	char path[32];
	uint32_t k;

	setup(&f);
	add_blobs(&f, 300, 8192);
	for (k = 0; k < 300; k++) {
		(void)snprintf(path, sizeof(path), "%u", k);
		i = add(&f, path, S_IFREG, 4097);
		piece(&f, i, 0, 4097, k, 0);
	}
	judge(&f, 12);
	judge(&f, 9);
	teardown(&f);
}

static void an_empty_tree_is_an_index(void **state)
{
	struct fixture f;

	setup(&f);
	judge(&f, 12);
	judge(&f, 9);
	assert_int_equal(f.entries, 1);
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernel_shows_an_index_of_4096_byte_blocks),
		cmocka_unit_test(the_kernel_shows_an_index_of_512_byte_blocks),
		cmocka_unit_test(the_kernel_takes_hundreds_of_devices),
		cmocka_unit_test(an_empty_tree_is_an_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
