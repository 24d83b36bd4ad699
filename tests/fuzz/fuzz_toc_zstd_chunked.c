/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON of a zstd:chunked TOC from anywhere. */
#include <stdint.h>

#include "tests/fuzz/toc_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct ld_layer_desc d = {.size = 1000000, .toc_off = 900000};
	struct ld_layer l;
	struct err e;

	if (!ld_toc_parse_zstd_chunked(data, size, &d, &l, &e))
		toc_check(&l);
	return 0;
}
