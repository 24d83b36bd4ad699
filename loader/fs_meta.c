/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that the index alone answers: names, attributes, directories,
 * links, extended attributes. Pure memory, so always answered at once.
 *
 * Where the bytes of a request and the room of its reply are the same memory, a
 * name is gone as soon as the reply is begun: each handler is done with the
 * name before it writes.
 */
#include "loader/fs_int.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/util.h"

#define BLOCK_SIZE 4096

static const struct ld_index *index_of(const struct ld_fs_req *r)
{
	return &r->fs->image->index;
}

/* The kernel's 32-bit form: minor bits 0-7 and 20-31, major bits 8-19. */
static uint32_t rdev_of(const struct ld_attr *a)
{
	return (a->rdev_minor & 0xff) | (a->rdev_major & 0xfff) << 8 |
	       (a->rdev_minor & 0xfff00) << 12;
}

static void fill_attr(const struct ld_fs *fs, const struct ld_inode_view *v,
	struct fw_attr *a)
{
	*a = (struct fw_attr){
		.ino = ld_fs_node_of(fs, v->nid),
		.size = v->size,
		.blocks = div_round_up(v->size, 512),
		.atime = (uint64_t)v->attr.mtime,
		.mtime = (uint64_t)v->attr.mtime,
		.ctime = (uint64_t)v->attr.mtime,
		.atimensec = v->attr.mtime_ns,
		.mtimensec = v->attr.mtime_ns,
		.ctimensec = v->attr.mtime_ns,
		.mode = v->attr.mode,
		.nlink = v->nlink,
		.uid = v->attr.uid,
		.gid = v->attr.gid,
		.blksize = BLOCK_SIZE,
	};
	if (S_ISBLK(v->attr.mode) || S_ISCHR(v->attr.mode))
		a->rdev = rdev_of(&v->attr);
}

/* v NULL: there is no such name, and that never changes. */
static void fill_entry(const struct ld_fs *fs, const struct ld_inode_view *v,
	struct fw_entry_out *e)
{
	*e = (struct fw_entry_out){
		.entry_valid = LD_FS_VALID_S,
		.attr_valid = LD_FS_VALID_S,
	};
	if (!v)
		return;
	e->nodeid = ld_fs_node_of(fs, v->nid);
	fill_attr(fs, v, &e->attr);
}

/* "." comes for open_by_handle_at(2) and NFS, of any kind of inode. */
static int lookup_nid(const struct ld_fs_req *r, uint64_t *ret_nid)
{
	struct ld_inode_view dir;
	int rc = ld_fs_inode(r->fs, r->nodeid, &dir);

	if (rc < 0)
		return rc;
	if (r->name_len == 1 && r->name[0] == '.') {
		*ret_nid = dir.nid;
		return 0;
	}
	return ld_index_lookup(
		index_of(r), &dir, r->name, r->name_len, ret_nid);
}

int64_t ld_fs_lookup(struct ld_fs_req *r)
{
	struct ld_inode_view v;
	struct fw_entry_out e;
	uint64_t nid;
	int rc = lookup_nid(r, &nid);

	if (rc < 0 && rc != -ENOENT)
		return ld_fs_errno(rc);
	if (rc == 0 && ld_index_inode(index_of(r), nid, &v) < 0)
		return -EIO;
	fill_entry(r->fs, rc == 0 ? &v : NULL, &e);
	memcpy(r->out, &e, sizeof(e));
	return sizeof(e);
}

int64_t ld_fs_getattr(struct ld_fs_req *r)
{
	struct fw_attr_out out = {.attr_valid = LD_FS_VALID_S};
	struct ld_inode_view v;
	int rc = ld_fs_inode(r->fs, r->nodeid, &v);

	if (rc < 0)
		return rc;
	fill_attr(r->fs, &v, &out.attr);
	memcpy(r->out, &out, sizeof(out));
	return sizeof(out);
}

int64_t ld_fs_readlink(struct ld_fs_req *r)
{
	struct ld_inode_view v;
	const char *target;
	size_t len;
	int rc = ld_fs_inode(r->fs, r->nodeid, &v);

	if (rc == 0)
		rc = ld_index_symlink(index_of(r), &v, &target, &len);
	if (rc < 0)
		return ld_fs_errno(rc);
	if (len > r->out_cap)
		return -EIO;
	memcpy(r->out, target, len);
	return (int64_t)len;
}

/* ---- directories ---- */

static bool is_dots(const struct ld_index_dirent *d)
{
	return d->name[0] == '.' &&
	       (d->name_len == 1 || (d->name_len == 2 && d->name[1] == '.'));
}

/*
 * One entry at out. A broken inode gets no attributes, so that asking for it by
 * name shows the error while its neighbours can be seen. "." and ".." carry no
 * node: the kernel would have to forget it again.
 */
static void put_dirent(const struct ld_fs_req *r,
	const struct ld_index_dirent *d, uint8_t *out, size_t size)
{
	bool plus = r->opcode == FW_READDIRPLUS;
	size_t head = plus ? sizeof(struct fw_entry_out) : 0;
	struct fw_dirent de = {
		.ino = ld_fs_node_of(r->fs, d->nid),
		.off = d->cookie,
		.namelen = d->name_len,
		.type = d->type,
	};
	struct fw_entry_out e = {0};
	struct ld_inode_view v;

	if (plus) {
		if (!is_dots(d) && ld_index_inode(index_of(r), d->nid, &v) == 0)
			fill_entry(r->fs, &v, &e);
		memcpy(out, &e, sizeof(e));
	}
	memcpy(out + head, &de, sizeof(de));
	head += sizeof(de);
	memcpy(out + head, d->name, d->name_len);
	head += d->name_len;
	memset(out + head, 0, size - head);
}

int64_t ld_fs_readdir(struct ld_fs_req *r)
{
	size_t room = min_u64(r->arg.read.size, r->out_cap), used = 0, size;
	size_t head = r->opcode == FW_READDIRPLUS ? sizeof(struct fw_direntplus)
	                                          : sizeof(struct fw_dirent);
	uint64_t cookie = r->arg.read.offset;
	struct ld_index_dirent d;
	struct ld_inode_view dir;
	int rc = ld_fs_inode(r->fs, r->nodeid, &dir);

	if (rc < 0)
		return rc;
	for (;;) {
		rc = ld_index_next(index_of(r), &dir, cookie, &d);
		if (rc <= 0)
			break;
		size = round_up(head + d.name_len, 8);
		if (size > room - used)
			break;
		put_dirent(r, &d, r->out + used, size);
		used += size;
		cookie = d.cookie;
	}
	/* What was read is shown first; the next call meets the error again. */
	if (rc < 0 && used == 0)
		return ld_fs_errno(rc);
	return (int64_t)used;
}

/* ---- extended attributes ---- */

/* The reply to a question for the size, or the check that the answer fits. */
static int64_t xattr_reply(
	struct ld_fs_req *r, uint32_t asked, const void *value, size_t len)
{
	struct fw_getxattr_out size = {.size = (uint32_t)len};

	if (asked == 0) {
		memcpy(r->out, &size, sizeof(size));
		return sizeof(size);
	}
	if (len > asked || len > r->out_cap)
		return -ERANGE;
	if (value && len)
		memcpy(r->out, value, len);
	return (int64_t)len;
}

/* Whose attributes are asked for. -ENOSYS: nothing here has any. */
static int xattr_inode(struct ld_fs_req *r, struct ld_inode_view *ret)
{
	if (!index_of(r)->has_xattrs)
		return -ENOSYS;
	return ld_fs_inode(r->fs, r->nodeid, ret);
}

int64_t ld_fs_getxattr(struct ld_fs_req *r)
{
	struct ld_index_xattr xa;
	struct ld_inode_view v;
	size_t pos = 0;
	int rc;

	rc = xattr_inode(r, &v);
	if (rc < 0)
		return rc;
	while ((rc = ld_index_next_xattr(index_of(r), &v, &pos, &xa)) > 0)
		if (xa.name_len == r->name_len &&
			memcmp(xa.name, r->name, xa.name_len) == 0)
			return xattr_reply(r, r->arg.getxattr.size, xa.value,
				xa.value_len);
	return rc < 0 ? ld_fs_errno(rc) : -ENODATA;
}

int64_t ld_fs_listxattr(struct ld_fs_req *r)
{
	uint32_t asked = r->arg.getxattr.size;
	size_t pos = 0, len = 0;
	struct ld_index_xattr xa;
	struct ld_inode_view v;
	int rc;

	rc = xattr_inode(r, &v);
	if (rc < 0)
		return rc;
	while ((rc = ld_index_next_xattr(index_of(r), &v, &pos, &xa)) > 0) {
		if (asked && xa.name_len + 1 > min_u64(asked, r->out_cap) - len)
			return -ERANGE;
		if (asked) {
			memcpy(r->out + len, xa.name, xa.name_len);
			r->out[len + xa.name_len] = 0;
		}
		len += xa.name_len + 1;
	}
	if (rc < 0)
		return ld_fs_errno(rc);
	return xattr_reply(r, asked, NULL, len);
}

/* ---- the rest ---- */

int64_t ld_fs_statfs(struct ld_fs_req *r)
{
	struct fw_statfs_out out = {
		.blocks = div_round_up(r->fs->image->bytes_total, BLOCK_SIZE),
		.files = r->fs->inode_count,
		.bsize = BLOCK_SIZE,
		.frsize = BLOCK_SIZE,
		.namelen = LD_MAX_NAME,
	};

	memcpy(r->out, &out, sizeof(out));
	return sizeof(out);
}

/* Only asked without default_permissions; then the kernel checked nothing. */
int64_t ld_fs_access(struct ld_fs_req *r)
{
	return r->arg.access.mask & W_OK ? -EROFS : 0;
}
