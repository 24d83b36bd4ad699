/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of an image: each becomes a layer index and a map, several at a
 * time, kept in the cache for every image that has the same layer.
 *
 * The key in the cache holds the digest of the table of contents beside the
 * blob's: which TOC belongs to a blob is only a claim of the manifest that
 * names both. With the blob's digest alone a hostile manifest could put its TOC
 * under somebody else's layer, and their image would show its files. The size
 * is part of the key for the same reason: the map is made with it.
 *
 * A layer without one is read whole, and what is kept of it is a function of
 * the bytes that have the blob's digest and of nothing that a manifest claims:
 * there the blob's digest is all of the key ("tar" stands for the TOC). The
 * DiffID is compared again when another image uses it.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loader/image_int.h"
#include "loader/json.h"
#include "loader/layer_stream.h"
#include "loader/merge.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "image"
#define LAYER_VERSION 3
/* Layers at a time: those with a TOC wait for the network, others for CPUs. */
#define MIN_THREADS 4
#define MAX_THREADS 8

/* What the threads share. Each takes the next layer until none is left. */
struct crew {
	struct image_job *job;
	bool only_lazy;
	struct image_layers *layers;
	atomic_size_t next;
	atomic_bool failed;
	pthread_mutex_t lock; /* guards first_failed and err */
	size_t first_failed;
	struct err err;
};

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* ---- one layer in the cache ---- */

static void layer_rel(const struct ld_layer_desc *d, const char *name,
	char ret[IMAGE_REL_LEN])
{
	char hex[2 * DIGEST_MAX_BYTES + 1], toc[2 * DIGEST_MAX_BYTES + 1];
	const char *algo = digest_algo_name(d->digest.algo);

	if (d->toc.algo == DIGEST_NONE)
		(void)snprintf(ret, IMAGE_REL_LEN, "layers/%s/%s/tar/%s", algo,
			digest_hex(&d->digest, hex), name); /* fits */
	else
		(void)snprintf(ret, IMAGE_REL_LEN,
			"layers/%s/%s/%s-%" PRIu64 "/%s", algo,
			digest_hex(&d->digest, hex), digest_hex(&d->toc, toc),
			d->size, name); /* fits */
}

static json_t *read_layer_record(struct bc_store *s, const char *rel)
{
	struct buf b;
	json_t *o = NULL;

	buf_init(&b, IMAGE_MAX_RECORD);
	if (bc_store_get(s, rel, &b, NULL) == 0)
		o = json_loadb((char *)b.data, b.len, 0, NULL);
	buf_fini(&b);
	if (json_integer_value(json_object_get(o, "version")) == LAYER_VERSION)
		return o;
	json_decref(o);
	return NULL;
}

static void load_facts(const json_t *o, struct image_layer *l)
{
	const char *why = json_string_value(json_object_get(o, "why"));

	l->format = image_format_of_name(
		json_string_value(json_object_get(o, "format")));
	l->lazy = json_is_true(json_object_get(o, "lazy"));
	l->why = why ? mem_strdup(why) : NULL;
	l->entries =
		(uint64_t)json_integer_value(json_object_get(o, "entries"));
	l->size_uncompressed = (uint64_t)json_integer_value(
		json_object_get(o, "size_uncompressed"));
	l->prefetch_end = (uint64_t)json_integer_value(
		json_object_get(o, "prefetch_end"));
}

static int load_map(struct image_job *j, const json_t *o, struct image_layer *l)
{
	struct digest map_id;
	int ret;

	if (!ld_json_digest(o, "map", &map_id))
		return -ENOENT;
	ret = bc_store_map_open(
		j->store, &l->desc->digest, &map_id, &l->map, NULL);
	if (ret == 0 &&
		!bc_store_has_stream(j->store, &l->desc->digest, &l->map))
		return -ENOENT;
	return ret;
}

/* Nothing but a stream knows the DiffID; for others there is none to compare.
 */
static int check_diff_id(
	const json_t *o, const struct image_layer *l, struct err *e)
{
	char got[DIGEST_MAX_TEXT], want[DIGEST_MAX_TEXT], id[DIGEST_MAX_TEXT];
	const struct digest *diff_id = &l->desc->diff_id;
	struct digest d;

	if (!ld_json_digest(o, "diff_id", &d) || diff_id->algo == DIGEST_NONE ||
		digest_is_equal(&d, diff_id))
		return 0;
	return err_set(e, -EBADMSG,
		"layer '%s': its tar has the DiffID '%s', the image's config "
		"says '%s'",
		digest_text(&l->desc->digest, id), digest_text(&d, got),
		digest_text(diff_id, want));
}

static void drop_loaded(struct image_layer *l)
{
	if (l->map.base)
		bc_map_close(&l->map);
	l->map = (struct bc_map){0};
	mem_free(take_ptr(l->why));
	buf_fini(&l->index_bytes);
	buf_init(&l->index_bytes, IMAGE_MAX_INDEX);
}

/*
 * Everything is there and whole, or the layer is loaded anew (-ENOENT);
 * -EBADMSG: it is not what this image says.
 */
static int load_from_cache(
	struct image_job *j, struct image_layer *l, struct err *e)
{
	char rel[IMAGE_REL_LEN];
	struct digest index_digest;
	json_t *o;
	int ret = -ENOENT;

	layer_rel(l->desc, "layer.json", rel);
	o = read_layer_record(j->store, rel);
	if (!o)
		return -ENOENT;
	load_facts(o, l);
	layer_rel(l->desc, "index", rel);
	if (ld_json_digest(o, "index", &index_digest) &&
		bc_store_get(j->store, rel, &l->index_bytes, NULL) == 0 &&
		digest_check(&index_digest, l->index_bytes.data,
			l->index_bytes.len) == 0 &&
		load_map(j, o, l) == 0)
		ret = ld_index_from_bytes(l->index_bytes.data,
			l->index_bytes.len, &l->index, NULL);
	if (ret < 0)
		ret = -ENOENT;
	else
		ret = check_diff_id(o, l, e);
	json_decref(o);
	if (ret < 0)
		drop_loaded(l);
	return ret;
}

/* Failing to keep it costs the next mount some work, nothing more. */
static void keep_in_cache(struct image_job *j, const struct image_layer *l,
	const struct digest *diff_id)
{
	char rel[IMAGE_REL_LEN], map[DIGEST_MAX_TEXT], index[DIGEST_MAX_TEXT];
	char diff[DIGEST_MAX_TEXT];
	struct digest d;
	struct err e = {0};
	struct buf b;
	json_t *o;

	if (digest_of(DIGEST_SHA256, l->index_bytes.data, l->index_bytes.len,
		    &d) < 0)
		return;
	layer_rel(l->desc, "index", rel);
	if (bc_store_put(j->store, rel, l->index_bytes.data, l->index_bytes.len,
		    &e) < 0) {
		log_debug("%s", e.text);
		return;
	}
	o = json_pack("{s:i, s:s, s:s, s:s?, s:s, s:b, s:s?, s:I, s:I, s:I}",
		"version", LAYER_VERSION, "format", ld_format_name(l->format),
		"map", digest_text(&l->map.id, map), "diff_id",
		diff_id->algo == DIGEST_NONE ? NULL
					     : digest_text(diff_id, diff),
		"index", digest_text(&d, index), "lazy", (int)l->lazy, "why",
		l->why, "entries", (json_int_t)l->entries, "size_uncompressed",
		(json_int_t)l->size_uncompressed, "prefetch_end",
		(json_int_t)l->prefetch_end);
	buf_init(&b, IMAGE_MAX_RECORD);
	layer_rel(l->desc, "layer.json", rel);
	if (ld_json_write(o, JSON_COMPACT, &b) == 0)
		(void)bc_store_put(j->store, rel, b.data, b.len, NULL);
	buf_fini(&b);
	json_decref(o);
}

/* ---- one layer from its source ---- */

static int read_layer(struct image_job *j, const struct ld_layer_desc *d,
	struct ld_layer *ret, struct err *e)
{
	const struct ld_toc_finder finder = {.find = image_toc_find, .arg = j};
	struct ld_layer_stream_options o = {
		.rt = j->rt,
		.store = j->store,
		.desc = d,
		.progress = j->o->progress,
	};
	const char *why;
	bool is_lazy;
	int r;

	r = image_layer_source(j, &d->digest, d->size, d->url, &o.source, e);
	if (r < 0)
		return r;
	o.source->store = j->store;
	do {
		if (ld_layer_is_plain(ld_layer_recognise(d, &is_lazy, &why)))
			r = ld_layer_stream(&o, ret, e);
		else
			r = ld_layer_load(j->rt, d, o.source, &finder, ret, e);
		/* A mirror may have lied; each is distrusted once. */
	} while ((r == -EBADMSG || r == -EPROTO) && o.source->distrust &&
		 o.source->distrust(o.source));
	bc_source_destroy(o.source);
	return r;
}

/* What was streamed becomes the cache file, and the map's file with it. */
static int adopt(struct image_layer *l, struct ld_layer *layer, struct err *e)
{
	char id[DIGEST_MAX_TEXT];
	int r;

	if (!layer->spool.store)
		return 0;
	r = bc_spool_adopt(&layer->spool, &l->desc->digest, &l->map);
	if (r == 0)
		return 0;
	if (!layer->lazy)
		return err_sys(e, r, "cannot keep layer '%s' in the cache",
			digest_text(&l->desc->digest, id));
	log_warn("cannot keep layer '%s' in the cache (error %d), it will be "
		 "fetched again as it is read",
		digest_text(&l->desc->digest, id), -r);
	return 0;
}

/* Takes what it uses of layer. */
static int take_layer(
	struct image_layer *l, struct ld_layer *layer, struct err *e)
{
	int r;

	l->format = layer->format;
	l->lazy = layer->lazy;
	l->entries = layer->entries;
	l->size_uncompressed = layer->size_uncompressed;
	l->prefetch_end = layer->prefetch_end;
	l->why = mem_strdup(layer->why);
	if (!l->why)
		return out_of_memory(e);
	r = ld_index_write(layer->tree, layer->block_bits, &l->index_bytes, e);
	if (r == 0)
		r = ld_index_from_bytes(
			l->index_bytes.data, l->index_bytes.len, &l->index, e);
	if (r == 0)
		r = bc_map_from_bytes(
			layer->map.data, layer->map.len, &l->map, e);
	if (r < 0)
		return r;
	layer->map = (struct buf){0}; /* its bytes are the map's now */
	return adopt(l, layer, e);
}

static int read_from_source(
	struct image_job *j, struct image_layer *l, struct err *e)
{
	struct ld_layer layer = {0};
	int r;

	r = read_layer(j, l->desc, &layer, e);
	if (r < 0)
		return r;
	r = take_layer(l, &layer, e);
	/* the record names the map, so the map comes first */
	if (r == 0 && (!l->map.base || bc_store_map_put(j->store,
					       &l->desc->digest, &l->map) == 0))
		keep_in_cache(j, l, &layer.diff_id);
	ld_layer_fini(&layer);
	return r;
}

static int load_one(const struct crew *c, struct image_layer *l, struct err *e)
{
	enum ld_format f;
	const char *why;
	bool is_lazy;
	int ret = 0;

	f = ld_layer_recognise(l->desc, &is_lazy, &why);
	if (ld_layer_is_plain(f))
		ret = image_config_wait(c->job, e); /* its DiffID */
	if (ret < 0)
		return ret;
	ret = load_from_cache(c->job, l, e);
	if (ret != -ENOENT)
		return ret;
	l->is_absent = c->only_lazy && !is_lazy;
	return l->is_absent ? 0 : read_from_source(c->job, l, e);
}

/* ---- all of them ---- */

static void *crew_run(void *arg)
{
	struct crew *c = arg;
	struct err e = {0};
	size_t i;

	while (!atomic_load(&c->failed)) {
		i = atomic_fetch_add(&c->next, 1);
		if (i >= c->layers->count)
			break;
		if (load_one(c, &c->layers->list[i], &e) == 0)
			continue;
		atomic_store(&c->failed, true);
		(void)pthread_mutex_lock(&c->lock);
		/* of several failures the lowest layer's is told */
		if (i < c->first_failed) {
			c->first_failed = i;
			c->err = e;
		}
		(void)pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

static size_t crew_size(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (cpus <= MIN_THREADS)
		return MIN_THREADS;
	return cpus < MAX_THREADS ? (size_t)cpus : MAX_THREADS;
}

static int load_all(struct image_job *j, struct image_layers *l, bool only_lazy,
	struct err *e)
{
	struct crew c = {
		.job = j,
		.only_lazy = only_lazy,
		.layers = l,
		.first_failed = SIZE_MAX,
	};
	pthread_t threads[MAX_THREADS];
	size_t i, n = 0, size = crew_size();
	int ret;

	if (pthread_mutex_init(&c.lock, NULL) != 0)
		return out_of_memory(e);
	/* this thread is one of them; a missing one only costs time */
	for (i = 1; i < l->count && i < size; i++)
		if (pthread_create(&threads[n], NULL, crew_run, &c) == 0)
			n++;
	(void)crew_run(&c);
	for (i = 0; i < n; i++)
		(void)pthread_join(threads[i], NULL);
	(void)pthread_mutex_destroy(&c.lock);
	/* the config's failure goes before those of layers */
	ret = image_config_wait(j, e);
	if (ret < 0 || !atomic_load(&c.failed))
		return ret;
	if (e)
		*e = c.err;
	return c.err.code;
}

/* The entry for this blob, a new one if it is the first of its kind. */
static struct image_layer *layer_for(
	struct image_layers *l, const struct ld_layer_desc *d)
{
	struct image_layer *n;
	size_t i;

	for (i = 0; i < l->count; i++)
		if (digest_is_equal(&l->list[i].desc->digest, &d->digest))
			return &l->list[i];
	n = &l->list[l->count++];
	n->desc = d;
	buf_init(&n->index_bytes, IMAGE_MAX_INDEX);
	return n;
}

int image_layers_load(struct image_job *j, bool only_lazy,
	struct image_layers *ret, struct err *e)
{
	struct ld_manifest *m = &j->manifest;
	struct image_layers l = {0};
	enum ld_format f;
	const char *why;
	bool is_lazy;
	size_t i;
	int err = 0;

	l.list = mem_calloc(m->layer_count, sizeof(*l.list));
	l.by_layer = mem_calloc(m->layer_count, sizeof(struct image_layer *));
	if (!l.list || !l.by_layer) {
		image_layers_fini(&l);
		return out_of_memory(e);
	}
	for (i = 0; i < m->layer_count; i++) {
		f = ld_layer_recognise(&m->layers[i], &is_lazy, &why);
		if (is_lazy || ld_layer_is_plain(f) || !only_lazy)
			l.by_layer[i] = layer_for(&l, &m->layers[i]);
	}
	if (l.count > 0)
		err = load_all(j, &l, only_lazy, e);
	else
		err = image_config_wait(j, e);
	if (err < 0) {
		image_layers_fini(&l);
		return err;
	}
	*ret = l;
	return 0;
}

void image_layers_fini(struct image_layers *l)
{
	size_t i;

	for (i = 0; i < l->count; i++) {
		if (l->list[i].map.base)
			bc_map_close(&l->list[i].map);
		buf_fini(&l->list[i].index_bytes);
		mem_free(l->list[i].why);
	}
	mem_free(l->list);
	mem_free(l->by_layer);
	*l = (struct image_layers){0};
}

int image_layers_merge(const struct image_layers *l,
	const struct ld_manifest *m, struct buf *ret_index, struct err *e)
{
	const struct ld_index **in;
	unsigned block_bits = LD_BLOCK_BITS;
	struct ld_tree *tree = NULL;
	size_t i;
	int ret;

	in = mem_calloc(m->layer_count, sizeof(*in));
	if (!in || ld_tree_create(&tree) < 0) {
		mem_free(in);
		return out_of_memory(e);
	}
	for (i = 0; i < m->layer_count; i++) {
		in[i] = &l->by_layer[i]->index;
		/* one index has one block size: what the smallest needs */
		if (in[i]->block_bits < block_bits)
			block_bits = in[i]->block_bits;
	}
	ret = ld_merge(in, m->layer_count, tree, e);
	if (ret == 0)
		ret = ld_index_write(tree, block_bits, ret_index, e);
	ld_tree_destroy(tree);
	mem_free(in);
	return ret;
}
