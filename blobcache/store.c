/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache directory and small immutable files in it. Nothing here is fast;
 * everything here may be looked at by other processes at the same time, so
 * files appear whole, by rename.
 */
#include "blobcache/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "blobcache/part.h"
#include "blobcache/store_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/clock.h"
#include "runtime/base/util.h"
#include "runtime/base/whole.h"

#define STORE_FULL_CHECK_MS 1000       /* how old an answer may be */
#define STORE_FLIGHT_BYTES (24u << 20) /* memory of all that is on its way */
#define STORE_TMP_TRIES 16

/* ---- opening ---- */

/* What the person's environment says; NULL when memory is short. */
static char *default_path(void)
{
	const char *p;

	p = getenv("SLUICE_CACHE");
	if (p && *p)
		return mem_strdup(p);
	p = getenv("XDG_CACHE_HOME");
	if (p && *p == '/')
		return mem_printf("%s/sluice", p);
	if (geteuid() == 0)
		return mem_strdup("/var/cache/sluice");
	p = getenv("HOME");
	return mem_printf("%s/.cache/sluice", p && *p == '/' ? p : "/tmp");
}

/* mkdir -p of an absolute or relative path. */
static int make_path(const char *path)
{
	CLEANUP_FREE char *copy = mem_strdup(path);
	char *at;

	if (!copy)
		return -ENOMEM;
	for (at = copy + 1; *copy; at++) {
		char c = *at;

		if (c != '/' && c != '\0')
			continue;
		*at = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST && errno != EISDIR)
			return -errno;
		if (c == '\0')
			return 0;
		*at = '/';
	}
	return -ENOENT;
}

static int open_dir(const char *path, int *ret_fd, struct err *e)
{
	int fd, r;

	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		r = make_path(path);
		if (r < 0)
			return err_sys(e, r,
				"cannot make the cache directory '%s'", path);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return err_sys(e, -errno,
			"cannot open the cache directory '%s'", path);
	*ret_fd = fd;
	return 0;
}

/* Whoever may write here decides what our readers see. */
static int check_owner(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno,
			"cannot look at the cache directory '%s'", path);
	if (st.st_uid != geteuid())
		return err_set(e, -EPERM,
			"the cache directory '%s' belongs to user %u, not to "
			"user %u; choose another with --cache",
			path, (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, -EPERM,
			"others may write to the cache directory '%s' (mode "
			"%04o); take that away with chmod go-w",
			path, (unsigned)(st.st_mode & 07777));
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The kernel's name for this boot; without one, no boot is like another. */
static int read_boot_id(uint8_t ret[BC_BOOT_ID_LEN])
{
	char text[64];
	unsigned n = 0;
	ssize_t len = -1, i;
	int fd;

	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		len = read(fd, text, sizeof(text));
		(void)close(fd); /* only read */
	}
	for (i = 0; i < len && n < 2 * BC_BOOT_ID_LEN; i++) {
		int v = hex_digit(text[i]);

		if (v < 0)
			continue;
		ret[n / 2] = (uint8_t)(n % 2 ? ret[n / 2] | v : v << 4);
		n++;
	}
	if (n == 2 * BC_BOOT_ID_LEN)
		return 0;
	return getrandom(ret, BC_BOOT_ID_LEN, 0) == BC_BOOT_ID_LEN ? 0 : -EIO;
}

void store_sweep_tmp(int dirfd, uint32_t max_age_s)
{
	struct dirent *de;
	int fd, tmp;
	DIR *d;

	tmp = openat(dirfd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tmp < 0)
		return;
	d = fdopendir(tmp);
	if (!d) {
		(void)close(tmp);
		return;
	}
	while ((de = readdir(d)) != NULL) {
		if (bc_part_is_young(tmp, de->d_name, max_age_s))
			continue;
		fd = openat(tmp, de->d_name,
			O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		/* A directory ("." too) makes unlinkat fail: as it should. */
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)unlinkat(tmp, de->d_name, 0);
		(void)close(fd);
	}
	(void)closedir(d);
}

static int make_top(int dirfd, const char *path, struct err *e)
{
	static const char *const names[] = {
		"blobs", "layers", "images", "refs", "tmp"};
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++)
		if (mkdirat(dirfd, names[i], 0700) < 0 && errno != EEXIST)
			return err_sys(e, -errno, "cannot make '%s/%s'", path,
				names[i]);
	return 0;
}

static int store_setup(struct bc_store *s, struct err *e)
{
	int r;

	r = open_dir(s->path, &s->dirfd, e);
	if (r < 0)
		return r;
	r = check_owner(s->dirfd, s->path, e);
	if (r < 0)
		return r;
	r = read_boot_id(s->boot_id);
	if (r < 0)
		return err_sys(e, r, "cannot tell this boot from another");
	s->read_only = faccessat(s->dirfd, ".", W_OK | X_OK, AT_EACCESS) < 0;
	if (s->read_only)
		return 0;
	r = make_top(s->dirfd, s->path, e);
	if (r == 0)
		store_sweep_tmp(s->dirfd, BC_PART_MAX_AGE_S);
	return r;
}

static int init_locks(struct bc_store *s)
{
	int r = bc_budget_init(&s->budget, STORE_FLIGHT_BYTES);

	if (r < 0)
		return r;
	/* Whoever opens a blob says how many places there are. */
	r = bc_budget_init(&s->places, UINT64_MAX);
	if (r == 0) {
		r = bc_spare_init(&s->spare);
		if (r < 0)
			bc_budget_fini(&s->places);
	}
	if (r < 0)
		bc_budget_fini(&s->budget);
	return r;
}

int bc_store_open(const char *path, struct bc_store **ret, struct err *e)
{
	struct bc_store *s;
	int r;

	s = mem_zalloc(sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "not enough memory for the cache");
	s->dirfd = -1;
	atomic_init(&s->limit, UINT64_MAX);
	r = init_locks(s);
	if (r < 0) {
		mem_free(s);
		return err_sys(e, r, "cannot make a lock for the cache");
	}
	s->path = path ? mem_strdup(path) : default_path();
	if (s->path)
		r = store_setup(s, e);
	else
		r = err_set(e, -ENOMEM, "not enough memory for the cache");
	if (r < 0) {
		bc_store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void bc_store_close(struct bc_store *s)
{
	if (!s)
		return;
	if (s->dirfd >= 0)
		(void)close(s->dirfd); /* only a handle */
	bc_budget_fini(&s->budget);
	bc_budget_fini(&s->places);
	bc_spare_fini(&s->spare);
	mem_free(s->path);
	mem_free(s);
}

const char *bc_store_path(const struct bc_store *s)
{
	return s->path;
}

int bc_store_dirfd(const struct bc_store *s)
{
	return s->dirfd;
}

bool bc_store_is_read_only(const struct bc_store *s)
{
	return s->read_only;
}

bool bc_store_is_full(struct bc_store *s)
{
	uint64_t now = clock_ms();
	struct statvfs st;

	if (store_is_over(s))
		return true;
	if (now - atomic_load(&s->full_checked_ms) < STORE_FULL_CHECK_MS)
		return atomic_load(&s->full);
	atomic_store(&s->full_checked_ms, now);
	if (fstatvfs(s->dirfd, &st) == 0)
		atomic_store(&s->full,
			st.f_bavail < st.f_blocks / 100 * STORE_FREE_PERCENT);
	return atomic_load(&s->full);
}

/* ---- small files ---- */

static bool rel_is_ok(const char *rel)
{
	size_t n, len = strlen(rel);
	const char *at = rel;

	if (len == 0 || len >= STORE_MAX_REL)
		return false;
	for (;;) {
		n = strcspn(at, "/");
		if (n == 0 || (n == 1 && at[0] == '.') ||
			(n == 2 && at[0] == '.' && at[1] == '.'))
			return false;
		if (at[n] == '\0')
			return true;
		at += n + 1;
	}
}

int store_make_parents(int dirfd, const char *rel)
{
	char path[STORE_MAX_REL];
	size_t i;

	if (!rel_is_ok(rel))
		return -EINVAL;
	for (i = 0; rel[i]; i++) {
		path[i] = rel[i];
		if (rel[i] != '/')
			continue;
		path[i] = '\0';
		if (mkdirat(dirfd, path, 0700) < 0 && errno != EEXIST)
			return -errno;
		path[i] = '/';
	}
	return 0;
}

int store_tmp_create(const struct bc_store *s, char name[32], int *ret_fd)
{
	uint64_t id;
	int fd, tries;
	struct stat st;

	for (tries = 0; tries < STORE_TMP_TRIES; tries++) {
		if (getrandom(&id, sizeof(id), 0) != sizeof(id))
			return -EIO;
		(void)snprintf(name, 32, "tmp/%016llx",
			(unsigned long long)id); /* fits */
		fd = openat(s->dirfd, name,
			O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 && errno == EEXIST)
			continue;
		if (fd < 0)
			return -errno;
		/* A sweep may have come between the two. */
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 &&
			st.st_nlink > 0) {
			*ret_fd = fd;
			return 0;
		}
		(void)close(fd); /* empty */
	}
	return -EBUSY;
}

/* Names survive a power cut only when their directory is synced. */
static int sync_parent(int dirfd, const char *rel)
{
	CLEANUP_FD int fd = -1;
	char path[STORE_MAX_REL];
	const char *slash = strrchr(rel, '/');
	size_t n = slash ? (size_t)(slash - rel) : 1;

	memcpy(path, slash ? rel : ".", n);
	path[n] = '\0';
	fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int store_put(struct bc_store *s, const char *rel, const void *p, size_t n)
{
	CLEANUP_FD int fd = -1;
	char name[32];
	int r;

	if (s->read_only)
		return -EROFS;
	r = store_make_parents(s->dirfd, rel);
	if (r == 0)
		r = store_tmp_create(s, name, &fd);
	if (r < 0)
		return r;
	r = whole_pwrite(fd, p, n, 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(s->dirfd, name, s->dirfd, rel) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(s->dirfd, name, 0); /* else the next sweep */
		return r;
	}
	return sync_parent(s->dirfd, rel);
}

int bc_store_put(struct bc_store *s, const char *rel, const void *p, size_t n,
	struct err *e)
{
	int r;

	r = store_put(s, rel, p, n);
	if (r < 0)
		return err_sys(e, r, "cannot write '%s/%s'", s->path, rel);
	return 0;
}

int bc_store_get(
	struct bc_store *s, const char *rel, struct buf *out, struct err *e)
{
	int r;

	r = rel_is_ok(rel) ? buf_read_file(out, s->dirfd, rel) : -EINVAL;
	if (r < 0)
		return err_sys(e, r, "cannot read '%s/%s'", s->path, rel);
	return 0;
}

static int remove_tree(struct bc_store *s, const char *rel)
{
	char top[32 + STORE_MAX_REL];
	char *paths[] = {top, NULL};
	FTSENT *at;
	FTS *fts;
	int r = 0;

	(void)snprintf(top, sizeof(top), "/proc/self/fd/%d/%s", s->dirfd,
		rel); /* fits */
	fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	if (!fts)
		return -errno;
	while (r == 0 && (at = fts_read(fts)) != NULL) {
		if (at->fts_info == FTS_D || at->fts_info == FTS_DC)
			continue; /* on the way back */
		if (at->fts_info == FTS_NS || at->fts_info == FTS_DNR)
			r = at->fts_errno == ENOENT ? 0 : -at->fts_errno;
		else if (unlinkat(AT_FDCWD, at->fts_accpath,
				 at->fts_info == FTS_DP ? AT_REMOVEDIR : 0) <
				 0 &&
			 errno != ENOENT)
			r = -errno;
	}
	(void)fts_close(fts); /* only walked */
	return r;
}

int bc_store_remove(struct bc_store *s, const char *rel, struct err *e)
{
	int r;

	if (s->read_only)
		r = -EROFS;
	else
		r = rel_is_ok(rel) ? remove_tree(s, rel) : -EINVAL;
	if (r < 0)
		return err_sys(e, r, "cannot remove '%s/%s'", s->path, rel);
	return 0;
}
