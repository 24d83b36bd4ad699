/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The atomic operations of the channel and the scheduler. All of them are
 * sequentially consistent: the sleep protocol needs it, the rest does not
 * notice. Read-modify-writes instead of fences, because ThreadSanitizer does
 * not know fences.
 *
 * Compiled with RT_EXPLORE, each operation is first a point where a test may
 * let another thread run.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef RT_EXPLORE
/* Where the explorer may let another fiber run; nothing in the library. */
void explore_point(void);
#else
static inline void explore_point(void)
{
}
#endif

#define at_load(p) (explore_point(), atomic_load(p))
#define at_store(p, v) (explore_point(), atomic_store((p), (v)))
#define at_swap(p, v) (explore_point(), atomic_exchange((p), (v)))
#define at_add(p, v) (explore_point(), atomic_fetch_add((p), (v)))
#define at_or(p, v) (explore_point(), atomic_fetch_or((p), (v)))
#define at_and(p, v) (explore_point(), atomic_fetch_and((p), (v)))
/* True if *p was *expected; else *expected becomes what it was. */
#define at_cas(p, expected, v) \
	(explore_point(), atomic_compare_exchange_strong((p), (expected), (v)))
