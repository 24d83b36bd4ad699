/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel's EROFS reads its devices from: one flat directory, a file
 * per blob, named by its slot and as long as its device. It is never attached
 * to a directory; the mounter opens each file once, then nothing but READs
 * comes. They take the same way as those of the tree (fs_read.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/fs_int.h"
#include "runtime/base/util.h"

#define MAX_NAME 10 /* digits of a slot */

/* Node ids: the root is 1, the blob in slot n is n + 2. */
int ld_blobfs_inode(
	const struct ld_fs *fs, uint64_t nodeid, struct ld_inode_view *ret)
{
	struct ld_inode_view v = {.nlink = 1};
	uint64_t slot = nodeid - 2;

	if (nodeid == FW_ROOT_ID) {
		v.nid = UINT64_MAX;
		v.attr.mode = S_IFDIR | 0500;
	} else if (nodeid != 0 && slot < fs->image->blob_count) {
		v.nid = slot;
		v.attr.mode = S_IFREG | 0400;
		v.size = bc_blob_map(fs->image->blobs[slot].blob)->device_size;
	} else {
		return -ESTALE;
	}
	*ret = v;
	return 0;
}

void ld_blobfs_extent(
	const struct ld_inode_view *v, uint64_t off, struct ld_extent *ret)
{
	*ret = (struct ld_extent){
		.file_off = off,
		.len = v->size - off,
		.dev_off = off,
		.slot = (uint32_t)v->nid,
	};
}

static void fill_attr(
	uint64_t nodeid, const struct ld_inode_view *v, struct fw_attr *a)
{
	*a = (struct fw_attr){
		.ino = nodeid,
		.size = v->size,
		.blocks = div_round_up(v->size, 512),
		.mode = v->attr.mode,
		.nlink = v->nlink,
		.blksize = 4096,
	};
}

/* A slot in decimal digits; UINT64_MAX if name is none. */
static uint64_t slot_of(const char *name, size_t len)
{
	uint64_t slot = 0;
	size_t i;

	if (len > MAX_NAME || (len > 1 && name[0] == '0'))
		return UINT64_MAX;
	for (i = 0; i < len; i++) {
		if (name[i] < '0' || name[i] > '9')
			return UINT64_MAX;
		slot = slot * 10 + (uint64_t)(name[i] - '0');
	}
	return slot;
}

static int64_t lookup(struct ld_fs_req *r)
{
	uint64_t slot = slot_of(r->name, r->name_len);
	struct fw_entry_out e = {
		.entry_valid = LD_FS_VALID_S,
		.attr_valid = LD_FS_VALID_S,
	};
	struct ld_inode_view v;

	if (r->nodeid != FW_ROOT_ID)
		return -ENOTDIR;
	if (slot >= r->fs->image->blob_count ||
		ld_blobfs_inode(r->fs, slot + 2, &v) < 0)
		return -ENOENT;
	e.nodeid = slot + 2;
	fill_attr(e.nodeid, &v, &e.attr);
	memcpy(r->out, &e, sizeof(e));
	return sizeof(e);
}

static int64_t getattr(struct ld_fs_req *r)
{
	struct fw_attr_out out = {.attr_valid = LD_FS_VALID_S};
	struct ld_inode_view v;
	int rc = ld_blobfs_inode(r->fs, r->nodeid, &v);

	if (rc < 0)
		return rc;
	fill_attr(r->nodeid, &v, &out.attr);
	memcpy(r->out, &out, sizeof(out));
	return sizeof(out);
}

/* Nobody asks for what a tree has; the kernel does not ask again. */
static int64_t has_none(struct ld_fs_req *r)
{
	return -ENOSYS;
}

ld_fs_handler *ld_blobfs_handler(uint32_t opcode, ld_fs_handler *tree)
{
	switch (opcode) {
	case FW_LOOKUP:
		return lookup;
	case FW_GETATTR:
		return getattr;
	case FW_READLINK:
	case FW_READDIR:
	case FW_READDIRPLUS:
	case FW_GETXATTR:
	case FW_LISTXATTR:
	case FW_STATFS:
	case FW_ACCESS:
		return has_none;
	default:
		return tree;
	}
}
