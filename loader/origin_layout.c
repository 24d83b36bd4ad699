/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An OCI layout on disk as origin: index.json names the images, blobs/ holds
 * everything by digest. Nothing in it is believed: what is read whole is
 * verified, and the rest is by its chunks.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "loader/manifest.h"
#include "loader/origin.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define REF_NAME "org.opencontainers.image.ref.name"
#define MAX_CONFIG (64u << 20)

struct from_layout {
	struct ld_origin origin;
	char tag[LD_TAG_LEN];
	char path[]; /* of the layout */
};

static struct from_layout *of(struct ld_origin *o)
{
	return container_of(o, struct from_layout, origin);
}

/* ---- index.json ---- */

static const char *ref_name(const json_t *entry)
{
	const char *s = json_string_value(json_object_get(
		json_object_get(entry, "annotations"), REF_NAME));

	return s ? s : "";
}

/* "a, b, c" of the tags that there are. */
static void list_tags(const json_t *entries, char *out, size_t cap)
{
	size_t i, used = 0;
	const char *tag;
	int n;

	out[0] = '\0';
	for (i = 0; i < json_array_size(entries) && used < cap; i++) {
		tag = ref_name(json_array_get(entries, i));
		if (!tag[0])
			continue;
		n = snprintf(
			out + used, cap - used, "%s%s", used ? ", " : "", tag);
		used += n > 0 ? (size_t)n : 0;
	}
}

static const json_t *find_tag(const json_t *entries, const char *tag)
{
	const json_t *entry;
	size_t i;

	for (i = 0; i < json_array_size(entries); i++) {
		entry = json_array_get(entries, i);
		if (strcmp(ref_name(entry), tag) == 0)
			return entry;
	}
	return NULL;
}

/* Without a tag: the only image, else "latest". */
static int choose(struct from_layout *l, const char *wanted, const json_t *root,
	struct digest *ret, struct err *e)
{
	const json_t *entries = json_object_get(root, "manifests");
	const json_t *entry;
	const char *text;
	char tags[200];

	if (!json_is_array(entries))
		return err_set(e, -EPROTO, "'%s/index.json' is no image index",
			l->path);
	if (!wanted[0] && json_array_size(entries) == 1)
		entry = json_array_get(entries, 0);
	else
		entry = find_tag(entries, wanted[0] ? wanted : "latest");
	if (!entry) {
		list_tags(entries, tags, sizeof(tags));
		return err_set_kind(e, ERR_NOT_FOUND, -ENOENT,
			"'%s' has no image with the tag '%s'%s%s", l->path,
			wanted[0] ? wanted : "latest",
			tags[0] ? ", only: " : "", tags);
	}
	text = json_string_value(json_object_get(entry, "digest"));
	if (!text || digest_parse(text, strlen(text), ret) < 0)
		return err_set(e, -EPROTO,
			"'%s/index.json' names an image without a digest",
			l->path);
	return 0;
}

static int find(struct ld_origin *o, const char *suffix, struct digest *ret,
	struct err *e)
{
	struct from_layout *l = of(o);
	char path[4200], tag[2 * LD_TAG_LEN];
	struct buf b;
	json_t *root;
	int err;

	(void)snprintf(path, sizeof(path), "%s/index.json", l->path);
	buf_init(&b, LD_MAX_MANIFEST_BYTES);
	err = buf_read_file(&b, AT_FDCWD, path);
	if (err < 0) {
		buf_fini(&b);
		if (err == -ENOENT || err == -ENOTDIR)
			return err_set_kind(e, ERR_NOT_FOUND, -ENOENT,
				"'%s' is no OCI layout, it has no index.json",
				l->path);
		return err_sys(e, err, "cannot read '%s'", path);
	}
	root = json_loadb((char *)b.data, b.len, JSON_REJECT_DUPLICATES, NULL);
	buf_fini(&b);
	if (!root)
		return err_set(e, -EPROTO, "'%s' is no valid JSON", path);
	(void)snprintf(tag, sizeof(tag), "%s%s", l->tag, suffix);
	err = choose(l, tag, root, ret, e);
	json_decref(root);
	return err;
}

static int resolve(struct ld_origin *o, struct digest *ret, struct err *e)
{
	return find(o, "", ret, e);
}

/* ---- blobs ---- */

static void blob_path(
	struct from_layout *l, const struct digest *d, char *ret, size_t cap)
{
	char hex[2 * DIGEST_MAX_BYTES + 1];

	(void)snprintf(ret, cap, "%s/blobs/%s/%s", l->path,
		digest_algo_name(d->algo), digest_hex(d, hex));
}

/* A missing blob is a missing image for manifests, a broken one for others. */
static int read_blob(struct from_layout *l, const struct digest *d,
	enum err_kind if_missing, struct buf *out, struct err *e)
{
	char path[4400];
	int err;

	blob_path(l, d, path, sizeof(path));
	err = buf_read_file(out, AT_FDCWD, path);
	if (err == -ENOENT)
		return err_set_kind(
			e, if_missing, -ENOENT, "'%s' is not there", path);
	if (err < 0)
		return err_sys(e, err, "cannot read '%s'", path);
	if (digest_check(d, out->data, out->len) < 0)
		return err_set(e, -EBADMSG,
			"'%s' does not have the digest that is its name", path);
	return 0;
}

static int manifest(struct ld_origin *o, const struct digest *d,
	struct buf *out, char ret_type[LD_MEDIA_TYPE_LEN], struct err *e)
{
	ret_type[0] = '\0';
	return read_blob(of(o), d, ERR_NOT_FOUND, out, e);
}

static int tagged(struct ld_origin *o, const char *suffix, struct buf *out,
	char ret_type[LD_MEDIA_TYPE_LEN], struct digest *ret, struct err *e)
{
	int err = find(o, suffix, ret, e);

	return err < 0 ? err : manifest(o, ret, out, ret_type, e);
}

static int blob(struct ld_origin *o, const struct digest *d, uint64_t size,
	struct buf *out, struct err *e)
{
	if (size > MAX_CONFIG)
		return err_set(e, -E2BIG,
			"a config of %llu bytes is over the limit",
			(unsigned long long)size);
	return read_blob(of(o), d, ERR_BROKEN, out, e);
}

static int source(struct ld_origin *o, const struct digest *d, uint64_t size,
	struct bc_source **ret, struct err *e)
{
	struct bc_source *s;
	char path[4400];
	int err;

	blob_path(of(o), d, path, sizeof(path));
	err = bc_source_file_open(path, &s, e);
	if (err < 0)
		return err;
	if (size > 0 && s->size != size) {
		err = err_set(e, -EPROTO,
			"'%s' has %llu bytes, the manifest says %llu", path,
			(unsigned long long)s->size, (unsigned long long)size);
		bc_source_destroy(s);
		return err;
	}
	*ret = s;
	return 0;
}

static void destroy(struct ld_origin *o)
{
	mem_free(of(o));
}

static const struct ld_origin_ops layout_ops = {
	.resolve = resolve,
	.tagged = tagged,
	.manifest = manifest,
	.blob = blob,
	.source = source,
	.destroy = destroy,
};

int ld_origin_open_layout(
	const struct ld_ref *r, struct ld_origin **ret, struct err *e)
{
	size_t n = strlen(r->path) + 1;
	struct from_layout *l = mem_zalloc(sizeof(*l) + n);

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	l->origin.ops = &layout_ops;
	l->origin.is_local = true;
	memcpy(l->tag, r->tag, sizeof(l->tag));
	memcpy(l->path, r->path, n);
	*ret = &l->origin;
	return 0;
}
