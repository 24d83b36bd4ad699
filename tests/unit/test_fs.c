/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader/fs: requests of every kind and length over an index in memory, through
 * a transport that only remembers the reply.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/fs_int.h"
#include "runtime/base/mem.h"

#define SIZE 10000

struct fixture {
	struct ld_image image;
	struct buf bytes;
	struct ld_fs fs;
	struct ld_fs_counters counters;
	uint8_t out[LD_FS_MAX_READ];
};

struct call {
	struct ld_fs_req r;
	int replies, frees, error;
	size_t len;
};

static void on_reply(struct ld_fs_req *r, int error, size_t len)
{
	struct call *c = container_of(r, struct call, r);

	c->replies++;
	c->error = error;
	c->len = len;
}

static void on_free(struct ld_fs_req *r)
{
	container_of(r, struct call, r)->frees++;
}

static const struct ld_fs_req_ops ops = {on_reply, on_free};

static struct ld_inode *add(struct ld_tree *t, const char *path, uint32_t mode)
{
	struct ld_attr a = {.mode = mode,
		.uid = 3,
		.gid = 70000,
		.mtime = -5,
		.mtime_ns = 999999999};
	struct ld_inode *i;

	assert_int_equal(ld_tree_add(t, path, strlen(path), &a, &i, NULL), 0);
	return i;
}

/* A tree with one of each kind; the regular file is a hole. */
static void make_index(struct fixture *f, bool xattrs)
{
	struct ld_tree *t;
	struct ld_inode *i;

	assert_int_equal(ld_tree_create(&t), 0);
	(void)add(t, "", S_IFDIR | 0755);
	(void)add(t, "dir", S_IFDIR | 01777);
	(void)add(t, "dir/below", S_IFREG | 0600);
	i = add(t, "file", S_IFREG | 04755);
	i->size = SIZE;
	assert_int_equal(
		ld_tree_link(t, "dir/link", strlen("dir/link"), i, NULL), 0);
	if (xattrs) {
		assert_int_equal(ld_tree_set_xattr(t, i, "security.capability",
					 19, "\1\0\0\2", 4, NULL),
			0);
		assert_int_equal(
			ld_tree_set_xattr(t, i, "user.x", 6, "", 0, NULL), 0);
	}
	i = add(t, "sym", S_IFLNK | 0777);
	assert_int_equal(
		ld_tree_set_symlink(t, i, "to/where", strlen("to/where"), NULL),
		0);
	i = add(t, "null", S_IFCHR | 0666);
	i->attr.rdev_major = 259;
	i->attr.rdev_minor = 70000;
	buf_init(&f->bytes, 0);
	assert_int_equal(ld_index_write(t, 12, &f->bytes, NULL), 0);
	ld_tree_destroy(t);
	assert_int_equal(ld_index_from_bytes(f->bytes.data, f->bytes.len,
				 &f->image.index, NULL),
		0);
}

static struct fixture *make_fixture(bool xattrs)
{
	struct fixture *f = mem_zalloc(sizeof(*f));

	assert_non_null(f);
	make_index(f, xattrs);
	f->image.bytes_total = 5 * 4096 + 1;
	ld_fs_init(&f->fs, &f->image);
	return f;
}

static int setup(void **state)
{
	*state = make_fixture(true);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ld_fs_fini(&f->fs);
	ld_index_close(&f->image.index);
	buf_fini(&f->bytes);
	mem_free(f);
	return 0;
}

/* Send it; returns the error of the reply. */
static int send(struct fixture *f, struct call *c, uint32_t opcode,
	uint64_t nodeid, const void *bytes, size_t len)
{
	struct fw_in_header h = {.len = (uint32_t)(sizeof(h) + len),
		.opcode = opcode,
		.unique = 42,
		.nodeid = nodeid};
	int rc;

	*c = (struct call){
		.r = {.fs = &f->fs, .ops = &ops, .counters = &f->counters}};
	rc = ld_fs_decode(&c->r, &h, bytes, len);
	if (rc < 0) {
		ld_fs_finish(&c->r, rc, 0);
	} else {
		assert_in_range(c->r.out_need, 1, sizeof(f->out));
		c->r.out = f->out;
		c->r.out_cap = c->r.out_need;
		ld_fs_run(&c->r);
	}
	assert_int_equal(c->frees, 1);
	assert_int_equal(c->replies, !c->r.no_reply);
	assert_true(c->len <= c->r.out_need);
	assert_true(c->error <= 0 && c->error > -512);
	return c->error;
}

static uint64_t lookup(struct fixture *f, uint64_t dir, const char *name,
	struct fw_entry_out *ret)
{
	struct fw_entry_out e;
	struct call c;

	assert_int_equal(
		send(f, &c, FW_LOOKUP, dir, name, strlen(name) + 1), 0);
	assert_int_equal(c.len, sizeof(e));
	memcpy(&e, f->out, sizeof(e));
	if (ret)
		*ret = e;
	return e.nodeid;
}

static void lookup_gives_attributes_for_ever(void **state)
{
	struct fixture *f = *state;
	struct fw_entry_out e;
	uint64_t dir = lookup(f, FW_ROOT_ID, "dir", NULL);
	uint64_t file = lookup(f, FW_ROOT_ID, "file", &e);

	assert_true(file > FW_ROOT_ID && dir > FW_ROOT_ID && file != dir);
	assert_int_equal(e.entry_valid, LD_FS_VALID_S);
	assert_int_equal(e.attr_valid, LD_FS_VALID_S);
	assert_int_equal(e.attr.ino, file);
	assert_int_equal(e.attr.mode, S_IFREG | 04755);
	assert_int_equal(e.attr.size, SIZE);
	assert_int_equal(e.attr.blocks, 20);
	assert_int_equal(e.attr.nlink, 2);
	assert_int_equal(e.attr.uid, 3);
	assert_int_equal(e.attr.gid, 70000);
	assert_int_equal((int64_t)e.attr.mtime, -5);
	assert_int_equal(e.attr.mtimensec, 999999999);
	assert_int_equal(e.attr.blksize, 4096);
	assert_int_equal(lookup(f, dir, "link", NULL), file);
	assert_int_equal(lookup(f, dir, ".", NULL), dir);
	assert_int_equal(lookup(f, file, ".", NULL), file);
	assert_int_equal(lookup(f, dir, "..", NULL), FW_ROOT_ID);
	(void)lookup(f, FW_ROOT_ID, "null", &e);
	assert_int_equal(e.attr.rdev,
		(70000u & 0xff) | 259u << 8 | (70000u & 0xfff00u) << 12);
}

static void a_name_that_is_not_there_is_remembered(void **state)
{
	struct fixture *f = *state;
	struct fw_entry_out e;

	assert_int_equal(lookup(f, FW_ROOT_ID, "nope", &e), 0);
	assert_int_equal(e.entry_valid, LD_FS_VALID_S);
}

static void names_that_cannot_be_are_refused(void **state)
{
	struct fixture *f = *state;
	char name[LD_MAX_NAME + 2];
	struct call c;
	uint64_t file = lookup(f, FW_ROOT_ID, "file", NULL);

	memset(name, 'n', sizeof(name));
	assert_int_equal(send(f, &c, FW_LOOKUP, 1, name, 4), -EINVAL);
	assert_int_equal(send(f, &c, FW_LOOKUP, 1, "", 1), -EINVAL);
	assert_int_equal(send(f, &c, FW_LOOKUP, 1, "", 0), -EINVAL);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(
		send(f, &c, FW_LOOKUP, 1, name, sizeof(name)), -ENAMETOOLONG);
	assert_int_equal(send(f, &c, FW_LOOKUP, file, "x", 2), -ENOTDIR);
	assert_int_equal(send(f, &c, FW_LOOKUP, 0, "x", 2), -ESTALE);
}

static void getattr_knows_only_inodes_of_the_index(void **state)
{
	struct fixture *f = *state;
	struct fw_attr_out out;
	struct call c;

	assert_int_equal(send(f, &c, FW_GETATTR, FW_ROOT_ID, "", 0), 0);
	memcpy(&out, f->out, sizeof(out));
	assert_int_equal(out.attr.ino, FW_ROOT_ID);
	assert_int_equal(out.attr.nlink, 3);
	assert_int_equal(send(f, &c, FW_GETATTR, 0, "", 0), -ESTALE);
	assert_int_equal(send(f, &c, FW_GETATTR, UINT64_MAX, "", 0), -EIO);
	assert_int_equal(send(f, &c, FW_GETATTR, 1ull << 40, "", 0), -EIO);
}

static void readlink_gives_the_target_without_nul(void **state)
{
	struct fixture *f = *state;
	struct call c;
	uint64_t sym = lookup(f, FW_ROOT_ID, "sym", NULL);

	assert_int_equal(send(f, &c, FW_READLINK, sym, "", 0), 0);
	assert_int_equal(c.len, 8);
	assert_memory_equal(f->out, "to/where", 8);
	assert_int_equal(send(f, &c, FW_READLINK, 1, "", 0), -EINVAL);
}

/* Reads one directory with replies of at most size bytes; the names in order.
 */
static unsigned list_dir(struct fixture *f, uint32_t opcode, uint64_t dir,
	uint32_t size, char *names, size_t cap)
{
	struct fw_read_in in = {.size = size};
	struct fw_dirent d;
	struct call c;
	unsigned count = 0;
	size_t head = opcode == FW_READDIRPLUS ? sizeof(struct fw_entry_out)
	                                       : 0,
	       at, used = 0;

	for (;;) {
		assert_int_equal(send(f, &c, opcode, dir, &in, sizeof(in)), 0);
		assert_true(c.len <= size && c.len % 8 == 0);
		if (c.len == 0)
			break;
		for (at = 0; at < c.len;) {
			memcpy(&d, f->out + at + head, sizeof(d));
			assert_true(used + d.namelen + 1 < cap);
			memcpy(names + used, f->out + at + head + sizeof(d),
				d.namelen);
			used += d.namelen;
			names[used++] = ' ';
			in.offset = d.off;
			at += round_up(head + sizeof(d) + d.namelen, 8);
			count++;
		}
		assert_int_equal(at, c.len);
	}
	names[used] = '\0';
	return count;
}

static void directories_list_alike_in_pieces_of_any_size(void **state)
{
	struct fixture *f = *state;
	char whole[200], part[200];
	uint32_t size;

	assert_int_equal(list_dir(f, FW_READDIR, 1, 4096, whole, 200), 6);
	assert_non_null(strstr(whole, "file "));
	for (size = 32; size < 300; size += 8) {
		assert_int_equal(
			list_dir(f, FW_READDIR, 1, size, part, 200), 6);
		assert_string_equal(part, whole);
	}
	for (size = 160; size < 900; size += 24) {
		assert_int_equal(
			list_dir(f, FW_READDIRPLUS, 1, size, part, 200), 6);
		assert_string_equal(part, whole);
	}
}

static void readdirplus_carries_what_lookup_says(void **state)
{
	struct fixture *f = *state;
	struct fw_read_in in = {.size = 4096};
	struct fw_direntplus d;
	struct fw_entry_out e;
	char name[LD_MAX_NAME + 1];
	struct call c;
	size_t at, len;
	static uint8_t all[4096];

	assert_int_equal(send(f, &c, FW_READDIRPLUS, 1, &in, sizeof(in)), 0);
	len = c.len;
	memcpy(all, f->out, len);
	for (at = 0; at < len;
		at += round_up(sizeof(d) + d.dirent.namelen, 8)) {
		memcpy(&d, all + at, sizeof(d));
		memcpy(name, all + at + sizeof(d), d.dirent.namelen);
		name[d.dirent.namelen] = '\0';
		if (name[0] == '.') {
			assert_int_equal(d.entry.nodeid, 0);
			continue;
		}
		(void)lookup(f, 1, name, &e);
		assert_memory_equal(&d.entry, &e, sizeof(e));
		assert_int_equal(d.dirent.ino, e.attr.ino);
		assert_int_equal(d.dirent.type, e.attr.mode >> 12);
	}
}

static void readdir_of_a_file_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct fw_read_in in = {.size = 4096};
	struct call c;
	uint64_t file = lookup(f, 1, "file", NULL);

	assert_int_equal(
		send(f, &c, FW_READDIR, file, &in, sizeof(in)), -ENOTDIR);
	in.offset = UINT64_MAX;
	(void)send(f, &c, FW_READDIR, 1, &in, sizeof(in));
	assert_true(c.error == 0 ? c.len == 0 : c.error == -EIO);
}

static int getxattr(struct fixture *f, struct call *c, uint64_t node,
	const char *name, uint32_t size)
{
	struct fw_getxattr_in in = {.size = size};
	uint8_t bytes[300];

	memcpy(bytes, &in, sizeof(in));
	memcpy(bytes + sizeof(in), name, strlen(name) + 1);
	return send(
		f, c, FW_GETXATTR, node, bytes, sizeof(in) + strlen(name) + 1);
}

static void xattrs_are_exact(void **state)
{
	struct fixture *f = *state;
	struct fw_getxattr_out out;
	struct call c;
	uint64_t file = lookup(f, 1, "file", NULL);

	assert_int_equal(getxattr(f, &c, file, "security.capability", 0), 0);
	memcpy(&out, f->out, sizeof(out));
	assert_int_equal(out.size, 4);
	assert_int_equal(getxattr(f, &c, file, "security.capability", 4), 0);
	assert_int_equal(c.len, 4);
	assert_memory_equal(f->out, "\1\0\0\2", 4);
	assert_int_equal(
		getxattr(f, &c, file, "security.capability", 3), -ERANGE);
	assert_int_equal(getxattr(f, &c, file, "user.x", 9), 0);
	assert_int_equal(c.len, 0);
	assert_int_equal(getxattr(f, &c, file, "user.y", 9), -ENODATA);
	assert_int_equal(getxattr(f, &c, 1, "user.x", 9), -ENODATA);
}

static void listxattr_gives_all_names(void **state)
{
	static const char names[] = "security.capability\0user.x";
	struct fixture *f = *state;
	struct fw_getxattr_in in = {0};
	struct fw_getxattr_out out;
	struct call c;
	uint64_t file = lookup(f, 1, "file", NULL);

	assert_int_equal(send(f, &c, FW_LISTXATTR, file, &in, sizeof(in)), 0);
	memcpy(&out, f->out, sizeof(out));
	assert_int_equal(out.size, sizeof(names));
	for (in.size = 1; in.size < sizeof(names); in.size++)
		assert_int_equal(
			send(f, &c, FW_LISTXATTR, file, &in, sizeof(in)),
			-ERANGE);
	assert_int_equal(send(f, &c, FW_LISTXATTR, file, &in, sizeof(in)), 0);
	assert_int_equal(c.len, sizeof(names));
	assert_memory_equal(f->out, names, sizeof(names));
	assert_int_equal(send(f, &c, FW_LISTXATTR, 1, &in, sizeof(in)), 0);
	assert_int_equal(c.len, 0);
}

static void an_image_without_xattrs_is_never_asked_again(void **state)
{
	struct fixture *f = make_fixture(false);
	struct fw_getxattr_in in = {.size = 100};
	struct call c;
	void *p = f;

	assert_int_equal(getxattr(f, &c, 1, "user.x", 9), -ENOSYS);
	assert_int_equal(
		send(f, &c, FW_LISTXATTR, 1, &in, sizeof(in)), -ENOSYS);
	(void)teardown(&p);
}

static int read_at(struct fixture *f, struct call *c, uint64_t node,
	uint64_t off, uint32_t size)
{
	struct fw_read_in in = {.offset = off, .size = size};

	memset(f->out, 0xaa, 20000);
	return send(f, c, FW_READ, node, &in, sizeof(in));
}

static void holes_read_as_zeros_up_to_the_end(void **state)
{
	struct fixture *f = *state;
	uint64_t file = lookup(f, 1, "file", NULL);
	struct call c;
	size_t i;

	assert_int_equal(read_at(f, &c, file, 0, 16384), 0);
	assert_int_equal(c.len, SIZE);
	for (i = 0; i < SIZE; i++)
		assert_int_equal(f->out[i], 0);
	assert_int_equal(f->out[SIZE], 0xaa);
	assert_int_equal(read_at(f, &c, file, SIZE - 1, 4096), 0);
	assert_int_equal(c.len, 1);
	assert_int_equal(read_at(f, &c, file, SIZE, 4096), 0);
	assert_int_equal(c.len, 0);
	assert_int_equal(read_at(f, &c, file, UINT64_MAX, UINT32_MAX), 0);
	assert_int_equal(c.len, 0);
	assert_int_equal(read_at(f, &c, file, 5, UINT32_MAX), 0);
	assert_int_equal(c.len, SIZE - 5);
	assert_int_equal(read_at(f, &c, file, 0, 0), 0);
	assert_int_equal(c.len, 0);
	assert_int_equal(read_at(f, &c, 1, 0, 4096), -EISDIR);
	assert_int_equal(
		read_at(f, &c, lookup(f, 1, "sym", NULL), 0, 4096), -EINVAL);
	assert_int_equal(atomic_load(&f->counters.read_errors), 2);
}

static void everything_that_writes_is_refused(void **state)
{
	static const uint32_t writing[] = {FW_SETATTR, FW_SYMLINK, FW_MKNOD,
		FW_MKDIR, FW_UNLINK, FW_RMDIR, FW_RENAME, FW_LINK, FW_WRITE,
		FW_SETXATTR, FW_REMOVEXATTR, FW_CREATE, FW_FALLOCATE,
		FW_RENAME2, FW_COPY_FILE_RANGE, FW_TMPFILE};
	static const int how[] = {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC};
	struct fixture *f = *state;
	struct fw_access_in access = {.mask = W_OK};
	struct fw_open_in open;
	struct call c;
	size_t i;

	for (i = 0; i < sizeof(writing) / sizeof(writing[0]); i++)
		assert_int_equal(send(f, &c, writing[i], 1, "x", 2), -EROFS);
	for (i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		open = (struct fw_open_in){.flags = (uint32_t)how[i]};
		assert_int_equal(
			send(f, &c, FW_OPEN, 1, &open, sizeof(open)), -EROFS);
	}
	assert_int_equal(
		send(f, &c, FW_ACCESS, 1, &access, sizeof(access)), -EROFS);
	access.mask = R_OK | X_OK;
	assert_int_equal(send(f, &c, FW_ACCESS, 1, &access, sizeof(access)), 0);
}

/* From the kernel, with these flags; returns the reply. */
static struct fw_init_out init(
	struct fixture *f, uint32_t major, uint32_t minor, uint64_t flags)
{
	struct fw_init_in in = {.major = major,
		.minor = minor,
		.max_readahead = 131072,
		.flags = (uint32_t)flags,
		.flags2 = (uint32_t)(flags >> 32)};
	struct fw_init_out out;
	struct call c;

	assert_int_equal(send(f, &c, FW_INIT, 0, &in, sizeof(in)), 0);
	assert_int_equal(c.len, sizeof(out));
	memcpy(&out, f->out, sizeof(out));
	return out;
}

static void init_takes_only_what_is_offered(void **state)
{
	struct fixture *f = *state;
	struct fw_init_out out = init(f, 7, 45, FW_ASYNC_READ);

	assert_int_equal(out.major, 7);
	assert_int_equal(out.flags, FW_ASYNC_READ);
	assert_int_equal(out.flags2, 0);
	assert_int_equal(out.max_readahead, 131072);
	assert_true(f->fs.init_done);
	out = init(f, 7, 45, UINT64_MAX);
	assert_true(out.flags & FW_PARALLEL_DIROPS);
	assert_true(out.flags & FW_READDIRPLUS_AUTO);
	assert_true(out.flags & FW_NO_OPEN_SUPPORT);
	assert_true(out.flags & FW_EXPLICIT_INVAL_DATA);
	assert_int_equal(out.flags2, 0);
	assert_int_equal(out.max_pages, LD_FS_MAX_READ / 4096);
	assert_int_equal(out.max_background, LD_FS_MAX_WAITING / 4 * 3);
	assert_true(out.congestion_threshold < out.max_background);
}

static void init_waits_for_a_major_it_knows(void **state)
{
	struct fixture *f = *state;
	struct fw_init_in old = {.major = 7, .minor = 12};
	struct call c;

	assert_int_equal(init(f, 8, 0, UINT64_MAX).major, 7);
	assert_false(f->fs.init_done);
	assert_int_equal(send(f, &c, FW_INIT, 0, &old, sizeof(old)), -EPROTO);
	assert_true(f->fs.init_failed);
	/* The kernel's structure ended before flags2 once. */
	assert_int_equal(send(f, &c, FW_INIT, 0, &old, 8), -EINVAL);
	old.minor = 31;
	assert_int_equal(send(f, &c, FW_INIT, 0, &old, 16), 0);
	assert_true(f->fs.init_done);
}

static void opens_are_never_asked_again_where_the_kernel_can(void **state)
{
	struct fixture *f = *state;
	struct fw_open_in in = {.flags = O_RDONLY};
	struct fw_open_out out;
	struct call c;

	(void)init(f, 7, 38, FW_ASYNC_READ);
	assert_int_equal(send(f, &c, FW_OPEN, 1, &in, sizeof(in)), 0);
	memcpy(&out, f->out, sizeof(out));
	assert_true(out.open_flags & FW_FOPEN_KEEP_CACHE);
	assert_int_equal(send(f, &c, FW_OPENDIR, 1, &in, sizeof(in)), 0);
	memcpy(&out, f->out, sizeof(out));
	assert_true(out.open_flags & FW_FOPEN_CACHE_DIR);
	(void)init(f, 7, 38, FW_NO_OPEN_SUPPORT | FW_NO_OPENDIR_SUPPORT);
	assert_int_equal(send(f, &c, FW_OPEN, 1, &in, sizeof(in)), -ENOSYS);
	assert_int_equal(send(f, &c, FW_OPENDIR, 1, &in, sizeof(in)), -ENOSYS);
}

static void statfs_shows_the_image(void **state)
{
	struct fixture *f = *state;
	struct fw_statfs_out out;
	struct call c;

	assert_int_equal(send(f, &c, FW_STATFS, 1, "", 0), 0);
	memcpy(&out, f->out, sizeof(out));
	assert_int_equal(out.blocks, 6);
	assert_int_equal(out.bfree, 0);
	assert_int_equal(out.namelen, 255);
	assert_int_equal(out.files, f->image.index.inode_count);
}

static void some_requests_have_no_reply_and_unknown_ones_say_so(void **state)
{
	struct fixture *f = *state;
	uint64_t unique = 77;
	struct call c;

	(void)send(f, &c, FW_FORGET, 5, &unique, 8);
	assert_int_equal(c.replies, 0);
	(void)send(f, &c, FW_BATCH_FORGET, 5, &unique, 8);
	assert_int_equal(c.replies, 0);
	(void)send(f, &c, FW_INTERRUPT, 5, &unique, 8);
	assert_int_equal(c.replies, 0);
	assert_int_equal(send(f, &c, 46, 1, "", 0), -ENOSYS);
	assert_int_equal(send(f, &c, 4096, 1, "", 0), -ENOSYS);
	assert_int_equal(send(f, &c, UINT32_MAX, 1, "", 0), -ENOSYS);
	assert_int_equal(send(f, &c, FW_RELEASE, 1, "", 0), 0);
}

static void end_cancelled(struct ld_fs_req *r)
{
	ld_fs_finish(r, r->cancel_error, 0);
}

/* A request that waits, with this number. */
static void hold(struct fixture *f, struct call *c, uint64_t unique)
{
	*c = (struct call){.r = {.fs = &f->fs,
				   .ops = &ops,
				   .counters = &f->counters,
				   .opcode = FW_READ,
				   .unique = unique,
				   .on_cancel = end_cancelled}};
	ld_fs_hold(&c->r);
}

static void an_interrupt_that_comes_first_finds_its_request(void **state)
{
	struct fixture *f = *state;
	struct call c;
	uint64_t i;

	for (i = 1; i <= LD_FS_EARLY_INTERRUPTS; i++)
		ld_fs_interrupt(&f->fs, i * 2);
	for (i = LD_FS_EARLY_INTERRUPTS; i > 0; i--) {
		hold(f, &c, i * 2);
		assert_int_equal(c.replies, 1);
		assert_int_equal(c.error, -EINTR);
		assert_int_equal(c.frees, 1);
	}
	/* Each counts once, and others are left alone. */
	hold(f, &c, 2);
	assert_int_equal(c.replies, 0);
	ld_fs_hold(&c.r);
	ld_fs_cancel(&c.r, -EIO);
	assert_int_equal(c.replies, 1);
	assert_int_equal(c.error, -EIO);
	assert_int_equal(c.frees, 1);
	assert_int_equal(atomic_load(&f->counters.read_errors), 1);
}

static void requests_of_every_kind_and_length_are_answered(void **state)
{
	static const uint8_t fills[] = {0x00, 0x01, 0x2e, 0x61, 0xff};
	static const uint64_t nodes[] = {0, 1, 2, 38, 40, UINT64_MAX};
	struct fixture *f = *state;
	uint32_t opcode;
	size_t len, i, k;
	uint8_t *bytes;
	struct call c;

	for (opcode = 0; opcode < 60; opcode++)
		for (len = 0; len < 72; len++)
			for (i = 0; i < sizeof(fills); i++) {
				bytes = mem_alloc(len);
				memset(bytes, fills[i], len);
				if (len)
					bytes[len - 1] = 0;
				for (k = 0; k < 6; k++)
					(void)send(f, &c, opcode, nodes[k],
						bytes, len);
				mem_free(bytes);
			}
}

#define FS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FS_TEST(lookup_gives_attributes_for_ever),
		FS_TEST(a_name_that_is_not_there_is_remembered),
		FS_TEST(names_that_cannot_be_are_refused),
		FS_TEST(getattr_knows_only_inodes_of_the_index),
		FS_TEST(readlink_gives_the_target_without_nul),
		FS_TEST(directories_list_alike_in_pieces_of_any_size),
		FS_TEST(readdirplus_carries_what_lookup_says),
		FS_TEST(readdir_of_a_file_is_an_error),
		FS_TEST(xattrs_are_exact),
		FS_TEST(listxattr_gives_all_names),
		cmocka_unit_test(an_image_without_xattrs_is_never_asked_again),
		FS_TEST(holes_read_as_zeros_up_to_the_end),
		FS_TEST(everything_that_writes_is_refused),
		FS_TEST(init_takes_only_what_is_offered),
		FS_TEST(init_waits_for_a_major_it_knows),
		FS_TEST(opens_are_never_asked_again_where_the_kernel_can),
		FS_TEST(statfs_shows_the_image),
		FS_TEST(some_requests_have_no_reply_and_unknown_ones_say_so),
		FS_TEST(an_interrupt_that_comes_first_finds_its_request),
		FS_TEST(requests_of_every_kind_and_length_are_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
