/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Map files. A large one is mmapped, which costs neither time nor memory for
 * what nobody looks at; a lost page of it is seen by the guard, and a record
 * that came back different by whoever reads it (bc_map_chunk). A small one is
 * read into memory, as one is where no more mappings can be guarded.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "blobcache/guard.h"
#include "blobcache/map_int.h"
#include "blobcache/mark.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"
#include "runtime/base/whole.h"

static int open_copy(int fd, size_t len, struct bc_map *ret)
{
	uint8_t *p = mem_alloc(len ? len : 1);
	int r;

	if (!p)
		return -ENOMEM;
	r = whole_pread(fd, p, len, 0);
	if (r < 0) {
		mem_free(p);
		return r;
	}
	*ret = (struct bc_map){.base = p, .base_len = len};
	return 0;
}

/* -ENOSPC: too many are guarded. */
static int open_mapping(int fd, const struct stat *st, struct bc_map *ret)
{
	size_t len = (size_t)st->st_size;
	struct bc_map_file *f = mem_zalloc(sizeof(*f));
	void *p;

	if (!f)
		return -ENOMEM;
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		mem_free(f);
		return -errno;
	}
	f->guard = bc_guard_add(p, len);
	if (f->guard < 0) {
		int r = f->guard;

		(void)munmap(p, len); /* a whole mapping of ours */
		mem_free(f);
		return r;
	}
	f->dev = st->st_dev;
	f->ino = st->st_ino;
	*ret = (struct bc_map){.base = p, .base_len = len, .file = f};
	return 0;
}

static int open_bytes(int fd, struct bc_map *ret)
{
	struct stat st;
	int r = -ENOSPC;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EPROTO;
	if ((uint64_t)st.st_size > MAP_MAX_BYTES)
		return -E2BIG;
	if (st.st_size >= BC_MARK_MIN_LEN)
		r = open_mapping(fd, &st, ret);
	return r == -ENOSPC ? open_copy(fd, (size_t)st.st_size, ret) : r;
}

/* The sha256 of all of it; without one to compare with the checksum inside. */
static int check_digest(const struct bc_map *m, const struct digest *want,
	struct digest *ret, struct err *e)
{
	const struct map_header *h = m->base;
	struct digest sum;
	int r;

	r = digest_of(DIGEST_SHA256, m->base, m->base_len, ret);
	if (r == 0 && want && !digest_is_equal(ret, want))
		return err_set(e, -EBADMSG, "the map does not have its digest");
	if (r == 0 && !want) {
		r = map_checksum(h, m->base_len, &sum);
		if (r == 0 && memcmp(sum.bytes, h->checksum, 32) != 0)
			return err_set(
				e, -EBADMSG, "the map's checksum is wrong");
	}
	return r < 0 ? err_sys(e, r, "cannot hash the map") : 0;
}

int map_open_fd(int fd, const char *name, const struct digest *want,
	const struct map_known *known, struct bc_map *ret, struct err *e)
{
	struct bc_map m = {0}, parsed;
	struct digest id = {0};
	int r;

	r = open_bytes(fd, &m);
	if (r < 0)
		return err_sys(e, r, "cannot read the map '%s'", name);
	if (known)
		id = *want;
	else if (want)
		r = check_digest(&m, want, &id, e);
	/* The header alone: else the disk is busy with what is around it. */
	if (known)
		bc_map_read_alone(&m, true);
	if (r == 0)
		r = map_parse(m.base, m.base_len, known, &parsed, e);
	if (known)
		bc_map_read_alone(&m, false);
	if (r == 0 && !want)
		r = check_digest(&m, NULL, &id, e);
	if (r == 0 && bc_map_is_lost(&m))
		r = err_set(e, -EIO, "the file was cut short");
	if (r < 0) {
		bc_map_close(&m);
		(void)err_wrap(e, "'%s'", name);
		return r;
	}
	parsed.id = id;
	parsed.file = m.file;
	*ret = parsed;
	return 0;
}

int bc_map_open(int dirfd, const char *path, const struct digest *want,
	struct bc_map *ret, struct err *e)
{
	CLEANUP_FD int fd =
		openat(dirfd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, -errno, "cannot read the map '%s'", path);
	return map_open_fd(fd, path, want, NULL, ret, e);
}

void bc_map_read_alone(const struct bc_map *m, bool is_alone)
{
	/* advice: what it fails to do is no error */
	if (m->file)
		(void)madvise((void *)(uintptr_t)m->base, m->base_len,
			is_alone ? MADV_RANDOM : MADV_NORMAL);
}

bool map_is_of(const struct bc_map *m, const struct stat *st)
{
	return m->file && m->file->dev == st->st_dev &&
	       m->file->ino == st->st_ino &&
	       (uint64_t)st->st_size == m->base_len;
}

void bc_map_close(struct bc_map *m)
{
	if (m->file) {
		bc_guard_remove(m->file->guard);
		/* a whole mapping of ours */
		(void)munmap((void *)(uintptr_t)m->base, m->base_len);
		mem_free(m->file);
	} else {
		mem_free((void *)(uintptr_t)m->base);
	}
	*m = (struct bc_map){0};
}
