/* SPDX-License-Identifier: Apache-2.0 */
/* From the entries of a tar to a layer tree; see tar_layer.h. */
#include "loader/tar_layer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/toc.h"
#include "runtime/base/util.h"

#define MAX_PATH_BYTES (1u << 20)
/* Names that mean something to us: not obeyed when a tar says them. */
#define OUR_XATTRS "trusted.sluice."

static const char *text_of(const struct buf *b)
{
	return b->data ? (const char *)b->data : "";
}

static const char *path_text(const struct ld_tar_layer *t)
{
	return text_of(&t->path);
}

/* ---- what an entry holds ---- */

static int add_xattrs(struct ld_tar_layer *t, struct ld_inode *i,
	const struct ld_tar_entry *entry, struct err *e)
{
	const struct ld_tar_xattr *x;
	size_t k, own = strlen(OUR_XATTRS);
	int r = 0;

	for (k = 0; k < entry->xattr_count && r == 0; k++) {
		x = &entry->xattrs[k];
		/*
		 * An empty value takes a PAX record back, so unpackers never
		 * see an empty xattr; names of other systems are left out.
		 */
		if (x->value_len == 0 ||
			!ld_xattr_name_is_known(x->name, x->name_len) ||
			(x->name_len >= own &&
				memcmp(x->name, OUR_XATTRS, own) == 0))
			continue;
		r = ld_tree_set_xattr(t->tree, i, x->name, x->name_len,
			x->value, x->value_len, e);
	}
	return r;
}

static int need_slot(struct ld_tar_layer *t, struct err *e)
{
	const struct ld_blob_ref b = {.digest = t->blob};
	uint32_t slot;

	if (t->has_slot)
		return 0;
	if (ld_tree_add_blob(t->tree, &b, &slot) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	t->has_slot = true;
	return 0;
}

/*
 * An index has one chunk size for a file: the largest that has all boundaries
 * of its pieces between chunks.
 */
static int count_chunks(
	struct ld_tar_layer *t, const struct ld_tar_entry *entry, struct err *e)
{
	uint64_t bits = 0, limit = LD_TAR_MAX_HOLE_CHUNKS, end;
	const struct ld_tar_piece *p;
	size_t k;

	for (k = 0; k < entry->piece_count; k++) {
		p = &entry->pieces[k];
		end = p->file_off + p->len;
		bits |= p->file_off | (end < entry->size ? end : 0);
		limit = LD_TAR_MAX_HOLE_CHUNKS +
		        (p->tar_off + p->len) / LD_TAR_BLOCK;
	}
	if (bits == 0)
		return 0;
	/* neither sum can wrap: sizes are below 2^63, limits below 2^55 */
	t->chunks += (entry->size >> __builtin_ctzll(bits)) + 1;
	if (t->chunks > limit)
		return err_set_kind(e, ERR_UNSUPPORTED, -E2BIG,
			"the holes of '%.200s' and of files before it need "
			"more than %u chunks of an index",
			path_text(t), LD_TAR_MAX_HOLE_CHUNKS);
	return 0;
}

static int add_data(struct ld_tar_layer *t, struct ld_inode *i,
	const struct ld_tar_entry *entry, struct err *e)
{
	const struct ld_tar_piece *p;
	size_t k;
	int r = 0;

	i->size = entry->size;
	if (add_overflows(
		    t->size_uncompressed, entry->size, &t->size_uncompressed))
		return err_set(
			e, -E2BIG, "'%.200s' is too large", path_text(t));
	if (entry->piece_count > 0)
		r = need_slot(t, e);
	if (r == 0)
		r = count_chunks(t, entry, e);
	for (k = 0; k < entry->piece_count && r == 0; k++) {
		p = &entry->pieces[k];
		r = ld_tree_add_extent(
			t->tree, i, p->file_off, p->len, 0, p->tar_off, e);
	}
	return r;
}

static int add_inode(
	struct ld_tar_layer *t, const struct ld_tar_entry *entry, struct err *e)
{
	struct ld_inode *i;
	int r;

	if (t->path.len == 0 && entry->type != LD_TAR_DIR)
		return err_set(e, -EPROTO, "the root is no directory");
	r = ld_tree_add(
		t->tree, path_text(t), t->path.len, &entry->attr, &i, e);
	if (r < 0)
		return r;
	if (entry->type == LD_TAR_SYMLINK)
		r = ld_tree_set_symlink(
			t->tree, i, entry->link, entry->link_len, e);
	else if (entry->type == LD_TAR_FILE)
		r = add_data(t, i, entry, e);
	return r < 0 ? r : add_xattrs(t, i, entry, e);
}

/* ---- hard links ---- */

/*
 * What an unpacker would link to: what this layer has made of the path so far,
 * else what is below, which the merge finds.
 */
static int add_link(
	struct ld_tar_layer *t, const struct ld_tar_entry *entry, struct err *e)
{
	struct ld_inode *i;
	int r;

	r = toc_path_clean(entry->link, entry->link_len, &t->link, e);
	if (r < 0)
		return r;
	if (t->link.len == 0 ||
		(t->link.len == t->path.len &&
			memcmp(t->link.data, t->path.data, t->path.len) == 0))
		return err_set(e, -EPROTO,
			"the hard link '%.200s' leads to itself or nowhere",
			path_text(t));
	i = ld_tree_find(t->tree, text_of(&t->link), t->link.len);
	if (i && !ld_inode_is_whiteout(i) && !S_ISDIR(i->attr.mode))
		return ld_tree_link(t->tree, path_text(t), t->path.len, i, e);
	if (i && S_ISDIR(i->attr.mode))
		return err_set(e, -EPROTO,
			"the hard link '%.200s' leads to a directory",
			path_text(t));
	r = ld_tree_add(
		t->tree, path_text(t), t->path.len, &entry->attr, &i, e);
	if (r < 0)
		return r;
	return ld_tree_set_xattr(t->tree, i, LD_XATTR_LINK,
		strlen(LD_XATTR_LINK), t->link.data, t->link.len, e);
}

/* ---- the stream ---- */

static int take_entry(
	void *arg, const struct ld_tar_entry *entry, struct err *e)
{
	struct ld_tar_layer *t = arg;
	bool is_whiteout = false;
	int r;

	r = toc_path_clean(entry->path, entry->path_len, &t->path, e);
	if (r == 0 && t->path.len > 0)
		r = ld_tree_add_whiteout(
			t->tree, path_text(t), t->path.len, &is_whiteout, e);
	if (r < 0 || is_whiteout)
		return r;
	t->entries++;
	if (entry->type == LD_TAR_LINK)
		return add_link(t, entry, e);
	return add_inode(t, entry, e);
}

int ld_tar_layer_init(
	struct ld_tar_layer *t, const struct digest *blob, struct err *e)
{
	*t = (struct ld_tar_layer){.blob = *blob};
	buf_init(&t->path, MAX_PATH_BYTES);
	buf_init(&t->link, MAX_PATH_BYTES);
	if (ld_tree_create(&t->tree) == 0 &&
		ld_tar_create(take_entry, t, &t->tar) == 0)
		return 0;
	ld_tar_layer_fini(t);
	return err_set(e, -ENOMEM, "out of memory");
}

void ld_tar_layer_fini(struct ld_tar_layer *t)
{
	ld_tar_destroy(t->tar);
	ld_tree_destroy(t->tree);
	buf_fini(&t->path);
	buf_fini(&t->link);
	*t = (struct ld_tar_layer){0};
}

int ld_tar_layer_feed(
	struct ld_tar_layer *t, const uint8_t *p, size_t n, struct err *e)
{
	t->pos += n;
	return ld_tar_feed(t->tar, p, n, e);
}

int ld_tar_layer_finish(
	struct ld_tar_layer *t, struct ld_layer *ret, struct err *e)
{
	int r = ld_tar_finish(t->tar, e);

	if (r < 0)
		return r;
	if (t->has_slot)
		ld_tree_blob(t->tree, 0)->device_size = t->pos;
	ret->tree = t->tree;
	t->tree = NULL;
	ret->entries = t->entries;
	ret->size_uncompressed = t->size_uncompressed;
	return 0;
}
