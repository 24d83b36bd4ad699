/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli; RFC 3720 appendix B.4), without a final inversion. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The usual checksum of n bytes is ~crc32c(~0, p, n); EROFS leaves the last
 * inversion out.
 */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
