/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) in plain C, for a few KiB; digest.h says when. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The digest of n bytes. PURE. */
void sha256(const void *p, size_t n, uint8_t ret[32]);
