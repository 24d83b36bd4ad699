/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts of BC_CODEC_DEFLATE groups; map.h says what they hold. */
#include <string.h>
#include <zstd.h>

#include "blobcache/map.h"

#define ZSTD_LEVEL 3

size_t bc_deflate_ctx(struct ZSTD_CCtx_s *packer, unsigned bits, uint8_t last,
	const void *window, size_t len, uint8_t *ret)
{
	size_t n;

	ret[0] = bits & BC_DEFLATE_BITS;
	ret[1] = ret[0] ? last : 0;
	n = ZSTD_compressCCtx(
		packer, ret + 2, BC_DEFLATE_WINDOW, window, len, ZSTD_LEVEL);
	if (len > 0 && !ZSTD_isError(n) && n < len) {
		ret[0] |= BC_DEFLATE_ZSTD;
		return 2 + n;
	}
	if (len > 0)
		memcpy(ret + 2, window, len);
	return 2 + len;
}
