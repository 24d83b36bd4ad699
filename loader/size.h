/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of bytes as people write and read them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * "20G": a number with K, M, G or T behind it or nothing, powers of 1024, at
 * most 2^60 bytes. False: it is none. PURE.
 */
bool ld_size_read(const char *s, uint64_t *ret);
/* "4.7 MiB" into ret; returns it. PURE. */
char *ld_size_text(uint64_t bytes, char ret[32]);
