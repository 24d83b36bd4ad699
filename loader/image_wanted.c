/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which chunks the tree shows: a walk over the image index that marks the
 * chunks behind every extent of every file.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>

#include "loader/image_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define SUMS_VERSION 1
#define SUMS_MAX (1u << 17) /* a line for each blob */
#define MAX_DIGITS 18

/* Directories still to be read. An index has no more than its inodes. */
struct walk {
	struct ld_image *image;
	uint64_t *dirs; /* owned; nids */
	size_t count, cap;
	uint64_t pushed;
};

static int push(struct walk *w, uint64_t nid)
{
	void *dirs = w->dirs;
	int ret;

	if (w->pushed++ >= w->image->index.inode_count)
		return -EPROTO; /* a directory twice: the index is broken */
	ret = mem_grow(
		&dirs, &w->cap, w->count + 1, LD_MAX_ENTRIES, sizeof(*w->dirs));
	if (ret < 0)
		return ret;
	w->dirs = dirs;
	w->dirs[w->count++] = nid;
	return 0;
}

static void mark(struct ld_image_blob *b, uint64_t off, uint64_t len)
{
	const struct bc_map *m = bc_blob_map(b->blob);
	uint32_t i;

	for (i = bc_map_find(m, off);
		i < m->chunk_count && m->chunks[i].dev_off < off + len; i++)
		b->wanted[i / 64] |= UINT64_C(1) << i % 64;
}

static int mark_file(struct walk *w, uint64_t nid)
{
	const struct ld_index *x = &w->image->index;
	struct ld_inode_view inode;
	struct ld_extent ext;
	uint64_t off = 0;
	int ret;

	ret = ld_index_inode(x, nid, &inode);
	while (ret == 0 && off < inode.size) {
		ret = ld_index_extent(x, &inode, off, &ext);
		if (ret < 0 || ext.len == 0)
			break;
		if (ext.slot < w->image->blob_count)
			mark(&w->image->blobs[ext.slot], ext.dev_off, ext.len);
		off += ext.len;
	}
	return ret;
}

static bool is_dot(const struct ld_index_dirent *d)
{
	return d->name[0] == '.' &&
	       (d->name_len == 1 || (d->name_len == 2 && d->name[1] == '.'));
}

static int read_dir(struct walk *w, uint64_t nid)
{
	const struct ld_index *x = &w->image->index;
	struct ld_inode_view dir;
	struct ld_index_dirent d = {0};
	int ret;

	ret = ld_index_inode(x, nid, &dir);
	if (ret < 0)
		return ret;
	while ((ret = ld_index_next(x, &dir, d.cookie, &d)) == 1) {
		ret = 0;
		if (d.type == DT_DIR && !is_dot(&d))
			ret = push(w, d.nid);
		else if (d.type == DT_REG)
			ret = mark_file(w, d.nid);
		if (ret < 0)
			return ret;
	}
	return ret;
}

static void forget(struct ld_image *i)
{
	size_t k;

	for (k = 0; k < i->blob_count; k++) {
		mem_free(i->blobs[k].wanted);
		i->blobs[k].wanted = NULL;
	}
}

int ld_image_find_wanted(struct ld_image *i)
{
	struct walk w = {.image = i};
	size_t k;
	int ret = 0;

	if (i->has_wanted)
		return 0;
	for (k = 0; k < i->blob_count && ret == 0; k++) {
		i->blobs[k].wanted = mem_calloc(
			bc_blob_map(i->blobs[k].blob)->chunk_count / 64 + 1,
			sizeof(uint64_t));
		if (!i->blobs[k].wanted)
			ret = -ENOMEM;
	}
	if (ret == 0)
		ret = push(&w, i->index.root_nid);
	while (ret == 0 && w.count > 0)
		ret = read_dir(&w, w.dirs[--w.count]);
	mem_free(w.dirs);
	if (ret < 0)
		forget(i);
	i->has_wanted = ret == 0;
	return ret;
}

/* ---- and how much that is ---- */

/* "VERSION BLOBS ENTRIES LENGTH-OF-INDEX", then a number for each blob. */
static int write_sums(
	const struct ld_image *i, const uint64_t *sums, struct buf *b)
{
	size_t k;
	int ret;

	ret = buf_printf(b, "%d %zu %" PRIu64 " %zu\n", SUMS_VERSION,
		i->blob_count, i->index.inode_count, i->index.len);
	for (k = 0; k < i->blob_count && ret == 0; k++)
		ret = buf_printf(b, "%" PRIu64 "\n", sums[k]);
	return ret;
}

/* Digits and the character behind them. False: there are none, or too many. */
static bool take_number(const char **p, char end, uint64_t *ret)
{
	uint64_t v = 0;
	int digits;

	for (digits = 0; **p >= '0' && **p <= '9'; digits++) {
		if (digits == MAX_DIGITS)
			return false;
		v = v * 10 + (uint64_t)(*(*p)++ - '0');
	}
	if (digits == 0 || **p != end)
		return false;
	(*p)++;
	*ret = v;
	return true;
}

/* False: they are of another index, or nothing that was written above. */
static bool read_sums(const struct ld_image *i, const char *p, uint64_t *ret)
{
	uint64_t head[4];
	size_t k;

	for (k = 0; k < 4; k++)
		if (!take_number(&p, k < 3 ? ' ' : '\n', &head[k]))
			return false;
	if (head[0] != SUMS_VERSION || head[1] != i->blob_count ||
		head[2] != i->index.inode_count || head[3] != i->index.len)
		return false;
	for (k = 0; k < i->blob_count; k++)
		if (!take_number(&p, '\n', &ret[k]))
			return false;
	return *p == '\0';
}

int ld_image_shown_bytes(
	struct ld_image *i, struct bc_store *store, uint64_t *ret)
{
	char rel[LD_IMAGE_REL_LEN];
	uint64_t cached;
	bool is_known;
	struct buf b;
	size_t k;
	int rc;

	image_rel(&i->digest, "shown", rel);
	buf_init(&b, SUMS_MAX);
	is_known = bc_store_get(store, rel, &b, NULL) == 0 &&
	           buf_terminate(&b) == 0 &&
	           read_sums(i, (const char *)b.data, ret);
	if (is_known) {
		buf_fini(&b);
		return 0;
	}
	rc = ld_image_find_wanted(i);
	for (k = 0; k < i->blob_count && rc == 0; k++)
		bc_blob_wanted_bytes(
			i->blobs[k].blob, i->blobs[k].wanted, &ret[k], &cached);
	b.len = 0;
	/* lost: it is found out again */
	if (rc == 0 && i->index.is_mmapped && write_sums(i, ret, &b) == 0)
		(void)bc_store_put(store, rel, b.data, b.len, NULL);
	buf_fini(&b);
	return rc;
}
