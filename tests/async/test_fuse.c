/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real FUSE mount, on every engine: what is seen through the kernel equals
 * what was put in, whoever reads, however.
 */
#include <dirent.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/async/fuse_ways.h"

/* ---- the whole tree ---- */

static void check_stat(struct world *w, const char *path, struct ld_inode *i)
{
	struct stat st;

	assert_int_equal(lstat(at(w, path), &st), 0);
	assert_int_equal(st.st_mode, i->attr.mode);
	assert_int_equal(st.st_uid, i->attr.uid);
	assert_int_equal(st.st_gid, i->attr.gid);
	assert_int_equal(st.st_nlink, i->nlink);
	assert_int_equal(st.st_mtim.tv_sec, i->attr.mtime);
	assert_int_equal(st.st_mtim.tv_nsec, i->attr.mtime_ns);
	assert_int_equal(st.st_blksize, 4096);
	if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
		assert_int_equal(st.st_rdev,
			makedev(i->attr.rdev_major, i->attr.rdev_minor));
	if (S_ISREG(st.st_mode)) {
		assert_int_equal(st.st_size, i->size);
		assert_int_equal(st.st_blocks, div_round_up(i->size, 512));
	}
}

static void check_link(struct world *w, const char *path, struct ld_inode *i)
{
	char target[LD_MAX_SYMLINK + 2];
	ssize_t n = readlink(at(w, path), target, sizeof(target));

	assert_int_equal(n, strlen(i->target));
	assert_memory_equal(target, i->target, (size_t)n);
}

static void check_xattrs(struct world *w, const char *path, struct ld_inode *i)
{
	char names[2000], value[2000];
	ssize_t n = llistxattr(at(w, path), names, sizeof(names)), len;
	size_t all = 0;

	for (const struct ld_xattr *x = i->xattrs; x; x = x->next) {
		len = lgetxattr(at(w, path), x->name, value, sizeof(value));
		assert_int_equal(len, x->value_len);
		assert_memory_equal(value, x->value, (size_t)len);
		all += strlen(x->name) + 1;
	}
	assert_int_equal(n, all);
	assert_int_equal(
		lgetxattr(at(w, path), "user.absent", value, sizeof(value)),
		-1);
	assert_int_equal(errno, ENODATA);
}

static void check_contents(
	struct world *w, const char *path, struct ld_inode *i)
{
	uint8_t *got = mem_alloc(i->size + 1), *want = mem_alloc(i->size);
	int fd = open(at(w, path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t done = 0;
	ssize_t n;

	assert_true(fd >= 0);
	while ((n = read(fd, got + done, i->size + 1 - done)) > 0)
		done += (size_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(done, i->size);
	expect_bytes(w, i, 0, want, i->size);
	assert_true(memcmp(got, want, i->size) == 0);
	close(fd);
	mem_free(got);
	mem_free(want);
}

static void check_one(struct world *w, const char *path, struct ld_inode *i)
{
	check_stat(w, path, i);
	check_xattrs(w, path, i);
	if (S_ISLNK(i->attr.mode))
		check_link(w, path, i);
	if (S_ISREG(i->attr.mode))
		check_contents(w, path, i);
}

static unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	assert_int_equal(closedir(d), 0);
	return n;
}

static void check_dir(struct world *w, const char *path, struct ld_inode *dir)
{
	char below[LD_MAX_PATH];

	check_one(w, path, dir);
	assert_int_equal(count_entries(at(w, path)), dir->child_count + 2);
	for (struct ld_dirent *d = dir->children; d; d = d->next) {
		(void)snprintf(below, sizeof(below), "%s%s%s", path,
			path[0] ? "/" : "", d->name);
		/* Nothing of the tree is deeper than this. */
		if (!S_ISDIR(d->inode->attr.mode)) {
			check_one(w, below, d->inode);
			continue;
		}
		for (struct ld_dirent *k = d->inode->children; k; k = k->next) {
			(void)snprintf(below, sizeof(below), "%s/%s", d->name,
				k->name);
			check_one(w, below, k->inode);
		}
	}
}

static void tree_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	struct ld_session_stats st;
	struct statvfs vfs;

	check_dir(w, "", ld_tree_root(w->tree));
	check_dir(w, "d/e/f", inode_at(w, "d/e/f"));
	assert_int_equal(statvfs(w->mnt, &vfs), 0);
	assert_int_equal(vfs.f_blocks, BLOB_LEN / 4096);
	assert_int_equal(vfs.f_namemax, 255);
	assert_int_equal(vfs.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV),
		ST_RDONLY | ST_NOSUID | ST_NODEV);
	ld_session_stats(w->s, &st);
	assert_int_equal(st.read_errors, 0);
	assert_true(st.read_bytes >= BLOB_LEN / 2);
	world_destroy(w);
}

static void the_mount_shows_what_was_put_in(void **state)
{
	on_ways(2, tree_body);
}

/* ---- a large directory ---- */

static void large_dir_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	char *seen = mem_zalloc(MANY);
	long places[MANY / 100];
	char names[MANY / 100][LD_MAX_NAME + 1];
	struct dirent *e;
	unsigned n = 0, k, round;
	DIR *d = opendir(at(w, "many"));

	assert_non_null(d);
	for (round = 0; round < 2; round++) {
		memset(seen, 0, MANY);
		for (n = 0;; n++) {
			if (n % 100 == 0 && n < MANY)
				places[n / 100] = telldir(d);
			e = readdir(d);
			if (!e)
				break;
			if (n % 100 == 0 && n < MANY)
				(void)snprintf(names[n / 100], LD_MAX_NAME + 1,
					"%s", e->d_name);
			if (e->d_name[0] == '.')
				continue;
			k = (unsigned)strtoul(e->d_name + 6, NULL, 10);
			assert_int_equal(seen[k], 0);
			seen[k] = 1;
			assert_int_equal(e->d_type, DT_REG);
		}
		assert_int_equal(n, MANY + 2);
		rewinddir(d);
	}
	for (k = MANY / 100; k-- > 0;) {
		seekdir(d, places[k]);
		e = readdir(d);
		assert_non_null(e);
		assert_string_equal(e->d_name, names[k]);
	}
	assert_int_equal(closedir(d), 0);
	mem_free(seen);
	world_destroy(w);
}

static void a_directory_of_10000_can_be_rewound_and_sought(void **state)
{
	on_ways(2, large_dir_body);
}

/* ---- many readers at once ---- */

enum { READERS = 8, READS = 200 };

struct reader {
	pthread_t thread;
	struct world *w;
	unsigned seed;
	bool wrong;
};

static void *reader_main(void *arg)
{
	static const char *const files[] = {"big", "pieces", "hole", "small"};
	struct reader *r = arg;
	uint8_t *got = mem_alloc(1 << 20), *want = mem_alloc(1 << 20);
	struct ld_inode *i;
	uint64_t off;
	size_t len;
	ssize_t n;
	int k, fd;

	for (k = 0; k < READS; k++) {
		const char *name = files[rand_r(&r->seed) % 4];

		i = inode_at(r->w, name);
		fd = open(at(r->w, name), O_RDONLY | O_CLOEXEC);
		off = (uint64_t)rand_r(&r->seed) % i->size;
		len = (size_t)rand_r(&r->seed) % (k % 8 ? 20000 : 1 << 20);
		n = pread(fd, got, len, (off_t)off);
		len = min_u64(len, i->size - off);
		expect_bytes(r->w, i, off, want, len);
		if (n != (ssize_t)len || memcmp(got, want, len) != 0)
			r->wrong = true;
		close(fd);
	}
	mem_free(got);
	mem_free(want);
	return NULL;
}

static void readers_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	struct reader r[READERS];
	unsigned i;

	for (i = 0; i < READERS; i++) {
		r[i] = (struct reader){.w = w, .seed = i + 1};
		assert_int_equal(
			pthread_create(&r[i].thread, NULL, reader_main, &r[i]),
			0);
	}
	for (i = 0; i < READERS; i++) {
		pthread_join(r[i].thread, NULL);
		assert_false(r[i].wrong);
	}
	world_destroy(w);
}

static void many_readers_get_the_right_bytes(void **state)
{
	on_ways(4, readers_body);
}

/* ---- other ways to read ---- */

static void direct_and_mmap_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	struct ld_inode *i = inode_at(w, "pieces");
	size_t len = round_up(i->size, 4096);
	uint8_t *want = mem_alloc(len), *got, *map;
	int fd = open(at(w, "pieces"), O_RDONLY | O_CLOEXEC | O_DIRECT);

	assert_true(fd >= 0);
	got = mem_alloc_aligned(4096, len);
	expect_bytes(w, i, 0, want, i->size);
	assert_int_equal(read(fd, got, len), i->size);
	assert_memory_equal(got, want, i->size);
	assert_int_equal(read(fd, got, 4096), 0);
	close(fd);
	fd = open(at(w, "pieces"), O_RDONLY | O_CLOEXEC);
	map = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	close(fd);
	assert_memory_equal(map + 65536, want + 65536, 70000);
	assert_memory_equal(map, want, i->size);
	assert_int_equal(map[i->size], 0);
	munmap(map, len);
	mem_free(got);
	mem_free(want);
	world_destroy(w);
}

static void direct_io_and_mmap_give_the_same(void **state)
{
	on_ways(2, direct_and_mmap_body);
}

/* ---- nothing can be changed, nothing is asked twice ---- */

static void read_only_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	char other[5000];

	(void)snprintf(other, sizeof(other), "%s", at(w, "d/new"));
#define REFUSED(call) \
	do { \
		errno = 0; \
		assert_int_equal(call, -1); \
		assert_int_equal(errno, EROFS); \
	} while (0)
	REFUSED(open(at(w, "small"), O_WRONLY | O_CLOEXEC));
	REFUSED(open(at(w, "small"), O_RDWR | O_CLOEXEC));
	REFUSED(open(at(w, "new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	REFUSED(unlink(at(w, "small")));
	REFUSED(mkdir(at(w, "new"), 0700));
	REFUSED(rmdir(at(w, "d/e/f")));
	REFUSED(rename(at(w, "small"), other));
	REFUSED(link(at(w, "small"), other));
	REFUSED(symlink("x", at(w, "new")));
	REFUSED(mknod(at(w, "new"), S_IFREG | 0600, 0));
	REFUSED(chmod(at(w, "small"), 0));
	REFUSED(chown(at(w, "small"), 0, 0));
	REFUSED(truncate(at(w, "small"), 0));
	REFUSED(utimensat(AT_FDCWD, at(w, "small"), NULL, 0));
	REFUSED(setxattr(at(w, "small"), "user.a", "b", 1, 0));
	REFUSED(removexattr(at(w, "small"), "user.empty"));
	world_destroy(w);
}

static void whatever_writes_is_refused(void **state)
{
	on_ways(1, read_only_body);
}

static uint64_t requests(struct world *w)
{
	struct ld_session_stats st;

	ld_session_stats(w->s, &st);
	return st.requests;
}

static void look_around(struct world *w)
{
	struct stat st;
	char byte;
	int fd = open(at(w, "big"), O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, &byte, 1), 1);
	close(fd);
	assert_int_equal(stat(at(w, "d/link"), &st), 0);
	assert_int_equal(stat(at(w, "absent"), &st), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(stat(at(w, "d/e/absent"), &st), -1);
	assert_int_equal(count_entries(at(w, "d")), 9);
}

static void nothing_twice_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	uint64_t n;

	look_around(w);
	look_around(w); /* a directory is cached when it is read again */
	n = requests(w);
	look_around(w);
	assert_int_equal(requests(w), n);
	world_destroy(w);
}

static void what_the_kernel_knows_it_does_not_ask_again(void **state)
{
	on_ways(2, nothing_twice_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mount_shows_what_was_put_in),
		cmocka_unit_test(
			a_directory_of_10000_can_be_rewound_and_sought),
		cmocka_unit_test(many_readers_get_the_right_bytes),
		cmocka_unit_test(direct_io_and_mmap_give_the_same),
		cmocka_unit_test(whatever_writes_is_refused),
		cmocka_unit_test(what_the_kernel_knows_it_does_not_ask_again),
	};

	return run_fuse_tests(tests);
}
