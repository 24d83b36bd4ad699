/* SPDX-License-Identifier: Apache-2.0 */
/* Volatile buffers; see vbuf.h. */
#include "runtime/vbuf.h"

#include <assert.h>
#include <errno.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"

enum { VBUF_ALIGN = 4096 };

struct rt_vbuf rt_vbuf_borrow(void *mem, size_t cap)
{
	return rt_vbuf_borrow_inited(mem, 0, cap);
}

struct rt_vbuf rt_vbuf_borrow_inited(void *mem, size_t len, size_t cap)
{
	assert(len <= cap);
	return (struct rt_vbuf){.addr = mem, .len = len, .cap = cap};
}

int rt_vbuf_alloc(struct rt_vbuf *ret, size_t cap)
{
	void *mem = mem_alloc_aligned(VBUF_ALIGN, cap);

	if (!mem)
		return -ENOMEM;
	*ret = (struct rt_vbuf){.addr = mem, .cap = cap, .owned = true};
	return 0;
}

void rt_vbuf_fini(struct rt_vbuf *v)
{
	if (v->owned)
		mem_free(v->addr);
	*v = (struct rt_vbuf){0};
}

struct rt_vbuf rt_vbuf_slice(const struct rt_vbuf *v, size_t off, size_t len)
{
	size_t inited;

	if (off > v->cap)
		off = v->cap;
	len = (size_t)min_u64(len, v->cap - off);
	inited = v->len > off ? v->len - off : 0;
	/* addr may be NULL in an empty buffer: add nothing to it then */
	return (struct rt_vbuf){
		.addr = off ? v->addr + off : v->addr,
		.len = (size_t)min_u64(inited, len),
		.cap = len,
	};
}

struct iovec rt_vbuf_filled(const struct rt_vbuf *v)
{
	return (struct iovec){.iov_base = v->addr, .iov_len = v->len};
}

struct iovec rt_vbuf_room(const struct rt_vbuf *v)
{
	return (struct iovec){
		.iov_base = v->len ? v->addr + v->len : v->addr,
		.iov_len = v->cap - v->len,
	};
}

void rt_vbuf_advance(struct rt_vbuf *v, size_t n)
{
	assert(n <= v->cap - v->len);
	v->len += n;
}
