/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, indexes and configs from anywhere; the limits must hold. */
#include <stdint.h>
#include <stdlib.h>

#include "loader/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *json = (const char *)data;
	struct ld_manifest m;
	struct digest next;
	struct err e;
	size_t i;

	(void)ld_manifest_is_index(json, size, "", "linux/arm/v7", &next, &e);
	if (ld_manifest_parse(json, size, "", &m, &e) < 0)
		return 0;
	if (m.layer_count > LD_MAX_LAYERS)
		abort();
	for (i = 0; i < m.layer_count; i++)
		if (m.layers[i].toc_off + m.layers[i].toc_len >
			m.layers[i].size)
			abort();
	(void)ld_manifest_apply_config(&m, json, size, &e);
	ld_manifest_fini(&m);
	return 0;
}
