/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a reference to the manifest of this platform.
 *
 *   name -> reference -> digest -> (indexes) -> manifest
 *
 * A tag whose manifest is in the cache is asked by HEAD, which counts for
 * nothing where pulls are counted, and mostly nothing follows. Where it would
 * have to be fetched anyway, it is asked for by its tag at once.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blobcache/mark.h"
#include "loader/image_int.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "image"
#define MAX_INDEX_DEPTH 4 /* indexes that name indexes */

/* ---- reference -> digest ---- */

static int ref_rel(const struct ld_ref *r, char ret[IMAGE_REL_LEN])
{
	int n;

	/* no repository has a ':', so no tag is in a directory's way */
	n = snprintf(ret, IMAGE_REL_LEN, "refs/%s/%s:%s", r->host,
		r->repository, r->tag);
	return n < 0 || n >= IMAGE_REL_LEN ? -E2BIG : 0;
}

/* The digest seen last time; algo NONE if there was none. */
static struct digest last_seen(struct image_job *j)
{
	struct digest d = {0};
	char rel[IMAGE_REL_LEN];
	struct buf b;
	size_t n;

	buf_init(&b, DIGEST_MAX_TEXT + 1);
	if (ref_rel(&j->ref, rel) == 0 &&
		bc_store_get(j->store, rel, &b, NULL) == 0) {
		n = b.len;
		if (n > 0 && b.data[n - 1] == '\n')
			n--;
		if (digest_parse((char *)b.data, n, &d) < 0)
			d = (struct digest){0};
	}
	buf_fini(&b);
	return d;
}

/*
 * Once its manifest is here: what a server that fails in between has announced
 * is no use to anybody when it is gone.
 */
static void remember(struct image_job *j, const struct digest *d)
{
	char rel[IMAGE_REL_LEN], text[DIGEST_MAX_TEXT + 1];
	size_t n;

	n = strlen(digest_text(d, text));
	text[n++] = '\n';
	/* lost: then a dead server is an error and not a warning */
	if (ref_rel(&j->ref, rel) == 0)
		(void)bc_store_put(j->store, rel, text, n, NULL);
}

/* A manifest or an index out of the cache; false: not there, or not whole. */
static bool get_kept(struct image_job *j, const struct digest *d, struct buf *b)
{
	char rel[IMAGE_REL_LEN];

	if (d->algo == DIGEST_NONE)
		return false;
	image_rel(d, "manifest", rel);
	return bc_mark_get(j->store, rel, d, b) == 0;
}

/* What the tag names now; if its manifest came with that it is j->tagged. */
static int ask_tag(struct image_job *j, const struct digest *last,
	struct digest *ret, struct err *e)
{
	struct ld_origin *origin = j->image->origin;
	struct buf b;
	bool is_kept;
	int err;

	buf_init(&b, LD_MAX_MANIFEST_BYTES);
	is_kept = get_kept(j, last, &b);
	buf_fini(&b);
	if (is_kept)
		return origin->ops->resolve(origin, ret, e);
	buf_init(&j->tagged, LD_MAX_MANIFEST_BYTES);
	err = origin->ops->tagged(
		origin, "", &j->tagged, j->tagged_type, ret, e);
	if (err < 0)
		buf_fini(&j->tagged);
	else
		j->tagged_digest = *ret;
	return err;
}

/* The digest that the name stands for now. */
static int find_digest(struct image_job *j, struct digest *ret, struct err *e)
{
	struct digest last, now;
	struct err why = {0};
	int err;

	if (j->ref.digest.algo != DIGEST_NONE) {
		*ret = j->ref.digest;
		return 0;
	}
	if (j->image->origin->is_local)
		return j->image->origin->ops->resolve(j->image->origin, ret, e);
	last = last_seen(j);
	err = ask_tag(j, &last, &now, &why);
	if (err == 0) {
		j->is_moved = !digest_is_equal(&last, &now);
		*ret = now;
		return 0;
	}
	if (err != -EHOSTUNREACH || last.algo == DIGEST_NONE) {
		if (e)
			*e = why;
		return err;
	}
	log_warn("%s, using what '%s' was last time", why.text,
		j->ref.canonical);
	*ret = last;
	return 0;
}

/* ---- digest -> manifest ---- */

/*
 * What came with the tag, from the cache, or from the origin. *ret_type is what
 * a server said, if one did.
 */
static int get_manifest(struct image_job *j, const struct digest *d,
	struct buf *b, char *ret_type, bool *ret_is_new, struct err *e)
{
	struct ld_origin *origin = j->image->origin;

	ret_type[0] = '\0';
	*ret_is_new = false;
	if (get_kept(j, d, b))
		return 0;
	*ret_is_new = true;
	if (j->tagged.len == 0 || !digest_is_equal(d, &j->tagged_digest))
		return origin->ops->manifest(origin, d, b, ret_type, e);
	buf_fini(b);
	*b = j->tagged;
	j->tagged = (struct buf){0};
	memcpy(ret_type, j->tagged_type, sizeof(j->tagged_type));
	return 0;
}

static void keep(
	struct image_job *j, const struct digest *d, const struct buf *b)
{
	char rel[IMAGE_REL_LEN];

	image_rel(d, "manifest", rel);
	/* lost: it is fetched again */
	(void)bc_store_put(j->store, rel, b->data, b->len, NULL);
}

/* Follow indexes down to this platform's manifest. */
static int find_manifest(struct image_job *j, struct digest d, struct err *e)
{
	char type[LD_MEDIA_TYPE_LEN];
	struct digest next;
	struct buf b;
	bool is_new;
	int depth, ret = 1;

	for (depth = 0; ret == 1 && depth <= MAX_INDEX_DEPTH; depth++) {
		buf_init(&b, LD_MAX_MANIFEST_BYTES);
		ret = get_manifest(j, &d, &b, type, &is_new, e);
		if (ret == 0)
			ret = ld_manifest_is_index((char *)b.data, b.len, type,
				j->platform, &next, e);
		if (ret == 0)
			ret = ld_manifest_parse(
				(char *)b.data, b.len, type, &j->manifest, e);
		else if (ret == 1 && is_new)
			keep(j, &d, &b);
		if (ret == 0 && is_new)
			keep(j, &d, &b);
		buf_fini(&b);
		if (ret == 0)
			j->image->digest = d;
		if (ret == 1)
			d = next;
	}
	if (ret == 1)
		return err_set(e, -EPROTO,
			"image indexes name each other more than %d deep",
			MAX_INDEX_DEPTH);
	return ret;
}

int image_find_manifest(struct image_job *j, struct err *e)
{
	struct digest d;
	int ret;

	ret = find_digest(j, &d, e);
	if (ret == 0)
		ret = find_manifest(j, d, e);
	if (ret == 0 && j->is_moved)
		remember(j, &d);
	return ret;
}
