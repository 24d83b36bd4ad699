/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nydus images in registries: a manifest whose last layer is a tar with the
 * bootstrap, image/image.boot, and whose other layers are RAFS blobs. Blobs
 * that the manifest does not list are in the same repository: the tar.gz layers
 * of a ZRAN image, the blobs of a chunk dictionary.
 *
 * manifest -> digest of the bootstrap's layer -> bootstrap -> chunk digests
 */
#include <errno.h>
#include <string.h>

#include "blobcache/unpack.h"
#include "loader/image_int.h"
#include "loader/rafs.h"
#include "loader/tar.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define BOOTSTRAP "image/image.boot"
#define WHY "every chunk's digest is in the image's bootstrap"
#define WHY_BOOTSTRAP "the image's bootstrap, read before the first mount"
/* At once out of the layer. */
#define UNPACK_BYTES (1u << 20)

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static const struct ld_layer_desc *find_layer(
	const struct image_job *j, const struct digest *d)
{
	const struct ld_manifest *m = &j->manifest;
	size_t i;

	for (i = 0; i < m->layer_count; i++)
		if (digest_is_equal(&m->layers[i].digest, d))
			return &m->layers[i];
	return NULL;
}

const struct ld_layer_desc *image_nydus_bootstrap(const struct image_job *j)
{
	size_t i;

	for (i = j->manifest.layer_count; i > 0; i--)
		if (j->manifest.layers[i - 1].is_bootstrap)
			return &j->manifest.layers[i - 1];
	return NULL;
}

/* ---- the bootstrap's layer ---- */

static int unpack_all(struct bc_unpack *u, const struct buf *packed,
	struct buf *out, struct err *e)
{
	struct bc_unpack_io io = {.in = packed->data, .in_len = packed->len};
	bool is_new_group, is_full;
	int err;

	do {
		err = buf_reserve(out, UNPACK_BYTES);
		if (err == -E2BIG)
			return err_set(e, err,
				"the layer of the bootstrap has more than %u "
				"bytes",
				IMAGE_MAX_BOOTSTRAP);
		if (err < 0)
			return out_of_memory(e);
		io.out = out->data + out->len;
		io.out_len = UNPACK_BYTES;
		err = bc_unpack_step(u, &io, &is_new_group, e);
		out->len += UNPACK_BYTES - io.out_len;
		is_full = io.out_len == 0 || is_new_group;
	} while (err == 0 && (io.in_len > 0 || is_full));
	return err < 0 ? err : bc_unpack_finish(u, e);
}

static int unpack(const struct buf *packed, struct buf *out, struct err *e)
{
	struct bc_unpack *u;
	int err;

	if (bc_unpack_create(bc_packing_of(packed->data, packed->len),
		    BC_UNPACK_SPAN, &u) < 0)
		return out_of_memory(e);
	err = unpack_all(u, packed, out, e);
	bc_unpack_destroy(u);
	return err;
}

/* Where in the tar the bootstrap is. */
struct found {
	uint64_t off, len; /* 0: not there */
};

static int look_at(void *arg, const struct ld_tar_entry *entry, struct err *e)
{
	struct found *f = arg;
	const char *path = entry->path;
	size_t n = entry->path_len;

	while (n > 0 && (*path == '/' || *path == '.')) {
		path++;
		n--;
	}
	if (entry->type != LD_TAR_FILE || n != strlen(BOOTSTRAP) ||
		memcmp(path, BOOTSTRAP, n) != 0)
		return 0;
	if (entry->piece_count != 1 || entry->pieces[0].len != entry->size)
		return err_set(e, -EPROTO,
			"'" BOOTSTRAP "' of the Nydus image is a sparse file");
	f->off = entry->pieces[0].tar_off;
	f->len = entry->size;
	return 0;
}

/* tar becomes what lies in it. */
static int find_bootstrap(struct buf *tar, struct err *e)
{
	struct found f = {0};
	struct ld_tar *t;
	int err;

	if (ld_tar_create(look_at, &f, &t) < 0)
		return out_of_memory(e);
	err = ld_tar_feed(t, tar->data, tar->len, e);
	if (err == 0)
		err = ld_tar_finish(t, e);
	ld_tar_destroy(t);
	if (err < 0)
		return err;
	if (f.len == 0 || !range_fits(f.off, f.len, tar->len))
		return err_set(e, -EPROTO,
			"the layer that should hold the Nydus bootstrap has no "
			"'" BOOTSTRAP "'");
	memmove(tar->data, tar->data + f.off, f.len);
	tar->len = f.len;
	return 0;
}

static int read_bootstrap(struct image_job *j, struct buf *boot, struct err *e)
{
	const struct ld_layer_desc *d = image_nydus_bootstrap(j);
	struct ld_origin *origin = j->image->origin;
	char id[DIGEST_MAX_TEXT];
	struct buf packed;
	int err;

	if (strstr(d->media_type, "+encrypted"))
		return err_set(e, -EOPNOTSUPP,
			"layer '%s' with the image's RAFS bootstrap is "
			"encrypted",
			digest_text(&d->digest, id));
	buf_init(&packed, IMAGE_MAX_BOOTSTRAP);
	err = origin->ops->blob(origin, &d->digest, d->size, &packed, e);
	if (err == 0) {
		err = unpack(&packed, boot, e);
		if (err == 0)
			err = find_bootstrap(boot, e);
		if (err < 0)
			(void)err_wrap(
				e, "layer '%s'", digest_text(&d->digest, id));
	}
	buf_fini(&packed);
	return err;
}

/* ---- bootstrap -> image ---- */

static int read_blob(void *arg, const struct digest *d, uint64_t off,
	uint64_t len, struct buf *ret, struct err *e)
{
	struct image_job *j = arg;
	struct ld_origin *origin = j->image->origin;
	const struct ld_layer_desc *layer = find_layer(j, d);
	struct bc_source *s;
	int err;

	if (d->algo == DIGEST_NONE)
		return err_set(e, -EPROTO,
			"broken RAFS bootstrap: it names no blob with its "
			"chunk tables");
	/* without a size of its own it is as long as what is asked for */
	err = origin->ops->source(origin, d, layer ? layer->size : 0, &s, e);
	if (err < 0)
		return err;
	err = image_rafs_read(j, s, off, len, ret, e);
	bc_source_destroy(s);
	return err;
}

static int parse(struct image_job *j, struct ld_rafs *ret, struct err *e)
{
	const struct ld_rafs_reader reader = {.read = read_blob, .arg = j};
	struct buf boot;
	int err;

	buf_init(&boot, IMAGE_MAX_BOOTSTRAP);
	err = read_bootstrap(j, &boot, e);
	if (err == 0)
		err = ld_rafs_parse(boot.data, boot.len, &reader, ret, e);
	buf_fini(&boot);
	return err;
}

/* What the bootstrap says of the manifest's layers. */
static int describe(struct image_job *j, const struct ld_rafs *r, struct err *e)
{
	struct ld_image_layer *l;
	size_t i;
	bool is_bootstrap;

	for (i = 0; i < j->image->layer_count; i++) {
		l = &j->image->layers[i];
		is_bootstrap = j->manifest.layers[i].is_bootstrap;
		if (!is_bootstrap && l->format != LD_FORMAT_RAFS_V6)
			continue;
		mem_free(l->why);
		l->why = mem_strdup(is_bootstrap ? WHY_BOOTSTRAP : WHY);
		if (!l->why)
			return out_of_memory(e);
		l->format = r->format;
		l->lazy = true;
		if (is_bootstrap) {
			l->entries = r->entries;
			l->size_uncompressed = r->size_uncompressed;
		}
	}
	return 0;
}

/* The sizes of the blobs as they lie in the repository. */
static void set_sizes(struct image_job *j, const struct ld_rafs *r)
{
	const struct ld_layer_desc *layer;
	struct ld_image_blob *b;
	size_t i;

	for (i = 0; i < r->blob_count; i++) {
		b = &j->image->blobs[i];
		layer = find_layer(j, &b->digest);
		if (layer)
			b->source_size = layer->size;
		else if (r->blobs[i].is_layer)
			b->source_size = r->blobs[i].compressed_size;
		if (b->source_size > 0)
			b->size = b->source_size;
	}
}

static int take(struct image_job *j, struct ld_rafs *r,
	struct bc_map **ret_maps, struct err *e)
{
	struct bc_map *maps = NULL;
	struct buf index;
	int err;

	buf_init(&index, IMAGE_MAX_INDEX);
	err = image_rafs_take(j, r, &index, &maps, e);
	if (err == 0) {
		set_sizes(j, r);
		err = image_rafs_save(j, &index, e);
		if (err < 0)
			image_maps_fini(maps, j->image->blob_count);
	}
	buf_fini(&index);
	if (err == 0)
		*ret_maps = maps;
	return err;
}

/* The layers, and what the bootstrap says. */
static int read_image(struct image_job *j, struct ld_rafs *r, struct err *e)
{
	int err = image_list_layers(j, e);

	if (err == 0)
		err = parse(j, r, e);
	if (err == 0)
		err = describe(j, r, e);
	return err;
}

int image_nydus_build(
	struct image_job *j, struct bc_map **ret_maps, struct err *e)
{
	struct ld_rafs r = {0};
	int err, config;

	err = read_image(j, &r, e);
	/* of two failures the config's is told */
	config = image_config_wait(j, e);
	if (config < 0)
		err = config;
	if (err == 0)
		err = take(j, &r, ret_maps, e);
	ld_rafs_fini(&r);
	return err;
}

int image_nydus_inspect(struct image_job *j, struct err *e)
{
	struct ld_rafs r = {0};
	int err;

	err = read_image(j, &r, e);
	j->image->bytes_compressed = image_sum_layers(j->image);
	ld_rafs_fini(&r);
	return err;
}
