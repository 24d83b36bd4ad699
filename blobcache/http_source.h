/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of one object behind HTTP, as a bc_source; for registry blobs too. */
#pragma once

#include "blobcache/call.h"
#include "blobcache/source.h"

/*
 * A source for path along route, which is borrowed. 0 or -ENOMEM; then nothing
 * is taken.
 */
int bc_route_source(struct bc_route *route, const char *path, uint64_t size,
	uint32_t offline_ms, struct bc_source **ret);
