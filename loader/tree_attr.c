/* SPDX-License-Identifier: Apache-2.0 */
/* What the inodes of a tree hold: link targets, xattrs, extents; see tree.h. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/tree_int.h"
#include "runtime/base/util.h"

#define XATTR_MAX_NAME 255 /* as the kernel */

int ld_tree_set_symlink(struct ld_tree *t, struct ld_inode *i,
	const char *target, size_t len, struct err *e)
{
	if (!S_ISLNK(i->attr.mode))
		return err_set(e, -EPROTO, "a link target without a link");
	if (len == 0 || len > LD_MAX_SYMLINK)
		return err_set(e, -EPROTO, "a link target of %zu bytes", len);
	if (memchr(target, '\0', len))
		return err_set(e, -EPROTO, "a link target with a NUL in it");
	i->target = ld_tree_copy_text(t, target, len);
	if (!i->target)
		return err_set(e, -ENOMEM, "out of memory");
	i->size = len;
	return 0;
}

/* ---- xattrs ---- */

static bool has_prefix(const char *name, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	return len >= n && memcmp(name, prefix, n) == 0;
}

static bool is_name(const char *name, size_t len, const char *want)
{
	return len == strlen(want) && memcmp(name, want, len) == 0;
}

bool ld_xattr_name_is_known(const char *name, size_t len)
{
	if (len > XATTR_MAX_NAME || memchr(name, '\0', len))
		return false;
	if (has_prefix(name, len, "user."))
		return len > strlen("user.");
	if (has_prefix(name, len, "trusted."))
		return len > strlen("trusted.");
	if (has_prefix(name, len, "security."))
		return len > strlen("security.");
	return is_name(name, len, "system.posix_acl_access") ||
	       is_name(name, len, "system.posix_acl_default");
}

/* Where name is or would be inserted: at or behind the newest one, if sorted
 * input allows. */
static struct ld_xattr **xattr_place(
	struct ld_inode *i, const char *name, size_t len)
{
	struct ld_xattr **at = &i->xattrs;

	if (i->xattr_last && strncmp(i->xattr_last->name, name, len) < 0)
		at = &i->xattr_last->next;
	while (*at && strncmp((*at)->name, name, len) < 0)
		at = &(*at)->next;
	return at;
}

static bool xattr_is(const struct ld_xattr *x, const char *name, size_t len)
{
	return strncmp(x->name, name, len) == 0 && x->name[len] == '\0';
}

int ld_tree_set_xattr(struct ld_tree *t, struct ld_inode *i, const char *name,
	size_t name_len, const void *value, size_t value_len, struct err *e)
{
	struct ld_xattr **at, *x;
	uint8_t *copy;

	if (!ld_xattr_name_is_known(name, name_len))
		return err_set(e, -EPROTO,
			"there is no extended attribute named '%.*s'",
			(int)min_u64(name_len, 300), name);
	if (value_len > LD_MAX_XATTR_VAL)
		return err_set(e, -E2BIG,
			"the value of the extended attribute '%.*s' has %zu "
			"bytes, %u is the limit",
			(int)name_len, name, value_len, LD_MAX_XATTR_VAL);
	if (has_prefix(name, name_len, "trusted.overlay.") ||
		has_prefix(name, name_len, "user.overlay."))
		return 0;
	at = xattr_place(i, name, name_len);
	x = *at && xattr_is(*at, name, name_len) ? *at : NULL;
	if (!x && i->xattr_count >= LD_MAX_XATTRS)
		return err_set(e, -E2BIG,
			"more than %u extended attributes on one file",
			LD_MAX_XATTRS);
	copy = ld_tree_alloc(t, value_len, 1);
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	if (value_len)
		memcpy(copy, value, value_len);
	if (!x) {
		x = ld_tree_alloc(t, sizeof(*x), 8);
		if (!x)
			return err_set(e, -ENOMEM, "out of memory");
		*x = (struct ld_xattr){
			.name = ld_tree_copy_text(t, name, name_len),
			.next = *at,
		};
		if (!x->name)
			return err_set(e, -ENOMEM, "out of memory");
		*at = x;
		i->xattr_count++;
	}
	x->value = copy;
	x->value_len = (uint32_t)value_len;
	i->xattr_last = x;
	return 0;
}

const struct ld_xattr *ld_tree_xattr(const struct ld_inode *i, const char *name)
{
	const struct ld_xattr *x;

	for (x = i->xattrs; x; x = x->next)
		if (strcmp(x->name, name) == 0)
			return x;
	return NULL;
}

/* ---- extents ---- */

static int grow_extents(struct ld_tree *t, struct ld_inode *i)
{
	uint32_t cap = i->extent_cap ? i->extent_cap * 2 : 1;
	struct ld_extent *grown;

	grown = ld_tree_alloc(t, cap * sizeof(*grown), 8);
	if (!grown)
		return -ENOMEM;
	if (i->extent_count)
		memcpy(grown, i->extents, i->extent_count * sizeof(*grown));
	i->extents = grown;
	i->extent_cap = cap;
	return 0;
}

int ld_tree_add_extent(struct ld_tree *t, struct ld_inode *i, uint64_t file_off,
	uint64_t len, uint32_t slot, uint64_t dev_off, struct err *e)
{
	struct ld_extent *last = NULL;
	uint64_t end;

	if (len == 0)
		return 0;
	if (!S_ISREG(i->attr.mode))
		return err_set(e, -EPROTO, "data in something that is no file");
	if (slot >= t->blob_count)
		return err_set(e, -EPROTO, "data in blob %u of %zu", slot,
			t->blob_count);
	if (add_overflows(file_off, len, &end) || end > INT64_MAX ||
		add_overflows(dev_off, len, &end) || end > INT64_MAX)
		return err_set(e, -EPROTO, "data beyond the end of all files");
	if (i->extent_count)
		last = &i->extents[i->extent_count - 1];
	if (last && file_off < last->file_off + last->len)
		return err_set(e, -EPROTO,
			"overlapping pieces of a file at offset %llu",
			(unsigned long long)file_off);
	if (last && last->slot == slot &&
		file_off == last->file_off + last->len &&
		dev_off == last->dev_off + last->len) {
		last->len += len;
		return 0;
	}
	if (i->extent_count >= LD_MAX_ENTRIES)
		return err_set(e, -E2BIG, "a file in more than %u pieces",
			LD_MAX_ENTRIES);
	if (i->extent_count == i->extent_cap && grow_extents(t, i) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	i->extents[i->extent_count++] = (struct ld_extent){
		.file_off = file_off,
		.len = len,
		.dev_off = dev_off,
		.slot = slot,
	};
	return 0;
}

/* ---- marks of a layer ---- */

bool ld_inode_is_whiteout(const struct ld_inode *i)
{
	return S_ISCHR(i->attr.mode) && i->attr.rdev_major == 0 &&
	       i->attr.rdev_minor == 0;
}
