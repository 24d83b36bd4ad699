/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group's bytes: one byte codec, two bytes wanted length, one byte length of
 * the context, the context, the compressed bytes.
 */
#include <stdint.h>

#include "blobcache/decode.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd r = rd_over(data, size);
	uint8_t codec = rd_u8(&r) % BC_CODEC_COUNT, *dst;
	size_t dec_len = rd_u16(&r), ctx_len = rd_u8(&r);
	const uint8_t *ctx = rd_bytes(&r, ctx_len), *src;
	size_t src_len = rd_left(&r);

	src = rd_bytes(&r, src_len);
	if (rd_failed(&r))
		return 0;
	dst = mem_alloc(dec_len); /* exactly: a byte too many is seen */
	if (!dst)
		return 0;
	(void)bc_decode(codec, src, src_len, ctx, ctx_len, dst, dec_len);
	mem_free(dst);
	return 0;
}
