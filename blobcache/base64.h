/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, section 4), as auth files and Basic need it. PURE. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* New, NUL-terminated memory; NULL: out of memory. */
char *bc_base64_encode(const void *p, size_t n);
/*
 * Decode n characters; padding may be missing. *ret is new memory with a NUL
 * behind *ret_len bytes. -EPROTO, -ENOMEM.
 */
int bc_base64_decode(const char *s, size_t n, uint8_t **ret, size_t *ret_len);
