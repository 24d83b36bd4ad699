/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and changing the records of images in the cache; see cached.h. */
#include "loader/cached.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobcache/evict.h"
#include "loader/image_int.h"
#include "loader/imageref.h"
#include "loader/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define MAX_IMAGES (1u << 20)
#define MAX_NAMES 16
#define MAX_NAMES_BYTES (128u << 10)

/* ---- one image ---- */

static void image_fini(struct ld_cached_image *i)
{
	mem_free(i->platform);
	mem_free(i->name);
	mem_free(i->names);
	mem_free(i->blobs);
	mem_free(i->map_ids);
	mem_free(i->layers);
}

static int read_digests(const json_t *list, const char *key, size_t max,
	struct digest **ret, size_t *ret_count)
{
	size_t n = json_array_size(list), k;
	struct digest *d;

	if (n > max)
		return -EPROTO;
	d = mem_calloc(n + 1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	*ret = d;
	*ret_count = n;
	for (k = 0; k < n; k++)
		if (!ld_json_digest(json_array_get(list, k), key, &d[k]))
			return -EPROTO;
	return 0;
}

static int read_record(const json_t *o, struct ld_cached_image *i)
{
	const json_t *blobs = json_object_get(o, "blobs");
	const char *platform =
		json_string_value(json_object_get(o, "platform"));
	size_t n;
	int r;

	r = read_digests(
		blobs, "digest", LD_MAX_BLOBS, &i->blobs, &i->blob_count);
	if (r == 0)
		r = read_digests(blobs, "map", LD_MAX_BLOBS, &i->map_ids, &n);
	if (r == 0)
		r = read_digests(json_object_get(o, "layers"), "digest",
			LD_MAX_LAYERS, &i->layers, &i->layer_count);
	if (r == 0 && !ld_json_digest(o, "index", &i->index))
		r = -EPROTO;
	if (r == 0 && platform) {
		i->platform = mem_strdup(platform);
		r = i->platform ? 0 : -ENOMEM;
	}
	return r;
}

static int read_names(struct bc_store *s, struct ld_cached_image *i)
{
	char rel[IMAGE_REL_LEN];
	struct buf b;
	int r;

	image_rel(&i->digest, "names", rel);
	buf_init(&b, MAX_NAMES_BYTES);
	r = bc_store_get(s, rel, &b, NULL);
	if (r == 0 && !memchr(b.data, '\0', b.len)) {
		i->names = mem_strndup((char *)b.data, b.len);
		i->name = mem_strndup(
			(char *)b.data, i->names ? strcspn(i->names, "\n") : 0);
		if (!i->names || !i->name)
			r = -ENOMEM;
	}
	buf_fini(&b);
	return r == -ENOMEM ? r : 0;
}

static void read_times(struct bc_store *s, struct ld_cached_image *i)
{
	static const char *const files[] = {"image.json", "names"};
	char rel[IMAGE_REL_LEN];
	struct stat st;
	size_t k;

	for (k = 0; k < ARRAY_LEN(files); k++) {
		image_rel(&i->digest, files[k], rel);
		if (fstatat(bc_store_dirfd(s), rel, &st, 0) == 0)
			i->last_used = (uint32_t)max_u64(
				i->last_used, (uint64_t)st.st_mtime);
	}
	image_rel(&i->digest, "pin", rel);
	i->is_pinned = faccessat(bc_store_dirfd(s), rel, F_OK, 0) == 0;
}

/* What is there of its blobs. */
static void count_blobs(
	const struct bc_inventory *files, struct ld_cached_image *i)
{
	const struct bc_inventory_blob *f;
	size_t k, n;

	for (k = 0; k < i->blob_count; k++) {
		for (n = 0; n < files->count; n++)
			if (digest_is_equal(
				    &files->blobs[n].blob, &i->blobs[k]) &&
				digest_is_equal(&files->blobs[n].map_id,
					&i->map_ids[k]))
				break;
		if (n == files->count) {
			i->has_no_chunks = true;
			continue;
		}
		f = &files->blobs[n];
		i->bytes += f->bytes;
		i->chunks += f->chunk_count;
		i->ready += f->ready_count;
		i->last_used = (uint32_t)max_u64(i->last_used, f->last_used);
	}
}

/* ---- all of them ---- */

struct take {
	struct bc_store *store;
	struct ld_cached *c;
};

static int take_image(void *arg, const struct digest *d)
{
	struct take *t = arg;
	struct ld_cached_image i = {.digest = *d};
	void *images = t->c->images;
	char rel[IMAGE_REL_LEN];
	json_t *o = NULL;
	struct buf b;
	int r;

	image_rel(d, "image.json", rel);
	buf_init(&b, IMAGE_MAX_RECORD);
	r = bc_store_get(t->store, rel, &b, NULL);
	if (r == 0)
		o = json_loadb((char *)b.data, b.len, 0, NULL);
	buf_fini(&b);
	if (!o)
		return r == -ENOMEM ? r : 0;
	r = read_record(o, &i);
	json_decref(o);
	if (r == 0)
		r = read_names(t->store, &i);
	if (r == 0)
		r = mem_grow(&images, &t->c->cap, t->c->count + 1, MAX_IMAGES,
			sizeof(i));
	if (r < 0) {
		image_fini(&i);
		return r == -ENOMEM ? r : 0;
	}
	read_times(t->store, &i);
	count_blobs(&t->c->files, &i);
	t->c->images = images;
	t->c->images[t->c->count++] = i;
	return 0;
}

int ld_cached_take(struct bc_store *s, struct ld_cached *ret, struct err *e)
{
	struct ld_cached c = {0};
	struct take t = {s, &c};
	int r;

	r = bc_inventory_take(s, &c.files, e);
	if (r < 0)
		return r;
	r = bc_inventory_digests(s, "images", take_image, &t);
	if (r < 0) {
		ld_cached_fini(&c);
		return err_sys(e, r, "cannot look through the cache '%s'",
			bc_store_path(s));
	}
	*ret = c;
	return 0;
}

void ld_cached_fini(struct ld_cached *c)
{
	size_t k;

	for (k = 0; k < c->count; k++)
		image_fini(&c->images[k]);
	mem_free(c->images);
	bc_inventory_fini(&c->files);
	*c = (struct ld_cached){0};
}

/* Of blobs or layers. */
static bool has_digest(
	const struct digest *list, size_t count, const struct digest *d)
{
	size_t n;

	for (n = 0; n < count; n++)
		if (digest_is_equal(&list[n], d))
			return true;
	return false;
}

/* Has an image d that is forgotten, or is not? */
static bool has_part(
	const struct ld_cached *c, const struct digest *d, bool is_forgotten)
{
	const struct ld_cached_image *i;
	size_t k;

	for (k = 0; k < c->count; k++) {
		i = &c->images[k];
		if (i->is_forgotten == is_forgotten &&
			(has_digest(i->blobs, i->blob_count, d) ||
				has_digest(i->layers, i->layer_count, d)))
			return true;
	}
	return false;
}

bool ld_cached_needs(const struct ld_cached *c, const struct digest *d)
{
	return has_part(c, d, false);
}

static bool has_line(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (; text && *text; text = strchr(text, '\n') + 1) {
		if (strncmp(text, line, n) == 0 &&
			(text[n] == '\n' || text[n] == '\0'))
			return true;
		if (!strchr(text, '\n'))
			break;
	}
	return false;
}

bool ld_cached_is(const struct ld_cached_image *i, const char *name)
{
	struct ld_ref ref;
	struct digest d;

	if (digest_parse(name, strlen(name), &d) == 0)
		return digest_is_equal(&d, &i->digest);
	if (ld_ref_parse(name, &ref, NULL) < 0)
		return has_line(i->names, name);
	return has_line(i->names, ref.canonical) ||
	       (ref.digest.algo != DIGEST_NONE &&
		       digest_is_equal(&ref.digest, &i->digest));
}

int ld_cached_each(struct bc_store *s, const char *name, ld_cached_fn *fn,
	void *arg, struct err *e)
{
	struct ld_cached c;
	bool is_there = false;
	size_t k;
	int r;

	r = ld_cached_take(s, &c, e);
	if (r < 0)
		return r;
	for (k = 0; r == 0 && k < c.count; k++) {
		if (!ld_cached_is(&c.images[k], name))
			continue;
		is_there = true;
		r = fn(s, &c, &c.images[k], arg, e);
	}
	ld_cached_fini(&c);
	return r < 0 ? r : is_there;
}

/* ---- changing ---- */

void ld_cached_note(struct bc_store *s, const struct ld_image *i)
{
	char rel[IMAGE_REL_LEN];
	const char *at, *end;
	struct buf old, b;
	size_t n = strlen(i->name), lines = 1;
	int r;

	if (bc_store_is_read_only(s))
		return;
	image_rel(&i->digest, "names", rel);
	buf_init(&old, MAX_NAMES_BYTES);
	buf_init(&b, MAX_NAMES_BYTES);
	r = bc_store_get(s, rel, &old, NULL);
	if (r == 0 && old.len > n && old.data[n] == '\n' &&
		memcmp(old.data, i->name, n) == 0) {
		/* it is the last one still; when it was used is news */
		(void)utimensat(bc_store_dirfd(s), rel, NULL, 0);
		goto out;
	}
	r = buf_printf(&b, "%s\n", i->name);
	at = (char *)old.data;
	for (; r == 0 && old.len > 0 && lines < MAX_NAMES; at = end + 1) {
		size_t left = old.len - (size_t)(at - (char *)old.data);

		end = left ? memchr(at, '\n', left) : NULL;
		if (!end)
			break;
		if ((size_t)(end - at) == n && memcmp(at, i->name, n) == 0)
			continue;
		r = buf_append(&b, at, (size_t)(end - at) + 1);
		lines++;
	}
	if (r == 0)
		(void)bc_store_put(s, rel, b.data, b.len, NULL);
out:
	buf_fini(&old);
	buf_fini(&b);
}

int ld_cached_pin(struct bc_store *s, const struct ld_cached_image *i,
	bool is_pinned, struct err *e)
{
	char rel[IMAGE_REL_LEN], text[DIGEST_MAX_TEXT];
	struct buf b;
	size_t k;
	int r = 0;

	image_rel(&i->digest, "pin", rel);
	if (!is_pinned)
		return bc_store_remove(s, rel, e);
	buf_init(&b, 0);
	for (k = 0; r == 0 && k < i->blob_count; k++)
		r = buf_printf(&b, "%s\n", digest_text(&i->blobs[k], text));
	if (r < 0)
		(void)err_set(e, r, "out of memory");
	else
		r = bc_store_put(s, rel, b.data, b.len, e);
	buf_fini(&b);
	return r;
}

int ld_cached_forget(
	struct bc_store *s, const struct ld_cached_image *i, struct err *e)
{
	char rel[IMAGE_REL_LEN];
	int r;

	/* first what makes it an image, so that a rest of it is none */
	image_rel(&i->digest, "image.json", rel);
	r = bc_store_remove(s, rel, e);
	if (r < 0)
		return r;
	image_rel(&i->digest, "", rel);
	rel[strlen(rel) - 1] = '\0'; /* the slash */
	return bc_store_remove(s, rel, e);
}

bool ld_cached_index_is_right(
	struct bc_store *s, const struct ld_cached_image *i)
{
	char rel[IMAGE_REL_LEN];
	struct buf b;
	bool is_right;

	image_rel(&i->digest, "index", rel);
	buf_init(&b, IMAGE_MAX_INDEX);
	is_right = bc_store_get(s, rel, &b, NULL) == 0 &&
	           digest_check(&i->index, b.data, b.len) == 0;
	buf_fini(&b);
	return is_right;
}

/* ---- what nobody needs ---- */

struct sweep {
	struct bc_store *store;
	const struct ld_cached *c;
	struct bc_inventory files; /* when the bytes were gone */
	const char *top;
	uint32_t before;
	struct err *e;
};

static bool is_young(const struct sweep *w, const char *rel)
{
	struct stat st;

	return fstatat(bc_store_dirfd(w->store), rel, &st, 0) < 0 ||
	       (uint64_t)st.st_mtime >= w->before;
}

static bool has_files(const struct sweep *w, const struct digest *d)
{
	size_t k;

	for (k = 0; k < w->files.count; k++)
		if (digest_is_equal(&w->files.blobs[k].blob, d))
			return true;
	return false;
}

/* A layer's directory, or one with nothing but maps. */
static int sweep_one(void *arg, const struct digest *d)
{
	char rel[IMAGE_REL_LEN], hex[2 * DIGEST_MAX_BYTES + 1];
	struct sweep *w = arg;

	(void)snprintf(rel, sizeof(rel), "%s/%s/%s", w->top,
		digest_algo_name(d->algo), digest_hex(d, hex)); /* fits */
	if (ld_cached_needs(w->c, d) ||
		(is_young(w, rel) && !has_part(w->c, d, true)) ||
		(strcmp(w->top, "blobs") == 0 && has_files(w, d)))
		return 0;
	return bc_store_remove(w->store, rel, w->e);
}

/* Bytes first: a file that somebody has open is only emptied. */
static int sweep_bytes(struct sweep *w, bool of_forgotten, uint64_t *ret_freed)
{
	const struct bc_inventory *files = &w->c->files;
	struct bc_evict evict = {.want = UINT64_MAX,
		.before = of_forgotten ? UINT32_MAX : w->before,
		.is_patient = true};
	const struct digest *blob;
	struct digest *only;
	size_t k, n = 0;
	int r = 0;

	only = mem_calloc(files->count + 1, sizeof(*only));
	if (!only)
		return err_set(w->e, -ENOMEM, "out of memory");
	for (k = 0; k < files->count; k++) {
		blob = &files->blobs[k].blob;
		if (!ld_cached_needs(w->c, blob) &&
			has_part(w->c, blob, true) == of_forgotten)
			only[n++] = *blob;
	}
	evict.only = only;
	evict.only_count = n;
	if (n > 0)
		r = bc_store_evict(w->store, &evict, w->e);
	*ret_freed += evict.freed;
	mem_free(only);
	return r;
}

int ld_cached_sweep(struct bc_store *s, const struct ld_cached *c,
	uint32_t before, uint64_t *ret_freed, struct err *e)
{
	struct sweep w = {.store = s, .c = c, .before = before, .e = e};
	int r;

	r = sweep_bytes(&w, true, ret_freed);
	if (r == 0)
		r = sweep_bytes(&w, false, ret_freed);
	if (r == 0)
		r = bc_inventory_take(s, &w.files, e);
	w.top = "layers";
	if (r == 0)
		r = bc_inventory_digests(s, "layers", sweep_one, &w);
	w.top = "blobs";
	if (r == 0)
		r = bc_inventory_digests(s, "blobs", sweep_one, &w);
	bc_inventory_fini(&w.files);
	return r;
}
