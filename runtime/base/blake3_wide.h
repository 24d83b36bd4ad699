/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight BLAKE3 chunks at once, one in each lane of a vector. blake3_wide.c is
 * compiled once per instruction set; blake3.c picks at run time.
 */
#pragma once

#include <stdint.h>

enum { BLAKE3_LANES = 8 };

/*
 * in: BLAKE3_LANES whole chunks, none of them the last of its input; counter:
 * the number of the first. cvs: their chaining values.
 */
typedef void blake3_wide_fn(
	const uint8_t *in, uint64_t counter, uint32_t cvs[BLAKE3_LANES][8]);

blake3_wide_fn blake3_wide_generic; /* what the compiler makes of vectors */
blake3_wide_fn blake3_wide_avx2;    /* x86-64 with AVX2 only */
