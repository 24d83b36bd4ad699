/* SPDX-License-Identifier: Apache-2.0 */
/* Rings: how they are made and what they can do. Only with liburing. */
#pragma once

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* What the headers of liburing 2.3 lack; the kernel says if it knows them. */
enum { URING_OP_FTRUNCATE = 55 };

struct uring_ring {
	struct io_uring ring;
	unsigned setup; /* IORING_SETUP_* in force */
	unsigned depth; /* credits: operations, and as many watches */
	uint64_t can;   /* bit per opcode */
};

/*
 * Make a ring for this thread with at most depth credits: the newest flags that
 * the kernel takes, fewer entries where memory is short. 0, or -errno with a
 * sentence that says who refuses.
 */
int uring_open(struct uring_ring *u, unsigned depth, struct err *e);
void uring_close(struct uring_ring *u);

static inline bool uring_can(const struct uring_ring *u, unsigned op)
{
	return op < 64 && (u->can >> op & 1);
}
