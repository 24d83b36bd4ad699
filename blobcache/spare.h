/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers that are used again: ranges and decoded groups come and go by the
 * hundred a second, and fresh memory of that size costs a page fault for every
 * 4 KiB. A few are kept until things are quiet.
 */
#pragma once

#include <pthread.h>
#include <stddef.h>

#define BC_SPARE_COUNT 16

struct bc_spare_buf {
	void *p; /* owned */
	size_t cap;
};

struct bc_spare {
	pthread_mutex_t lock; /* guards all of it */
	struct bc_spare_buf list[BC_SPARE_COUNT];
	unsigned count;
	size_t bytes;
};

/* 0 or -errno. */
int bc_spare_init(struct bc_spare *s);
/* With what it keeps. */
void bc_spare_fini(struct bc_spare *s);
/*
 * At least n bytes of any contents; *ret_cap is for bc_spare_put. NULL: out of
 * memory. ANY_THREAD.
 */
void *bc_spare_get(struct bc_spare *s, size_t n, size_t *ret_cap);
/* Nobody uses p any more. NULL is fine. ANY_THREAD. */
void bc_spare_put(struct bc_spare *s, void *p, size_t cap);
/* Things are quiet: keep nothing. ANY_THREAD. */
void bc_spare_drop(struct bc_spare *s);
