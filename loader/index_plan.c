/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of an index. First the tree is walked: link counts, sorted
 * directories, inodes in the order in which a walk meets them. Then each inode
 * gets its place; what does not fit behind an inode gets blocks behind all of
 * them.
 */
#include "loader/index_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/erofs_format.h"
#include "loader/tree_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define NO_ITEM UINT32_MAX
/* Of one file: 128 MiB of index. */
#define MAX_CHUNKS (1u << 24) /* of all files together */
#define MAX_INDEX_BYTES ((uint64_t)4 << 30)

void plan_fini(struct plan *p)
{
	mem_free(p->items);
	mem_free(p->names);
	p->items = NULL;
	p->names = NULL;
}

static const char *item_name(const struct plan_item *it)
{
	return it->name ? it->name->name : "/";
}

/* ---- the walk ---- */

static int add_item(struct plan *p, struct ld_inode *i,
	const struct ld_dirent *name, uint32_t parent)
{
	int r;

	r = mem_grow((void **)&p->items, &p->item_cap, p->item_count + 1,
		(size_t)LD_MAX_ENTRIES + 1, sizeof(*p->items));
	if (r < 0)
		return r;
	p->items[p->item_count] = (struct plan_item){
		.inode = i,
		.name = name,
		.parent = parent,
		.next = NO_ITEM,
	};
	i->mark = p->tree->mark;
	i->nid = p->item_count++;
	i->nlink = S_ISDIR(i->attr.mode) ? 2 : 0;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	const struct ld_dirent *x = *(const struct ld_dirent *const *)a;
	const struct ld_dirent *y = *(const struct ld_dirent *const *)b;
	size_t n = min_u64(x->name_len, y->name_len);
	int r;

	r = memcmp(x->name, y->name, n);
	if (r)
		return r;
	return (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

/* Names of one directory, sorted, "." and ".." among them. */
static int list_names(struct plan *p, struct plan_item *dir)
{
	const struct ld_dirent *d;
	size_t want = p->name_count + dir->inode->child_count + 2;
	int r;

	r = mem_grow((void **)&p->names, &p->name_cap, want, UINT32_MAX,
		sizeof(*p->names));
	if (r < 0)
		return r;
	dir->first = (uint32_t)p->name_count;
	p->names[p->name_count++] = &p->dot;
	p->names[p->name_count++] = &p->dotdot;
	for (d = dir->inode->children; d; d = d->next)
		if (!d->removed)
			p->names[p->name_count++] = d;
	dir->count = (uint32_t)(p->name_count - dir->first);
	qsort(p->names + dir->first, dir->count, sizeof(*p->names),
		compare_names);
	return 0;
}

/*
 * Number the children of a directory; its subdirectories are done next, in
 * order, before those that wait already (*todo).
 */
static int walk_dir(struct plan *p, uint32_t at, uint32_t *todo)
{
	uint32_t i, *link = todo, rest = *todo, first, count;
	const struct ld_dirent *d;
	struct ld_inode *inode;
	uint32_t last = NO_ITEM;
	int r;

	r = list_names(p, &p->items[at]);
	if (r < 0)
		return r;
	first = p->items[at].first;
	count = p->items[at].count;
	for (i = 0; i < count; i++) {
		d = p->names[first + i];
		inode = d->inode;
		if (!inode)
			continue;
		if (inode->mark != p->tree->mark) {
			r = add_item(p, inode, d, at);
			if (r < 0)
				return r;
		} else if (S_ISDIR(inode->attr.mode)) {
			return -EPROTO;
		}
		if (!S_ISDIR(inode->attr.mode)) {
			inode->nlink++;
			continue;
		}
		p->items[at].inode->nlink++;
		/* items may have moved: find the link again. */
		link = last == NO_ITEM ? todo : &p->items[last].next;
		last = (uint32_t)inode->nid;
		*link = last;
	}
	if (last != NO_ITEM)
		p->items[last].next = rest;
	return 0;
}

static int walk_tree(struct plan *p, struct err *e)
{
	uint32_t at, todo;
	int r;

	p->tree->mark++;
	r = add_item(p, p->tree->root, NULL, 0);
	for (todo = 0; r == 0 && todo != NO_ITEM;) {
		at = todo;
		todo = p->items[at].next;
		r = walk_dir(p, at, &todo);
	}
	if (r == -E2BIG)
		return err_set(e, r, "more than %u entries", LD_MAX_ENTRIES);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory");
	return r < 0 ? err_set(e, r, "a directory has two names") : 0;
}

/* ---- sizes ---- */

const char *plan_xattr_suffix(const char *name, uint8_t *ret_prefix)
{
	static const struct {
		const char *text;
		uint8_t prefix;
	} known[] = {
		{"user.", XATTR_USER},
		{"trusted.", XATTR_TRUSTED},
		{"security.", XATTR_SECURITY},
		{"system.posix_acl_access", XATTR_ACL_ACCESS},
		{"system.posix_acl_default", XATTR_ACL_DEFAULT},
	};
	size_t i, n;

	for (i = 0; i < ARRAY_LEN(known); i++) {
		n = strlen(known[i].text);
		if (strncmp(name, known[i].text, n) == 0) {
			*ret_prefix = known[i].prefix;
			return name + n;
		}
	}
	return NULL;
}

static int measure_xattrs(struct plan *p, struct plan_item *it, struct err *e)
{
	uint64_t len = EROFS_XATTR_HEAD;
	const struct ld_xattr *x;
	const char *suffix;
	uint8_t prefix;

	if (!it->inode->xattrs && !it->inode->opaque)
		return 0;
	for (x = it->inode->xattrs; x; x = x->next) {
		suffix = plan_xattr_suffix(x->name, &prefix);
		if (!suffix)
			return err_set(e, -EPROTO,
				"no index can hold the extended attribute "
				"'%s' of '%s'",
				x->name, item_name(it));
		len += round_up(
			EROFS_XATTR_ENTRY + strlen(suffix) + x->value_len, 4);
	}
	if (it->inode->opaque)
		len += EROFS_OPAQUE_LEN;
	if (len > EROFS_MAX_XATTR_AREA)
		return err_set(e, -E2BIG,
			"the extended attributes of '%s' take %llu bytes, %u "
			"is the limit",
			item_name(it), (unsigned long long)len,
			EROFS_MAX_XATTR_AREA);
	it->xattr_len = (uint32_t)len;
	p->has_xattrs = true;
	if (S_ISREG(it->inode->attr.mode) &&
		ld_tree_xattr(it->inode, LD_XATTR_LINK))
		p->has_links = true;
	return 0;
}

/*
 * The bits that differ from 0 in any boundary between two pieces of a file: its
 * lowest one is the largest chunk size that has all boundaries between chunks.
 */
static int or_boundaries(const struct plan *p, const struct plan_item *it,
	uint64_t *ret, struct err *e)
{
	const struct ld_blob_ref *b;
	const struct ld_extent *x;
	uint64_t bits = 0, mask = p->block_size - 1;
	uint32_t k;

	for (k = 0; k < it->inode->extent_count; k++) {
		x = &it->inode->extents[k];
		b = ld_tree_blob(p->tree, x->slot);
		if (x->file_off + x->len > it->size)
			return err_set(e, -EPROTO,
				"'%s' has data behind its end", item_name(it));
		if (!b || x->dev_off + x->len >
				  round_up(b->device_size, mask + 1))
			return err_set(e, -EPROTO,
				"'%s' has data behind the end of its blob",
				item_name(it));
		bits |= x->file_off;
		if (x->file_off + x->len < it->size)
			bits |= x->file_off + x->len;
		if ((bits | x->dev_off) & mask)
			return err_set(e, -EPROTO,
				"the data of '%s' does not begin on a block of "
				"%u bytes",
				item_name(it), p->block_size);
	}
	*ret = bits;
	return 0;
}

static int measure_file(struct plan *p, struct plan_item *it, struct err *e)
{
	uint64_t bits = 0, chunks;
	unsigned shift = 0;
	int r;

	it->layout = LAYOUT_CHUNKS;
	it->size = it->inode->size;
	if (it->size > INT64_MAX)
		return err_set(e, -EPROTO, "'%s' is larger than any file",
			item_name(it));
	r = or_boundaries(p, it, &bits, e);
	if (r < 0 || it->size == 0)
		return r;
	/* Without a boundary inside, one chunk as long as the file. */
	if (bits)
		shift = (unsigned)__builtin_ctzll(bits) - p->block_bits;
	else
		while (shift < EROFS_CHUNK_BITS &&
			(it->size - 1) >> (p->block_bits + shift) != 0)
			shift++;
	if (shift > EROFS_CHUNK_BITS)
		shift = EROFS_CHUNK_BITS;
	chunks = ((it->size - 1) >> (p->block_bits + shift)) + 1;
	if (chunks > MAX_CHUNKS - p->chunk_count)
		return err_set(e, -E2BIG,
			"'%s' is in too many pieces: %llu chunks of %llu "
			"bytes, %u are the limit for all files",
			item_name(it), (unsigned long long)chunks,
			1ull << (p->block_bits + shift), MAX_CHUNKS);
	p->chunk_count += (uint32_t)chunks;
	it->chunk_bits = (uint8_t)shift;
	it->chunk_count = (uint32_t)chunks;
	return 0;
}

static int measure_symlink(struct plan *p, struct plan_item *it, struct err *e)
{
	if (!it->inode->target)
		return err_set(e, -EPROTO, "the link '%s' has no target",
			item_name(it));
	it->size = strlen(it->inode->target);
	if (EROFS_INODE_LEN + it->xattr_len + it->size <= p->block_size) {
		it->layout = LAYOUT_INLINE;
		it->tail_len = (uint32_t)it->size;
	} else {
		it->layout = LAYOUT_PLAIN;
		it->blocks = (uint32_t)div_round_up(it->size, p->block_size);
	}
	return 0;
}

static void measure_dir(const struct plan *p, struct plan_item *it)
{
	uint32_t i, need, used = 0;

	for (i = 0; i < it->count; i++) {
		need = EROFS_DIRENT_LEN + p->names[it->first + i]->name_len;
		if (used + need > p->block_size) {
			it->blocks++;
			used = 0;
		}
		used += need;
	}
	it->size = (uint64_t)it->blocks * p->block_size + used;
	it->tail_len = used;
	it->layout = LAYOUT_INLINE;
}

static int measure(struct plan *p, struct plan_item *it, struct err *e)
{
	int r;

	r = measure_xattrs(p, it, e);
	if (r < 0)
		return r;
	switch (it->inode->attr.mode & S_IFMT) {
	case S_IFREG:
		return measure_file(p, it, e);
	case S_IFLNK:
		return measure_symlink(p, it, e);
	case S_IFDIR:
		measure_dir(p, it);
		return 0;
	default:
		it->layout = LAYOUT_PLAIN;
		return 0;
	}
}

/* ---- places ---- */

/*
 * May it begin at off? The inode itself must not cross a block. Neither may
 * inline data; a link's must be in the block of its inode, or kernels read it
 * the slow way.
 */
static bool fits(const struct plan *p, const struct plan_item *it, uint64_t off)
{
	uint32_t mask = p->block_size - 1;
	uint64_t tail = off + EROFS_INODE_LEN + it->xattr_len;

	if ((off & mask) + EROFS_INODE_LEN > p->block_size)
		return false;
	if (it->tail_len == 0)
		return true;
	if (S_ISLNK(it->inode->attr.mode))
		tail = (off & mask) + EROFS_INODE_LEN + it->xattr_len;
	else
		tail &= mask;
	return tail + it->tail_len <= p->block_size;
}

static uint64_t find_place(
	const struct plan *p, const struct plan_item *it, uint64_t off)
{
	off = round_up(off, 1 << EROFS_NID_BITS);
	while (!fits(p, it, off))
		off += 1 << EROFS_NID_BITS;
	return off;
}

static void place(struct plan *p, struct plan_item *it, uint32_t *block)
{
	uint64_t off, len;

	/*
	 * The end of a directory goes inline unless that leaves a larger gap
	 * than a block of its own would.
	 */
	if (S_ISDIR(it->inode->attr.mode) &&
		(it->tail_len + EROFS_INODE_LEN > p->block_size ||
			find_place(p, it, p->meta_end) - p->meta_end >
				p->block_size - it->tail_len)) {
		it->layout = LAYOUT_PLAIN;
		it->tail_len = 0;
		it->blocks++;
	}
	off = find_place(p, it, p->meta_end);
	len = EROFS_INODE_LEN + it->xattr_len + it->tail_len;
	if (it->chunk_count)
		len = round_up(len, 8) +
		      (uint64_t)it->chunk_count * EROFS_CHUNK_INDEX_LEN;
	it->off = off;
	it->inode->nid = off >> EROFS_NID_BITS;
	p->meta_end = off + len;
	it->block = *block;
	*block += it->blocks;
}

static int check_slots(const struct plan *p, struct err *e)
{
	size_t i;

	for (i = 0; i < p->tree->blob_count; i++)
		if (div_round_up(p->tree->blobs[i].device_size,
			    p->block_size) >= EROFS_HOLE)
			return err_set(e, -E2BIG,
				"a blob of %llu bytes has too many blocks",
				(unsigned long long)p->tree->blobs[i]
					.device_size);
	return 0;
}

int plan_make(
	struct plan *p, struct ld_tree *t, unsigned block_bits, struct err *e)
{
	uint32_t block = 0;
	size_t i;
	int r;

	*p = (struct plan){
		.tree = t,
		.block_bits = block_bits,
		.block_size = 1u << block_bits,
		.dot = {.name = ".", .name_len = 1},
		.dotdot = {.name = "..", .name_len = 2},
		.meta_end = EROFS_SLOTS_OFF +
	                    (uint64_t)t->blob_count * EROFS_SLOT_LEN,
	};
	r = check_slots(p, e);
	if (r == 0)
		r = walk_tree(p, e);
	if (r < 0)
		return r;
	for (i = 0; i < p->item_count; i++) {
		r = measure(p, &p->items[i], e);
		if (r < 0)
			return r;
		place(p, &p->items[i], &block);
		if (p->meta_end + (uint64_t)block * p->block_size >
			MAX_INDEX_BYTES)
			return err_set(e, -E2BIG,
				"an index of more than %llu bytes",
				(unsigned long long)MAX_INDEX_BYTES);
	}
	p->data_off = round_up(p->meta_end, p->block_size);
	p->end = p->data_off + (uint64_t)block * p->block_size;
	return 0;
}
