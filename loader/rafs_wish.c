/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a RAFS image wants to be prefetched: its table names files and
 * directories, here they become places on the devices.
 */
#include <errno.h>
#include <sys/stat.h>

#include "blobcache/record.h"
#include "loader/rafs_int.h"
#include "runtime/base/mem.h"

/* Directories still to be looked at. */
struct stack {
	struct ld_inode **dirs; /* owned */
	size_t count, cap;
};

/* inode->user of who was here: a table may name everything many times. */
static const char been_here;

static int add_file(struct ld_rafs *r, const struct ld_inode *i)
{
	struct ld_extent *last;
	uint32_t k;
	int err;

	for (k = 0; k < i->extent_count; k++) {
		const struct ld_extent *x = &i->extents[k];

		last = r->wish_count ? &r->wish[r->wish_count - 1] : NULL;
		if (last && last->slot == x->slot &&
			last->dev_off + last->len == x->dev_off) {
			last->len += x->len;
			continue;
		}
		err = mem_grow((void **)&r->wish, &r->wish_cap,
			r->wish_count + 1, BC_RECORD_MAX_ENTRIES,
			sizeof(*r->wish));
		if (err < 0)
			return err;
		r->wish[r->wish_count++] = *x;
	}
	return 0;
}

static int add_one(struct ld_rafs *r, struct stack *s, struct ld_inode *i)
{
	int err;

	if (i->user == &been_here)
		return 0;
	i->user = (void *)(uintptr_t)&been_here;
	if (S_ISREG(i->attr.mode))
		return add_file(r, i);
	if (!S_ISDIR(i->attr.mode))
		return 0;
	err = mem_grow((void **)&s->dirs, &s->cap, s->count + 1, LD_MAX_ENTRIES,
		sizeof(struct ld_inode *));
	if (err == 0)
		s->dirs[s->count++] = i;
	return err;
}

int rafs_wish_add(struct ld_rafs *r, struct ld_inode *i)
{
	struct stack s = {0};
	struct ld_dirent *d;
	int err;

	err = add_one(r, &s, i);
	while (err == 0 && s.count > 0) {
		d = s.dirs[--s.count]->children;
		for (; err == 0 && d; d = d->next)
			if (!d->removed)
				err = add_one(r, &s, d->inode);
	}
	mem_free(s.dirs);
	return err == -E2BIG ? 0 : err;
}
