/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLAKE3 hashing. Input is cut into chunks of 1024 bytes, each chunk
 * into blocks of 64; chunk results are the leaves of a binary tree whose left
 * subtrees are complete (paper, sections 2.1 to 2.4). The stack holds one
 * result for each complete subtree not yet joined. Long input goes eight chunks
 * at a time through blake3_wide.c.
 */
#include "runtime/base/blake3.h"

#include <string.h>

#include "runtime/base/blake3_wide.h"
#include "runtime/base/buf.h"

enum {
	PARENT = 4,
	ROOT = 8,
};

/* Chunks: from here on eight at once, whatever they are, cost less. */
#define WIDE_LEAST 3

static const uint32_t iv[8] = BLAKE3_IV;

static inline uint32_t rotate(uint32_t v, unsigned n)
{
	return v >> n | v << (32 - n);
}

static inline void mix(uint32_t *s, unsigned a, unsigned b, unsigned c,
	unsigned d, uint32_t x, uint32_t y)
{
	s[a] += s[b] + x;
	s[d] = rotate(s[d] ^ s[a], 16);
	s[c] += s[d];
	s[b] = rotate(s[b] ^ s[c], 12);
	s[a] += s[b] + y;
	s[d] = rotate(s[d] ^ s[a], 8);
	s[c] += s[d];
	s[b] = rotate(s[b] ^ s[c], 7);
}

/* order is known when this is compiled: no index is left. */
static inline __attribute__((always_inline)) void do_round(
	uint32_t s[16], const uint32_t m[16], const uint8_t order[16])
{
	mix(s, 0, 4, 8, 12, m[order[0]], m[order[1]]);
	mix(s, 1, 5, 9, 13, m[order[2]], m[order[3]]);
	mix(s, 2, 6, 10, 14, m[order[4]], m[order[5]]);
	mix(s, 3, 7, 11, 15, m[order[6]], m[order[7]]);
	mix(s, 0, 5, 10, 15, m[order[8]], m[order[9]]);
	mix(s, 1, 6, 11, 12, m[order[10]], m[order[11]]);
	mix(s, 2, 7, 8, 13, m[order[12]], m[order[13]]);
	mix(s, 3, 4, 9, 14, m[order[14]], m[order[15]]);
}

/* The compression function (paper, section 2.2); cv is replaced. */
static void compress(uint32_t cv[8], const uint32_t m[16], uint64_t counter,
	uint32_t len, uint32_t flags)
{
	uint32_t s[16] = {cv[0], cv[1], cv[2], cv[3], cv[4], cv[5], cv[6],
		cv[7], iv[0], iv[1], iv[2], iv[3], (uint32_t)counter,
		(uint32_t)(counter >> 32), len, flags};
	unsigned i;

	do_round(s, m, blake3_order[0]);
	do_round(s, m, blake3_order[1]);
	do_round(s, m, blake3_order[2]);
	do_round(s, m, blake3_order[3]);
	do_round(s, m, blake3_order[4]);
	do_round(s, m, blake3_order[5]);
	do_round(s, m, blake3_order[6]);
	for (i = 0; i < 8; i++)
		cv[i] = s[i] ^ s[i + 8];
}

static void load_block(uint32_t m[16], const uint8_t *p, size_t n)
{
	uint8_t padded[BLAKE3_BLOCK_LEN] = {0};
	unsigned i;

	if (n)
		memcpy(padded, p, n);
	for (i = 0; i < 16; i++)
		m[i] = le32_at(padded + 4 * i);
}

/* The result of one chunk of n <= 1024 bytes. */
static void chunk_cv(uint32_t cv[8], const uint8_t *p, size_t n,
	uint64_t counter, uint32_t extra)
{
	uint32_t m[16], flags = BLAKE3_CHUNK_START;

	memcpy(cv, iv, sizeof(iv));
	while (n > BLAKE3_BLOCK_LEN) {
		load_block(m, p, BLAKE3_BLOCK_LEN);
		compress(cv, m, counter, BLAKE3_BLOCK_LEN, flags);
		p += BLAKE3_BLOCK_LEN;
		n -= BLAKE3_BLOCK_LEN;
		flags = 0;
	}
	load_block(m, p, n);
	compress(cv, m, counter, (uint32_t)n, flags | BLAKE3_CHUNK_END | extra);
}

/* right becomes the parent of left and right. */
static void join(const uint32_t left[8], uint32_t right[8], uint32_t extra)
{
	uint32_t m[16];

	memcpy(m, left, 32);
	memcpy(m + 8, right, 32);
	memcpy(right, iv, sizeof(iv));
	compress(right, m, 0, BLAKE3_BLOCK_LEN, PARENT | extra);
}

void blake3_init(struct blake3 *b)
{
	b->cv_count = 0;
	b->chunk_counter = 0;
	b->buf_len = 0;
}

/*
 * A chunk that is not the last has ended: join it with each complete subtree of
 * its size; the zero bits at the end of the chunk count say how many. cv is
 * overwritten.
 */
static void push_cv(struct blake3 *b, uint32_t cv[8])
{
	uint64_t total = ++b->chunk_counter;

	for (; (total & 1) == 0; total >>= 1)
		join(b->cv_stack[--b->cv_count], cv, 0);
	memcpy(b->cv_stack[b->cv_count++], cv, 32);
}

static void push_chunk(struct blake3 *b, const uint8_t *p)
{
	uint32_t cv[8];

	chunk_cv(cv, p, BLAKE3_CHUNK_LEN, b->chunk_counter, 0);
	push_cv(b, cv);
}

static void push_wide(struct blake3 *b, const uint8_t *p, unsigned count)
{
	uint32_t cvs[BLAKE3_LANES][8];
	blake3_wide_fn *wide = blake3_wide_generic;
	unsigned l;

#if BLAKE3_AVX2
	if (__builtin_cpu_supports("avx2"))
		wide = blake3_wide_avx2;
#endif
	wide(p, count, b->chunk_counter, cvs);
	for (l = 0; l < count; l++)
		push_cv(b, cvs[l]);
}

/* Chunks of n > 1024 bytes that are not the last; returns their bytes. */
static size_t push_chunks(struct blake3 *b, const uint8_t *p, size_t n)
{
	size_t count = (n - 1) / BLAKE3_CHUNK_LEN;

	if (count < WIDE_LEAST)
		count = 1;
	else if (count > BLAKE3_LANES)
		count = BLAKE3_LANES;
	if (count == 1)
		push_chunk(b, p);
	else
		push_wide(b, p, (unsigned)count);
	return count * BLAKE3_CHUNK_LEN;
}

void blake3_update(struct blake3 *b, const void *p, size_t n)
{
	const uint8_t *in = p;
	size_t take;

	while (n > 0) {
		/* Only a chunk with more input behind it is not the last. */
		if (b->buf_len == BLAKE3_CHUNK_LEN) {
			push_chunk(b, b->buf);
			b->buf_len = 0;
		}
		if (b->buf_len == 0 && n > BLAKE3_CHUNK_LEN) {
			take = push_chunks(b, in, n);
		} else {
			take = BLAKE3_CHUNK_LEN - b->buf_len;
			take = take < n ? take : n;
			memcpy(b->buf + b->buf_len, in, take);
			b->buf_len += take;
		}
		in += take;
		n -= take;
	}
}

void blake3_final(struct blake3 *b, uint8_t out[BLAKE3_OUT_LEN])
{
	uint32_t cv[8];
	unsigned i;

	chunk_cv(cv, b->buf, b->buf_len, b->chunk_counter,
		b->cv_count == 0 ? ROOT : 0);
	while (b->cv_count > 0) {
		b->cv_count--;
		join(b->cv_stack[b->cv_count], cv, b->cv_count == 0 ? ROOT : 0);
	}
	for (i = 0; i < 8; i++)
		put_le32(out + 4 * i, cv[i]);
}
