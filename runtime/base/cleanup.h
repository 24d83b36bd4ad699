/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scoped release for functions that start and end in one piece.
 */
#pragma once

#include <errno.h>
#include <unistd.h>

#include "runtime/base/mem.h"

static inline void cleanup_free(void *pp)
{
	mem_free(*(void **)pp);
}

/* Keeps errno. */
static inline void cleanup_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd); /* read-only or already synced by the owner */
	errno = saved;
}

#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))
#define CLEANUP_FD __attribute__((cleanup(cleanup_fd)))

/* Hand the value on and leave nothing for the scoped release. */
#define take_ptr(p) \
	__extension__({ \
		__typeof__(p) taken_ = (p); \
		(p) = NULL; \
		taken_; \
	})

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
