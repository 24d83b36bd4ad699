/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing an index: the bytes of a plan (index_plan.h). The buffer has its
 * final size, all zeros, before the first byte is put into it.
 */
#include <string.h>
#include <sys/stat.h>

#include "loader/erofs_format.h"
#include "loader/index.h"
#include "loader/index_plan.h"
#include "loader/tree_int.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/util.h"

struct writer {
	struct plan plan;
	uint8_t *out; /* of the whole index */
};

/* ---- superblock ---- */

static void write_slot(struct writer *w, size_t i)
{
	uint8_t *s = w->out + EROFS_SLOTS_OFF + i * EROFS_SLOT_LEN;
	const struct ld_blob_ref *b = &w->plan.tree->blobs[i];
	size_t len = digest_len(b->digest.algo);
	char hex[2 * DIGEST_MAX_BYTES + 1];

	(void)digest_hex(&b->digest, hex);
	memcpy(s + SLOT_TAG, hex, 2 * min_u64(len, EROFS_TAG_BYTES));
	put_le32(s + SLOT_BLOCKS,
		(uint32_t)div_round_up(b->device_size, w->plan.block_size));
	s[SLOT_ALGO] = (uint8_t)b->digest.algo;
	if (len > EROFS_TAG_BYTES)
		memcpy(s + SLOT_DIGEST_REST, b->digest.bytes + EROFS_TAG_BYTES,
			len - EROFS_TAG_BYTES);
}

static void write_super(struct writer *w)
{
	const struct plan *p = &w->plan;
	uint8_t *s = w->out + EROFS_SB_OFF, *name = s + SB_VOLUME_NAME;

	put_le32(s + SB_MAGIC, EROFS_MAGIC);
	put_le32(s + SB_FEATURE_COMPAT,
		EROFS_COMPAT_CHECKSUM | EROFS_COMPAT_MTIME);
	s[SB_BLOCK_BITS] = (uint8_t)p->block_bits;
	put_le16(
		s + SB_ROOT_NID, (uint16_t)(p->items[0].off >> EROFS_NID_BITS));
	put_le64(s + SB_INODES, p->item_count);
	put_le32(s + SB_BLOCKS, (uint32_t)(p->end >> p->block_bits));
	put_le32(s + SB_FEATURES, EROFS_FEATURES);
	put_le16(s + SB_DEVICES, (uint16_t)p->tree->blob_count);
	put_le16(s + SB_DEVICE_SLOT_OFF, EROFS_SLOTS_OFF / EROFS_SLOT_LEN);
	memcpy(name, EROFS_VOLUME, EROFS_VOLUME_LEN);
	name += EROFS_VOLUME_LEN;
	if (p->has_xattrs)
		*name++ = EROFS_VOLUME_XATTRS;
	if (p->has_links)
		*name++ = EROFS_VOLUME_LINKS;
}

/* Last: it covers the rest of the superblock's block. */
static void write_checksum(struct writer *w)
{
	uint8_t *s = w->out + EROFS_SB_OFF;

	put_le32(s + SB_CHECKSUM,
		crc32c(~0u, s, erofs_checksum_len(w->plan.block_size)));
}

/* ---- one inode ---- */

static uint8_t *write_xattr(uint8_t *at, uint8_t prefix, const char *suffix,
	const void *value, uint32_t value_len)
{
	size_t len = strlen(suffix);

	at[0] = (uint8_t)len;
	at[1] = prefix;
	put_le16(at + 2, (uint16_t)value_len);
	memcpy(at + EROFS_XATTR_ENTRY, suffix, len);
	if (value_len)
		memcpy(at + EROFS_XATTR_ENTRY + len, value, value_len);
	return at + round_up(EROFS_XATTR_ENTRY + len + value_len, 4);
}

static void write_xattrs(const struct plan_item *it, uint8_t *at)
{
	const struct ld_xattr *x;
	const char *suffix;
	uint8_t prefix = 0;

	at += EROFS_XATTR_HEAD;
	for (x = it->inode->xattrs; x; x = x->next) {
		suffix = plan_xattr_suffix(x->name, &prefix);
		at = write_xattr(at, prefix, suffix, x->value, x->value_len);
	}
	if (it->inode->opaque)
		(void)write_xattr(at, XATTR_TRUSTED, EROFS_OPAQUE, "y", 1);
}

static void write_chunks(struct writer *w, const struct plan_item *it)
{
	unsigned bits = w->plan.block_bits + it->chunk_bits;
	const struct ld_extent *x = it->inode->extents;
	const struct ld_extent *end = x + it->inode->extent_count;
	uint8_t *at = w->out + it->off;
	uint64_t off;
	uint32_t i;

	at += round_up(EROFS_INODE_LEN + it->xattr_len, 8);
	for (i = 0; i < it->chunk_count; i++, at += EROFS_CHUNK_INDEX_LEN) {
		off = (uint64_t)i << bits;
		while (x < end && x->file_off + x->len <= off)
			x++;
		if (x == end || x->file_off > off) {
			put_le32(at + 4, EROFS_HOLE);
			continue;
		}
		put_le16(at + 2, (uint16_t)(x->slot + 1));
		put_le32(at + 4, (uint32_t)((x->dev_off + off - x->file_off) >>
					    w->plan.block_bits));
	}
}

static uint8_t dirent_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return TYPE_REG;
	case S_IFDIR:
		return TYPE_DIR;
	case S_IFCHR:
		return TYPE_CHR;
	case S_IFBLK:
		return TYPE_BLK;
	case S_IFIFO:
		return TYPE_FIFO;
	case S_IFSOCK:
		return TYPE_SOCK;
	default:
		return TYPE_LNK;
	}
}

/* One block: names[first, first + count), whose names begin at name_off. */
static void write_dir_block(struct writer *w, const struct plan_item *it,
	uint8_t *at, uint32_t first, uint32_t count)
{
	const struct ld_dirent *d;
	const struct ld_inode *i;
	uint32_t k, name_off = count * EROFS_DIRENT_LEN;
	uint8_t *e = at;

	for (k = 0; k < count; k++, e += EROFS_DIRENT_LEN) {
		d = w->plan.names[first + k];
		i = d->inode;
		if (d == &w->plan.dot)
			i = it->inode;
		else if (d == &w->plan.dotdot)
			i = w->plan.items[it->parent].inode;
		put_le64(e, i->nid);
		put_le16(e + 8, (uint16_t)name_off);
		e[10] = dirent_type(i->attr.mode);
		memcpy(at + name_off, d->name, d->name_len);
		name_off += d->name_len;
	}
}

static void write_dir(struct writer *w, const struct plan_item *it)
{
	uint32_t k, first = it->first, end = it->first + it->count;
	uint32_t need, used, blocks = 0;
	uint8_t *at;

	while (first < end) {
		used = 0;
		for (k = first; k < end; k++) {
			need = EROFS_DIRENT_LEN + w->plan.names[k]->name_len;
			if (used + need > w->plan.block_size)
				break;
			used += need;
		}
		if (blocks < it->blocks)
			at = w->out + w->plan.data_off +
			     (uint64_t)(it->block + blocks) *
			             w->plan.block_size;
		else
			at = w->out + it->off + EROFS_INODE_LEN + it->xattr_len;
		write_dir_block(w, it, at, first, k - first);
		blocks++;
		first = k;
	}
}

static void write_symlink(struct writer *w, const struct plan_item *it)
{
	uint8_t *at = w->out + it->off + EROFS_INODE_LEN + it->xattr_len;

	if (it->blocks)
		at = w->out + w->plan.data_off +
		     (uint64_t)it->block * w->plan.block_size;
	memcpy(at, it->inode->target, it->size);
}

static uint32_t encode_device(const struct ld_attr *a)
{
	return (a->rdev_minor & 0xff) | a->rdev_major << 8 |
	       (a->rdev_minor & ~0xffu) << 12;
}

/* What i_u says, which depends on the type. */
static uint32_t inode_u(const struct writer *w, const struct plan_item *it)
{
	switch (it->inode->attr.mode & S_IFMT) {
	case S_IFREG:
		return EROFS_CHUNK_INDEXES | it->chunk_bits;
	case S_IFDIR:
	case S_IFLNK:
		if (it->blocks == 0)
			return 0;
		return (uint32_t)(w->plan.data_off >> w->plan.block_bits) +
		       it->block;
	case S_IFCHR:
	case S_IFBLK:
		return encode_device(&it->inode->attr);
	default:
		return 0;
	}
}

static void write_inode(struct writer *w, size_t number)
{
	const struct plan_item *it = &w->plan.items[number];
	const struct ld_attr *a = &it->inode->attr;
	uint8_t *at = w->out + it->off;

	put_le16(at + INODE_FORMAT, (uint16_t)(1 | it->layout << 1));
	if (it->xattr_len)
		put_le16(at + INODE_XATTR_COUNT,
			(uint16_t)(1 + (it->xattr_len - EROFS_XATTR_HEAD) / 4));
	put_le16(at + INODE_MODE, (uint16_t)a->mode);
	put_le64(at + INODE_SIZE, it->size);
	put_le32(at + INODE_U, inode_u(w, it));
	put_le32(at + INODE_INO, (uint32_t)number + 1);
	put_le32(at + INODE_UID, a->uid);
	put_le32(at + INODE_GID, a->gid);
	put_le64(at + INODE_MTIME, (uint64_t)a->mtime);
	put_le32(at + INODE_MTIME_NS, a->mtime_ns);
	put_le32(at + INODE_NLINK, it->inode->nlink);
	at[INODE_FLAGS] = it->inode->implied ? INODE_IMPLIED : 0;
	if (it->xattr_len)
		write_xattrs(it, at + EROFS_INODE_LEN);
	switch (a->mode & S_IFMT) {
	case S_IFREG:
		write_chunks(w, it);
		break;
	case S_IFDIR:
		write_dir(w, it);
		break;
	case S_IFLNK:
		write_symlink(w, it);
		break;
	default:
		break;
	}
}

int ld_index_write(
	struct ld_tree *t, unsigned block_bits, struct buf *out, struct err *e)
{
	struct writer w;
	size_t i;
	int r;

	r = plan_make(&w.plan, t, block_bits, e);
	if (r == 0) {
		r = buf_append_zeros(out, w.plan.end);
		if (r < 0)
			(void)err_set(e, r,
				"no memory for an index of %llu bytes",
				(unsigned long long)w.plan.end);
	}
	if (r == 0) {
		w.out = out->data + out->len - w.plan.end;
		write_super(&w);
		for (i = 0; i < t->blob_count; i++)
			write_slot(&w, i);
		for (i = 0; i < w.plan.item_count; i++)
			write_inode(&w, i);
		write_checksum(&w);
	}
	plan_fini(&w.plan);
	return r;
}
