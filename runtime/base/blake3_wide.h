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
};
#define BLAKE3_IV \
	{ \
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, \
			0x9b05688c, 0x1f83d9ab, 0x5be0cd19 \
	}

/*
 * in: BLAKE3_LANES whole chunks, none of them the last of its input; counter:
 * the number of the first. cvs: their chaining values.
 */
typedef void blake3_wide_fn(
	const uint8_t *in, uint64_t counter, uint32_t cvs[BLAKE3_LANES][8]);

blake3_wide_fn blake3_wide_generic; /* what the compiler makes of vectors */
blake3_wide_fn blake3_wide_avx2;    /* x86-64 with AVX2 only */
