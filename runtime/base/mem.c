/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation in one place, with a fault hook for tests; see mem.h. */
#include "runtime/base/mem.h"

#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Counts down to the failing allocation; 0 while no test asks for one. */
static atomic_ulong fail_in;
static atomic_int fail_forever;
static atomic_ulong asked;

static int must_fail(void)
{
	unsigned long left;

	left = atomic_load_explicit(&fail_in, memory_order_relaxed);
	if (left == 0)
		return 0;
	atomic_fetch_add_explicit(&asked, 1, memory_order_relaxed);
	do {
		if (left == 0)
			return 0;
		if (left == 1 && atomic_load(&fail_forever))
			return 1;
	} while (!atomic_compare_exchange_weak(&fail_in, &left, left - 1));
	return left == 1;
}

unsigned long mem_fail_nth(unsigned long nth, int forever)
{
	atomic_store(&fail_in, nth);
	atomic_store(&fail_forever, forever);
	return atomic_exchange(&asked, 0);
}

void *mem_alloc(size_t n)
{
	if (must_fail())
		return NULL;
	return malloc(n ? n : 1);
}

void *mem_calloc(size_t n, size_t size)
{
	size_t bytes;

	/* calloc looks, too, but a sanitizer's ends the program */
	if (__builtin_mul_overflow(n, size, &bytes) || must_fail())
		return NULL;
	return calloc(n ? n : 1, size ? size : 1);
}

void *mem_zalloc(size_t n)
{
	return mem_calloc(1, n);
}

/* Resize to n items; p stays valid and owned by the caller on failure. */
static void *realloc_array(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes) || must_fail())
		return NULL;
	return realloc(p, bytes ? bytes : 1);
}

void *mem_alloc_aligned(size_t align, size_t n)
{
	void *p = NULL;

	if (must_fail() || posix_memalign(&p, align, n ? n : 1) != 0)
		return NULL;
	return p;
}

char *mem_strndup(const char *s, size_t n)
{
	char *copy;

	n = strnlen(s, n);
	if (n == SIZE_MAX)
		return NULL;
	copy = mem_alloc(n + 1);
	if (!copy)
		return NULL;
	memcpy(copy, s, n);
	copy[n] = '\0';
	return copy;
}

char *mem_strdup(const char *s)
{
	return mem_strndup(s, strlen(s));
}

char *mem_printf(const char *fmt, ...)
{
	char *s;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	s = mem_alloc((size_t)n + 1);
	if (!s)
		return NULL;
	va_start(ap, fmt);
	(void)vsnprintf(s, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return s;
}

void mem_free(void *p)
{
	free(p);
}

int mem_grow(void **items, size_t *cap, size_t want, size_t max, size_t size)
{
	size_t next = *cap;
	void *p;

	if (want <= *cap)
		return 0;
	if (want > max)
		return -E2BIG;
	if (next < 8)
		next = 8;
	while (next < want)
		next = next > SIZE_MAX / 2 ? want : next * 2;
	if (next > max)
		next = max;
	p = realloc_array(*items, next, size);
	if (!p)
		return -ENOMEM;
	*items = p;
	*cap = next;
	return 0;
}

/* Both are of no use, and absent, in other C libraries. */
void mem_setup(void)
{
#ifdef __GLIBC__
	(void)mallopt(M_MMAP_THRESHOLD, 256 << 10); /* else as it was */
#endif
}

void mem_trim(void)
{
#ifdef __GLIBC__
	(void)malloc_trim(0); /* 0 or 1, both fine */
#endif
}
