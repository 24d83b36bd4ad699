/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight BLAKE3 chunks at once with the compiler's vector types; see
 * blake3_wide.h. BLAKE3_WIDE_NAME is the function's name for the instruction
 * set that this object is compiled for.
 */
#include "runtime/base/blake3_wide.h"

#include <string.h>

#include "runtime/base/blake3.h"
#include "runtime/base/buf.h"

typedef uint32_t lanes __attribute__((vector_size(4 * BLAKE3_LANES)));
typedef uint16_t halves __attribute__((vector_size(4 * BLAKE3_LANES)));
typedef uint8_t bytes __attribute__((vector_size(4 * BLAKE3_LANES)));

static const uint32_t iv[8] = BLAKE3_IV;

static inline __attribute__((always_inline)) lanes all(uint32_t v)
{
	return (lanes){v, v, v, v, v, v, v, v};
}

static inline __attribute__((always_inline)) lanes rotate(lanes v, int n)
{
	return v >> n | v << (32 - n);
}

/* Whole bytes: one shuffle where shifts are three instructions. */
static inline __attribute__((always_inline)) lanes rotate16(lanes v)
{
	const halves h = (halves)v;

	return (lanes)__builtin_shufflevector(
		h, h, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
}

static inline __attribute__((always_inline)) lanes rotate8(lanes v)
{
	const bytes b = (bytes)v;

	return (lanes)__builtin_shufflevector(b, b, 1, 2, 3, 0, 5, 6, 7, 4, 9,
		10, 11, 8, 13, 14, 15, 12, 17, 18, 19, 16, 21, 22, 23, 20, 25,
		26, 27, 24, 29, 30, 31, 28);
}

static inline __attribute__((always_inline)) void mix(
	lanes *s, int a, int b, int c, int d, lanes x, lanes y)
{
	s[a] += s[b] + x;
	s[d] = rotate16(s[d] ^ s[a]);
	s[c] += s[d];
	s[b] = rotate(s[b] ^ s[c], 12);
	s[a] += s[b] + y;
	s[d] = rotate8(s[d] ^ s[a]);
	s[c] += s[d];
	s[b] = rotate(s[b] ^ s[c], 7);
}

/* Rows become columns: word l of row w is word w of m[l]. */
static inline __attribute__((always_inline)) void transpose(
	lanes m[BLAKE3_LANES], const lanes r[BLAKE3_LANES])
{
	lanes t[BLAKE3_LANES], u[BLAKE3_LANES];
	unsigned i;

	for (i = 0; i < 8; i += 2) { /* pairs of words */
		t[i] = __builtin_shufflevector(
			r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
		t[i + 1] = __builtin_shufflevector(
			r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
	}
	for (i = 0; i < 8; i += 4) { /* fours */
		u[i] = __builtin_shufflevector(
			t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
		u[i + 1] = __builtin_shufflevector(
			t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
		u[i + 2] = __builtin_shufflevector(
			t[i + 1], t[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
		u[i + 3] = __builtin_shufflevector(
			t[i + 1], t[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
	}
	for (i = 0; i < 4; i++) { /* all eight */
		m[i] = __builtin_shufflevector(
			u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
		m[i + 4] = __builtin_shufflevector(
			u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
	}
}

static inline __attribute__((always_inline)) lanes load_words(const uint8_t *at)
{
	uint32_t words[BLAKE3_LANES];
	lanes v;
	unsigned i;

	for (i = 0; i < BLAKE3_LANES; i++)
		words[i] = le32_at(at + 4 * i);
	memcpy(&v, words, sizeof(v));
	return v;
}

/*
 * Word w of block number block of every chunk, one chunk in each lane; those
 * behind count get the first one again.
 */
static inline __attribute__((always_inline)) void load(
	lanes m[16], const uint8_t *in, unsigned count, unsigned block)
{
	lanes front[BLAKE3_LANES], back[BLAKE3_LANES];
	const uint8_t *at;
	unsigned l;

	for (l = 0; l < BLAKE3_LANES; l++) {
		at = in + (l < count ? l : 0) * BLAKE3_CHUNK_LEN +
		     block * BLAKE3_BLOCK_LEN;
		front[l] = load_words(at);
		back[l] = load_words(at + 4 * BLAKE3_LANES);
	}
	transpose(m, front);
	transpose(m + BLAKE3_LANES, back);
}

static inline void compress(lanes cv[8], const lanes m[16], lanes counter_low,
	lanes counter_high, uint32_t flags)
{
	lanes s[16] = {cv[0], cv[1], cv[2], cv[3], cv[4], cv[5], cv[6], cv[7],
		all(iv[0]), all(iv[1]), all(iv[2]), all(iv[3]), counter_low,
		counter_high, all(BLAKE3_BLOCK_LEN), all(flags)};
	const uint8_t *o;
	unsigned r, i;

	for (r = 0; r < BLAKE3_ROUNDS; r++) {
		o = blake3_order[r];
		mix(s, 0, 4, 8, 12, m[o[0]], m[o[1]]);
		mix(s, 1, 5, 9, 13, m[o[2]], m[o[3]]);
		mix(s, 2, 6, 10, 14, m[o[4]], m[o[5]]);
		mix(s, 3, 7, 11, 15, m[o[6]], m[o[7]]);
		mix(s, 0, 5, 10, 15, m[o[8]], m[o[9]]);
		mix(s, 1, 6, 11, 12, m[o[10]], m[o[11]]);
		mix(s, 2, 7, 8, 13, m[o[12]], m[o[13]]);
		mix(s, 3, 4, 9, 14, m[o[14]], m[o[15]]);
	}
	for (i = 0; i < 8; i++)
		cv[i] = s[i] ^ s[i + 8];
}

void BLAKE3_WIDE_NAME(const uint8_t *in, unsigned count, uint64_t counter,
	uint32_t cvs[BLAKE3_LANES][8])
{
	const unsigned last = BLAKE3_CHUNK_LEN / BLAKE3_BLOCK_LEN - 1;
	lanes cv[8], m[16], low, high;
	unsigned b, i, l;

	for (l = 0; l < BLAKE3_LANES; l++) {
		low[l] = (uint32_t)(counter + l);
		high[l] = (uint32_t)((counter + l) >> 32);
	}
	for (i = 0; i < 8; i++)
		cv[i] = all(iv[i]);
	for (b = 0; b <= last; b++) {
		load(m, in, count, b);
		compress(cv, m, low, high,
			(b == 0 ? BLAKE3_CHUNK_START : 0) |
				(b == last ? BLAKE3_CHUNK_END : 0));
	}
	for (l = 0; l < count; l++)
		for (i = 0; i < 8; i++)
			cvs[l][i] = cv[i][l];
}
