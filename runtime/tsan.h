/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ThreadSanitizer cannot see: an operation that goes through the kernel
 * and comes back has been ordered by it.
 */
#pragma once

#if defined(__SANITIZE_THREAD__)
#define TSAN_IS_ON 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN_IS_ON 1
#endif
#endif
#ifndef TSAN_IS_ON
#define TSAN_IS_ON 0
#endif

#if TSAN_IS_ON
/* The sanitizer's own: what happened before a release... ANY_THREAD. */
void __tsan_release(void *addr);
/* ...of the same address is seen after this. ANY_THREAD. */
void __tsan_acquire(void *addr);
#endif

/* addr goes to the kernel. */
static inline void tsan_give(void *addr)
{
#if TSAN_IS_ON
	__tsan_release(addr);
#else
	(void)addr;
#endif
}

/* addr has come back. */
static inline void tsan_take(void *addr)
{
#if TSAN_IS_ON
	__tsan_acquire(addr);
#else
	(void)addr;
#endif
}
