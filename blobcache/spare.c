/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers that are used again; see spare.h. */
#include "blobcache/spare.h"

#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LEAST (128u << 10) /* smaller ones malloc keeps by itself */
#define STEP (64u << 10)

/* What is freed must be seen to be free there. */
#ifdef __SANITIZE_ADDRESS__
#define MAX_KEPT 0u
#else
#define MAX_KEPT (12u << 20)
#endif

int bc_spare_init(struct bc_spare *s)
{
	*s = (struct bc_spare){0};
	return -pthread_mutex_init(&s->lock, NULL);
}

void bc_spare_fini(struct bc_spare *s)
{
	bc_spare_drop(s);
	(void)pthread_mutex_destroy(&s->lock); /* nobody holds it */
}

void *bc_spare_get(struct bc_spare *s, size_t n, size_t *ret_cap)
{
	size_t cap = n < LEAST ? n : round_up(n, STEP);
	void *p = NULL;
	unsigned i;

	if (cap >= LEAST) {
		(void)pthread_mutex_lock(&s->lock); /* cannot fail */
		for (i = 0; i < s->count; i++) {
			if (s->list[i].cap < n || s->list[i].cap > 2 * cap)
				continue;
			p = s->list[i].p;
			cap = s->list[i].cap;
			s->bytes -= cap;
			s->list[i] = s->list[--s->count];
			break;
		}
		(void)pthread_mutex_unlock(&s->lock);
	}
	if (!p)
		p = mem_alloc(cap);
	*ret_cap = cap;
	return p;
}

void bc_spare_put(struct bc_spare *s, void *p, size_t cap)
{
	if (p && cap >= LEAST) {
		(void)pthread_mutex_lock(&s->lock);
		if (s->count < BC_SPARE_COUNT && s->bytes + cap <= MAX_KEPT) {
			s->list[s->count++] = (struct bc_spare_buf){p, cap};
			s->bytes += cap;
			p = NULL;
		}
		(void)pthread_mutex_unlock(&s->lock);
	}
	mem_free(p);
}

void bc_spare_drop(struct bc_spare *s)
{
	struct bc_spare_buf list[BC_SPARE_COUNT];
	unsigned i, n;

	(void)pthread_mutex_lock(&s->lock);
	n = s->count;
	for (i = 0; i < n; i++)
		list[i] = s->list[i];
	s->count = 0;
	s->bytes = 0;
	(void)pthread_mutex_unlock(&s->lock);
	for (i = 0; i < n; i++)
		mem_free(list[i].p);
}
