/* SPDX-License-Identifier: Apache-2.0 */
/* Image names from anywhere: no crash, and what is taken keeps its bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loader/imageref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[8192];
	struct ld_ref r;
	struct err e;

	if (size >= sizeof(name))
		return 0;
	memcpy(name, data, size);
	name[size] = '\0';
	if (ld_ref_parse(name, &r, &e) < 0)
		return 0;
	if (r.kind == LD_REF_REGISTRY &&
		(!r.host[0] || !r.repository[0] ||
			(!r.tag[0] && r.digest.algo == DIGEST_NONE)))
		abort();
	if (r.kind != LD_REF_REGISTRY && !r.path[0])
		abort();
	return 0;
}
