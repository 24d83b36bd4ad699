/* SPDX-License-Identifier: Apache-2.0 */
/* What evict.c (which) and cachefile_evict.c (how) share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/store.h"

/*
 * Take the runs (ascending) away from the cache file in dir, below s; with
 * everything also its files, if nobody has them open. What is sealed goes with
 * everything only. *ret_freed: bytes of the disk. 0 (also: could not, somebody
 * uses it) or -errno. BLOCKING.
 */
int cachefile_evict(struct bc_store *s, const char *dir, const uint32_t *runs,
	size_t count, bool everything, uint64_t *ret_freed);
