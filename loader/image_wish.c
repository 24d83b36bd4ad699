/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image itself wants to be fetched before anybody asks: the part of an
 * eStargz layer before its landmark, the prefetch table of a RAFS image. It is
 * kept beside the image's record, in the form of a record of reads, and without
 * it the image is as good.
 */
#include <errno.h>

#include "loader/image_int.h"
#include "loader/rafs.h"

#define WISH_NAME "wish"

/* What there is no room for is not wished. */
static int room(int err)
{
	return err == -E2BIG ? 0 : err;
}

int image_wish_add_front(struct ld_image *i, const struct ld_image_blob *b,
	const struct bc_map *m, uint64_t end)
{
	uint32_t lo = 0, hi = m->group_count, mid, blob;
	int err;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (bc_map_group(m, mid).src_off < end)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return 0;
	err = bc_record_add_blob(&i->wish, &b->digest, &b->map_id, &blob);
	if (err == 0)
		err = bc_record_add(&i->wish, blob, 0, lo);
	return room(err);
}

/* The groups of a stretch of the device, in its order. */
static int add_extent(struct bc_record *r, uint32_t blob,
	const struct bc_map *m, const struct ld_extent *x)
{
	uint32_t i = bc_map_find(m, x->dev_off), last = UINT32_MAX;
	uint64_t end = x->dev_off + x->len;
	struct bc_chunk c;
	int err = 0;

	for (; err == 0 && i < m->chunk_count; i++) {
		c = bc_map_chunk(m, i);
		if (c.dev_off >= end)
			break;
		if (c.group == last)
			continue;
		last = c.group;
		err = bc_record_add(r, blob, last, 1);
	}
	return err;
}

int image_wish_add_rafs(
	struct ld_image *i, const struct ld_rafs *r, const struct bc_map *maps)
{
	const struct ld_extent *x;
	uint32_t blob;
	size_t k;
	int err = 0;

	for (k = 0; err == 0 && k < r->wish_count; k++) {
		x = &r->wish[k];
		if (x->slot >= i->blob_count)
			continue;
		err = bc_record_add_blob(&i->wish, &i->blobs[x->slot].digest,
			&i->blobs[x->slot].map_id, &blob);
		if (err == 0)
			err = add_extent(&i->wish, blob, &maps[x->slot], x);
	}
	return room(err);
}

void image_wish_save(struct image_job *j)
{
	struct ld_image *i = j->image;
	char rel[IMAGE_REL_LEN];
	struct buf b;

	if (i->wish.entry_count == 0)
		return;
	buf_init(&b, BC_RECORD_MAX_FILE);
	image_rel(&i->digest, WISH_NAME, rel);
	if (bc_record_write(&i->wish, &b) == 0)
		(void)bc_store_put(j->store, rel, b.data, b.len, NULL);
	buf_fini(&b);
}

void image_wish_load(struct image_job *j)
{
	struct ld_image *i = j->image;
	char rel[IMAGE_REL_LEN];
	struct buf b;

	buf_init(&b, BC_RECORD_MAX_FILE);
	image_rel(&i->digest, WISH_NAME, rel);
	if (bc_store_get(j->store, rel, &b, NULL) == 0)
		(void)bc_record_parse(b.data, b.len, &i->wish, NULL);
	buf_fini(&b);
}
