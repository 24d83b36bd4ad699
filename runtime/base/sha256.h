/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 without a library, for the few bytes that a start hashes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * SHA-256 (FIPS 180-4) of n bytes at p. Right for any n, but several times
 * slower than libcrypto: digest_of() decides. Any thread; cannot fail.
 */
void sha256_of(const void *p, size_t n, uint8_t out[32]);
