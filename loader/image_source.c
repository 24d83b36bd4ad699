/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a layer's bytes come from: the image's origin, and for layers that
 * registries may not hand out the URL that the manifest names. That one gets no
 * credentials; the layer's digest proves what it says.
 */
#include <errno.h>

#include "blobcache/registry.h"
#include "loader/image_int.h"

static int from_url(struct image_job *j, const char *url, uint64_t size,
	struct bc_source **ret, struct err *e)
{
	const struct bc_registry_options o = {
		.cert_dir = j->o->cert_dir,
		.offline_ms = j->o->offline_ms,
	};

	return bc_http_source_open(
		j->net, &o, url, size ? size : BC_SIZE_UNKNOWN, ret, e);
}

int image_layer_source(struct image_job *j, const struct digest *d,
	uint64_t size, const char *url, struct bc_source **ret, struct err *e)
{
	struct ld_origin *origin = j->image->origin;
	struct bc_source *first, *second;
	struct err why = {0};
	int r;

	r = origin->ops->source(origin, d, size, &first, &why);
	if (url && r == -ENOENT)
		return from_url(j, url, size, ret, e);
	if (r < 0) {
		if (e)
			*e = why;
		return r;
	}
	if (!url || origin->is_local) {
		*ret = first;
		return 0;
	}
	r = from_url(j, url, size, &second, e);
	if (r < 0) {
		bc_source_destroy(first);
		return r;
	}
	r = bc_source_either(first, second, ret);
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}
