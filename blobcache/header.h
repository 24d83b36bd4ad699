/* SPDX-License-Identifier: Apache-2.0 */
/* Values of single HTTP header fields. PURE. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct bc_content_range {
	bool has_range;       /* false: "bytes * / total" (a 416) */
	uint64_t first, last; /* first <= last */
	uint64_t total;       /* 0: "*", not known */
};

/* "bytes 0-9/100" (RFC 9110, section 14.4), n bytes. 0 or -EPROTO. */
int bc_content_range_parse(
	const char *s, size_t n, struct bc_content_range *ret);
/* Decimal digits only, n bytes, no sign. 0 or -EPROTO. */
int bc_header_u64(const char *s, size_t n, uint64_t *ret);
/*
 * Retry-After, seconds or a date (RFC 9110, section 10.2.3), in milliseconds
 * from now; 0 when it says nothing sensible; at most 1 h.
 */
uint64_t bc_retry_after_ms(const char *s, size_t n, time_t now);
/* Status of "HTTP/1.1 206 ...", or 0. */
unsigned bc_status_line(const char *s, size_t n);
