/* SPDX-License-Identifier: Apache-2.0 */
/* RAFS v6 bootstraps: any bytes are either parsed or refused. */
#include <stdint.h>

#include "loader/rafs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct ld_rafs r;
	struct err e;

	if (ld_rafs_parse(data, len, &r, &e) == 0)
		ld_rafs_fini(&r);
	return 0;
}
