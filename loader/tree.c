/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and directories of a tree: an arena and one hash table over all names.
 * Paths are in tree_path.c, what an inode holds is in tree_attr.c.
 */
#include "loader/tree.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "loader/tree_int.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define ARENA_BLOCK ((size_t)256 << 10)
#define FIRST_BUCKETS 64

/* ---- arena ---- */

struct tree_arena {
	struct tree_arena *next;
	size_t used, cap;
	_Alignas(16) uint8_t data[];
};

static struct tree_arena *arena_block(size_t cap)
{
	struct tree_arena *b;

	if (cap > SIZE_MAX - sizeof(*b))
		return NULL;
	b = mem_alloc(sizeof(*b) + cap);
	if (b)
		*b = (struct tree_arena){.cap = cap};
	return b;
}

void *ld_tree_alloc(struct ld_tree *t, size_t n, size_t align)
{
	struct tree_arena *b = t->arena;
	size_t at;

	at = (size_t)round_up(b->used, align);
	if (at <= b->cap && n <= b->cap - at) {
		b->used = at + n;
		return b->data + at;
	}
	b = arena_block(n > ARENA_BLOCK / 4 ? n : ARENA_BLOCK);
	if (!b)
		return NULL;
	b->used = n;
	if (n > ARENA_BLOCK / 4) {
		/* A block of its own: the newest one still has room. */
		b->next = t->arena->next;
		t->arena->next = b;
	} else {
		b->next = t->arena;
		t->arena = b;
	}
	return b->data;
}

char *ld_tree_copy_text(struct ld_tree *t, const char *s, size_t n)
{
	char *copy = ld_tree_alloc(t, n + 1, 1);

	if (!copy)
		return NULL;
	memcpy(copy, s, n);
	copy[n] = '\0';
	return copy;
}

/* ---- the tree ---- */

/* Those that were replaced count too: the arena keeps them. */
static int count_one(uint64_t *made, struct err *e)
{
	if (*made >= LD_MAX_ENTRIES)
		return err_set(
			e, -E2BIG, "more than %u entries", LD_MAX_ENTRIES);
	++*made;
	return 0;
}

static int new_inode(struct ld_tree *t, const struct ld_attr *a,
	struct ld_inode **ret, struct err *e)
{
	struct ld_inode *i;
	int r;

	r = count_one(&t->inodes_made, e);
	if (r < 0)
		return r;
	i = ld_tree_alloc(t, sizeof(*i), 8);
	if (!i)
		return err_set(e, -ENOMEM, "out of memory");
	*i = (struct ld_inode){.attr = *a};
	*ret = i;
	return 0;
}

static int new_implied(struct ld_tree *t, struct ld_inode **ret, struct err *e)
{
	const struct ld_attr a = {.mode = S_IFDIR | 0755};
	int r;

	r = new_inode(t, &a, ret, e);
	if (r == 0)
		(*ret)->implied = true;
	return r;
}

int ld_tree_create(struct ld_tree **ret)
{
	struct ld_tree *t;

	t = mem_zalloc(sizeof(*t));
	if (!t)
		return -ENOMEM;
	/* Nobody outside may guess which names share a bucket. */
	if (getrandom(t->seed, sizeof(t->seed), GRND_NONBLOCK) !=
		sizeof(t->seed))
		t->seed[0] = clock_ns();
	t->bucket_count = FIRST_BUCKETS;
	t->buckets = mem_calloc(t->bucket_count, sizeof(*t->buckets));
	t->arena = arena_block(ARENA_BLOCK);
	if (!t->buckets || !t->arena || new_implied(t, &t->root, NULL) < 0) {
		ld_tree_destroy(t);
		return -ENOMEM;
	}
	*ret = t;
	return 0;
}

void ld_tree_destroy(struct ld_tree *t)
{
	struct tree_arena *b;

	if (!t)
		return;
	while ((b = t->arena) != NULL) {
		t->arena = b->next;
		mem_free(b);
	}
	mem_free(t->buckets);
	mem_free(t->blobs);
	mem_free(t);
}

struct ld_inode *ld_tree_root(struct ld_tree *t)
{
	return t->root;
}

int ld_tree_add_blob(
	struct ld_tree *t, const struct ld_blob_ref *b, uint32_t *ret_slot)
{
	int r;

	r = mem_grow((void **)&t->blobs, &t->blob_cap, t->blob_count + 1,
		LD_MAX_BLOBS, sizeof(*t->blobs));
	if (r < 0)
		return r;
	*ret_slot = (uint32_t)t->blob_count;
	t->blobs[t->blob_count++] = *b;
	return 0;
}

struct ld_blob_ref *ld_tree_blob(struct ld_tree *t, uint32_t slot)
{
	return slot < t->blob_count ? &t->blobs[slot] : NULL;
}

uint32_t ld_tree_blob_count(const struct ld_tree *t)
{
	return (uint32_t)t->blob_count;
}

/* ---- names by hash ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint32_t name_hash(const struct ld_tree *t, const struct ld_inode *dir,
	const char *name, size_t len)
{
	static const uint64_t odd = 0x9e3779b97f4a7c15;
	uint64_t h = t->seed[0] ^ len, w;

	h = mix(h ^ (uint64_t)(uintptr_t)dir, odd ^ t->seed[1]);
	for (; len >= 8; name += 8, len -= 8) {
		memcpy(&w, name, 8);
		h = mix(h ^ w, odd ^ t->seed[1]);
	}
	w = 0;
	memcpy(&w, name, len);
	h = mix(h ^ w, odd ^ t->seed[0]);
	return (uint32_t)(h ^ h >> 32);
}

static struct ld_dirent *find_hashed(const struct ld_tree *t,
	const struct ld_inode *dir, const char *name, size_t len, uint32_t hash)
{
	struct ld_dirent *d = t->buckets[hash & (t->bucket_count - 1)];

	for (; d; d = d->hash_next)
		if (d->hash == hash && d->parent == dir && d->name_len == len &&
			memcmp(d->name, name, len) == 0)
			return d;
	return NULL;
}

struct ld_dirent *ld_tree_child(
	struct ld_tree *t, struct ld_inode *dir, const char *name, size_t len)
{
	return find_hashed(t, dir, name, len, name_hash(t, dir, name, len));
}

static int grow_buckets(struct ld_tree *t)
{
	size_t i, n = t->bucket_count * 2;
	struct ld_dirent **fresh, *d;

	fresh = mem_calloc(n, sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	for (i = 0; i < t->bucket_count; i++) {
		while ((d = t->buckets[i]) != NULL) {
			t->buckets[i] = d->hash_next;
			d->hash_next = fresh[d->hash & (n - 1)];
			fresh[d->hash & (n - 1)] = d;
		}
	}
	mem_free(t->buckets);
	t->buckets = fresh;
	t->bucket_count = n;
	return 0;
}

static void hash_insert(struct ld_tree *t, struct ld_dirent *d)
{
	struct ld_dirent **b = &t->buckets[d->hash & (t->bucket_count - 1)];

	d->hash_next = *b;
	*b = d;
	t->name_count++;
}

static void hash_remove(struct ld_tree *t, struct ld_dirent *d)
{
	struct ld_dirent **b = &t->buckets[d->hash & (t->bucket_count - 1)];

	while (*b != d)
		b = &(*b)->hash_next;
	*b = d->hash_next;
	t->name_count--;
}

void ld_tree_remove(struct ld_tree *t, struct ld_dirent *d)
{
	if (d->removed)
		return;
	hash_remove(t, d);
	d->removed = true;
	d->parent->child_count--;
	d->inode->nlink--;
}

void ld_tree_clear(struct ld_tree *t, struct ld_inode *dir)
{
	struct ld_dirent *d;

	for (d = dir->children; d; d = d->next)
		ld_tree_remove(t, d);
	dir->children = NULL;
	dir->children_last = NULL;
}

/* ---- adding names ---- */

static int check_name(const char *name, size_t len, struct err *e)
{
	if (len == 0)
		return err_set(e, -EPROTO, "a path has an empty name in it");
	if (len > LD_MAX_NAME)
		return err_set(e, -EPROTO, "the name '%.40s...' has %zu bytes",
			name, len);
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return err_set(
			e, -EPROTO, "'%.*s' is no file name", (int)len, name);
	if (memchr(name, '\0', len) || memchr(name, '/', len))
		return err_set(e, -EPROTO,
			"the name '%.*s' has a NUL or slash in it", (int)len,
			name);
	return 0;
}

static int add_dirent(struct ld_tree *t, struct ld_inode *dir, const char *name,
	size_t len, struct ld_inode *i, struct ld_dirent **ret, struct err *e)
{
	struct ld_dirent *d;

	if (count_one(&t->names_made, e) < 0)
		return -E2BIG;
	if (t->name_count >= t->bucket_count && grow_buckets(t) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	d = ld_tree_alloc(t, sizeof(*d), 8);
	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	*d = (struct ld_dirent){
		.name = ld_tree_copy_text(t, name, len),
		.name_len = (uint16_t)len,
		.hash = name_hash(t, dir, name, len),
		.inode = i,
		.parent = dir,
	};
	if (!d->name)
		return err_set(e, -ENOMEM, "out of memory");
	if (dir->children_last)
		dir->children_last->next = d;
	else
		dir->children = d;
	dir->children_last = d;
	dir->child_count++;
	hash_insert(t, d);
	*ret = d;
	return 0;
}

/* name in dir means i from now on, whatever it meant before. */
static int set_name(struct ld_tree *t, struct ld_inode *dir, const char *name,
	size_t len, struct ld_inode *i, struct err *e)
{
	struct ld_dirent *d;
	int r;

	if (S_ISDIR(i->attr.mode) && dir->depth >= LD_MAX_DEPTH)
		return err_set(e, -E2BIG, "directories more than %u deep",
			LD_MAX_DEPTH);
	d = ld_tree_child(t, dir, name, len);
	if (d) {
		if (S_ISDIR(i->attr.mode) && ld_inode_is_whiteout(d->inode)) {
			/* Nothing of the lower directory is left. */
			i->opaque = true;
			i->implied = false;
		}
		d->inode->nlink--;
		d->inode = i;
	} else {
		r = add_dirent(t, dir, name, len, i, &d, e);
		if (r < 0)
			return r;
	}
	i->nlink++;
	if (S_ISDIR(i->attr.mode)) {
		i->self = d;
		i->depth = (uint16_t)(dir->depth + 1);
	}
	return 0;
}

static int check_attr(const struct ld_attr *a, struct err *e)
{
	switch (a->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	case S_IFCHR:
	case S_IFBLK:
		if (a->rdev_major > 0xfff || a->rdev_minor > 0xfffff)
			return err_set(e, -EPROTO,
				"there is no device number %u:%u",
				a->rdev_major, a->rdev_minor);
		break;
	default:
		return err_set(e, -EPROTO, "%o is no type of file", a->mode);
	}
	if (a->mode & ~(uint32_t)(S_IFMT | 07777))
		return err_set(e, -EPROTO, "%o is no file mode", a->mode);
	if (a->mtime_ns >= 1000000000)
		return err_set(e, -EPROTO, "%u nanoseconds are no part of one",
			a->mtime_ns);
	return 0;
}

int ld_tree_describe(
	struct ld_inode *dir, const struct ld_attr *a, struct err *e)
{
	int r;

	r = check_attr(a, e);
	if (r < 0)
		return r;
	if (!S_ISDIR(a->mode))
		return err_set(e, -EPROTO, "the root is no directory");
	dir->attr = *a;
	dir->attr.rdev_major = 0;
	dir->attr.rdev_minor = 0;
	dir->implied = false;
	dir->xattrs = NULL;
	dir->xattr_last = NULL;
	dir->xattr_count = 0;
	return 0;
}

void ld_inode_reset(struct ld_inode *i, const struct ld_attr *a)
{
	*i = (struct ld_inode){
		.attr = *a,
		.nlink = 1,
		.extents = i->extents,
		.extent_cap = i->extent_cap,
	};
}

/* May something have this name there? */
static int check_place(
	const struct ld_inode *dir, const char *name, size_t len, struct err *e)
{
	int r = check_name(name, len, e);

	if (r == 0 && !S_ISDIR(dir->attr.mode))
		return err_set(e, -EPROTO,
			"'%.*s' lies in something that is no directory",
			(int)len, name);
	return r;
}

int ld_tree_add_child(struct ld_tree *t, struct ld_inode *dir, const char *name,
	size_t len, const struct ld_attr *a, struct ld_inode **ret,
	struct err *e)
{
	struct ld_dirent *d;
	struct ld_inode *i;
	int r;

	r = check_attr(a, e);
	if (r == 0)
		r = check_place(dir, name, len, e);
	if (r < 0)
		return r;
	d = S_ISDIR(a->mode) ? ld_tree_child(t, dir, name, len) : NULL;
	if (d && S_ISDIR(d->inode->attr.mode)) {
		*ret = d->inode;
		return ld_tree_describe(d->inode, a, e);
	}
	r = new_inode(t, a, &i, e);
	if (r < 0)
		return r;
	if (!S_ISCHR(a->mode) && !S_ISBLK(a->mode)) {
		i->attr.rdev_major = 0;
		i->attr.rdev_minor = 0;
	}
	r = set_name(t, dir, name, len, i, e);
	if (r == 0)
		*ret = i;
	return r;
}

int ld_tree_link_child(struct ld_tree *t, struct ld_inode *dir,
	const char *name, size_t len, struct ld_inode *target, struct err *e)
{
	struct ld_dirent *d;
	int r;

	r = check_place(dir, name, len, e);
	if (r < 0)
		return r;
	if (S_ISDIR(target->attr.mode))
		return err_set(e, -EPROTO,
			"'%.*s' is a hard link to a directory", (int)len, name);
	d = ld_tree_child(t, dir, name, len);
	if (d && d->inode == target)
		return 0;
	return set_name(t, dir, name, len, target, e);
}

int ld_tree_enter(struct ld_tree *t, struct ld_inode **dir, const char *name,
	size_t len, struct err *e)
{
	struct ld_dirent *d;
	struct ld_inode *i;
	int r;

	r = check_name(name, len, e);
	if (r < 0)
		return r;
	d = ld_tree_child(t, *dir, name, len);
	if (d && S_ISDIR(d->inode->attr.mode)) {
		*dir = d->inode;
		return 0;
	}
	r = new_implied(t, &i, e);
	if (r == 0)
		r = set_name(t, *dir, name, len, i, e);
	if (r == 0)
		*dir = i;
	return r;
}
