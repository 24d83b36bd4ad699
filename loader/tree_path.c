/* SPDX-License-Identifier: Apache-2.0 */
/* Adding to a tree by path, and whiteouts as tar spells them; see tree.h. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/tree_int.h"

/* ---- paths ---- */

struct path {
	const char *p;
	size_t left;
};

/* Without the "/" or "./" in front and the "/" at the end; "." is empty. */
static struct path path_of(const char *s, size_t len)
{
	if (len > 0 && s[0] == '/') {
		s++;
		len--;
	} else if (len > 1 && s[0] == '.' && s[1] == '/') {
		s += 2;
		len -= 2;
	} else if (len == 1 && s[0] == '.') {
		len = 0;
	}
	if (len > 0 && s[len - 1] == '/')
		len--;
	return (struct path){.p = s, .left = len};
}

/* The next name; true while there are more behind it. */
static bool path_next(struct path *p, const char **name, size_t *len)
{
	const char *slash = memchr(p->p, '/', p->left);

	*name = p->p;
	*len = slash ? (size_t)(slash - p->p) : p->left;
	if (!slash)
		return false;
	p->left -= *len + 1;
	p->p = slash + 1;
	return true;
}

/*
 * Make all directories on the way to path, which is not the root. Gives the
 * last one and the name in it, unchecked.
 */
static int walk(struct ld_tree *t, struct path p, struct ld_inode **ret_dir,
	const char **ret_name, size_t *ret_len, struct err *e)
{
	struct ld_inode *dir = t->root;
	int r;

	if (p.left > LD_MAX_PATH)
		return err_set(e, -E2BIG, "a path of %zu bytes", p.left);
	while (path_next(&p, ret_name, ret_len)) {
		r = ld_tree_enter(t, &dir, *ret_name, *ret_len, e);
		if (r < 0)
			return r;
	}
	*ret_dir = dir;
	return 0;
}

int ld_tree_add(struct ld_tree *t, const char *path, size_t len,
	const struct ld_attr *a, struct ld_inode **ret, struct err *e)
{
	struct path p = path_of(path, len);
	struct ld_inode *dir;
	const char *name;
	size_t name_len;
	int r;

	if (p.left == 0) {
		*ret = t->root;
		return ld_tree_describe(t->root, a, e);
	}
	r = walk(t, p, &dir, &name, &name_len, e);
	if (r < 0)
		return r;
	return ld_tree_add_child(t, dir, name, name_len, a, ret, e);
}

int ld_tree_link(struct ld_tree *t, const char *path, size_t len,
	struct ld_inode *target, struct err *e)
{
	struct path p = path_of(path, len);
	struct ld_inode *dir;
	const char *name;
	size_t name_len;
	int r;

	if (p.left == 0)
		return err_set(e, -EPROTO, "the root is a hard link");
	r = walk(t, p, &dir, &name, &name_len, e);
	if (r < 0)
		return r;
	return ld_tree_link_child(t, dir, name, name_len, target, e);
}

struct ld_inode *ld_tree_find(struct ld_tree *t, const char *path, size_t len)
{
	struct path p = path_of(path, len);
	struct ld_inode *at = t->root;
	struct ld_dirent *d;
	const char *name;
	size_t name_len;
	bool more = p.left > 0;

	while (more) {
		more = path_next(&p, &name, &name_len);
		d = ld_tree_child(t, at, name, name_len);
		if (!d)
			return NULL;
		at = d->inode;
	}
	return at;
}

/* ---- whiteouts ---- */

#define WHITEOUT ".wh."
#define WHITEOUT_LEN 4

static bool starts_with(const char *s, size_t len, const char *with)
{
	size_t n = strlen(with);

	return len >= n && memcmp(s, with, n) == 0;
}

/* Hide what name means in the layers below, and nothing of this layer. */
static int white_out(struct ld_tree *t, struct ld_inode *dir, const char *name,
	size_t len, struct err *e)
{
	const struct ld_attr a = {.mode = S_IFCHR};
	struct ld_dirent *d;
	struct ld_inode *i;

	d = ld_tree_child(t, dir, name, len);
	if (!d)
		return ld_tree_add_child(t, dir, name, len, &a, &i, e);
	if (S_ISDIR(d->inode->attr.mode)) {
		d->inode->opaque = true;
		d->inode->implied = false;
	}
	return 0;
}

/* Is there a name of aufs' own bookkeeping anywhere in the path? */
static bool is_aufs_private(struct path p)
{
	const char *name;
	size_t len;
	bool more = true;

	while (more) {
		more = path_next(&p, &name, &len);
		if (starts_with(name, len, ".wh..wh."))
			return true;
	}
	return false;
}

int ld_tree_add_whiteout(struct ld_tree *t, const char *path, size_t len,
	bool *ret_was_one, struct err *e)
{
	struct path p = path_of(path, len), rest = p;
	struct ld_inode *dir;
	const char *name;
	size_t name_len;
	bool is_opaque;
	int r;

	while (path_next(&rest, &name, &name_len))
		continue;
	is_opaque = name_len == 12 && memcmp(name, ".wh..wh..opq", 12) == 0;
	*ret_was_one = true;
	if (!is_opaque && is_aufs_private(p))
		return 0;
	*ret_was_one = starts_with(name, name_len, WHITEOUT);
	if (!*ret_was_one)
		return 0;
	if (name_len == WHITEOUT_LEN)
		return err_set(e, -EPROTO, "a whiteout of nothing");
	r = walk(t, p, &dir, &name, &name_len, e);
	if (r < 0)
		return r;
	if (is_opaque) {
		dir->opaque = true;
		return 0;
	}
	return white_out(
		t, dir, name + WHITEOUT_LEN, name_len - WHITEOUT_LEN, e);
}
