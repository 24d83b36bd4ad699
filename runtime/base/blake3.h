/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLAKE3, hash mode with 256 bits of output (the BLAKE3 paper, section 2).
 * Debian 12 has no library for it; RAFS needs it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define BLAKE3_OUT_LEN 32
#define BLAKE3_CHUNK_LEN 1024
#define BLAKE3_MAX_DEPTH 54

struct blake3 {
	uint32_t cv_stack[BLAKE3_MAX_DEPTH + 1][8];
	unsigned cv_count;
	uint64_t chunk_counter; /* chunks finished before the one in buf */
	uint8_t buf[BLAKE3_CHUNK_LEN];
	size_t buf_len;
};

/* One hash after the other; any number of updates, one final. */
void blake3_init(struct blake3 *b);
void blake3_update(struct blake3 *b, const void *p, size_t n);
/* May be called once. */
void blake3_final(struct blake3 *b, uint8_t out[BLAKE3_OUT_LEN]);
