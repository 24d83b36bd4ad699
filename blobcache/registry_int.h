/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a registry client: registry.c, registry_source.c. */
#pragma once

#include "blobcache/call.h"
#include "blobcache/registry.h"

struct bc_registry {
	struct bc_route route;
	uint32_t offline_ms;
	/* Least time until an answer began; 0: not known. */
	atomic_uint_least64_t wait_us;
};
