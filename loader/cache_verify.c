/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the cache back; see cache_verify.h. */
#include "loader/cache_verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "blobcache/verify.h"
#include "loader/size.h"

int ld_verify_file(struct bc_store *s, const struct bc_inventory_blob *b,
	struct ld_verified *v, struct err *e)
{
	char digest[DIGEST_MAX_TEXT], size[32];
	struct bc_verified one;
	int r;

	r = bc_store_verify(s, b, &one, e);
	if (r < 0)
		return r;
	v->files++;
	v->bytes += one.bytes;
	v->bad_bytes += one.bad_bytes;
	v->bad_chunks += one.bad_chunks;
	v->torn += one.is_torn;
	if (one.is_torn)
		(void)printf("%s: its files are torn, they will be made anew\n",
			digest_text(&b->blob, digest));
	if (one.bad_chunks > 0)
		(void)printf("%s: %" PRIu32 " chunks (%s) are wrong, they will "
			     "be fetched again\n",
			digest_text(&b->blob, digest), one.bad_chunks,
			ld_size_text(one.bad_bytes, size));
	return 0;
}

static const struct bc_inventory_blob *find_file(
	const struct ld_cached *c, const struct ld_cached_image *i, size_t k)
{
	const struct bc_inventory_blob *b;
	size_t n;

	for (n = 0; n < c->files.count; n++) {
		b = &c->files.blobs[n];
		if (digest_is_equal(&b->blob, &i->blobs[k]) &&
			digest_is_equal(&b->map_id, &i->map_ids[k]))
			return b;
	}
	return NULL;
}

int ld_verify_index(struct bc_store *s, const struct ld_cached_image *i,
	struct ld_verified *v, struct err *e)
{
	char digest[DIGEST_MAX_TEXT];

	if (ld_cached_index_is_right(s, i))
		return 0;
	v->bad_indexes++;
	(void)printf("%s: the index is wrong, it will be made anew\n",
		digest_text(&i->digest, digest));
	return bc_store_is_read_only(s) ? 0 : ld_cached_forget(s, i, e);
}

int ld_verify_image(struct bc_store *s, const struct ld_cached *c,
	const struct ld_cached_image *i, struct ld_verified *v, struct err *e)
{
	const struct bc_inventory_blob *b;
	size_t k;
	int r;

	r = ld_verify_index(s, i, v, e);
	for (k = 0; r == 0 && k < i->blob_count; k++) {
		b = find_file(c, i, k);
		if (b)
			r = ld_verify_file(s, b, v, e);
	}
	return r;
}

int ld_verify_end(const struct ld_verified *v, struct err *e)
{
	char size[32];

	if (v->bad_chunks || v->torn || v->bad_indexes)
		return err_set(e, -EBADMSG,
			"the cache was wrong: %" PRIu32 " chunks, %" PRIu32
			" torn cache files, %" PRIu32
			" indexes; none of it is used again",
			v->bad_chunks, v->torn, v->bad_indexes);
	(void)printf("%s in %" PRIu32 " cache files verified\n",
		ld_size_text(v->bytes, size), v->files);
	return 0;
}
