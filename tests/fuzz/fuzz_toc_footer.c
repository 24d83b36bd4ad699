/* SPDX-License-Identifier: Apache-2.0 */
/* The last bytes of a blob; a TOC that is found lies inside it. */
#include <stdint.h>
#include <stdlib.h>

#include "loader/toc_footer.h"
#include "runtime/base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct ld_toc_place *p, uint64_t blob_size)
{
	if (p->is_elsewhere)
		return;
	if (p->len == 0 || p->len > LD_TOC_MAX_BYTES ||
		p->raw_len > LD_TOC_MAX_BYTES ||
		!range_fits(p->off, p->len, blob_size - p->footer))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint64_t sizes[] = {size, 4096, 1ull << 40};
	struct ld_toc_place p;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		if (sizes[i] < size)
			continue;
		if (!ld_toc_footer_estargz(data, size, sizes[i], &p, &e))
			check(&p, sizes[i]);
		if (!ld_toc_footer_zstd(data, size, sizes[i], &p, &e))
			check(&p, sizes[i]);
	}
	return 0;
}
