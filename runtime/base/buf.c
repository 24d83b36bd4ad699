/* SPDX-License-Identifier: Apache-2.0 */
/* Growable buffer and bounded reader; see buf.h. */
#include "runtime/base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max ? max : SIZE_MAX / 2};
}

void buf_fini(struct buf *b)
{
	mem_free(b->data);
	*b = (struct buf){.max = b->max};
}

int buf_reserve(struct buf *b, size_t more)
{
	if (more > b->max || b->len > b->max - more)
		return -E2BIG;
	return mem_grow(
		(void **)&b->data, &b->cap, b->len + more, b->max + 1, 1);
}

int buf_append(struct buf *b, const void *p, size_t n)
{
	int r;

	if (n == 0)
		return 0;
	r = buf_reserve(b, n);
	if (r < 0)
		return r;
	memcpy(b->data + b->len, p, n);
	b->len += n;
	return 0;
}

int buf_append_zeros(struct buf *b, size_t n)
{
	int r;

	if (n == 0)
		return 0;
	r = buf_reserve(b, n);
	if (r < 0)
		return r;
	memset(b->data + b->len, 0, n);
	b->len += n;
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n, r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	r = buf_reserve(b, (size_t)n);
	if (r == 0)
		/* Room for the NUL that vsnprintf writes and len leaves out. */
		r = mem_grow((void **)&b->data, &b->cap, b->len + (size_t)n + 1,
			b->max + 1, 1);
	if (r < 0)
		return r;
	va_start(ap, fmt);
	(void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

int buf_terminate(struct buf *b)
{
	int r;

	r = mem_grow((void **)&b->data, &b->cap, b->len + 1, b->max + 1, 1);
	if (r < 0)
		return r;
	b->data[b->len] = '\0';
	return 0;
}

/*
 * Room for a whole regular file at once: a large one is neither copied again
 * and again, nor does it hold twice what it needs. Its size is only a hint.
 */
static int reserve_for(struct buf *b, int fd)
{
	struct stat st;
	size_t want;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 ||
		(uint64_t)st.st_size > b->max - b->len)
		return 0;
	want = b->len + (size_t)st.st_size + 1; /* one to see the end */
	return mem_grow((void **)&b->data, &b->cap, want, want, 1);
}

int buf_read_fd(struct buf *b, int fd)
{
	ssize_t n;
	int r;

	r = reserve_for(b, fd);
	if (r < 0)
		return r;
	for (;;) {
		size_t room = b->cap - b->len;

		if (room == 0) {
			room = min_u64(65536, b->max - b->len);
			r = buf_reserve(b, room);
			if (r < 0)
				return r;
			/* At the cap one byte more would be too much. */
			room = room ? room : 1;
			r = mem_grow((void **)&b->data, &b->cap, b->len + room,
				b->max + 1, 1);
			if (r < 0)
				return r;
		}
		n = read(fd, b->data + b->len, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		if ((size_t)n > b->max - b->len)
			return -E2BIG;
		b->len += (size_t)n;
	}
}

int buf_read_file(struct buf *b, int dirfd, const char *path)
{
	CLEANUP_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : buf_read_fd(b, fd);
}

const uint8_t *rd_bytes(struct rd *r, size_t n)
{
	const uint8_t *at = r->p;

	if (r->failed || (size_t)(r->end - r->p) < n) {
		r->failed = true;
		return NULL;
	}
	r->p += n;
	return at;
}

void rd_skip(struct rd *r, size_t n)
{
	(void)rd_bytes(r, n); /* a failure stays in r */
}

uint8_t rd_u8(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 1);

	return p ? *p : 0;
}

uint16_t rd_u16(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 2);

	return p ? le16_at(p) : 0;
}

uint32_t rd_u32(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 4);

	return p ? le32_at(p) : 0;
}

uint64_t rd_u64(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 8);

	return p ? le64_at(p) : 0;
}
