/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks of hashed files; see mark.h. A mark is worth nothing after this boot,
 * so it is never synced: what a crash leaves of it is not of the next boot.
 */
#include "blobcache/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "blobcache/store_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/whole.h"

#define MARK_MAGIC "SLUICEOK"
#define MARK_VERSION 1
/* More than a tick of the clock that stamps files. */
#define MARK_MIN_AGE_NS UINT64_C(20000000)
#define NS UINT64_C(1000000000)

/* The file: host byte order, as it never leaves the boot. */
struct mark {
	uint8_t magic[8];
	uint32_t version;
	uint32_t algo;
	uint8_t boot_id[BC_BOOT_ID_LEN];
	uint64_t dev, ino, size;
	int64_t mtime, ctime;
	uint64_t mtime_ns, ctime_ns;
	uint8_t digest[DIGEST_MAX_BYTES];
	struct bc_mark_note note;
	uint32_t reserved;
	uint32_t crc; /* of all before */
};

static bool mark_name(const char *rel, char ret[STORE_MAX_REL])
{
	int n = snprintf(ret, STORE_MAX_REL, "%s.seen", rel);

	return n > 0 && n < STORE_MAX_REL;
}

/* All but the note and the sum. */
static void fill(const struct bc_store *s, const struct stat *st,
	const struct digest *d, struct mark *m)
{
	*m = (struct mark){
		.version = MARK_VERSION,
		.algo = d->algo,
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mtime = st->st_mtim.tv_sec,
		.ctime = st->st_ctim.tv_sec,
		.mtime_ns = (uint64_t)st->st_mtim.tv_nsec,
		.ctime_ns = (uint64_t)st->st_ctim.tv_nsec,
	};
	memcpy(m->magic, MARK_MAGIC, sizeof(m->magic));
	memcpy(m->boot_id, s->boot_id, sizeof(m->boot_id));
	memcpy(m->digest, d->bytes, digest_len(d->algo));
}

static uint32_t sum_of(const struct mark *m)
{
	return crc32c(~0u, m, offsetof(struct mark, crc));
}

/* A clock that was set back makes files too young: they are hashed again. */
static bool is_settled(const struct stat *st)
{
	struct timespec now;
	uint64_t then;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &now); /* cannot fail */
	then = (uint64_t)st->st_ctim.tv_sec * NS +
	       (uint64_t)st->st_ctim.tv_nsec;
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec >
	       then + MARK_MIN_AGE_NS;
}

int bc_mark_look(int fd, struct bc_mark_look *ret)
{
	if (fstat(fd, &ret->st) < 0)
		return -errno;
	ret->is_settled = is_settled(&ret->st);
	return 0;
}

bool bc_mark_is_there(struct bc_store *s, const char *rel,
	const struct bc_mark_look *l, const struct digest *d,
	struct bc_mark_note *ret_note)
{
	char name[STORE_MAX_REL];
	struct mark want, got;
	CLEANUP_FD int fd = -1;

	if (!mark_name(rel, name))
		return false;
	fd = openat(
		s->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || whole_pread(fd, &got, sizeof(got), 0) < 0)
		return false;
	fill(s, &l->st, d, &want);
	if (memcmp(&got, &want, offsetof(struct mark, note)) != 0 ||
		got.crc != sum_of(&got))
		return false;
	if (ret_note)
		*ret_note = got.note;
	return true;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size &&
	       memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) == 0 &&
	       memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim)) == 0;
}

/* The file at rel, as st says, has the digest d. */
static void put(struct bc_store *s, const char *rel, const struct stat *st,
	const struct digest *d, const struct bc_mark_note *note)
{
	char name[STORE_MAX_REL], tmp[32];
	struct mark m;
	int out;

	if (s->read_only || !mark_name(rel, name))
		return;
	fill(s, st, d, &m);
	if (note)
		m.note = *note;
	m.crc = sum_of(&m);
	if (store_tmp_create(s, tmp, &out) < 0)
		return;
	if (whole_pwrite(out, &m, sizeof(m), 0) < 0 ||
		renameat(s->dirfd, tmp, s->dirfd, name) < 0)
		(void)unlinkat(s->dirfd, tmp, 0); /* else the next sweep */
	(void)close(out); /* lost: then there is no mark */
}

static bool has_changed(
	const struct bc_mark_look *before, const struct stat *st)
{
	return !before->is_settled || !is_same(&before->st, st);
}

void bc_mark_put(struct bc_store *s, const char *rel, int fd,
	const struct bc_mark_look *before, const struct digest *d,
	const struct bc_mark_note *note)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size < BC_MARK_MIN_LEN ||
		(before && has_changed(before, &st)))
		return;
	put(s, rel, &st, d, note);
}

/* As it is in out: by its mark, else by a hash, and then it gets a mark. */
static int check(struct bc_store *s, const char *rel, int fd,
	const struct bc_mark_look *before, const struct digest *d,
	const struct buf *out)
{
	struct bc_mark_note note, now = {crc32c(~0u, out->data, out->len), 0};
	struct stat st;
	int r;

	if (bc_mark_is_there(s, rel, before, d, &note) &&
		out->len == (uint64_t)before->st.st_size && note.a == now.a)
		return 0;
	r = digest_check(d, out->data, out->len);
	if (r == 0 && fstat(fd, &st) == 0 && !has_changed(before, &st))
		put(s, rel, &st, d, &now);
	return r;
}

int bc_mark_get(struct bc_store *s, const char *rel, const struct digest *d,
	struct buf *out)
{
	struct bc_mark_look before;
	CLEANUP_FD int fd = -1;
	int r;

	fd = openat(
		s->dirfd, rel, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	r = fd < 0 ? -errno : bc_mark_look(fd, &before);
	if (r == 0)
		r = buf_read_fd(out, fd);
	if (r == 0)
		r = check(s, rel, fd, &before, d, out);
	if (r < 0)
		out->len = 0;
	return r;
}

void bc_mark_remove(struct bc_store *s, const char *rel)
{
	char name[STORE_MAX_REL];

	if (!s->read_only && mark_name(rel, name))
		(void)unlinkat(s->dirfd, name, 0); /* perhaps there is none */
}
