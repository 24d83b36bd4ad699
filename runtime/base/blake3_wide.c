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

enum {
	ROUNDS = 7,
};

static const uint32_t iv[8] = BLAKE3_IV;

/* The message order of each round: the permutation applied again and again. */
static const uint8_t order[ROUNDS][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
	{3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1},
	{10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
	{12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4},
	{9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
	{11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

static inline __attribute__((always_inline)) lanes all(uint32_t v)
{
	return (lanes){v, v, v, v, v, v, v, v};
}

static inline __attribute__((always_inline)) lanes rotate(lanes v, int n)
{
	return v >> n | v << (32 - n);
}

static inline __attribute__((always_inline)) void mix(
	lanes *s, int a, int b, int c, int d, lanes x, lanes y)
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

/* Word w of block number block of every chunk, one chunk in each lane. */
static inline void load(lanes m[16], const uint8_t *in, unsigned block)
{
	uint32_t words[16][BLAKE3_LANES];
	const uint8_t *at;
	unsigned w, l;

	for (l = 0; l < BLAKE3_LANES; l++) {
		at = in + l * BLAKE3_CHUNK_LEN + block * BLAKE3_BLOCK_LEN;
		for (w = 0; w < 16; w++)
			words[w][l] = le32_at(at + 4 * w);
	}
	memcpy(m, words, sizeof(words));
}

static inline void compress(lanes cv[8], const lanes m[16], lanes counter_low,
	lanes counter_high, uint32_t flags)
{
	lanes s[16] = {cv[0], cv[1], cv[2], cv[3], cv[4], cv[5], cv[6], cv[7],
		all(iv[0]), all(iv[1]), all(iv[2]), all(iv[3]), counter_low,
		counter_high, all(BLAKE3_BLOCK_LEN), all(flags)};
	const uint8_t *o;
	unsigned r, i;

	for (r = 0; r < ROUNDS; r++) {
		o = order[r];
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

void BLAKE3_WIDE_NAME(
	const uint8_t *in, uint64_t counter, uint32_t cvs[BLAKE3_LANES][8])
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
		load(m, in, b);
		compress(cv, m, low, high,
			(b == 0 ? BLAKE3_CHUNK_START : 0) |
				(b == last ? BLAKE3_CHUNK_END : 0));
	}
	for (l = 0; l < BLAKE3_LANES; l++)
		for (i = 0; i < 8; i++)
			cvs[l][i] = cv[i][l];
}
