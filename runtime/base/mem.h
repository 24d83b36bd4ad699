/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory: every allocation of the project goes through here, so that tests can
 * make the Nth one fail, and sizes from outside are checked in one place.
 * ANY_THREAD, unless it says otherwise.
 */
#pragma once

#include <stddef.h>

/* NULL when out of memory (or when a test asks for it); n == 0 gives memory. */
void *mem_alloc(size_t n) __attribute__((malloc));
void *mem_zalloc(size_t n) __attribute__((malloc));
/* n items of size bytes, zeroed; NULL also when the product does not fit. */
void *mem_calloc(size_t n, size_t size) __attribute__((malloc));
/* Page-aligned memory for I/O; freed with mem_free. */
void *mem_alloc_aligned(size_t align, size_t n);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
/* printf into new memory; NULL when out of memory. */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void mem_free(void *p);

/*
 * Grow *items (capacity *cap, item size) so that it holds at least want items,
 * at most max. Returns 0, -E2BIG (want > max) or -ENOMEM.
 */
int mem_grow(void **items, size_t *cap, size_t want, size_t max, size_t size);

/*
 * For a program that lives long: large pieces go back to the system when they
 * are freed, instead of staying in the heap of whichever thread freed them.
 * Before any thread starts.
 */
void mem_setup(void);
/* What start-up has left in the heap goes back to the system. ANY_THREAD. */
void mem_trim(void);

/*
 * Tests: let the nth allocation from now fail (1 is the next one), and with
 * forever every later one too; 0 switches it off. Returns how many allocations
 * were asked for since the last call. ANY_THREAD.
 */
unsigned long mem_fail_nth(unsigned long nth, int forever);
