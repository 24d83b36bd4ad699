/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eStargz layers whose TOCs lie in a second image (stargz-snapshotter,
 * external TOC): in the same repository, under the image's tag with "-esgztoc"
 * behind it. Each of its layers names in an annotation the layer whose TOC it
 * holds. Anybody may have pushed it: only the TOC's digest in the manifest of
 * the image itself makes what it says true.
 */
#include <errno.h>

#include "loader/image_int.h"

#define SUFFIX "-esgztoc"
#define MAX_INDEX_DEPTH 4

static int read_manifest(struct image_job *j, struct err *e)
{
	struct ld_origin *origin = j->image->origin;
	char type[LD_MEDIA_TYPE_LEN];
	struct digest d, next;
	struct buf b;
	int depth, err = 1;

	for (depth = 0; err == 1 && depth <= MAX_INDEX_DEPTH; depth++) {
		buf_init(&b, LD_MAX_MANIFEST_BYTES);
		err = depth == 0
		              ? origin->ops->tagged(
					origin, SUFFIX, &b, type, &d, e)
		              : origin->ops->manifest(origin, &d, &b, type, e);
		if (err == 0)
			err = ld_manifest_is_index((char *)b.data, b.len, type,
				j->platform, &next, e);
		if (err == 0)
			err = ld_manifest_parse(
				(char *)b.data, b.len, type, &j->tocs, e);
		else if (err == 1)
			d = next;
		buf_fini(&b);
	}
	return err == 1 ? err_set(e, -EPROTO,
				  "image indexes name each other more than %d "
				  "deep",
				  MAX_INDEX_DEPTH)
	                : err;
}

/* toc_lock is held. */
static int read_tocs(struct image_job *j, struct err *e)
{
	int err;

	if (j->tocs.layer_count > 0)
		return 0;
	if (!j->ref.tag[0])
		return err_set(e, -EOPNOTSUPP,
			"its TOC is in another image, which is found by a tag, "
			"and '%s' has none, name the image by its tag",
			j->ref.canonical);
	err = read_manifest(j, e);
	if (err < 0)
		(void)err_wrap(e,
			"its TOC is in the image with the tag "
			"'%s" SUFFIX "'",
			j->ref.tag);
	return err;
}

int image_toc_find(
	void *arg, const struct digest *d, struct buf *ret, struct err *e)
{
	struct image_job *j = arg;
	struct ld_origin *origin = j->image->origin;
	const struct ld_layer_desc *l;
	size_t i;
	int err;

	(void)pthread_mutex_lock(&j->toc_lock);
	err = read_tocs(j, e);
	(void)pthread_mutex_unlock(&j->toc_lock);
	if (err < 0)
		return err;
	/* once read it does not change any more */
	for (i = 0; i < j->tocs.layer_count; i++) {
		l = &j->tocs.layers[i];
		if (digest_is_equal(&l->toc_of, d))
			return origin->ops->blob(
				origin, &l->digest, l->size, ret, e);
	}
	return err_set(e, -EPROTO,
		"the image with the tag '%s" SUFFIX "' does not have its TOC",
		j->ref.tag);
}
