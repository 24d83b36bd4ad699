/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache file of one blob and map: `data`, `ready` and `map` in a directory
 * of their own.
 *
 * Opening holds an exclusive lock on that directory. A pair of data and ready
 * that does not fit is not mended but replaced by new files: a process that has
 * the old ones open goes on with them, undisturbed and apart.
 *
 * Whatever fails here only costs caching: data.fd is -1, or stores are refused,
 * and readers get their bytes from flights.
 */
#include "blobcache/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobcache/guard.h"
#include "blobcache/map_int.h"
#include "blobcache/mark.h"
#include "blobcache/store_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"
#include "runtime/base/util.h"
#include "runtime/base/whole.h"

#define LOG_TOPIC "store"

/* blobs/<algo>/<hex>/<map id>, from digests alone. */
static void dir_name(const struct digest *blob, const struct digest *map_id,
	char ret[STORE_MAX_REL])
{
	char b[2 * DIGEST_MAX_BYTES + 1], m[2 * DIGEST_MAX_BYTES + 1];

	(void)snprintf(ret, STORE_MAX_REL, "blobs/%s/%s/%s", /* fits */
		digest_algo_name(blob->algo), digest_hex(blob, b),
		digest_hex(map_id, m));
}

static void map_name(const struct digest *blob, const struct digest *map_id,
	char ret[STORE_MAX_REL])
{
	size_t n;

	dir_name(blob, map_id, ret);
	n = strlen(ret);
	(void)snprintf(ret + n, STORE_MAX_REL - n, "/map"); /* fits */
}

static void mark_map(struct bc_store *s, const char *rel, int fd,
	const struct bc_mark_look *before, const struct bc_map *m)
{
	const struct bc_mark_note note = {m->bytes, m->has_stream};

	bc_mark_put(s, rel, fd, before, &m->id, &note);
}

int bc_store_map_open(struct bc_store *s, const struct digest *blob,
	const struct digest *map_id, struct bc_map *ret, struct err *e)
{
	char rel[STORE_MAX_REL];
	struct bc_mark_look look;
	struct bc_mark_note note;
	struct map_known known;
	CLEANUP_FD int fd = -1;
	bool is_marked;
	int r;

	map_name(blob, map_id, rel);
	fd = openat(
		s->dirfd, rel, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	r = fd < 0 ? -errno : bc_mark_look(fd, &look);
	if (r < 0)
		return err_sys(e, r, "cannot read the map '%s'", rel);
	is_marked = bc_mark_is_there(s, rel, &look, map_id, &note);
	if (is_marked)
		known = (struct map_known){note.a, note.b != 0};
	r = map_open_fd(fd, rel, map_id, is_marked ? &known : NULL, ret, e);
	if (r == 0 && !is_marked)
		mark_map(s, rel, fd, &look, ret);
	return r;
}

/* What was just written is known to be right. */
static int put_map(
	struct bc_store *s, const char *rel, const struct bc_map *map)
{
	CLEANUP_FD int fd = -1;
	int r;

	r = store_put(s, rel, map->base, map->base_len);
	/* it would be worth nothing, and was worse than that */
	if (r == 0 && bc_map_is_lost(map)) {
		(void)unlinkat(s->dirfd, rel, 0);
		return -EIO;
	}
	if (r < 0)
		return r;
	fd = openat(s->dirfd, rel, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		mark_map(s, rel, fd, NULL, map);
	return 0;
}

int bc_store_map_put(
	struct bc_store *s, const struct digest *blob, const struct bc_map *map)
{
	char rel[STORE_MAX_REL];

	map_name(blob, &map->id, rel);
	return put_map(s, rel, map);
}

void bc_store_map_settle(
	struct bc_store *s, const struct digest *blob, struct bc_map *map)
{
	struct bc_map m;

	if (map->file || map->base_len < BC_MARK_MIN_LEN ||
		bc_store_map_open(s, blob, &map->id, &m, NULL) < 0)
		return;
	bc_map_close(map);
	*map = m;
}

void bc_store_map_doubt(
	struct bc_store *s, const struct digest *blob, const struct bc_map *map)
{
	char rel[STORE_MAX_REL];

	if (!bc_map_is_lost(map))
		return;
	map_name(blob, &map->id, rel);
	bc_mark_remove(s, rel);
}

/* Nothing is open yet. 0 or -errno, with nothing to close. */
static int init(
	struct bc_cachefile *c, struct bc_store *s, const struct bc_map *map)
{
	*c = (struct bc_cachefile){.data.fd = -1,
		.ready_fd = -1,
		.guard = -1,
		.map = map,
		.store = s,
		.read_only = s->read_only};
	return -pthread_mutex_init(&c->lock, NULL);
}

static int open_file(int dir, const char *name, int flags, struct stat *ret)
{
	int fd, r = 0;

	fd = openat(
		dir, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, ret) < 0)
		r = -errno;
	else if (!S_ISREG(ret->st_mode))
		r = -EPROTO;
	if (r == 0)
		return fd;
	(void)close(fd); /* nothing was written */
	return r;
}

/* Map the ready file; len is its checked size. Takes fd on success. */
static int map_ready(struct bc_cachefile *c, int fd, size_t len)
{
	int prot = c->read_only ? PROT_READ : PROT_READ | PROT_WRITE;
	int guard, r;
	void *p;

	p = mmap(NULL, len, prot, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	guard = bc_guard_add(p, len);
	if (guard < 0) {
		r = guard;
		goto fail;
	}
	r = bc_ready_attach(p, len, c->map, &c->bits);
	if (r == 0 && bc_guard_is_broken(guard))
		r = -EIO;
	if (r < 0)
		goto fail;
	c->guard = guard;
	c->ready_fd = fd;
	c->ready = p;
	c->ready_len = len;
	return 0;

fail:
	bc_guard_remove(guard);
	(void)munmap(p, len); /* a whole mapping of ours */
	return r;
}

/*
 * Open data and ready in the directory dir, which fit c->map and each other,
 * and map the bits. 0, -ENOENT, -EPROTO (they do not) or -errno.
 */
static int attach(struct bc_cachefile *c, int dir)
{
	CLEANUP_FD int ready = -1;
	CLEANUP_FD int data = -1;
	int flags = c->read_only ? O_RDONLY : O_RDWR, r;
	struct stat rst, dst;

	ready = open_file(dir, "ready", flags, &rst);
	if (ready < 0)
		return ready;
	data = open_file(dir, "data", flags, &dst);
	if (data < 0)
		return data;
	if ((uint64_t)rst.st_size != bc_ready_len(c->map->chunk_count) ||
		(uint64_t)dst.st_size != c->map->device_size)
		return -EPROTO;
	r = map_ready(c, ready, (size_t)rst.st_size);
	if (r < 0)
		return r;
	(void)take_fd(&ready); /* it is c's */
	rt_file_init(&c->data, take_fd(&data));
	return 0;
}

/* The opposite; fine for what is not attached. */
static void detach(struct bc_cachefile *c)
{
	if (c->data.fd >= 0)
		(void)close(c->data.fd); /* synced by its owner, or lost */
	bc_guard_remove(c->guard);
	if (c->ready)
		(void)munmap(c->ready, c->ready_len); /* a whole mapping */
	if (c->ready_fd >= 0)
		(void)close(c->ready_fd); /* written through the mapping */
	c->data.fd = -1;
	c->guard = -1;
	c->ready = NULL;
	c->ready_fd = -1;
}

/* All blocks there, so that a later store into the mapping needs none. */
static int allocate(int fd, size_t len)
{
	static const uint8_t zeros[4096];
	size_t off;
	int r = 0;

	if (fallocate(fd, 0, 0, (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	for (off = 0; r == 0 && off < len; off += sizeof(zeros))
		r = whole_pwrite(fd, zeros, sizeof(zeros), off);
	return r;
}

static int make_ready(const struct bc_cachefile *c, int dir)
{
	CLEANUP_FD int fd = -1;
	uint64_t header[512] = {0}; /* a page, aligned */
	struct stat st;
	int r;

	fd = open_file(dir, "ready", O_RDWR | O_CREAT | O_EXCL, &st);
	if (fd < 0)
		return fd;
	r = allocate(fd, bc_ready_len(c->map->chunk_count));
	if (r < 0)
		return r;
	bc_ready_format(header, c->map, c->store->boot_id);
	return whole_pwrite(fd, header, sizeof(header), 0);
}

static int make_data(const struct bc_cachefile *c, int dir)
{
	CLEANUP_FD int fd = -1;
	struct stat st;

	fd = open_file(dir, "data", O_RDWR | O_CREAT | O_EXCL, &st);
	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)c->map->device_size) < 0)
		return -errno;
	return 0;
}

int cachefile_unlink(int dir)
{
	if (unlinkat(dir, "ready", 0) < 0 && errno != ENOENT)
		return -errno;
	if (fsync(dir) < 0)
		return -errno;
	if (unlinkat(dir, "data", 0) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

/* New files for both. */
static int make_anew(struct bc_cachefile *c, int dir)
{
	int r = cachefile_unlink(dir);

	if (r == 0)
		r = make_data(c, dir);
	if (r == 0)
		r = make_ready(c, dir);
	return r < 0 ? r : attach(c, dir);
}

/* Whether the file holds just these bytes; piece by piece, maps are large. */
static bool holds(int dir, const char *name, const uint8_t *p, size_t len)
{
	CLEANUP_FD int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	uint8_t piece[16384];
	size_t at = 0;
	ssize_t n;

	if (fd < 0)
		return false;
	for (;;) {
		n = read(fd, piece, sizeof(piece));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 && at == len;
		if ((size_t)n > len - at || memcmp(piece, p + at, (size_t)n))
			return false;
		at += (size_t)n;
	}
}

/* The map beside its data, so that a later mount needs no source for it. */
static void keep_map(struct bc_cachefile *c, int dir, const struct digest *blob)
{
	char rel[STORE_MAX_REL];
	struct stat st;
	int r;

	if (fstatat(dir, "map", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		(map_is_of(c->map, &st) ||
			holds(dir, "map", c->map->base, c->map->base_len)))
		return;
	map_name(blob, &c->map->id, rel);
	r = put_map(c->store, rel, c->map);
	if (r < 0)
		log_warn("cannot keep '%s/%s' (error %d), going on without",
			c->store->path, rel, -r);
}

static int lock_dir(struct bc_store *s, const char *dir_path, int *ret)
{
	CLEANUP_FD int dir = -1;
	char inside[STORE_MAX_REL + 8];
	int r;

	(void)snprintf(inside, sizeof(inside), "%s/map", dir_path); /* fits */
	r = store_make_parents(s->dirfd, inside);
	if (r < 0)
		return r;
	dir = openat(s->dirfd, dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || flock(dir, LOCK_EX) < 0)
		return -errno;
	*ret = take_fd(&dir);
	return 0;
}

/* The file takes the place of data; then bits are made for it, all set. */
static int adopt_under_lock(
	struct bc_cachefile *c, int dir, const char *name, int fd)
{
	uint32_t i;
	int r;

	if (ftruncate(fd, (off_t)c->map->device_size) < 0)
		return -errno;
	if (unlinkat(dir, "ready", 0) == 0) {
		if (fsync(dir) < 0)
			return -errno;
	} else if (errno != ENOENT) {
		return -errno;
	}
	if (renameat(c->store->dirfd, name, dir, "data") < 0)
		return -errno;
	r = make_ready(c, dir);
	if (r == 0)
		r = attach(c, dir);
	for (i = 0; r == 0 && i < c->map->chunk_count; i++)
		bc_ready_set(&c->bits, i);
	if (r == 0)
		bc_cachefile_touch(c, 0, c->map->chunk_count);
	return r;
}

int store_adopt(struct bc_store *s, const char *name, int fd,
	const struct digest *blob, const struct bc_map *map)
{
	CLEANUP_FD int dir = -1;
	struct bc_cachefile c;
	char path[STORE_MAX_REL];
	int r;

	dir_name(blob, &map->id, path);
	r = lock_dir(s, path, &dir);
	if (r < 0)
		return r;
	r = init(&c, s, map);
	if (r < 0)
		return r;
	keep_map(&c, dir, blob);
	r = adopt_under_lock(&c, dir, name, fd);
	bc_cachefile_close(&c);
	return r;
}

/* Nothing of this is ours to write: bits that turn out wrong are kept aside. */
static int open_read_only(struct bc_cachefile *c, int dir)
{
	int r;

	if (flock(dir, LOCK_SH) < 0)
		return -errno;
	r = attach(c, dir);
	if (r < 0)
		return r;
	c->durable_only = !bc_ready_is_boot(&c->bits, c->store->boot_id);
	c->distrusted = mem_calloc(c->bits.words, sizeof(*c->distrusted));
	return c->distrusted ? 0 : -ENOMEM;
}

/*
 * Was complete when it was sealed, and what it lost since can never be written
 * to it again.
 */
static bool is_sealed_and_damaged(const struct bc_cachefile *c)
{
	return bc_ready_is_sealed(&c->bits) &&
	       !bc_ready_test(c->bits.durable, 0, c->map->chunk_count);
}

static int open_writable(
	struct bc_cachefile *c, const struct digest *blob, const char *dir_path)
{
	CLEANUP_FD int dir = -1;
	int r;

	r = lock_dir(c->store, dir_path, &dir);
	if (r < 0)
		return r;
	keep_map(c, dir, blob);
	r = attach(c, dir);
	if (r == 0 && is_sealed_and_damaged(c)) {
		detach(c);
		r = -EPROTO;
	}
	if (r == -ENOENT || r == -EPROTO || r == -ELOOP)
		r = make_anew(c, dir);
	if (r < 0)
		return r;
	/* Whoever came first in this boot has done it, under the same lock. */
	if (!bc_ready_is_boot(&c->bits, c->store->boot_id) &&
		cachefile_trust_again(c) < 0)
		bc_ready_new_boot(&c->bits, c->store->boot_id);
	return bc_guard_is_broken(c->guard) ? -EIO : 0;
}

int cachefile_open_dir(struct bc_store *s, int dir, const struct bc_map *map,
	struct bc_cachefile *ret)
{
	struct bc_cachefile *c = ret;
	int r;

	r = init(c, s, map);
	if (r < 0)
		return r;
	if (s->read_only) {
		r = open_read_only(c, dir);
	} else {
		r = flock(dir, LOCK_EX) < 0 ? -errno : attach(c, dir);
	}
	if (r < 0)
		bc_cachefile_close(c);
	return r;
}

int bc_cachefile_open(struct bc_store *s, const struct digest *blob,
	const struct bc_map *map, struct bc_cachefile *ret, struct err *e)
{
	CLEANUP_FD int dir = -1;
	struct bc_cachefile *c = ret;
	char path[STORE_MAX_REL];
	int r;

	if (digest_len(blob->algo) == 0 || digest_len(map->id.algo) == 0)
		return err_set(e, -EINVAL, "a cache file needs two digests");
	r = init(c, s, map);
	if (r < 0)
		return err_sys(e, r, "cannot make a lock for a cache file");
	dir_name(blob, &map->id, path);
	if (s->read_only) {
		dir = openat(
			s->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = dir < 0 ? -errno : open_read_only(c, dir);
	} else {
		r = open_writable(c, blob, path);
	}
	if (r < 0) {
		if (!s->read_only || r != -ENOENT)
			log_warn("cannot use '%s/%s' (error %d), caching "
				 "nothing of this blob",
				s->path, path, -r);
		bc_cachefile_close(c);
		(void)init(c, s, map); /* worked before */
		c->read_only = true;
	}
	return 0;
}

void bc_cachefile_close(struct bc_cachefile *c)
{
	detach(c);
	mem_free(c->distrusted);
	(void)pthread_mutex_destroy(&c->lock); /* nobody holds it */
	*c = (struct bc_cachefile){.data.fd = -1, .ready_fd = -1, .guard = -1};
}

bool bc_store_has_stream(
	struct bc_store *s, const struct digest *blob, const struct bc_map *map)
{
	struct bc_cachefile c;
	struct bc_group g;
	bool has_all = true;
	uint32_t i;

	if (!map->has_stream)
		return true;
	if (bc_cachefile_open(s, blob, map, &c, NULL) < 0)
		return false;
	for (i = 0; i < map->group_count && has_all; i++) {
		g = bc_map_group(map, i);
		if (g.codec == BC_CODEC_STREAM)
			has_all = bc_cachefile_is_ready(
				&c, g.first_chunk, g.chunk_count);
	}
	bc_cachefile_close(&c);
	return has_all;
}
