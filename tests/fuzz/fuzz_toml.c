/* SPDX-License-Identifier: Apache-2.0 */
/* TOML, and registries.conf in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/registries.h"
#include "blobcache/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void choose(const struct bc_registries *r, const char *host)
{
	struct bc_endpoints p;

	if (bc_registries_choose(r, host, "foo/bar", ":1", &p, NULL) < 0)
		return;
	if (p.count == 0)
		abort();
	for (unsigned i = 0; i < p.count; i++)
		if (!p.list[i].host[0] || strchr(p.list[i].host, '/') ||
			!p.list[i].repository[0])
			abort();
	bc_endpoints_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *s = (const char *)data;
	struct bc_registries *r = bc_registries_create();
	json_t *j = NULL;

	if (bc_toml_parse(s, len, &j, NULL) == 0 && !json_is_object(j))
		abort();
	json_decref(j);
	if (r && bc_registries_add(r, s, len, "conf", NULL) == 0) {
		choose(r, "example.com");
		choose(r, "registry-1.docker.io");
	}
	bc_registries_destroy(r);
	return 0;
}
