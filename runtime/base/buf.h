/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable byte buffer with a hard cap, and a bounded reader for bytes that
 * come from outside. ONE_THREAD.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- growable buffer ---- */

struct buf {
	uint8_t *data; /* owned */
	size_t len, cap;
	size_t max; /* never grows beyond; set by buf_init */
};

/* No allocation. max 0 means SIZE_MAX / 2. */
void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);
/* Room for more bytes behind len. 0, -E2BIG or -ENOMEM. */
int buf_reserve(struct buf *b, size_t more);
int buf_append(struct buf *b, const void *p, size_t n);
int buf_append_zeros(struct buf *b, size_t n);
int buf_printf(struct buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* A terminating NUL behind data that len does not count. */
int buf_terminate(struct buf *b);
/* Whole file, at most b->max bytes. 0, -E2BIG, -ENOMEM or -errno of the file.
 */
int buf_read_file(struct buf *b, int dirfd, const char *path);
/* The same with an open file, from where it stands. */
int buf_read_fd(struct buf *b, int fd);

/* ---- bounded reader; little endian, as all our formats are ---- */

/*
 * A reader goes into its error state at the first read outside its range and
 * stays there: every later read gives 0 or NULL. So a parser reads a whole
 * record and asks rd_failed() once.
 */
struct rd {
	const uint8_t *p, *end;
	bool failed;
};

static inline struct rd rd_over(const void *p, size_t n)
{
	return (struct rd){.p = p, .end = n ? (const uint8_t *)p + n : p};
}

static inline bool rd_failed(const struct rd *r)
{
	return r->failed;
}

static inline size_t rd_left(const struct rd *r)
{
	return r->failed ? 0 : (size_t)(r->end - r->p);
}

/* n bytes, or NULL. */
const uint8_t *rd_bytes(struct rd *r, size_t n);
void rd_skip(struct rd *r, size_t n);
uint8_t rd_u8(struct rd *r);
uint16_t rd_u16(struct rd *r);
uint32_t rd_u32(struct rd *r);
uint64_t rd_u64(struct rd *r);

/* ---- fixed-width loads and stores at a place known to be in bounds ---- */

static inline uint16_t le16_at(const void *p)
{
	const uint8_t *b = p;

	return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t le32_at(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
	       (uint32_t)b[3] << 24;
}

static inline uint64_t le64_at(const void *p)
{
	return le32_at(p) | (uint64_t)le32_at((const uint8_t *)p + 4) << 32;
}

static inline void put_le16(void *p, uint16_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
}

static inline void put_le32(void *p, uint32_t v)
{
	put_le16(p, (uint16_t)v);
	put_le16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}

static inline void put_le64(void *p, uint64_t v)
{
	put_le32(p, (uint32_t)v);
	put_le32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}
