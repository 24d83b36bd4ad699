/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cache keeps of a prepared image: images/<algo>/<hex>/index and
 * image.json beside it, which names the index's digest, every blob and its map.
 * The second mount reads these and nothing else. Whatever is missing, torn or
 * of another version makes the image be prepared anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "blobcache/mark.h"
#include "loader/image_int.h"
#include "loader/json.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "image"
#define RECORD_VERSION 2

void image_rel(const struct digest *d, const char *name, char *ret)
{
	char hex[2 * DIGEST_MAX_BYTES + 1];

	(void)snprintf(ret, IMAGE_REL_LEN, "images/%s/%s/%s",
		digest_algo_name(d->algo), digest_hex(d, hex), name);
}

enum ld_format image_format_of_name(const char *name)
{
	int f;

	for (f = LD_FORMAT_UNKNOWN + 1; f <= LD_FORMAT_NYDUS_V3; f++)
		if (name &&
			strcmp(ld_format_name((enum ld_format)f), name) == 0)
			return (enum ld_format)f;
	return LD_FORMAT_UNKNOWN;
}

bool ld_image_index_path(const struct ld_image *i, char *ret)
{
	if (!i->index.is_mmapped)
		return false;
	image_rel(&i->digest, "index", ret);
	return true;
}

/* ---- writing ---- */

/* null for what is not known. */
static json_t *number(uint64_t n)
{
	return n == UINT64_MAX ? json_null() : json_integer((json_int_t)n);
}

static json_t *blob_json(const struct ld_image_blob *b)
{
	char digest[DIGEST_MAX_TEXT], map[DIGEST_MAX_TEXT];

	return json_pack("{s:s, s:s, s:s, s:b, s:b, s:s, s:I, s:I, s:s?}",
		"digest", digest_text(&b->digest, digest), "map",
		digest_text(&b->map_id, map), "format",
		ld_format_name(b->format), "lazy", (int)b->lazy, "own",
		(int)b->is_own, "why", b->why, "size", (json_int_t)b->size,
		"source_size", (json_int_t)b->source_size, "url", b->url);
}

static json_t *layer_json(const struct ld_image_layer *l)
{
	char digest[DIGEST_MAX_TEXT];

	return json_pack("{s:s, s:s?, s:s, s:b, s:s, s:o, s:o, s:o}", "digest",
		digest_text(&l->digest, digest), "media_type", l->media_type,
		"format", ld_format_name(l->format), "lazy", (int)l->lazy,
		"why", l->why, "size", number(l->size), "size_uncompressed",
		number(l->size_uncompressed), "entries", number(l->entries));
}

static json_t *record_json(const struct ld_image *i, const struct digest *index,
	const struct digest *place)
{
	char digest[DIGEST_MAX_TEXT], text[DIGEST_MAX_TEXT];
	char from[DIGEST_MAX_TEXT];
	json_t *blobs = json_array(), *layers = json_array();
	size_t k;
	int ret = 0;

	for (k = 0; k < i->blob_count; k++)
		ret |= json_array_append_new(blobs, blob_json(&i->blobs[k]));
	for (k = 0; k < i->layer_count; k++)
		ret |= json_array_append_new(layers, layer_json(&i->layers[k]));
	if (ret < 0) {
		json_decref(blobs);
		json_decref(layers);
		return NULL;
	}
	return json_pack("{s:i, s:s, s:s?, s:s, s:s?, s:b, s:I, s:o, s:o}",
		"version", RECORD_VERSION, "digest",
		digest_text(&i->digest, digest), "platform", i->platform,
		"index", digest_text(index, text), "tables_from",
		i->claims ? digest_text(place, from) : NULL, "inline",
		(int)i->is_inline, "bytes_compressed",
		(json_int_t)i->bytes_compressed, "blobs", blobs, "layers",
		layers);
}

/* What was just written needs no reading at the next mount. */
static void mark_index(
	struct image_job *j, const char *rel, const struct digest *d)
{
	CLEANUP_FD int fd = openat(bc_store_dirfd(j->store), rel,
		O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		bc_mark_put(j->store, rel, fd, NULL, d, NULL);
}

static int put_record(
	struct image_job *j, const struct buf *index, struct err *e)
{
	char rel[IMAGE_REL_LEN];
	struct digest d, place;
	struct buf b;
	json_t *o;
	int ret;

	ret = digest_of(DIGEST_SHA256, index->data, index->len, &d);
	if (ret == 0)
		ret = image_claims_place(j, &place);
	if (ret < 0)
		return err_sys(e, ret, "cannot hash the index");
	image_rel(&j->image->digest, "index", rel);
	ret = bc_store_put(j->store, rel, index->data, index->len, e);
	if (ret < 0)
		return ret;
	mark_index(j, rel, &d);
	o = record_json(j->image, &d, &place);
	buf_init(&b, IMAGE_MAX_RECORD);
	ret = ld_json_write(o, JSON_INDENT(1), &b);
	json_decref(o);
	if (ret < 0)
		(void)err_sys(e, ret, "cannot write down the image");
	image_rel(&j->image->digest, "image.json", rel);
	if (ret == 0)
		ret = bc_store_put(j->store, rel, b.data, b.len, e);
	buf_fini(&b);
	return ret;
}

int image_record_save(
	struct image_job *j, struct buf *index_bytes, struct err *e)
{
	struct ld_image *i = j->image;
	char rel[IMAGE_REL_LEN];
	struct err why = {0};
	int ret = -EROFS;

	if (!bc_store_is_read_only(j->store)) {
		image_wish_save(j);
		ret = put_record(j, index_bytes, &why);
		if (ret < 0)
			log_warn("%s, the next mount prepares the image again",
				why.text);
	}
	image_rel(&i->digest, "index", rel);
	if (ret == 0)
		ret = ld_index_open(
			bc_store_dirfd(j->store), rel, &i->index, &why);
	if (ret == 0) {
		buf_fini(index_bytes);
		i->kept_in = j->store;
	} else {
		i->index_bytes = *index_bytes;
		buf_init(index_bytes, 0);
		ret = ld_index_from_bytes(
			i->index_bytes.data, i->index_bytes.len, &i->index, e);
	}
	i->entries = i->index.inode_count;
	return ret;
}

/* ---- reading ---- */

static char *read_string(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? mem_strdup(s) : NULL;
}

static uint64_t read_number(const json_t *o, const char *key)
{
	const json_t *n = json_object_get(o, key);

	return json_is_integer(n) ? (uint64_t)json_integer_value(n)
	                          : UINT64_MAX;
}

static enum ld_format read_format(const json_t *o)
{
	return image_format_of_name(
		json_string_value(json_object_get(o, "format")));
}

static int read_blob(const json_t *o, struct ld_image_blob *b)
{
	if (!ld_json_digest(o, "digest", &b->digest) ||
		!ld_json_digest(o, "map", &b->map_id))
		return -EPROTO;
	b->format = read_format(o);
	b->lazy = json_is_true(json_object_get(o, "lazy"));
	b->is_own = json_is_true(json_object_get(o, "own"));
	b->size = read_number(o, "size");
	b->source_size = read_number(o, "source_size");
	b->why = read_string(o, "why");
	b->url = read_string(o, "url");
	return b->why ? 0 : -EPROTO;
}

static int read_layer(const json_t *o, struct ld_image_layer *l)
{
	if (!ld_json_digest(o, "digest", &l->digest))
		return -EPROTO;
	l->media_type = read_string(o, "media_type");
	l->format = read_format(o);
	l->lazy = json_is_true(json_object_get(o, "lazy"));
	l->size = read_number(o, "size");
	l->size_uncompressed = read_number(o, "size_uncompressed");
	l->entries = read_number(o, "entries");
	l->why = read_string(o, "why");
	return l->why ? 0 : -EPROTO;
}

int image_record_lists(const json_t *o, struct ld_image *i)
{
	const json_t *blobs = json_object_get(o, "blobs");
	const json_t *layers = json_object_get(o, "layers");
	size_t blob_count = json_array_size(blobs);
	size_t layer_count = json_array_size(layers), k;
	int ret = 0;

	if (blob_count > LD_MAX_BLOBS || layer_count > LD_MAX_LAYERS)
		return -EPROTO;
	i->blobs = mem_calloc(blob_count, sizeof(*i->blobs));
	i->layers = mem_calloc(layer_count, sizeof(*i->layers));
	if (!i->blobs || !i->layers)
		return -ENOMEM;
	i->blob_count = blob_count;
	i->layer_count = layer_count;
	for (k = 0; k < blob_count && ret == 0; k++)
		ret = read_blob(json_array_get(blobs, k), &i->blobs[k]);
	for (k = 0; k < layer_count && ret == 0; k++)
		ret = read_layer(json_array_get(layers, k), &i->layers[k]);
	return ret;
}

json_t *image_record_parse(const char *p, size_t n, const struct digest *d)
{
	json_t *o = json_loadb(p, n, 0, NULL);
	struct digest named;

	if (json_integer_value(json_object_get(o, "version")) ==
			RECORD_VERSION &&
		ld_json_digest(o, "digest", &named) &&
		digest_is_equal(&named, d))
		return o;
	json_decref(o);
	return NULL;
}

static json_t *read_record(struct bc_store *s, const struct digest *d)
{
	char rel[IMAGE_REL_LEN];
	json_t *o = NULL;
	struct buf b;

	image_rel(d, "image.json", rel);
	buf_init(&b, IMAGE_MAX_RECORD);
	if (bc_store_get(s, rel, &b, NULL) == 0)
		o = image_record_parse((char *)b.data, b.len, d);
	buf_fini(&b);
	return o;
}

/* Maps that nothing proves count where they came from. */
static bool is_from_here(const struct image_job *j, const json_t *o)
{
	struct digest from, here;

	if (!json_is_string(json_object_get(o, "tables_from")))
		return true;
	return ld_json_digest(o, "tables_from", &from) &&
	       image_claims_place(j, &here) == 0 &&
	       digest_is_equal(&from, &here);
}

/* Reads all of it, unless that was done in this boot. */
static int check_index(struct image_job *j, const char *rel, int fd,
	const struct bc_mark_look *look, const struct digest *want)
{
	const struct ld_index *x = &j->image->index;
	int ret = 0;

	if (bc_mark_is_there(j->store, rel, look, want, NULL))
		return 0;
	ret = digest_check(want, x->base, x->len);
	if (ret == 0 && ld_index_is_lost(x))
		ret = -EIO;
	if (ret == 0)
		bc_mark_put(j->store, rel, fd, look, want, NULL);
	return ret;
}

static int open_index(struct image_job *j, const json_t *o)
{
	struct ld_image *i = j->image;
	char rel[IMAGE_REL_LEN];
	struct bc_mark_look look;
	CLEANUP_FD int fd = -1;
	struct digest want;
	int ret;

	if (!ld_json_digest(o, "index", &want))
		return -EPROTO;
	image_rel(&i->digest, "index", rel);
	fd = openat(bc_store_dirfd(j->store), rel,
		O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ret = fd < 0 ? -errno : bc_mark_look(fd, &look);
	if (ret == 0)
		ret = ld_index_open_fd(fd, rel, &i->index, NULL);
	if (ret < 0)
		return ret;
	i->kept_in = j->store;
	ret = check_index(j, rel, fd, &look, &want);
	if (ret == 0 && i->index.slot_count != i->blob_count)
		ret = -EPROTO;
	return ret;
}

static int open_maps(struct image_job *j, struct bc_map *maps)
{
	struct ld_image *i = j->image;
	size_t k;
	int ret = 0;

	for (k = 0; k < i->blob_count && ret == 0; k++)
		ret = bc_store_map_open(j->store, &i->blobs[k].digest,
			&i->blobs[k].map_id, &maps[k], NULL);
	return ret;
}

int image_record_load(struct image_job *j, struct bc_map **ret_maps)
{
	struct ld_image *i = j->image, fresh = {.digest = i->digest};
	struct bc_map *maps = NULL;
	json_t *o = read_record(j->store, &i->digest);
	int ret;

	if (!o || !is_from_here(j, o)) {
		json_decref(o);
		return -ENOENT;
	}
	fresh.is_inline = i->is_inline;
	fresh.name = take_ptr(i->name);
	fresh.platform = take_ptr(i->platform);
	fresh.origin = take_ptr(i->origin);
	*i = fresh;
	ret = image_record_lists(o, i);
	if (ret == 0)
		ret = open_index(j, o);
	if (ret == 0) {
		maps = mem_calloc(i->blob_count, sizeof(*maps));
		ret = maps ? open_maps(j, maps) : -ENOMEM;
	}
	i->is_inline = json_is_true(json_object_get(o, "inline"));
	if (json_is_string(json_object_get(o, "tables_from")))
		i->claims = j->store;
	i->bytes_compressed = read_number(o, "bytes_compressed");
	i->entries = i->index.inode_count;
	json_decref(o);
	if (ret == 0) {
		image_wish_load(j);
		*ret_maps = maps;
		return 0;
	}
	image_maps_fini(maps, i->blob_count);
	image_clear(i);
	log_debug("the record of the image is not whole (%d), preparing anew",
		-ret);
	return ret == -ENOMEM ? ret : -ENOENT;
}
