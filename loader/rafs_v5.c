/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAFS v5 bootstraps: a private format, no EROFS (Nydus 2.x,
 * rafs/src/metadata/layout/v5.rs describes it). Inodes carry their name and
 * their chunks, each with place and digest; a directory's children are
 * neighbours in a table of inodes.
 *
 * Each place of the table is visited once, and the bytes of the inodes that are
 * read are counted against the file's length: overlapping records cannot
 * multiply the work.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/rafs_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

enum {
	SUPER_LEN = 8192,
	INODE_LEN = 128,
	BLOB_HEAD_LEN = 8, /* what stands before an id */
	BLOB_ID_LEN = 64,
	EXT_LEN = 64, /* of an entry of the extended blob table */
};

/* Flags of the superblock. */
enum {
	SUPER_EXPLICIT_IDS = 0x10,
	SUPER_ENCRYPTED = 0x02000000,
};

enum {
	INODE_SYMLINK = 1,
	INODE_XATTR = 4,
	INODE_HAS_HOLE = 8,
};

/* Features of v6 that a v5 image cannot have. */
#define ODD_FEATURES \
	(RAFS_BLOB_ZRAN | RAFS_BLOB_SEPARATE | RAFS_BLOB_TARFS | \
		RAFS_BLOB_BATCH | RAFS_BLOB_EXTERNAL | RAFS_BLOB_INCOMPATIBLE)

/* One inode in the file: where its variable parts are. */
struct inode {
	const uint8_t *at;
	uint64_t ino, size, flags;
	uint32_t child_index, child_count;
	const char *name, *target;
	size_t name_len, target_len;
	const uint8_t *xattrs, *chunks;
	size_t xattr_len;
};

struct pending {
	struct ld_inode *dir;
	uint32_t first, count; /* in the table */
	unsigned depth;
};

struct v5 {
	const struct rafs_boot *b;
	struct ld_rafs *r;
	struct err *e;
	uint64_t flags;
	uint32_t chunk_size;
	struct rafs_v5_codec codec;
	uint64_t table_off;
	uint32_t table_count;
	uint8_t *visited;         /* owned; by place in the table */
	struct ld_inode **by_ino; /* owned; by inode number - 1 */
	struct pending *stack;
	size_t stack_len, stack_cap;
	uint64_t budget;
	struct rafs_v5_ref *refs; /* owned, the chunks of all files */
	size_t ref_count, ref_cap;
};

static int broken(struct v5 *v, const struct inode *i, const char *what)
{
	return err_set(v->e, -EPROTO, "broken RAFS bootstrap: %s of inode %llu",
		what, (unsigned long long)i->ino);
}

static int out_of_memory(struct v5 *v)
{
	return err_set(v->e, -ENOMEM, "out of memory");
}

/* ---- superblock, blobs ---- */

static int read_flags(struct v5 *v)
{
	if (v->flags & SUPER_ENCRYPTED)
		return rafs_refuse(v->e, "an encrypted RAFS image");
	switch (v->flags & 0xc3) {
	case 0x01:
		v->codec.compressor = 0;
		break;
	case 0x02:
		v->codec.compressor = 1;
		break;
	case 0x40:
		v->codec.compressor = 2;
		break;
	case 0x80:
		v->codec.compressor = 3;
		break;
	default:
		return rafs_broken(v->e, "its compressor");
	}
	switch (v->flags & 0xc) {
	case 0x4:
		v->codec.algo = DIGEST_BLAKE3;
		break;
	case 0x8:
		v->codec.algo = DIGEST_SHA256;
		break;
	default:
		return rafs_broken(v->e, "its digests");
	}
	return 0;
}

static int read_super(struct v5 *v)
{
	const uint8_t *s = v->b->p;

	if (v->b->len < SUPER_LEN || le32_at(s + 8) != SUPER_LEN)
		return rafs_broken(v->e, "it has been cut");
	v->chunk_size = le32_at(s + 12);
	v->flags = le64_at(s + 16);
	v->table_off = le64_at(s + 32);
	v->table_count = le32_at(s + 56);
	if (v->chunk_size < RAFS_BLOCK_SIZE ||
		v->chunk_size > RAFS_MAX_CHUNK_SIZE ||
		(v->chunk_size & (v->chunk_size - 1)) != 0)
		return rafs_broken(v->e, "chunk size");
	if (v->table_count == 0 ||
		!range_fits(
			v->table_off, (uint64_t)v->table_count * 4, v->b->len))
		return rafs_broken(v->e, "inode table outside the file");
	return read_flags(v);
}

/* The ids: each behind two numbers, a NUL between one and the next. */
static int count_blobs(struct v5 *v, const uint8_t *p, size_t len, size_t *ret)
{
	size_t n = 0, at = 0;

	while (len - at >= BLOB_HEAD_LEN + BLOB_ID_LEN) {
		at += BLOB_HEAD_LEN + BLOB_ID_LEN;
		if (at < len && p[at++] != '\0')
			return rafs_broken(v->e, "a blob id that is no sha256");
		n++;
	}
	if (n > LD_MAX_BLOBS)
		return rafs_broken(v->e, "too many blobs");
	*ret = n;
	return 0;
}

static int read_blob(
	struct v5 *v, uint32_t i, const uint8_t *at, const uint8_t *ext)
{
	struct ld_rafs_blob *blob = &v->r->blobs[i];
	uint32_t features = ext ? le32_at(ext + 4) : 0, k;

	if (features & RAFS_BLOB_ENCRYPTED)
		return rafs_refuse(v->e, "a RAFS image with encrypted blobs");
	if (features & ODD_FEATURES & 0xffff)
		return rafs_refuse(v->e, "a RAFS v5 image with features of v6");
	if (rafs_blob_id(at + BLOB_HEAD_LEN, &blob->digest) < 0)
		return rafs_broken(v->e, "a blob id that is no sha256");
	for (k = 0; k < i; k++)
		if (digest_is_equal(&v->r->blobs[k].digest, &blob->digest))
			return rafs_broken(v->e, "the same blob id twice");
	blob->compressed_size = ext ? le64_at(ext + 16) : 0;
	return blob->compressed_size > 1ull << 40
	               ? rafs_broken(v->e, "an entry of the blob table")
	               : 0;
}

static int read_blobs(struct v5 *v)
{
	const uint8_t *s = v->b->p, *ext = NULL;
	uint64_t off = le64_at(s + 48), ext_off = le64_at(s + 72);
	uint32_t len = le32_at(s + 64), ext_count = le32_at(s + 68), i;
	size_t n = 0;
	int err;

	if (!range_fits(off, len, v->b->len) ||
		!range_fits(ext_off, (uint64_t)ext_count * EXT_LEN, v->b->len))
		return rafs_broken(v->e, "blob table outside the file");
	err = count_blobs(v, s + off, len, &n);
	if (err < 0)
		return err;
	if (ext_count != 0 && ext_count != n)
		return rafs_broken(v->e, "two blob tables that differ");
	v->r->blobs = mem_calloc(n, sizeof(*v->r->blobs));
	if (!v->r->blobs)
		return out_of_memory(v);
	v->r->blob_count = n;
	for (i = 0; i < n; i++)
		buf_init(&v->r->blobs[i].map, 0);
	for (i = 0; err == 0 && i < n; i++) {
		if (ext_count)
			ext = s + ext_off + (uint64_t)i * EXT_LEN;
		err = read_blob(v, i,
			s + off +
				(uint64_t)i * (BLOB_HEAD_LEN + BLOB_ID_LEN + 1),
			ext);
	}
	return err;
}

/* ---- one inode ---- */

static const uint8_t *padded(struct rd *rd, size_t n)
{
	const uint8_t *p = rd_bytes(rd, n);

	rd_skip(rd, round_up(n, 8) - n);
	return p;
}

static int read_parts(struct v5 *v, struct inode *i, struct rd *rd)
{
	uint64_t len;

	i->name = (const char *)padded(rd, i->name_len);
	if (i->flags & INODE_SYMLINK)
		i->target = (const char *)padded(rd, i->target_len);
	if (i->flags & INODE_XATTR) {
		len = rd_u64(rd);
		if (len > rd_left(rd))
			return broken(v, i, "xattrs");
		i->xattr_len = (size_t)len;
		i->xattrs = padded(rd, i->xattr_len);
	}
	if (S_ISREG(le32_at(i->at + 60))) {
		if (i->child_count > rd_left(rd) / RAFS_CHUNK_LEN)
			return broken(v, i, "chunks");
		i->chunks =
			rd_bytes(rd, (size_t)i->child_count * RAFS_CHUNK_LEN);
	}
	return rd_failed(rd) ? broken(v, i, "size") : 0;
}

/* The inode at a place of the table, which is visited now. */
static int read_inode(struct v5 *v, uint32_t place, struct inode *ret)
{
	uint64_t off =
		(uint64_t)le32_at(v->b->p + v->table_off + (uint64_t)place * 4)
		<< 3;
	struct inode i = {.ino = place + 1ull};
	struct rd rd;
	size_t used;
	int err;

	if (v->visited[place])
		return broken(v, &i, "two directories");
	v->visited[place] = 1;
	if (!range_fits(off, INODE_LEN, v->b->len))
		return broken(v, &i, "place");
	i.at = v->b->p + off;
	i.ino = le64_at(i.at + 40);
	i.size = le64_at(i.at + 64);
	i.flags = le64_at(i.at + 80);
	i.child_index = le32_at(i.at + 92);
	i.child_count = le32_at(i.at + 96);
	i.name_len = le16_at(i.at + 100);
	i.target_len = le16_at(i.at + 102);
	if (i.ino == 0 || i.ino > v->table_count)
		return broken(v, &i, "number");
	rd = rd_over(i.at + INODE_LEN, v->b->len - off - INODE_LEN);
	err = read_parts(v, &i, &rd);
	if (err < 0)
		return err;
	used = v->b->len - off - rd_left(&rd);
	if (used > v->budget)
		return broken(v, &i, "size");
	v->budget -= used;
	*ret = i;
	return 0;
}

static struct ld_attr attr_of(const struct v5 *v, const struct inode *i)
{
	struct ld_attr a = {
		.mode = le32_at(i->at + 60) & 0xffff,
		.mtime = (int64_t)le64_at(i->at + 112),
		.mtime_ns = le32_at(i->at + 108),
	};
	uint32_t rdev = le32_at(i->at + 104);

	if (v->flags & SUPER_EXPLICIT_IDS) {
		a.uid = le32_at(i->at + 48);
		a.gid = le32_at(i->at + 52);
	}
	if (S_ISCHR(a.mode) || S_ISBLK(a.mode)) {
		a.rdev_major = rdev >> 8 & 0xfff;
		a.rdev_minor = (rdev & 0xff) | (rdev >> 12 & 0xfff00);
	}
	return a;
}

/* Each a length, then name, NUL and value of that length. */
static int read_xattrs(
	struct v5 *v, const struct inode *i, struct ld_inode *node)
{
	struct rd rd = rd_over(i->xattrs, i->xattr_len);
	const uint8_t *pair;
	size_t len, name_len;
	int err = 0;

	while (err == 0 && rd_left(&rd) >= 4) {
		len = rd_u32(&rd);
		pair = rd_bytes(&rd, len);
		if (!pair)
			return broken(v, i, "xattrs");
		name_len = strnlen((const char *)pair, len);
		if (name_len == len)
			return broken(v, i, "xattrs");
		err = rafs_set_xattr(v->r->tree, node, (const char *)pair,
			name_len, pair + name_len + 1, len - name_len - 1,
			v->e);
	}
	return err;
}

/* ---- files ---- */

static int add_ref(struct v5 *v, struct ld_inode *file, const uint8_t *at)
{
	int err;

	err = mem_grow((void **)&v->refs, &v->ref_cap, v->ref_count + 1,
		BC_MAX_CHUNKS, sizeof(*v->refs));
	if (err < 0)
		return err_set(v->e, err, "too many chunks");
	v->refs[v->ref_count++] = (struct rafs_v5_ref){.file = file, .at = at};
	return 0;
}

/*
 * A record of the file's chunks; *end is where the one before ended. What the
 * last one has beyond the file's end is not shown.
 */
static int check_chunk(struct v5 *v, const struct inode *i, const uint8_t *at,
	bool is_last, uint64_t *end)
{
	uint64_t off = le64_at(at + 64), len = le32_at(at + 44);

	if (le32_at(at + 36) & RAFS_CHUNK_ENCRYPTED)
		return rafs_refuse(v->e, "a RAFS image with encrypted chunks");
	if (le32_at(at + 32) >= v->r->blob_count)
		return broken(v, i, "a chunk of no blob");
	if (off < *end || (off > *end && !(i->flags & INODE_HAS_HOLE)) ||
		off % RAFS_BLOCK_SIZE != 0 || off >= i->size)
		return broken(v, i, "the place of a chunk");
	if (len == 0 || len > v->chunk_size ||
		(!is_last && len % RAFS_BLOCK_SIZE != 0))
		return broken(v, i, "the size of a chunk");
	*end = off + len;
	return 0;
}

static int read_file(struct v5 *v, const struct inode *i, struct ld_inode *node)
{
	const uint8_t *at = i->chunks;
	uint64_t end = 0;
	uint32_t k;
	int err;

	node->size = i->size;
	for (k = 0; k < i->child_count; k++, at += RAFS_CHUNK_LEN) {
		if (le32_at(at + 36) & RAFS_CHUNK_HOLE)
			continue;
		err = check_chunk(v, i, at, k + 1 == i->child_count, &end);
		if (err == 0)
			err = add_ref(v, node, at);
		if (err < 0)
			return err;
	}
	if (end < i->size && !(i->flags & INODE_HAS_HOLE))
		return broken(v, i, "chunks");
	return 0;
}

/* ---- the tree ---- */

static int push_dir(struct v5 *v, const struct inode *i, struct ld_inode *dir,
	unsigned depth)
{
	uint64_t end = (uint64_t)i->child_index + i->child_count;
	int err;

	if (i->child_count == 0)
		return 0;
	if (i->child_index < 2 || end - 1 > v->table_count)
		return broken(v, i, "children");
	if (depth > LD_MAX_DEPTH)
		return broken(v, i, "depth");
	err = mem_grow((void **)&v->stack, &v->stack_cap, v->stack_len + 1,
		LD_MAX_ENTRIES, sizeof(*v->stack));
	if (err < 0)
		return err_set(v->e, err, "too many directories");
	v->stack[v->stack_len++] = (struct pending){.dir = dir,
		.first = i->child_index - 1,
		.count = i->child_count,
		.depth = depth};
	return 0;
}

static int fill_inode(struct v5 *v, const struct inode *i,
	struct ld_inode *node, unsigned depth)
{
	int err;

	v->by_ino[i->ino - 1] = node;
	v->r->entries++;
	err = read_xattrs(v, i, node);
	if (err < 0)
		return err;
	if (S_ISDIR(node->attr.mode))
		return push_dir(v, i, node, depth);
	if (S_ISLNK(node->attr.mode)) {
		if (!i->target || i->target_len == 0)
			return broken(v, i, "link target");
		return ld_tree_set_symlink(
			v->r->tree, node, i->target, i->target_len, v->e);
	}
	if (S_ISREG(node->attr.mode)) {
		v->r->size_uncompressed += i->size;
		return read_file(v, i, node);
	}
	return rafs_is_special(node->attr.mode) ? 0 : broken(v, i, "file type");
}

static int add_child(struct v5 *v, const struct pending *d, uint32_t place)
{
	struct ld_inode *node, *known;
	struct ld_attr attr;
	struct inode i;
	int err;

	err = read_inode(v, place, &i);
	if (err < 0)
		return err;
	if (ld_tree_child(v->r->tree, d->dir, i.name, i.name_len))
		return broken(v, &i, "a name twice in the directory");
	known = v->by_ino[i.ino - 1];
	if (known) {
		if (S_ISDIR(known->attr.mode))
			return broken(v, &i, "two names for the directory");
		return ld_tree_link_child(
			v->r->tree, d->dir, i.name, i.name_len, known, v->e);
	}
	attr = attr_of(v, &i);
	err = ld_tree_add_child(
		v->r->tree, d->dir, i.name, i.name_len, &attr, &node, v->e);
	return err < 0 ? err : fill_inode(v, &i, node, d->depth + 1);
}

static int read_root(struct v5 *v)
{
	struct ld_inode *root;
	struct ld_attr attr;
	struct inode i;
	int err;

	err = read_inode(v, 0, &i);
	if (err < 0)
		return err;
	attr = attr_of(v, &i);
	if (!S_ISDIR(attr.mode))
		return broken(v, &i, "the root's type");
	err = ld_tree_add(v->r->tree, "", 0, &attr, &root, v->e);
	return err < 0 ? err : fill_inode(v, &i, root, 0);
}

static int read_tree(struct v5 *v)
{
	struct pending d;
	uint32_t k;
	int err;

	v->visited = mem_calloc(v->table_count, 1);
	v->by_ino = mem_calloc(v->table_count, sizeof(struct ld_inode *));
	if (!v->visited || !v->by_ino)
		return out_of_memory(v);
	err = read_root(v);
	while (err == 0 && v->stack_len > 0) {
		d = v->stack[--v->stack_len];
		for (k = 0; err == 0 && k < d.count; k++)
			err = add_child(v, &d, d.first + k);
	}
	return err;
}

/* The prefetch table names inode numbers. */
static int read_wish(struct v5 *v)
{
	const uint8_t *s = v->b->p;
	uint64_t off = le64_at(s + 40), count = le32_at(s + 60), k;
	uint32_t ino;
	int err = 0;

	if (off == 0 || count == 0)
		return 0;
	if (!range_fits(off, count * 4, v->b->len))
		return rafs_broken(v->e, "prefetch table outside the file");
	for (k = 0; err == 0 && k < count; k++) {
		ino = le32_at(s + off + k * 4);
		if (ino > 0 && ino <= v->table_count && v->by_ino[ino - 1])
			err = rafs_wish_add(v->r, v->by_ino[ino - 1]);
	}
	return err < 0 ? out_of_memory(v) : 0;
}

int rafs_v5_parse(const struct rafs_boot *b, struct ld_rafs *r, struct err *e)
{
	struct v5 v = {.b = b, .r = r, .e = e, .budget = b->len};
	int err;

	err = ld_tree_create(&r->tree);
	if (err < 0)
		return err_set(e, err, "out of memory");
	err = read_super(&v);
	if (err == 0)
		err = read_blobs(&v);
	if (err == 0)
		err = read_tree(&v);
	if (err == 0)
		err = rafs_v5_lay_out(r, &v.codec, v.refs, v.ref_count, e);
	if (err == 0)
		err = read_wish(&v);
	mem_free(v.visited);
	mem_free(v.by_ino);
	mem_free(v.stack);
	mem_free(v.refs);
	return err;
}
