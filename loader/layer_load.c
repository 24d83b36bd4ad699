/* SPDX-License-Identifier: Apache-2.0 */
/* From a descriptor to a tree and a map; see layer.h. */
#include <errno.h>

#include "loader/layer.h"
#include "loader/toc_fetch.h"

static int refuse(const struct ld_layer_desc *d, enum ld_format f,
	const char *why, struct err *e)
{
	char id[DIGEST_MAX_TEXT];

	if (f == LD_FORMAT_UNKNOWN)
		return err_set(e, -EOPNOTSUPP,
			"layer '%s' of media type '%.100s' cannot be read: %s",
			digest_text(&d->digest, id),
			d->media_type ? d->media_type : "", why);
	return err_set(e, -EOPNOTSUPP,
		"layer '%s' is %s, which cannot be read yet: %s",
		digest_text(&d->digest, id), ld_format_name(f), why);
}

int ld_layer_load(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, const struct ld_toc_finder *finder,
	struct ld_layer *ret, struct err *e)
{
	char id[DIGEST_MAX_TEXT];
	const char *why;
	bool is_lazy;
	enum ld_format f = ld_layer_recognise(d, &is_lazy, &why);
	int r;

	if (!is_lazy)
		return refuse(d, f, why, e);
	r = f == LD_FORMAT_ESTARGZ
	            ? toc_fetch_estargz(rt, d, src, finder, ret, e)
	            : toc_fetch_zstd(rt, d, src, ret, e);
	if (!r) {
		ret->block_bits = LD_BLOCK_BITS;
		ret->lazy = true;
		ret->why = why;
		ret->format = f;
	}
	if (r)
		(void)err_wrap(e, "%s layer '%s'", ld_format_name(f),
			digest_text(&d->digest, id));
	return r;
}
