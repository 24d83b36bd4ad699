/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding one group. PURE: memory to memory, no state between calls but a
 * per-thread decoder context that is reused.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "blobcache/map.h"

/*
 * Decode src into exactly dec_len bytes at dst. For BC_CODEC_GZIP, _DEFLATE and
 * _ZSTD_PART the input may hold more than needed; for the others it must end
 * with the output.
 * 0, -EPROTO (the bytes break their codec or their length), -ENOMEM,
 * -EOPNOTSUPP. IN_JOB.
 */
int bc_decode(enum bc_codec codec, const void *src, size_t src_len,
	const void *ctx, size_t ctx_len, void *dst, size_t dec_len);

/* Frees this thread's decoder contexts; at thread end it happens by itself. */
void bc_decode_thread_fini(void);
