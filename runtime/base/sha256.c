/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 as FIPS 180-4 has it, in plain C; see sha256.h. */
#include "runtime/base/sha256.h"

#include <string.h>

#define BLOCK 64
#define LENGTH_AT 56 /* in the last block: the message's bits */

/* FIPS 180-4, 4.2.2: of the cube roots of the first 64 primes. */
static const uint32_t round_constant[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf,
	0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
	0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7,
	0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
	0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
	0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
	0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
	0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c,
	0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee,
	0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2};

static uint32_t load(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
}

static void store(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static uint32_t turn(uint32_t x, unsigned n)
{
	return x >> n | x << (32 - n);
}

/* The message schedule: 16 words of the block and 48 made of them. */
static void expand(const uint8_t *block, uint32_t w[64])
{
	uint32_t a, b;
	unsigned t;

	for (t = 0; t < 16; t++)
		w[t] = load(block + 4 * (size_t)t);
	for (; t < 64; t++) {
		a = w[t - 15];
		b = w[t - 2];
		w[t] = w[t - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) +
		       w[t - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
	}
}

static void take_block(uint32_t state[8], const uint8_t *block)
{
	uint32_t w[64], s[8], up, down;
	unsigned t;

	expand(block, w);
	memcpy(s, state, sizeof(s));
	for (t = 0; t < 64; t++) {
		up = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) +
		     ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_constant[t] +
		     w[t];
		down = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) +
		       ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
		memmove(s + 1, s, 7 * sizeof(s[0]));
		s[4] += up;
		s[0] = up + down;
	}
	for (t = 0; t < 8; t++)
		state[t] += s[t];
}

void sha256_of(const void *p, size_t n, uint8_t out[32])
{
	uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	uint8_t last[2 * BLOCK] = {0};
	const uint8_t *at = p;
	size_t left, end, i;

	for (left = n; left >= BLOCK; left -= BLOCK, at += BLOCK)
		take_block(state, at);
	if (left)
		memcpy(last, at, left);
	last[left] = 0x80;
	end = left < LENGTH_AT ? BLOCK : 2 * BLOCK;
	store(last + end - 8, (uint32_t)((uint64_t)n >> 29));
	store(last + end - 4, (uint32_t)((uint64_t)n << 3));
	for (i = 0; i < end; i += BLOCK)
		take_block(state, last + i);
	for (i = 0; i < 8; i++)
		store(out + 4 * i, state[i]);
}
