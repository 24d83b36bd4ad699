/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a parsed RAFS bootstrap to an image: what bundles and Nydus images in
 * registries have in common.
 */
#include <errno.h>

#include "loader/image_int.h"
#include "loader/rafs.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define WHY "every chunk's digest is in the bootstrap"

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

int image_rafs_read(struct image_job *j, struct bc_source *s, uint64_t off,
	uint64_t len, struct buf *ret, struct err *e)
{
	int err;

	if (len == 0 && s->size > off)
		len = s->size - off;
	if (len == 0 || (s->size > 0 && !range_fits(off, len, s->size)))
		return err_set(e, -EPROTO,
			"a blob is too short for the chunk table in it");
	err = buf_reserve(ret, len);
	if (err == -E2BIG)
		return err_set_kind(e, ERR_UNSUPPORTED, err,
			"the chunk table of a blob has %llu bytes, more than "
			"the limit",
			(unsigned long long)len);
	if (err < 0)
		return out_of_memory(e);
	err = bc_source_read(j->rt, s, off, ret->data + ret->len, len, e);
	if (err == 0)
		ret->len += len;
	return err;
}

static int take_blobs(struct image_job *j, struct ld_rafs *r,
	struct bc_map **ret_maps, struct err *e)
{
	struct ld_image *i = j->image;
	struct bc_map *maps = mem_calloc(r->blob_count, sizeof(*maps));
	size_t k;
	int ret = 0;

	i->blobs = mem_calloc(r->blob_count, sizeof(*i->blobs));
	if (!maps || !i->blobs) {
		mem_free(maps);
		return out_of_memory(e);
	}
	i->blob_count = r->blob_count;
	for (k = 0; k < r->blob_count && ret == 0; k++) {
		i->blobs[k].digest = r->blobs[k].digest;
		i->blobs[k].format = r->format;
		i->blobs[k].lazy = true;
		i->blobs[k].is_own = r->blobs[k].is_own;
		i->blobs[k].size = r->blobs[k].compressed_size;
		i->blobs[k].why = mem_strdup(WHY);
		if (!i->blobs[k].why)
			ret = out_of_memory(e);
		else
			ret = bc_map_from_bytes(r->blobs[k].map.data,
				r->blobs[k].map.len, &maps[k], e);
		if (ret < 0)
			break;
		r->blobs[k].map = (struct buf){0}; /* the map has them now */
		i->blobs[k].map_id = maps[k].id;
	}
	if (ret < 0) {
		image_maps_fini(maps, r->blob_count);
		return ret;
	}
	*ret_maps = maps;
	return 0;
}

int image_rafs_list(struct image_job *j, const struct ld_rafs *r, struct err *e)
{
	struct ld_image *i = j->image;
	struct ld_image_layer *l;
	size_t k;

	i->layers = mem_calloc(r->blob_count, sizeof(*i->layers));
	if (!i->layers)
		return out_of_memory(e);
	i->layer_count = r->blob_count;
	for (k = 0; k < r->blob_count; k++) {
		l = &i->layers[k];
		l->digest = r->blobs[k].digest;
		l->format = r->format;
		l->lazy = true;
		l->size = r->blobs[k].compressed_size;
		if (l->size == 0)
			l->size = UINT64_MAX;
		l->entries = r->blob_count == 1 ? r->entries : UINT64_MAX;
		l->size_uncompressed =
			r->blob_count == 1 ? r->size_uncompressed : UINT64_MAX;
		l->why = mem_strdup(WHY);
		if (!l->why)
			return out_of_memory(e);
	}
	return 0;
}

int image_rafs_take(struct image_job *j, struct ld_rafs *r,
	struct buf *ret_index, struct bc_map **ret_maps, struct err *e)
{
	int ret;

	j->image->claims = r->has_claims ? j->store : NULL;
	ret = ld_index_write(r->tree, LD_BLOCK_BITS, ret_index, e);
	if (ret == 0)
		ret = take_blobs(j, r, ret_maps, e);
	if (ret == 0 && image_wish_add_rafs(j->image, r, *ret_maps) < 0) {
		image_maps_fini(*ret_maps, r->blob_count);
		ret = out_of_memory(e);
	}
	return ret;
}

int image_rafs_save(struct image_job *j, struct buf *index, struct err *e)
{
	struct ld_image *i = j->image;
	size_t k;

	for (k = 0; k < i->blob_count; k++)
		i->bytes_compressed += i->blobs[k].size;
	return image_record_save(j, index, e);
}
