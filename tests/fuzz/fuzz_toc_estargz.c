/* SPDX-License-Identifier: Apache-2.0 */
/* An eStargz TOC: its JSON, or the gzip member that it comes in. */
#include <stdint.h>

#include "loader/toc_fetch.h"
#include "runtime/base/mem.h"
#include "tests/fuzz/toc_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const uint8_t *data, size_t size)
{
	const struct ld_layer_desc d = {.size = 1000000};
	struct ld_layer l;
	struct err e;

	if (!ld_toc_parse_estargz(data, size, 900000, &d, &l, &e))
		toc_check(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *json;
	struct err e;
	size_t len;

	parse(data, size);
	if (!toc_inflate_estargz(data, size, &json, &len, &e)) {
		parse(json, len);
		mem_free(json);
	}
	return 0;
}
