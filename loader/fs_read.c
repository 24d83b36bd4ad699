/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File contents: a READ becomes the extents of its range, holes are zeros, the
 * rest are blob reads, a few of them at a time, straight into the reply.
 *
 *   pump --all served at once--> reply
 *     ^ |
 *     | +--some under way--> wait --the last one is done--> reply
 *     +------one is done------+
 *
 * The first error stops the pump and cancels what is under way; the reply waits
 * until nothing writes into its memory any more.
 */
#include "loader/fs_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/util.h"

/*
 * Opens carry no state. ENOSYS, where the kernel takes it, means that it never
 * asks again, keeps page caches, and sends neither FLUSH nor RELEASE.
 */
static int64_t answer_open(
	struct ld_fs_req *r, uint64_t may_skip, uint32_t open_flags)
{
	struct fw_open_out out = {.open_flags = open_flags};

	if ((r->arg.open.flags & O_ACCMODE) != O_RDONLY ||
		r->arg.open.flags & O_TRUNC)
		return -EROFS;
	if (r->fs->init_flags & may_skip)
		return -ENOSYS;
	memcpy(r->out, &out, sizeof(out));
	return sizeof(out);
}

int64_t ld_fs_open(struct ld_fs_req *r)
{
	return answer_open(
		r, FW_NO_OPEN_SUPPORT, FW_FOPEN_KEEP_CACHE | FW_FOPEN_NOFLUSH);
}

int64_t ld_fs_opendir(struct ld_fs_req *r)
{
	return answer_open(r, FW_NO_OPENDIR_SUPPORT,
		FW_FOPEN_KEEP_CACHE | FW_FOPEN_CACHE_DIR);
}

static void cancel_parts(struct ld_fs_req *r)
{
	unsigned i;

	for (i = 0; i < LD_FS_READ_PARTS; i++)
		if (r->read.parts[i].busy)
			bc_blob_cancel(&r->read.parts[i].io);
}

static void fail_read(struct ld_fs_req *r, int error)
{
	if (r->read.error)
		return;
	r->read.error = error;
	cancel_parts(r);
}

static struct bc_blob *blob_of(const struct ld_fs *fs, uint32_t slot)
{
	return slot < fs->image->blob_count ? fs->image->blobs[slot].blob
	                                    : NULL;
}

static void pump(struct ld_fs_req *r);

/*
 * One reason less to keep r. Whoever runs code that may end r counts as a
 * reason himself, so that r ends once and nobody looks at it afterwards.
 */
static void put_read(struct ld_fs_req *r)
{
	struct ld_fs_read *rd = &r->read;

	if (--rd->in_flight)
		return;
	if (r->cancel_error)
		ld_fs_finish(r, r->cancel_error, 0);
	else if (rd->error)
		ld_fs_finish(r, ld_fs_errno(rd->error), 0);
	else
		ld_fs_finish(r, 0, rd->end - rd->off);
}

static void cancel_read(struct ld_fs_req *r)
{
	r->read.in_flight++;
	cancel_parts(r);
	put_read(r);
}

static void part_done(struct bc_read *io)
{
	struct ld_fs_part *p = container_of(io, struct ld_fs_part, io);
	struct ld_fs_req *r = p->req;

	rt_worker_assert(r->worker);
	p->busy = false;
	if (io->result < 0)
		fail_read(r, io->result);
	pump(r);
	put_read(r);
}

/* Start what lies at pos. 0 (served), -EINPROGRESS or -errno. */
static int start_part(struct ld_fs_req *r, struct ld_fs_part *p)
{
	struct ld_fs_read *rd = &r->read;
	uint8_t *to = r->out + (rd->pos - rd->off);
	struct ld_extent x;
	int rc;

	if (r->fs->serves_blobs) {
		ld_blobfs_extent(&rd->view, rd->pos, &x);
	} else {
		rc = ld_index_extent(
			&r->fs->image->index, &rd->view, rd->pos, &x);
		if (rc < 0)
			return rc;
	}
	x.len = min_u64(x.len, rd->end - rd->pos);
	if (x.len == 0)
		return -EPROTO;
	rd->pos += x.len;
	if (x.slot == UINT32_MAX) {
		memset(to, 0, x.len);
		return 0;
	}
	p->req = r;
	p->io = (struct bc_read){
		.blob = blob_of(r->fs, x.slot),
		.off = x.dev_off,
		.len = x.len,
		.buf = to,
		.cls = RT_DEMAND,
		.done = part_done,
	};
	return p->io.blob ? bc_blob_read(&p->io) : -EIO;
}

static struct ld_fs_part *free_part(struct ld_fs_read *rd)
{
	unsigned i;

	for (i = 0; i < LD_FS_READ_PARTS; i++)
		if (!rd->parts[i].busy)
			return &rd->parts[i];
	return NULL;
}

static void pump(struct ld_fs_req *r)
{
	struct ld_fs_read *rd = &r->read;
	struct ld_fs_part *p;
	int rc;

	while (!rd->error && !r->cancel_error && rd->pos < rd->end) {
		p = free_part(rd);
		if (!p)
			break;
		rc = start_part(r, p);
		if (rc == -EINPROGRESS) {
			p->busy = true;
			rd->in_flight++;
		} else if (rc < 0) {
			fail_read(r, rc);
		}
	}
}

int64_t ld_fs_read(struct ld_fs_req *r)
{
	struct ld_fs_read *rd = &r->read;
	uint64_t off = r->arg.read.offset;
	uint64_t len = min_u64(r->arg.read.size, r->out_cap);
	unsigned i;
	int rc;

	rc = r->fs->serves_blobs ? ld_blobfs_inode(r->fs, r->nodeid, &rd->view)
	                         : ld_fs_inode(r->fs, r->nodeid, &rd->view);
	if (rc < 0)
		return rc;
	if (!S_ISREG(rd->view.attr.mode))
		return S_ISDIR(rd->view.attr.mode) ? -EISDIR : -EINVAL;
	if (off >= rd->view.size)
		return 0;
	rd->off = off;
	rd->pos = off;
	rd->end = off + min_u64(len, rd->view.size - off);
	rd->in_flight = 1; /* this function */
	rd->error = 0;
	for (i = 0; i < LD_FS_READ_PARTS; i++)
		rd->parts[i].busy = false;
	pump(r);
	r->on_cancel = cancel_read;
	if (--rd->in_flight)
		return LD_FS_LATER;
	return rd->error ? ld_fs_errno(rd->error)
	                 : (int64_t)(rd->end - rd->off);
}
