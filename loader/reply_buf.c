/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hits use the same buffer again and again, so it stays in the CPU's cache.
 * What many misses at a time have used goes back to the system.
 */
#include "loader/reply_buf.h"

#include <sys/mman.h>

#include "loader/fs_int.h"
#include "runtime/base/mem.h"

/* At the beginning of an idle buffer. */
struct ld_reply_buf {
	struct ld_reply_buf *next;
};

static const struct {
	size_t cap;
	unsigned keep;
} sizes[LD_REPLY_SIZES] = {
	{16u << 10, 8},
	{128u << 10, 4},
	{LD_FS_MAX_READ, 1},
};

unsigned ld_reply_size(size_t need)
{
	unsigned i = 0;

	while (i < LD_REPLY_SIZES - 1 && sizes[i].cap < need)
		i++;
	return i;
}

size_t ld_reply_cap(unsigned size)
{
	return sizes[size].cap;
}

uint8_t *ld_reply_get(struct ld_reply_bufs *b, unsigned size)
{
	struct ld_reply_buf *p = b->idle[size];

	if (p) {
		b->idle[size] = p->next;
		b->idle_count[size]--;
	} else {
		p = mem_alloc_aligned(4096, sizes[size].cap);
		if (!p)
			return NULL;
	}
	b->used_bytes += sizes[size].cap;
	return (uint8_t *)p;
}

void ld_reply_put(struct ld_reply_bufs *b, uint8_t *mem, unsigned size)
{
	struct ld_reply_buf *p = (void *)mem;

	b->used_bytes -= sizes[size].cap;
	if (b->idle_count[size] < sizes[size].keep) {
		p->next = b->idle[size];
		b->idle[size] = p;
		b->idle_count[size]++;
		return;
	}
	/* The allocator may keep the addresses, but not the pages. */
	(void)madvise(p, sizes[size].cap, MADV_DONTNEED);
	mem_free(p);
}

void ld_reply_fini(struct ld_reply_bufs *b)
{
	struct ld_reply_buf *p;
	unsigned i;

	for (i = 0; i < LD_REPLY_SIZES; i++)
		while ((p = b->idle[i])) {
			b->idle[i] = p->next;
			mem_free(p);
		}
}
