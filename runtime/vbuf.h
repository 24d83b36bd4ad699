/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volatile buffers: memory that others may change while we hold it (a FUSE
 * payload, a ring buffer, a shared mapping). Only address, initialised length
 * and capacity are kept; nobody may assume that bytes read twice are equal.
 *
 * The borrowed form points into somebody's memory, valid until the event that
 * its giver names. The owned form frees itself. A read fills behind the
 * initialised length and moves it forward, on every engine alike. ONE_THREAD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct rt_vbuf {
	uint8_t *addr;
	size_t len; /* initialised bytes, from addr on */
	size_t cap;
	bool owned;
};

/* All of mem, nothing initialised yet. */
struct rt_vbuf rt_vbuf_borrow(void *mem, size_t cap);
/* mem[0, cap) with the first len bytes initialised; len <= cap. */
struct rt_vbuf rt_vbuf_borrow_inited(void *mem, size_t len, size_t cap);
/* Page-aligned memory of its own. 0 or -ENOMEM. */
int rt_vbuf_alloc(struct rt_vbuf *ret, size_t cap);
/* Frees owned memory; leaves an empty buffer. */
void rt_vbuf_fini(struct rt_vbuf *v);
/*
 * A borrowed view of [off, off + len) of v's capacity, clipped to it; its
 * initialised part is what v has initialised there.
 */
struct rt_vbuf rt_vbuf_slice(const struct rt_vbuf *v, size_t off, size_t len);
/* The initialised part, for a write. */
struct iovec rt_vbuf_filled(const struct rt_vbuf *v);
/* The part behind it, for a read. */
struct iovec rt_vbuf_room(const struct rt_vbuf *v);
/* n bytes behind len have been filled; n <= cap - len. */
void rt_vbuf_advance(struct rt_vbuf *v, size_t n);
