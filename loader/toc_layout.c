/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the files of a TOC layer lie on their device, and the map: each file on
 * a block of its own and in one piece, files in the order of their source, so
 * that what is fetched together is stored together.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/toc_layer.h"
#include "runtime/base/util.h"

#define BLOCK 4096u
/* Block addresses have 32 bits, the last one means "none". */
#define MAX_DEVICE_SIZE ((uint64_t)(UINT32_MAX - 1) * BLOCK)

/* ---- which files are still there ---- */

/* The name behind d in a walk over the whole tree; NULL at the end. */
static struct ld_dirent *walk_next(struct ld_tree *t, struct ld_dirent *d)
{
	struct ld_inode *root = ld_tree_root(t);

	if (!d)
		return root->children;
	if (!d->removed && S_ISDIR(d->inode->attr.mode) && d->inode->children)
		return d->inode->children;
	while (d && !d->next)
		d = d->parent == root ? NULL : d->parent->self;
	return d ? d->next : NULL;
}

/* Entries may have been replaced by later ones of the same name. */
static void mark_live(struct toc_layer *t)
{
	struct ld_dirent *d = NULL;
	struct toc_file *f;

	while ((d = walk_next(t->tree, d))) {
		if (d->removed || !toc_layer_is_file(d->inode))
			continue;
		f = &t->files[toc_layer_index(d->inode)];
		f->first_data = f->first_chunk;
		while (f->first_data < f->first_chunk + f->chunk_count &&
			t->chunks[f->first_data].algo == DIGEST_NONE)
			f->first_data++;
		f->is_live = f->first_data < f->first_chunk + f->chunk_count;
	}
}

/* Only live files remain, by source offset. */
static int compare_files(const void *a, const void *b, void *chunks)
{
	const struct toc_file *x = a, *y = b;
	const struct toc_chunk *c =
		(const struct toc_chunk *)chunks + x->first_data;
	const struct toc_chunk *d =
		(const struct toc_chunk *)chunks + y->first_data;

	if (c->src_off != d->src_off)
		return c->src_off < d->src_off ? -1 : 1;
	if (c->inner != d->inner)
		return c->inner < d->inner ? -1 : 1;
	return x->first_chunk < y->first_chunk ? -1 : 1;
}

static void sort_files(struct toc_layer *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->file_count; i++)
		if (t->files[i].is_live)
			t->files[n++] = t->files[i];
	t->file_count = n;
	if (n > 1)
		qsort_r(t->files, n, sizeof(*t->files), compare_files,
			t->chunks);
}

/* ---- places ---- */

static bool chunk_is_equal(const struct toc_chunk *a, const struct toc_chunk *b)
{
	if (a->algo != b->algo || a->file_off != b->file_off)
		return false;
	return a->algo == DIGEST_NONE ||
	       (a->src_off == b->src_off && a->src_end == b->src_end &&
		       a->len == b->len && a->inner == b->inner &&
		       !memcmp(a->digest, b->digest, sizeof(a->digest)));
}

static bool has_same_bytes(const struct toc_layer *t, const struct toc_file *a,
	const struct toc_file *b)
{
	if (a->size != b->size || a->chunk_count != b->chunk_count)
		return false;
	for (size_t i = 0; i < a->chunk_count; i++)
		if (!chunk_is_equal(&t->chunks[a->first_chunk + i],
			    &t->chunks[b->first_chunk + i]))
			return false;
	return true;
}

static int place_files(struct toc_layer *t, uint64_t *ret_end, struct err *e)
{
	uint64_t end = 0;
	struct toc_file *f;

	for (size_t i = 0; i < t->file_count; i++) {
		f = &t->files[i];
		if (i > 0 && has_same_bytes(t, f - 1, f)) {
			f->dev_off = f[-1].dev_off;
			continue;
		}
		f->dev_off = end;
		/* Neither sum can wrap: both terms are below 2^45. */
		end = round_up(end + f->size, BLOCK);
		if (end > MAX_DEVICE_SIZE)
			return err_set(
				e, -E2BIG, "its files are larger than 16 TiB");
	}
	*ret_end = end;
	return 0;
}

static int add_extents(struct toc_layer *t, const struct ld_layer_desc *d,
	uint64_t device_size, struct err *e)
{
	struct ld_blob_ref blob = {
		.digest = d->digest, .device_size = device_size};
	uint32_t slot;
	int r;

	r = ld_tree_add_blob(t->tree, &blob, &slot);
	if (r)
		return err_set(e, r, "no memory for its blob");
	for (size_t i = 0; i < t->file_count && !r; i++)
		r = ld_tree_add_extent(t->tree, t->files[i].inode, 0,
			t->files[i].size, slot, t->files[i].dev_off, e);
	return r;
}

/* ---- the map ---- */

/* The group that the last chunk was in. */
struct group {
	uint64_t src_off, src_end;
	uint64_t inner_end; /* decoded bytes that are taken */
	uint32_t id;
	bool is_set;
};

static int open_group(struct bc_map_builder *b, const struct toc_chunk *c,
	enum bc_codec codec, struct group *g, struct err *e)
{
	uint64_t len = c->src_end - c->src_off;
	int r;

	if (g->is_set && c->src_off < g->src_end)
		return err_set(e, -EPROTO,
			"chunks overlap in the blob at %" PRIu64, c->src_off);
	if (c->src_end <= c->src_off)
		return err_set(e, -EPROTO,
			"the chunk at %" PRIu64 " of the blob has no end",
			c->src_off);
	if (len > BC_MAX_GROUP_LEN)
		return err_set_kind(e, ERR_UNSUPPORTED, -E2BIG,
			"the chunk at %" PRIu64
			" of the blob is larger than %u MiB",
			c->src_off, BC_MAX_GROUP_LEN >> 20);
	r = bc_map_add_group(b, c->src_off, len, (uint64_t)c->inner + c->len,
		codec, NULL, 0, &g->id);
	if (r)
		return err_set(e, r,
			"the map takes no group at %" PRIu64 " of the blob",
			c->src_off);
	g->src_off = c->src_off;
	g->src_end = c->src_end;
	g->inner_end = 0;
	g->is_set = true;
	return 0;
}

static int map_chunk(struct bc_map_builder *b, const struct toc_chunk *c,
	uint64_t file_dev_off, enum bc_codec codec, struct group *g,
	struct err *e)
{
	struct digest digest = {.algo = c->algo};
	int r;

	if (!g->is_set || c->src_off != g->src_off ||
		c->src_end != g->src_end) {
		r = open_group(b, c, codec, g, e);
		if (r)
			return r;
	}
	if (c->inner < g->inner_end)
		return err_set(e, -EPROTO,
			"chunks overlap in the blob at %" PRIu64, c->src_off);
	g->inner_end = (uint64_t)c->inner + c->len;
	memcpy(digest.bytes, c->digest, sizeof(c->digest));
	r = bc_map_add_chunk(b, g->id, file_dev_off + c->file_off, c->len,
		c->inner, &digest);
	return r ? err_set(e, r,
			   "the map takes no chunk at %" PRIu64 " of the blob",
			   c->src_off)
	         : 0;
}

static int map_files(struct toc_layer *t, struct bc_map_builder *b,
	enum bc_codec codec, struct err *e)
{
	const struct toc_file *f;
	const struct toc_chunk *c;
	struct group g = {0};
	int r;

	for (size_t i = 0; i < t->file_count; i++) {
		f = &t->files[i];
		if (i > 0 && f->dev_off == f[-1].dev_off)
			continue;
		for (size_t k = 0; k < f->chunk_count; k++) {
			c = &t->chunks[f->first_chunk + k];
			if (c->algo == DIGEST_NONE)
				continue;
			r = map_chunk(b, c, f->dev_off, codec, &g, e);
			if (r)
				return r;
		}
	}
	return 0;
}

int toc_layout(struct toc_layer *t, const struct ld_layer_desc *d,
	enum bc_codec codec, struct buf *map, struct err *e)
{
	struct bc_map_builder *b;
	uint64_t device_size = 0;
	int r;

	mark_live(t);
	sort_files(t);
	r = place_files(t, &device_size, e);
	if (!r && t->file_count > 0)
		r = add_extents(t, d, device_size, e);
	if (r)
		return r;
	r = bc_map_builder_create(&b);
	if (r)
		return err_set(e, r, "no memory for a map");
	r = map_files(t, b, codec, e);
	if (!r)
		r = bc_map_finish(b, device_size, d->size, map, e);
	bc_map_builder_destroy(b);
	return r;
}
