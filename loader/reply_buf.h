/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for replies, one set per worker: page-aligned buffers of three sizes,
 * a few of each kept, the one used last given out first. ON_WORKER.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LD_REPLY_SIZES 3

struct ld_reply_buf; /* an idle one */

/* Zeroed is empty. */
struct ld_reply_bufs {
	struct ld_reply_buf *idle[LD_REPLY_SIZES];
	unsigned idle_count[LD_REPLY_SIZES];
	size_t used_bytes; /* of what has been given out */
};

/* The size, by number, of buffers that hold need bytes; the largest if none
 * does. */
unsigned ld_reply_size(size_t need);
size_t ld_reply_cap(unsigned size);
/* NULL: out of memory. */
uint8_t *ld_reply_get(struct ld_reply_bufs *b, unsigned size);
void ld_reply_put(struct ld_reply_bufs *b, uint8_t *p, unsigned size);
/* Everything has been put back. */
void ld_reply_fini(struct ld_reply_bufs *b);
