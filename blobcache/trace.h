/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the demand reads of some blobs touch for the first time, in that order.
 *
 * A blob tells it of each group once (bc_blob_set_trace); it forgets nothing
 * and grows to a bound, from which on it is deaf.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blobcache/record.h"

struct bc_trace;

/* -ENOMEM. INIT_ONLY. */
int bc_trace_create(struct bc_trace **ret);
/* Nobody tells it anything any more. NULL is fine. INIT_ONLY. */
void bc_trace_destroy(struct bc_trace *t);
/* Give a blob its number here. -E2BIG, -ENOMEM. INIT_ONLY. */
int bc_trace_add_blob(struct bc_trace *t, const struct digest *digest,
	const struct digest *map_id, uint32_t *ret);
/* A group of blob was touched for the first time. ANY_THREAD. */
void bc_trace_note(struct bc_trace *t, uint32_t blob, uint32_t group);
/* From now on nothing is noted: what comes is no start. ANY_THREAD. */
void bc_trace_stop(struct bc_trace *t);
/* How often something was noted. ANY_THREAD. */
uint64_t bc_trace_count(const struct bc_trace *t);
/* A copy of what it has, owned by the caller. -ENOMEM. ANY_THREAD. */
int bc_trace_read(struct bc_trace *t, struct bc_record *ret);
