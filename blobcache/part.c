/* SPDX-License-Identifier: Apache-2.0 */
/* The beginning of a blob; see part.h. */
#include "blobcache/part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "blobcache/evict.h"
#include "blobcache/store_int.h"
#include "runtime/base/log.h"
#include "runtime/base/whole.h"

#define LOG_TOPIC "cache"
#define PREFIX "part-"
#define OPEN_TRIES 4

/* Locked, and still what the name means: a sweep may have come between. */
static int open_locked(struct bc_part *p)
{
	struct stat st;
	int fd, tries;

	for (tries = 0; tries < OPEN_TRIES; tries++) {
		fd = openat(p->store->dirfd, p->name,
			O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			(void)close(fd); /* not ours */
			return -EBUSY;
		}
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
			st.st_nlink > 0) {
			p->fd = fd;
			p->len = (uint64_t)st.st_size;
			return 0;
		}
		(void)close(fd); /* of no name any more */
	}
	return -EBUSY;
}

int bc_part_open(struct bc_store *s, const struct digest *blob, uint64_t size,
	struct bc_part *ret)
{
	struct bc_part p = {.store = s, .fd = -1};
	char hex[2 * DIGEST_MAX_BYTES + 1];
	int r;

	*ret = (struct bc_part){.fd = -1};
	if (blob->algo == DIGEST_NONE)
		return -EINVAL;
	if (s->read_only)
		return -EROFS;
	if (store_has_no_room(s))
		return -ENOSPC;
	(void)snprintf(p.name, sizeof(p.name), "tmp/" PREFIX "%s-%s",
		digest_algo_name(blob->algo), digest_hex(blob, hex)); /* fits */
	r = open_locked(&p);
	if (r < 0)
		return r;
	if (p.len > size) /* cannot be its beginning */
		p.len = 0;
	if (ftruncate(p.fd, (off_t)p.len) < 0) {
		r = -errno;
		(void)close(p.fd); /* as it was */
		return r;
	}
	*ret = p;
	return 0;
}

void bc_part_add(struct bc_part *p, const void *data, size_t n)
{
	int r = -ENOSPC;

	if (!p->store)
		return;
	if (!store_has_no_room(p->store))
		r = whole_pwrite(p->fd, data, n, p->len);
	if (r == 0) {
		p->len += n;
		bc_store_note(p->store, n);
		return;
	}
	log_info("what was fetched of a layer is not kept for another try "
		 "(error %d)",
		-r);
	bc_part_drop(p);
}

int bc_part_read(const struct bc_part *p, void *to, size_t n, uint64_t off)
{
	return whole_pread(p->fd, to, n, off);
}

void bc_part_keep(struct bc_part *p)
{
	if (!p->store)
		return;
	if (p->len == 0) {
		bc_part_drop(p);
		return;
	}
	(void)close(p->fd); /* what the disk loses of it is fetched again */
	*p = (struct bc_part){.fd = -1};
}

void bc_part_drop(struct bc_part *p)
{
	if (!p->store)
		return;
	(void)unlinkat(p->store->dirfd, p->name, 0); /* else a later sweep */
	(void)close(p->fd);                          /* nobody wants it */
	*p = (struct bc_part){.fd = -1};
}

bool bc_part_is_young(int tmp_fd, const char *name, uint32_t max_age_s)
{
	struct stat st;

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 ||
		fstatat(tmp_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return time(NULL) - st.st_mtime < (time_t)max_age_s;
}
