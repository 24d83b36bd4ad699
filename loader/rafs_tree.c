/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inodes of a RAFS v6 bootstrap: walks the directories from the root on and
 * builds the tree. The walk keeps a stack of directories, not of calls; each
 * inode is read once, so hard links become one inode and a directory that is
 * its own descendant is refused.
 *
 * The bytes of directories and chunk arrays that honest inodes own are part of
 * the file once. The walk counts what it reads and stops when that exceeds the
 * file, so overlapping tables cannot multiply the work.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/rafs_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

enum {
	FLAG_EXPLICIT_IDS = 0x10,
	LAYOUT_PLAIN = 0,
	LAYOUT_INLINE = 2,
	LAYOUT_CHUNKED = 4,
	DIRENT_LEN = 12,
	XATTR_HEADER_LEN = 12,
};

struct rafs_inode {
	struct ld_attr attr;
	uint64_t size;
	unsigned layout;
	uint32_t raw_u;
	uint64_t xattr_off, xattr_len;
	uint64_t data_off; /* behind the xattrs */
};

struct seen {
	uint64_t nid;
	struct ld_inode *inode; /* NULL: a free place */
};

struct pending {
	uint64_t nid;
	struct ld_inode *dir;
	unsigned depth;
};

struct walk {
	const struct rafs_boot *b;
	struct ld_rafs *r;
	struct err *e;
	struct seen *seen; /* open addressing; places is a power of two */
	size_t places, seen_count;
	struct pending *stack;
	size_t stack_len, stack_cap;
	uint64_t budget; /* bytes of tables that may still be read */
};

static int broken(struct walk *w, uint64_t nid, const char *what)
{
	return err_set(w->e, -EPROTO, "broken RAFS bootstrap: %s of inode %llu",
		what, (unsigned long long)nid);
}

static int out_of_memory(struct walk *w)
{
	return err_set(w->e, -ENOMEM, "out of memory");
}

/* ---- nid -> inode ---- */

static struct seen *seen_place(struct walk *w, uint64_t nid)
{
	size_t i = (size_t)(nid * 0x9e3779b97f4a7c15u >> 20) & (w->places - 1);

	while (w->seen[i].inode && w->seen[i].nid != nid)
		i = (i + 1) & (w->places - 1);
	return &w->seen[i];
}

static int seen_grow(struct walk *w)
{
	struct seen *old = w->seen;
	size_t i, n = w->places;

	w->places = n ? n * 2 : 1024;
	w->seen = mem_calloc(w->places, sizeof(*w->seen));
	if (!w->seen) {
		w->seen = old;
		w->places = n;
		return out_of_memory(w);
	}
	for (i = 0; i < n; i++)
		if (old[i].inode)
			*seen_place(w, old[i].nid) = old[i];
	mem_free(old);
	return 0;
}

static int seen_add(struct walk *w, uint64_t nid, struct ld_inode *inode)
{
	int err;

	if (w->seen_count * 2 >= w->places) {
		err = seen_grow(w);
		if (err < 0)
			return err;
	}
	*seen_place(w, nid) = (struct seen){.nid = nid, .inode = inode};
	w->seen_count++;
	return 0;
}

/* ---- one inode ---- */

static void read_compact(struct rafs_inode *i, const uint8_t *at)
{
	i->attr.mode = le16_at(at + 4);
	i->size = le32_at(at + 8);
	i->attr.uid = le16_at(at + 24);
	i->attr.gid = le16_at(at + 26);
}

static void read_extended(struct rafs_inode *i, const uint8_t *at)
{
	i->attr.mode = le16_at(at + 4);
	i->size = le64_at(at + 8);
	i->attr.uid = le32_at(at + 24);
	i->attr.gid = le32_at(at + 28);
	i->attr.mtime = (int64_t)le64_at(at + 32);
	i->attr.mtime_ns = le32_at(at + 40);
}

static int read_inode(struct walk *w, uint64_t nid, struct rafs_inode *ret)
{
	const struct rafs_boot *b = w->b;
	struct rafs_inode i = {0};
	uint64_t off, len, xattr_units;
	const uint8_t *at;
	uint16_t format;

	if (nid > b->len / 32)
		return broken(w, nid, "place");
	off = b->meta_off + nid * 32;
	if (!range_fits(off, 32, b->len))
		return broken(w, nid, "place");
	at = b->p + off;
	format = le16_at(at);
	len = format & 1 ? 64 : 32;
	if ((format & ~0xfu) != 0 || !range_fits(off, len, b->len))
		return broken(w, nid, "format");
	i.layout = format >> 1 & 7;
	if (format & 1)
		read_extended(&i, at);
	else
		read_compact(&i, at);
	i.raw_u = le32_at(at + 16);
	xattr_units = le16_at(at + 2);
	i.xattr_off = off + len;
	i.xattr_len =
		xattr_units ? XATTR_HEADER_LEN + 4 * (xattr_units - 1) : 0;
	i.data_off = i.xattr_off + i.xattr_len;
	if (i.data_off > b->len)
		return broken(w, nid, "xattrs");
	/* Without the flag the stored ids mean nothing. */
	if (!(b->flags & FLAG_EXPLICIT_IDS))
		i.attr.uid = i.attr.gid = 0;
	if (S_ISCHR(i.attr.mode) || S_ISBLK(i.attr.mode)) {
		i.attr.rdev_major = i.raw_u >> 8 & 0xfff;
		i.attr.rdev_minor =
			(i.raw_u & 0xff) | (i.raw_u >> 12 & 0xfff00);
	}
	*ret = i;
	return 0;
}

/*
 * Block k of flat data, *ret_len bytes of it (the last block is short); NULL if
 * it lies outside the file.
 */
static const uint8_t *flat_block(const struct rafs_boot *b,
	const struct rafs_inode *i, uint64_t k, size_t *ret_len)
{
	uint64_t off,
		len = min_u64(RAFS_BLOCK_SIZE, i->size - k * RAFS_BLOCK_SIZE);

	if (i->layout == LAYOUT_INLINE && len < RAFS_BLOCK_SIZE)
		off = i->data_off;
	else if (i->layout == LAYOUT_INLINE || i->layout == LAYOUT_PLAIN)
		off = ((uint64_t)i->raw_u + k) * RAFS_BLOCK_SIZE;
	else
		return NULL;
	if (!range_fits(off, len, b->len))
		return NULL;
	*ret_len = (size_t)len;
	return b->p + off;
}

/* ---- xattrs ---- */

static const char *xattr_prefix(uint8_t index)
{
	static const char *const prefixes[] = {[1] = "user.",
		[2] = "system.posix_acl_access",
		[3] = "system.posix_acl_default",
		[4] = "trusted.",
		[6] = "security."};

	return index < ARRAY_LEN(prefixes) ? prefixes[index] : NULL;
}

int rafs_set_xattr(struct ld_tree *t, struct ld_inode *i, const char *name,
	size_t name_len, const void *value, size_t value_len, struct err *e)
{
	static const char ours[] = "trusted.sluice.";

	if (!ld_xattr_name_is_known(name, name_len) ||
		(name_len >= sizeof(ours) - 1 &&
			memcmp(name, ours, sizeof(ours) - 1) == 0))
		return 0;
	return ld_tree_set_xattr(t, i, name, name_len, value, value_len, e);
}

static int read_xattrs(struct walk *w, uint64_t nid, const struct rafs_inode *i,
	struct ld_inode *node)
{
	struct rd rd = rd_over(w->b->p + i->xattr_off, i->xattr_len);
	const uint8_t *name, *value;
	size_t name_len, value_len, prefix_len;
	const char *prefix;
	char full[32 + 256];
	int err;

	if (i->xattr_len == 0)
		return 0;
	rd_skip(&rd, XATTR_HEADER_LEN);
	while (rd_left(&rd) >= 4) {
		name_len = rd_u8(&rd);
		prefix = xattr_prefix(rd_u8(&rd));
		value_len = rd_u16(&rd);
		name = rd_bytes(&rd, name_len);
		value = rd_bytes(&rd, value_len);
		if (!prefix || rd_failed(&rd))
			return broken(w, nid, "xattrs");
		prefix_len = strlen(prefix);
		memcpy(full, prefix, prefix_len);
		memcpy(full + prefix_len, name, name_len);
		err = rafs_set_xattr(w->r->tree, node, full,
			prefix_len + name_len, value, value_len, w->e);
		if (err < 0)
			return err;
		/* Entries are padded to four bytes; the last may end short. */
		rd_skip(&rd, min_u64(rd_left(&rd),
				     round_up(name_len + value_len, 4) -
					     name_len - value_len));
	}
	return 0;
}

/* ---- contents ---- */

static int read_symlink(struct walk *w, uint64_t nid,
	const struct rafs_inode *i, struct ld_inode *node)
{
	const uint8_t *p;
	size_t len = 0;

	/* A target of a whole block cannot be a target: its limit is 4095. */
	p = i->size > 0 && i->size < RAFS_BLOCK_SIZE
	            ? flat_block(w->b, i, 0, &len)
	            : NULL;
	if (!p)
		return broken(w, nid, "link target");
	return ld_tree_set_symlink(
		w->r->tree, node, (const char *)p, len, w->e);
}

/* One address of the chunk array, checked against the chunk table. */
static int add_chunk(struct walk *w, uint64_t nid, struct ld_inode *node,
	const uint8_t *at, uint64_t file_off, uint64_t len)
{
	uint16_t low = le16_at(at), high = le16_at(at + 2);
	uint64_t dev_off = (uint64_t)le32_at(at + 4) * RAFS_BLOCK_SIZE;
	uint32_t slot, index = (uint32_t)(high >> 8) << 16 | low;
	const struct rafs_chunk *c;

	if ((high & 0xff) == 0 || (high & 0xffu) > w->b->blob_count)
		return broken(w, nid, "chunk address");
	slot = (high & 0xffu) - 1;
	c = rafs_chunk_find(w->b, slot, index);
	if (!c)
		return err_set(w->e, -EOPNOTSUPP,
			"chunk %u of blob %u has no digest in the bootstrap's "
			"chunk table, so it could not be verified",
			index, slot);
	if (le64_at(c->at + 56) != dev_off || le32_at(c->at + 44) < len)
		return broken(w, nid, "chunk address");
	return ld_tree_add_extent(
		w->r->tree, node, file_off, len, slot, dev_off, w->e);
}

static int read_chunk_array(struct walk *w, uint64_t nid,
	const struct rafs_inode *i, struct ld_inode *node)
{
	uint64_t count = div_round_up(i->size, w->b->chunk_size);
	uint64_t k, file_off, off = round_up(i->data_off, 8);
	int err;

	node->size = i->size;
	if (count == 0)
		return 0;
	if (i->layout != LAYOUT_CHUNKED || count > w->b->len / 8 ||
		!range_fits(off, count * 8, w->b->len) || count * 8 > w->budget)
		return broken(w, nid, "chunk array");
	w->budget -= count * 8;
	for (k = 0; k < count; k++) {
		file_off = k * w->b->chunk_size;
		err = add_chunk(w, nid, node, w->b->p + off + k * 8, file_off,
			min_u64(w->b->chunk_size, i->size - file_off));
		if (err < 0)
			return err;
	}
	return 0;
}

static int push_dir(
	struct walk *w, uint64_t nid, struct ld_inode *dir, unsigned depth)
{
	int err;

	if (depth > LD_MAX_DEPTH)
		return broken(w, nid, "depth");
	err = mem_grow((void **)&w->stack, &w->stack_cap, w->stack_len + 1,
		LD_MAX_ENTRIES, sizeof(*w->stack));
	if (err < 0)
		return err_set(w->e, err, "too many directories");
	w->stack[w->stack_len++] =
		(struct pending){.nid = nid, .dir = dir, .depth = depth};
	return 0;
}

static int fill_inode(struct walk *w, uint64_t nid, const struct rafs_inode *i,
	struct ld_inode *node, unsigned depth)
{
	int err;

	err = read_xattrs(w, nid, i, node);
	if (err < 0)
		return err;
	if (S_ISDIR(i->attr.mode))
		return push_dir(w, nid, node, depth);
	if (S_ISLNK(i->attr.mode))
		return read_symlink(w, nid, i, node);
	if (S_ISREG(i->attr.mode))
		return read_chunk_array(w, nid, i, node);
	return rafs_is_special(i->attr.mode) ? 0 : broken(w, nid, "file type");
}

/* ---- directories ---- */

static int add_entry(struct walk *w, const struct pending *d, uint64_t nid,
	const char *name, size_t len)
{
	struct rafs_inode i;
	struct ld_inode *node;
	struct seen *known;
	int err;

	if (len == 0)
		return broken(w, d->nid, "an empty name in the directory");
	if (len <= 2 && memcmp(name, "..", len) == 0)
		return 0;
	if (ld_tree_child(w->r->tree, d->dir, name, len))
		return broken(w, d->nid, "a name twice in the directory");
	known = seen_place(w, nid);
	if (known->inode) {
		if (S_ISDIR(known->inode->attr.mode))
			return broken(w, nid, "two names for the directory");
		return ld_tree_link_child(
			w->r->tree, d->dir, name, len, known->inode, w->e);
	}
	err = read_inode(w, nid, &i);
	if (err < 0)
		return err;
	err = ld_tree_add_child(
		w->r->tree, d->dir, name, len, &i.attr, &node, w->e);
	if (err == 0)
		err = seen_add(w, nid, node);
	if (err == 0)
		err = fill_inode(w, nid, &i, node, d->depth + 1);
	if (err == 0) {
		w->r->entries++;
		if (S_ISREG(i.attr.mode))
			w->r->size_uncompressed += i.size;
	}
	return err;
}

/* One block: packed dirents, then their names up to the end of the block. */
static int read_dir_block(
	struct walk *w, const struct pending *d, const uint8_t *p, size_t len)
{
	size_t k, count, start, end;
	const uint8_t *at;
	int err;

	if (len < DIRENT_LEN)
		return broken(w, d->nid, "directory block");
	count = le16_at(p + 8) / DIRENT_LEN;
	if (count == 0 || le16_at(p + 8) % DIRENT_LEN != 0 ||
		count * DIRENT_LEN > len)
		return broken(w, d->nid, "directory block");
	for (k = 0; k < count; k++) {
		at = p + k * DIRENT_LEN;
		start = le16_at(at + 8);
		end = k + 1 < count ? le16_at(at + DIRENT_LEN + 8) : len;
		if (start < count * DIRENT_LEN || start >= end || end > len)
			return broken(w, d->nid, "directory entry");
		if (k + 1 == count)
			end = start +
			      strnlen((const char *)p + start, end - start);
		err = add_entry(w, d, le64_at(at), (const char *)p + start,
			end - start);
		if (err < 0)
			return err;
	}
	return 0;
}

static int read_dir(struct walk *w, const struct pending *d)
{
	struct rafs_inode i;
	const uint8_t *p;
	uint64_t k;
	size_t len;
	int err;

	err = read_inode(w, d->nid, &i);
	if (err < 0)
		return err;
	if (i.size > w->budget)
		return broken(w, d->nid, "directory size");
	w->budget -= i.size;
	for (k = 0; k * RAFS_BLOCK_SIZE < i.size; k++) {
		p = flat_block(w->b, &i, k, &len);
		if (!p)
			return broken(w, d->nid, "directory block");
		err = read_dir_block(w, d, p, len);
		if (err < 0)
			return err;
	}
	return 0;
}

static int read_root(struct walk *w)
{
	struct ld_inode *root;
	struct rafs_inode i;
	int err;

	err = read_inode(w, w->b->root_nid, &i);
	if (err < 0)
		return err;
	if (!S_ISDIR(i.attr.mode))
		return broken(w, w->b->root_nid, "the root's type");
	err = ld_tree_add(w->r->tree, "", 0, &i.attr, &root, w->e);
	if (err == 0)
		err = seen_add(w, w->b->root_nid, root);
	if (err == 0)
		err = fill_inode(w, w->b->root_nid, &i, root, 0);
	w->r->entries = 1;
	return err;
}

/* The prefetch table names inodes; 0 ends it, unknown ones are passed over. */
static int read_wish(struct walk *w)
{
	struct seen *s;
	uint32_t nid;
	size_t k;
	int err = 0;

	for (k = 0; err == 0 && k < w->b->wish_count; k++) {
		nid = le32_at(w->b->wish + k * 4);
		if (nid == 0)
			break;
		s = seen_place(w, nid);
		if (s->inode)
			err = rafs_wish_add(w->r, s->inode);
	}
	return err < 0 ? out_of_memory(w) : 0;
}

int rafs_tree_build(const struct rafs_boot *b, struct ld_rafs *r, struct err *e)
{
	struct walk w = {.b = b, .r = r, .e = e, .budget = b->len};
	struct pending d;
	int err;

	err = seen_grow(&w);
	if (err == 0)
		err = read_root(&w);
	while (err == 0 && w.stack_len > 0) {
		d = w.stack[--w.stack_len];
		err = read_dir(&w, &d);
	}
	if (err == 0)
		err = read_wish(&w);
	mem_free(w.seen);
	mem_free(w.stack);
	return err;
}
