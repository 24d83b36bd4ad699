/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a name to an image that can be mounted; see image.h.
 *
 *   name -> reference -> digest -> (indexes) -> manifest -> layers -> index
 *
 * Everything below the first digest is named by digests and kept in the cache
 * once it was verified, so only a tag ever has to be asked for again.
 */
#include "loader/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "blobcache/mark.h"
#include "loader/cached.h"
#include "loader/image_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "image"

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* ---- platform ---- */

/* The image spec's names for uname's. */
static const struct {
	const char *machine, *platform;
} machines[] = {
	{"x86_64", "amd64"},
	{"i686", "386"},
	{"aarch64", "arm64"},
	{"armv8l", "arm/v7"},
	{"armv7l", "arm/v7"},
	{"armv6l", "arm/v6"},
	{"ppc64le", "ppc64le"},
	{"riscv64", "riscv64"},
	{"s390x", "s390x"},
	{"loongarch64", "loong64"},
};

static void set_platform(struct image_job *j)
{
	const char *arch;
	struct utsname u;
	size_t i;

	if (j->o->platform) {
		(void)snprintf(
			j->platform, sizeof(j->platform), "%s", j->o->platform);
		return;
	}
	arch = uname(&u) == 0 ? u.machine : "amd64";
	for (i = 0; i < ARRAY_LEN(machines); i++) {
		if (strcmp(arch, machines[i].machine) == 0) {
			arch = machines[i].platform;
			break;
		}
	}
	(void)snprintf(j->platform, sizeof(j->platform), "linux/%.60s", arch);
}

/* ---- manifest -> image ---- */

/* The blob behind a device slot is a layer of the image. */
static int take_slot(struct image_job *j, struct image_layers *l,
	const struct ld_blob_ref *slot, struct ld_image_blob *b,
	struct bc_map *ret_map, struct err *e)
{
	const struct ld_image_layer *layer;
	const char *url;
	size_t k;

	for (k = 0; k < j->image->layer_count; k++)
		if (digest_is_equal(&j->image->layers[k].digest, &slot->digest))
			break;
	if (k == j->image->layer_count || !l->by_layer[k]->map.base)
		return err_set(
			e, -EPROTO, "the index names a blob that is no layer");
	layer = &j->image->layers[k];
	*ret_map = l->by_layer[k]->map;
	l->by_layer[k]->map.base = NULL;
	if (slot->device_size > ret_map->device_size)
		return err_set(e, -EPROTO,
			"the index is larger than the map of its blob");
	b->digest = layer->digest;
	b->format = layer->format;
	b->lazy = layer->lazy;
	b->size = layer->size;
	b->source_size = layer->size;
	b->map_id = ret_map->id;
	b->why = mem_strdup(layer->why);
	url = l->by_layer[k]->desc->url;
	b->url = url ? mem_strdup(url) : NULL;
	if (!b->why || (url && !b->url) ||
		image_wish_add_front(
			j->image, b, ret_map, l->by_layer[k]->prefetch_end) < 0)
		return out_of_memory(e);
	return 0;
}

static int take_slots(struct image_job *j, struct image_layers *l,
	const struct buf *index_bytes, struct bc_map **ret_maps, struct err *e)
{
	struct ld_image *i = j->image;
	struct ld_blob_ref slot;
	struct ld_index x;
	struct bc_map *maps;
	uint32_t k;
	int ret;

	ret = ld_index_from_bytes(index_bytes->data, index_bytes->len, &x, e);
	if (ret < 0)
		return ret;
	maps = mem_calloc(x.slot_count, sizeof(*maps));
	i->blobs = mem_calloc(x.slot_count, sizeof(*i->blobs));
	if (!maps || !i->blobs) {
		mem_free(maps);
		return out_of_memory(e);
	}
	i->blob_count = x.slot_count;
	for (k = 0; k < x.slot_count && ret == 0; k++) {
		ret = ld_index_slot(&x, k, &slot);
		if (ret < 0)
			(void)err_set(e, ret, "the index has a bad slot");
		else
			ret = take_slot(j, l, &slot, &i->blobs[k], &maps[k], e);
	}
	if (ret < 0) {
		image_maps_fini(maps, x.slot_count);
		return ret;
	}
	*ret_maps = maps;
	return 0;
}

static int build(struct image_job *j, struct bc_map **ret_maps, struct err *e)
{
	struct image_layers layers;
	struct bc_map *maps = NULL;
	struct buf index;
	int ret;

	ret = image_config_begin(j, e);
	if (ret == 0 && image_nydus_bootstrap(j))
		return image_nydus_build(j, ret_maps, e);
	if (ret == 0)
		ret = image_list_layers(j, e);
	if (ret < 0)
		return ret;
	ret = image_layers_load(j, false, &layers, e);
	if (ret < 0)
		return ret;
	j->image->bytes_compressed = image_sum_layers(j->image);
	buf_init(&index, IMAGE_MAX_INDEX);
	ret = image_describe_layers(j, &layers, e);
	if (ret == 0)
		ret = image_layers_merge(&layers, &j->manifest, &index, e);
	if (ret == 0)
		ret = take_slots(j, &layers, &index, &maps, e);
	if (ret == 0) {
		ret = image_record_save(j, &index, e);
		if (ret < 0)
			image_maps_fini(maps, j->image->blob_count);
	}
	buf_fini(&index);
	image_layers_fini(&layers);
	if (ret == 0)
		*ret_maps = maps;
	return ret;
}

/* ---- blobs ---- */

void image_maps_fini(struct bc_map *maps, size_t count)
{
	size_t i;

	for (i = 0; maps && i < count; i++)
		if (maps[i].base)
			bc_map_close(&maps[i]);
	mem_free(maps);
}

int image_blobs_open(struct image_job *j, struct bc_map *maps,
	image_source_fn *source, struct err *e)
{
	struct ld_image *i = j->image;
	struct bc_blob_options o = {.rt = j->rt, .store = j->store};
	struct bc_blob_stats stats;
	size_t k;
	int ret = 0;

	for (k = 0; k < i->blob_count && ret == 0; k++) {
		ret = source(j, &i->blobs[k], &o.source, e);
		if (ret < 0)
			break;
		o.digest = i->blobs[k].digest;
		o.map = maps[k];
		ret = bc_blob_open(&o, &i->blobs[k].blob, e);
		if (ret < 0) {
			bc_source_destroy(o.source);
			break;
		}
		maps[k].base = NULL;
		bc_blob_stats(i->blobs[k].blob, &stats);
		i->bytes_total += stats.bytes_total;
	}
	image_maps_fini(maps, i->blob_count);
	return ret;
}

static int source_of_layer(struct image_job *j, struct ld_image_blob *b,
	struct bc_source **ret, struct err *e)
{
	return image_layer_source(
		j, &b->digest, b->source_size, b->url, ret, e);
}

/* ---- the whole way ---- */

static int start(struct image_job *j, struct err *e)
{
	struct ld_image *i = j->image;
	int ret = 0;

	if (j->o->ref)
		j->ref = *j->o->ref;
	else
		ret = ld_ref_parse(j->o->name, &j->ref, e);
	if (ret < 0)
		return ret;
	i->name = mem_strdup(j->ref.canonical);
	if (!i->name)
		return out_of_memory(e);
	if (j->ref.kind == LD_REF_BUNDLE || j->ref.kind == LD_REF_BUNDLE_URL)
		return 0;
	set_platform(j);
	ret = ld_platform_check(j->platform, e);
	if (ret < 0)
		return ret;
	i->platform = mem_strdup(j->platform);
	if (!i->platform)
		return out_of_memory(e);
	return ld_origin_open(&j->ref, j->o, j->net, &i->origin, e);
}

/*
 * A map may have chunks that only come with the whole layer: where one of them
 * has left the cache, the layer has to be read again before the mount.
 */
static bool must_read_again(struct image_job *j, const struct bc_map *maps)
{
	size_t k;

	for (k = 0; k < j->image->blob_count; k++)
		if (!bc_store_has_stream(
			    j->store, &j->image->blobs[k].digest, &maps[k]))
			return true;
	return false;
}

static int prepare_oci(struct image_job *j, struct err *e)
{
	struct bc_map *maps;
	int ret;

	ret = image_find_manifest(j, e);
	if (ret < 0)
		return ret;
	ret = image_record_load(j, &maps);
	if (ret == 0 && must_read_again(j, maps)) {
		image_maps_fini(maps, j->image->blob_count);
		image_clear(j->image);
		ret = -ENOENT;
	}
	if (ret == -ENOENT)
		ret = build(j, &maps, e);
	else if (ret < 0)
		(void)out_of_memory(e);
	if (ret < 0)
		return ret;
	return image_blobs_open(j, maps, source_of_layer, e);
}

static int inspect_oci(struct image_job *j, struct err *e)
{
	struct image_layers layers;
	int ret;

	ret = image_find_manifest(j, e);
	if (ret == 0 && image_nydus_bootstrap(j))
		return image_nydus_inspect(j, e);
	if (ret == 0)
		ret = image_list_layers(j, e);
	if (ret == 0)
		ret = image_layers_load(j, true, &layers, e);
	if (ret < 0)
		return ret;
	ret = image_describe_layers(j, &layers, e);
	j->image->bytes_compressed = image_sum_layers(j->image);
	image_layers_fini(&layers);
	return ret;
}

static bool is_bundle(const struct image_job *j)
{
	return j->ref.kind == LD_REF_BUNDLE || j->ref.kind == LD_REF_BUNDLE_URL;
}

static int finish(
	struct image_job *j, int ret, struct ld_image *out, struct err *e)
{
	image_config_fini(&j->config);
	ld_manifest_fini(&j->manifest);
	ld_manifest_fini(&j->tocs);
	buf_fini(&j->tagged);
	(void)pthread_mutex_destroy(&j->toc_lock);
	if (ret < 0) {
		ld_image_fini(j->image);
		return ret;
	}
	*out = *j->image;
	return 0;
}

/* What to do with a started job: one function for each kind of image. */
typedef int image_work_fn(struct image_job *j, struct err *e);

static int run_job(struct image_job j, image_work_fn *bundle,
	image_work_fn *oci, struct ld_image *ret, struct err *e)
{
	struct ld_image image = {0};
	int err;

	j.image = &image;
	if (pthread_mutex_init(&j.toc_lock, NULL) != 0)
		return out_of_memory(e);
	if (image_config_init(&j.config) < 0) {
		(void)pthread_mutex_destroy(&j.toc_lock); /* nobody holds it */
		return out_of_memory(e);
	}
	err = start(&j, e);
	if (err == 0)
		err = is_bundle(&j) ? bundle(&j, e) : oci(&j, e);
	return finish(&j, err, ret, e);
}

int ld_image_prepare(const struct ld_image_options *o, struct rt *rt,
	struct bc_net *net, struct bc_store *store, struct ld_image *ret,
	struct err *e)
{
	struct image_job j = {.o = o, .rt = rt, .net = net, .store = store};
	int err = run_job(j, image_bundle_prepare, prepare_oci, ret, e);

	if (err == 0)
		ld_cached_note(store, ret);
	return err;
}

int ld_image_inspect(const struct ld_image_options *o, struct rt *rt,
	struct bc_net *net, struct bc_store *store, struct ld_image *ret,
	struct err *e)
{
	struct image_job j = {.o = o, .rt = rt, .net = net, .store = store};

	return run_job(j, image_bundle_inspect, inspect_oci, ret, e);
}

void image_clear(struct ld_image *i)
{
	char rel[IMAGE_REL_LEN];
	size_t k;

	for (k = 0; k < i->blob_count; k++)
		if (i->blobs[k].blob)
			bc_blob_stop(i->blobs[k].blob);
	image_claims_judge(i);
	for (k = 0; k < i->blob_count; k++) {
		bc_blob_close(i->blobs[k].blob);
		mem_free(i->blobs[k].why);
		mem_free(i->blobs[k].url);
		mem_free(i->blobs[k].wanted);
	}
	mem_free(take_ptr(i->blobs));
	for (k = 0; k < i->layer_count; k++) {
		mem_free(i->layers[k].media_type);
		mem_free(i->layers[k].why);
	}
	mem_free(take_ptr(i->layers));
	i->blob_count = 0;
	i->layer_count = 0;
	i->has_wanted = false;
	i->claims = NULL;
	/* who mounts it next reads all of it */
	if (i->kept_in && ld_index_is_lost(&i->index)) {
		image_rel(&i->digest, "index", rel);
		bc_mark_remove(i->kept_in, rel);
	}
	if (i->index.base)
		ld_index_close(&i->index);
	i->index = (struct ld_index){0};
	i->kept_in = NULL;
	buf_fini(&i->index_bytes);
	bc_record_fini(&i->wish);
}

void ld_image_fini(struct ld_image *i)
{
	image_clear(i);
	ld_origin_close(i->origin);
	mem_free(i->name);
	mem_free(i->platform);
	*i = (struct ld_image){0};
}
