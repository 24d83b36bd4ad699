/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From layer indexes, one on top of the other, back to a tree. See merge.h for
 * the rules.
 *
 * A layer is walked directory by directory with an explicit stack; each step
 * puts one name into the tree. What the walk has met is kept by nid: a hard
 * link is met again, a directory must not be. The directories of an index may
 * not be longer than the file together, so a small file cannot unfold into a
 * large tree.
 */
#include "loader/merge.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/erofs_format.h"
#include "loader/tree_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* ---- inodes by nid ---- */

struct seen {
	struct {
		uint64_t nid;
		struct ld_inode *inode; /* NULL: free */
	} * items;                      /* owned; open addressing */
	size_t count, cap;              /* cap: a power of two, or 0 */
	uint64_t multiplier;            /* odd, not to be guessed */
};

static size_t seen_slot(const struct seen *s, uint64_t nid)
{
	size_t at = (size_t)(nid * s->multiplier >> 32) & (s->cap - 1);

	while (s->items[at].inode && s->items[at].nid != nid)
		at = (at + 1) & (s->cap - 1);
	return at;
}

static struct ld_inode *seen_find(const struct seen *s, uint64_t nid)
{
	return s->cap ? s->items[seen_slot(s, nid)].inode : NULL;
}

static int seen_grow(struct seen *s)
{
	struct seen old = *s;
	size_t i, at;

	s->cap = old.cap ? old.cap * 2 : 64;
	s->items = mem_calloc(s->cap, sizeof(*s->items));
	if (!s->items) {
		*s = old;
		return -ENOMEM;
	}
	for (i = 0; i < old.cap; i++) {
		if (!old.items[i].inode)
			continue;
		at = seen_slot(s, old.items[i].nid);
		s->items[at].nid = old.items[i].nid;
		s->items[at].inode = old.items[i].inode;
	}
	mem_free(old.items);
	return 0;
}

static int seen_add(struct seen *s, uint64_t nid, struct ld_inode *inode)
{
	size_t at;

	if (s->count >= s->cap / 2 && seen_grow(s) < 0)
		return -ENOMEM;
	at = seen_slot(s, nid);
	s->items[at].nid = nid;
	s->items[at].inode = inode;
	s->count++;
	return 0;
}

/* ---- one walk ---- */

struct frame {
	struct ld_inode_view dir;
	struct ld_inode *out;
	uint64_t cookie;
};

struct merge {
	const struct ld_index *x;
	struct ld_tree *out;
	struct seen seen;
	struct frame *stack; /* owned */
	size_t depth, stack_cap;
	uint64_t dir_bytes;
	uint32_t *slots; /* owned; slot of x -> slot of out */
	struct ld_index_xattr xattr;
};

static int broken(struct err *e, const char *what)
{
	return err_set(e, -EPROTO, "a layer's index is broken: %s", what);
}

static int fits_budget(struct merge *m, uint64_t dir_bytes, struct err *e)
{
	if (dir_bytes > m->x->len - m->dir_bytes)
		return broken(e, "directories share their bytes");
	m->dir_bytes += dir_bytes;
	return 0;
}

static int push(struct merge *m, const struct ld_inode_view *dir,
	struct ld_inode *out, struct err *e)
{
	int r;

	r = fits_budget(m, dir->size, e);
	if (r < 0)
		return r;
	if (m->depth > LD_MAX_DEPTH)
		return broken(e, "directories too deep");
	r = mem_grow((void **)&m->stack, &m->stack_cap, m->depth + 1,
		LD_MAX_DEPTH + 1, sizeof(*m->stack));
	if (r < 0)
		return err_set(e, r, "out of memory");
	m->stack[m->depth++] = (struct frame){.dir = *dir, .out = out};
	return 0;
}

/*
 * The next name, ".", ".." left out, or 0 at the end of the walk. Directories
 * that are finished are left.
 */
static int next(struct merge *m, struct ld_index_dirent *d,
	struct ld_inode_view *v, struct err *e)
{
	struct frame *f;
	int r;

	while (m->depth > 0) {
		f = &m->stack[m->depth - 1];
		r = ld_index_next(m->x, &f->dir, f->cookie, d);
		if (r < 0)
			return broken(e, "a directory cannot be read");
		if (r == 0) {
			m->depth--;
			continue;
		}
		f->cookie = d->cookie;
		if (d->name[0] == '.' &&
			(d->name_len == 1 ||
				(d->name_len == 2 && d->name[1] == '.')))
			continue;
		if (ld_index_inode(m->x, d->nid, v) < 0)
			return broken(e, "an inode cannot be read");
		return 1;
	}
	return 0;
}

static int start(struct merge *m, const struct ld_index *x,
	struct ld_inode_view *root, struct err *e)
{
	m->x = x;
	m->depth = 0;
	m->dir_bytes = 0;
	if (ld_index_inode(x, x->root_nid, root) < 0)
		return broken(e, "no root");
	return 0;
}

/* ---- what an inode holds ---- */

static int copy_xattrs(struct merge *m, const struct ld_inode_view *v,
	struct ld_inode *i, struct err *e)
{
	size_t pos = 0;
	int r;

	while ((r = ld_index_next_xattr(m->x, v, &pos, &m->xattr)) == 1) {
		r = ld_tree_set_xattr(m->out, i, m->xattr.name,
			m->xattr.name_len, m->xattr.value, m->xattr.value_len,
			e);
		if (r < 0)
			return r;
	}
	return r < 0 ? broken(e, "extended attributes cannot be read") : 0;
}

static int is_opaque(struct merge *m, const struct ld_inode_view *v, bool *ret,
	struct err *e)
{
	size_t pos = 0;
	int r;

	*ret = false;
	while ((r = ld_index_next_xattr(m->x, v, &pos, &m->xattr)) == 1)
		if (strcmp(m->xattr.name, "trusted." EROFS_OPAQUE) == 0)
			*ret = m->xattr.value_len == 1 &&
			       m->xattr.value[0] == 'y';
	return r < 0 ? broken(e, "extended attributes cannot be read") : 0;
}

static int copy_extents(struct merge *m, const struct ld_inode_view *v,
	struct ld_inode *i, struct err *e)
{
	struct ld_extent x;
	uint64_t off = 0;
	int r;

	i->size = v->size;
	for (; off < v->size; off += x.len) {
		if (ld_index_extent(m->x, v, off, &x) < 0)
			return broken(e, "a file's pieces cannot be read");
		if (x.slot == UINT32_MAX)
			continue;
		if (m->slots[x.slot] == UINT32_MAX)
			return broken(e, "a file has data in an empty blob");
		r = ld_tree_add_extent(
			m->out, i, off, x.len, m->slots[x.slot], x.dev_off, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int copy_contents(struct merge *m, const struct ld_inode_view *v,
	struct ld_inode *i, struct err *e)
{
	const char *target;
	size_t len;
	int r;

	r = copy_xattrs(m, v, i, e);
	if (r < 0)
		return r;
	if (S_ISREG(v->attr.mode))
		return copy_extents(m, v, i, e);
	if (!S_ISLNK(v->attr.mode))
		return 0;
	if (ld_index_symlink(m->x, v, &target, &len) < 0)
		return broken(e, "a link's target cannot be read");
	return ld_tree_set_symlink(m->out, i, target, len, e);
}

/* ---- one name ---- */

static bool is_whiteout(const struct ld_inode_view *v)
{
	return S_ISCHR(v->attr.mode) && v->attr.rdev_major == 0 &&
	       v->attr.rdev_minor == 0;
}

/* A directory of the layer meets what the tree has in its place. */
static int apply_dir(struct merge *m, struct ld_inode *parent,
	const struct ld_index_dirent *d, const struct ld_inode_view *v,
	struct err *e)
{
	struct ld_dirent *lower;
	struct ld_inode *i = NULL;
	bool opaque = false, keep;
	int r = 0;

	if (seen_find(&m->seen, v->nid))
		return broken(e, "a directory has two names");
	lower = ld_tree_child(m->out, parent, d->name, d->name_len);
	if (lower && !S_ISDIR(lower->inode->attr.mode))
		lower = NULL;
	r = is_opaque(m, v, &opaque, e);
	if (r < 0)
		return r;
	if (lower && opaque)
		ld_tree_clear(m->out, lower->inode);
	keep = lower && ld_index_is_implied(v);
	if (keep) {
		i = lower->inode;
	} else {
		r = ld_tree_add_child(
			m->out, parent, d->name, d->name_len, &v->attr, &i, e);
		if (r == 0)
			r = copy_xattrs(m, v, i, e);
		if (r < 0)
			return r;
		i->implied = ld_index_is_implied(v);
	}
	if (seen_add(&m->seen, v->nid, i) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return push(m, v, i, e);
}

/*
 * A new inode for name. The one that it replaces is used again where nothing
 * else knows it, or layers that repeat each other would pile up in memory.
 */
static int make_inode(struct merge *m, struct ld_inode *parent,
	const struct ld_index_dirent *d, const struct ld_inode_view *v,
	struct ld_inode **ret, struct err *e)
{
	struct ld_dirent *lower;

	lower = ld_tree_child(m->out, parent, d->name, d->name_len);
	if (lower && lower->inode->nlink == 1 &&
		!S_ISDIR(lower->inode->attr.mode)) {
		ld_inode_reset(lower->inode, &v->attr);
		*ret = lower->inode;
		return 0;
	}
	return ld_tree_add_child(
		m->out, parent, d->name, d->name_len, &v->attr, ret, e);
}

static int apply_other(struct merge *m, struct ld_inode *parent,
	const struct ld_index_dirent *d, const struct ld_inode_view *v,
	struct err *e)
{
	struct ld_inode *i = seen_find(&m->seen, v->nid);
	int r;

	if (i)
		return ld_tree_link_child(
			m->out, parent, d->name, d->name_len, i, e);
	r = make_inode(m, parent, d, v, &i, e);
	if (r == 0)
		r = copy_contents(m, v, i, e);
	if (r == 0 && v->nlink > 1 && seen_add(&m->seen, v->nid, i) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	if (r == 0 && ld_tree_xattr(i, LD_XATTR_LINK))
		r = broken(e, "a hard link nobody looked for");
	return r;
}

static int apply(struct merge *m, const struct ld_index_dirent *d,
	const struct ld_inode_view *v, struct err *e)
{
	struct ld_inode *parent = m->stack[m->depth - 1].out;
	struct ld_dirent *lower;

	if (S_ISDIR(v->attr.mode))
		return apply_dir(m, parent, d, v, e);
	if (!is_whiteout(v))
		return apply_other(m, parent, d, v, e);
	lower = ld_tree_child(m->out, parent, d->name, d->name_len);
	if (lower)
		ld_tree_remove(m->out, lower);
	return 0;
}

/* ---- hard links into lower layers ---- */

static int find_lower(struct merge *m, const struct ld_index_dirent *d,
	const struct ld_inode_view *v, struct err *e)
{
	struct ld_inode *i;
	size_t pos = 0;
	int r;

	while ((r = ld_index_next_xattr(m->x, v, &pos, &m->xattr)) == 1)
		if (strcmp(m->xattr.name, LD_XATTR_LINK) == 0)
			break;
	if (r < 0)
		return broken(e, "extended attributes cannot be read");
	if (r == 0 || seen_find(&m->seen, v->nid))
		return 0;
	i = ld_tree_find(
		m->out, (const char *)m->xattr.value, m->xattr.value_len);
	if (!i || S_ISDIR(i->attr.mode))
		return err_set(e, -EPROTO,
			"the hard link '%.*s' leads to '%.*s', which %s",
			(int)d->name_len, d->name,
			(int)min_u64(m->xattr.value_len, 200),
			(const char *)m->xattr.value,
			i ? "is a directory"
			  : "is neither in its layer nor below");
	if (seen_add(&m->seen, v->nid, i) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	/* Not to be used again when its name goes; the writer counts anew. */
	i->nlink++;
	return 0;
}

/*
 * Before the layer changes anything: what its open hard links lead to in the
 * tree below is put among the inodes already met.
 */
static int find_links(struct merge *m, const struct ld_index *x, struct err *e)
{
	struct ld_inode_view v;
	struct ld_index_dirent d;
	int r;

	r = start(m, x, &v, e);
	if (r == 0)
		r = push(m, &v, NULL, e);
	while (r == 0 && (r = next(m, &d, &v, e)) == 1) {
		r = 0;
		if (S_ISDIR(v.attr.mode))
			r = push(m, &v, NULL, e);
		else if (S_ISREG(v.attr.mode))
			r = find_lower(m, &d, &v, e);
	}
	return r;
}

/* ---- one layer ---- */

static int apply_root(
	struct merge *m, const struct ld_inode_view *v, struct err *e)
{
	struct ld_inode *root = ld_tree_root(m->out), *i;
	bool opaque = false;
	int r = 0;

	r = is_opaque(m, v, &opaque, e);
	if (opaque)
		ld_tree_clear(m->out, root);
	if (r == 0 && (!ld_index_is_implied(v) || root->implied)) {
		r = ld_tree_add(m->out, "", 0, &v->attr, &i, e);
		if (r == 0)
			r = copy_xattrs(m, v, root, e);
		root->implied = ld_index_is_implied(v);
	}
	if (r == 0 && seen_add(&m->seen, v->nid, root) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	return r == 0 ? push(m, v, root, e) : r;
}

static int find_blob(struct ld_tree *t, const struct ld_blob_ref *b,
	uint32_t *ret, struct err *e)
{
	char text[DIGEST_MAX_TEXT];
	struct ld_blob_ref *have;
	uint32_t k;
	int r;

	for (k = 0; k < ld_tree_blob_count(t); k++) {
		have = ld_tree_blob(t, k);
		if (!digest_is_equal(&have->digest, &b->digest))
			continue;
		if (have->device_size != b->device_size)
			return err_set(e, -EPROTO,
				"two layers do not agree on the size of blob "
				"'%s'",
				digest_text(&b->digest, text));
		*ret = k;
		return 0;
	}
	r = ld_tree_add_blob(t, b, ret);
	return r < 0 ? err_set(e, r, "no room for more than %u blobs",
			       LD_MAX_BLOBS)
	             : 0;
}

static int map_slots(struct merge *m, const struct ld_index *x, struct err *e)
{
	struct ld_blob_ref b;
	uint32_t k;
	int r;

	mem_free(m->slots);
	m->slots = mem_calloc(x->slot_count, sizeof(*m->slots));
	if (!m->slots)
		return err_set(e, -ENOMEM, "out of memory");
	for (k = 0; k < x->slot_count; k++) {
		if (ld_index_slot(x, k, &b) < 0)
			return broken(e, "a blob's digest cannot be read");
		m->slots[k] = UINT32_MAX;
		if (b.device_size == 0)
			continue;
		r = find_blob(m->out, &b, &m->slots[k], e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_layer(struct merge *m, const struct ld_index *x, struct err *e)
{
	struct ld_inode_view v;
	struct ld_index_dirent d;
	int r;

	mem_free(m->seen.items);
	m->seen = (struct seen){.multiplier = m->out->seed[0] | 1};
	r = map_slots(m, x, e);
	if (r == 0 && x->has_links)
		r = find_links(m, x, e);
	if (r == 0)
		r = start(m, x, &v, e);
	if (r == 0)
		r = apply_root(m, &v, e);
	while (r == 0 && (r = next(m, &d, &v, e)) == 1)
		r = apply(m, &d, &v, e);
	return r;
}

static void fini(struct merge *m)
{
	mem_free(m->seen.items);
	mem_free(m->stack);
	mem_free(m->slots);
}

int ld_merge(const struct ld_index *const *layers, size_t count,
	struct ld_tree *out, struct err *e)
{
	struct merge m = {.out = out};
	size_t k;
	int r = 0;

	for (k = 0; r == 0 && k < count; k++) {
		r = apply_layer(&m, layers[k], e);
		if (r < 0)
			(void)err_wrap(e, "layer %zu", k + 1);
		/* hundreds of layers need not be in memory at once */
		ld_index_let_go(layers[k]);
	}
	fini(&m);
	return r;
}
