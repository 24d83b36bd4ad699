/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of a registry's blob; see registry.h and http_source.c. */
#include <errno.h>

#include "blobcache/http_source.h"
#include "blobcache/registry_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"

int bc_registry_source(struct bc_registry *r, const struct digest *d,
	uint64_t size, struct bc_source **ret, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	char text[DIGEST_MAX_TEXT];

	if (size == 0)
		return err_set(
			e, -EPROTO, "blob '%s' is empty", digest_text(d, text));
	path = mem_printf("/blobs/%s", digest_text(d, text));
	if (!path ||
		bc_route_source(&r->route, path, size, r->offline_ms, ret) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return 0;
}
