/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight BLAKE3 chunks at once, one in each lane of a vector. blake3_wide.c is
 * compiled once per instruction set; blake3.c picks at run time.
 */
#pragma once

#include <stdint.h>

enum { BLAKE3_LANES = 8 };

/* Of the algorithm, for both files. */
enum {
	BLAKE3_CHUNK_START = 1, /* flags of a block */
	BLAKE3_CHUNK_END = 2,
	BLAKE3_BLOCK_LEN = 64,
	BLAKE3_ROUNDS = 7,
};
#define BLAKE3_IV \
	{ \
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, \
			0x9b05688c, 0x1f83d9ab, 0x5be0cd19 \
	}

/* The message order of each round: the permutation applied again and again. */
static const uint8_t blake3_order[BLAKE3_ROUNDS][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
	{3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1},
	{10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
	{12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4},
	{9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
	{11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

/*
 * in: count whole chunks (1 to BLAKE3_LANES), none of them the last of its
 * input; counter: the number of the first. cvs: their chaining values; it costs
 * the same for any count.
 */
typedef void blake3_wide_fn(const uint8_t *in, unsigned count, uint64_t counter,
	uint32_t cvs[BLAKE3_LANES][8]);

blake3_wide_fn blake3_wide_generic; /* what the compiler makes of vectors */
blake3_wide_fn blake3_wide_avx2;    /* x86-64 with AVX2 only */
