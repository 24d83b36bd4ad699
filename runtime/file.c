/* SPDX-License-Identifier: Apache-2.0 */
/* File operations: arguments into an operation; see file.h, io.c. */
#include "runtime/file.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "runtime/io_int.h"
#include "runtime/worker_int.h"

void rt_file_init(struct rt_file *f, int fd)
{
	char byte;
	struct iovec one = {.iov_base = &byte, .iov_len = 1};
	ssize_t n = preadv2(fd, &one, 1, 0, RWF_NOWAIT);

	f->fd = fd;
	f->nowait = n >= 0 || errno == EAGAIN;
}

ssize_t rt_file_try_read(
	const struct rt_file *f, void *buf, size_t len, uint64_t off)
{
	struct iovec one = {.iov_base = buf, .iov_len = len};
	struct rt_worker *w;
	ssize_t n;

	if (!f->nowait)
		return -EAGAIN;
	n = preadv2(f->fd, &one, 1, (off_t)off, RWF_NOWAIT);
	if (n < 0)
		return errno == EINTR || errno == EOPNOTSUPP ? -EAGAIN : -errno;
	w = rt_worker_self();
	if (w)
		rt_count(&w->counters.io_inline, 1);
	return n;
}

static void file_begin(struct rt_worker *w, struct rt_io *io,
	enum rt_io_kind kind, int fd, rt_op_cb *done, int refused)
{
	io->op.done = done;
	io->kind = (uint8_t)kind;
	io->fd = fd;
	rt_io_begin(w, io, refused);
}

void rt_file_open(struct rt_worker *w, struct rt_io *io, int dirfd,
	const char *path, int flags, mode_t mode, rt_op_cb *done)
{
	io->u.path.name = path;
	io->u.path.flags = flags | O_CLOEXEC;
	io->u.path.mode = mode;
	file_begin(w, io, IO_OPEN, dirfd, done, 0);
}

void rt_file_close(
	struct rt_worker *w, struct rt_io *io, int fd, rt_op_cb *done)
{
	file_begin(w, io, IO_CLOSE, fd, done, 0);
}

/*
 * Positions beyond off_t are refused here: to a ring, -1 would mean the file's
 * own position.
 */
static void file_rw(struct rt_worker *w, struct rt_io *io, enum rt_io_kind kind,
	int fd, const struct iovec *iov, unsigned iov_count, uint64_t off,
	rt_op_cb *done)
{
	io->u.rw.iov = iov;
	io->u.rw.iov_count = iov_count;
	io->u.rw.skip = 0;
	io->u.rw.limit = 0;
	io->u.rw.off = off;
	io->u.rw.vbuf = NULL;
	file_begin(w, io, kind, fd, done, off > INT64_MAX ? -EINVAL : 0);
}

static void file_rw_one(struct rt_worker *w, struct rt_io *io,
	enum rt_io_kind kind, int fd, struct iovec one, uint64_t off,
	rt_op_cb *done)
{
	io->u.rw.one = one;
	file_rw(w, io, kind, fd, &io->u.rw.one, 1, off, done);
}

void rt_file_read(struct rt_worker *w, struct rt_io *io, int fd, void *buf,
	size_t len, uint64_t off, rt_op_cb *done)
{
	file_rw_one(w, io, IO_READ, fd,
		(struct iovec){.iov_base = buf, .iov_len = len}, off, done);
}

void rt_file_readv(struct rt_worker *w, struct rt_io *io, int fd,
	const struct iovec *iov, unsigned iov_count, uint64_t off,
	rt_op_cb *done)
{
	file_rw(w, io, IO_READ, fd, iov, iov_count, off, done);
}

void rt_file_write(struct rt_worker *w, struct rt_io *io, int fd,
	const void *buf, size_t len, uint64_t off, rt_op_cb *done)
{
	/* a write does not change what its iovec points to */
	file_rw_one(w, io, IO_WRITE, fd,
		(struct iovec){
			.iov_base = (void *)(uintptr_t)buf, .iov_len = len},
		off, done);
}

void rt_file_writev(struct rt_worker *w, struct rt_io *io, int fd,
	const struct iovec *iov, unsigned iov_count, uint64_t off,
	rt_op_cb *done)
{
	file_rw(w, io, IO_WRITE, fd, iov, iov_count, off, done);
}

void rt_file_read_vbuf(struct rt_worker *w, struct rt_io *io, int fd,
	struct rt_vbuf *v, uint64_t off, rt_op_cb *done)
{
	file_rw_one(w, io, IO_READ, fd, rt_vbuf_room(v), off, done);
	io->u.rw.vbuf = v;
}

void rt_file_fsync(
	struct rt_worker *w, struct rt_io *io, int fd, rt_op_cb *done)
{
	file_begin(w, io, IO_FSYNC, fd, done, 0);
}

void rt_file_fdatasync(
	struct rt_worker *w, struct rt_io *io, int fd, rt_op_cb *done)
{
	file_begin(w, io, IO_FDATASYNC, fd, done, 0);
}

void rt_file_fallocate(struct rt_worker *w, struct rt_io *io, int fd, int mode,
	uint64_t off, uint64_t len, rt_op_cb *done)
{
	io->u.range.off = off;
	io->u.range.len = len;
	io->u.range.mode = mode;
	file_begin(w, io, IO_FALLOCATE, fd, done,
		off > INT64_MAX || len > INT64_MAX ? -EINVAL : 0);
}

void rt_file_truncate(struct rt_worker *w, struct rt_io *io, int fd,
	uint64_t len, rt_op_cb *done)
{
	io->u.range.len = len;
	file_begin(w, io, IO_TRUNCATE, fd, done, len > INT64_MAX ? -EINVAL : 0);
}

void rt_file_statx(struct rt_worker *w, struct rt_io *io, int dirfd,
	const char *path, int flags, unsigned mask, struct statx *buf,
	rt_op_cb *done)
{
	io->u.path.name = path;
	io->u.path.flags = flags;
	io->u.path.mask = mask;
	io->u.path.stx = buf;
	file_begin(w, io, IO_STATX, dirfd, done, 0);
}

void rt_poll_start(struct rt_worker *w, struct rt_io *io, int fd,
	uint32_t events, bool exclusive, rt_op_cb *done)
{
	const uint32_t with_exclusive =
		EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP;

	events &= ~(EPOLLEXCLUSIVE | EPOLLONESHOT | EPOLLET | EPOLLWAKEUP);
	io->u.poll.events = events;
	/* what epoll allows together with EPOLLEXCLUSIVE */
	io->u.poll.exclusive = exclusive && !(events & ~with_exclusive);
	io->u.poll.dup_fd = -1;
	file_begin(w, io, IO_POLL, fd, done, 0);
}

void rt_cmd_start(struct rt_worker *w, struct rt_io *io, int fd,
	uint32_t cmd_op, void *addr, uint32_t len, const uint8_t payload[80],
	rt_op_cb *done)
{
	io->u.cmd.cmd_op = cmd_op;
	io->u.cmd.addr = addr;
	io->u.cmd.len = len;
	memcpy(io->u.cmd.payload, payload, sizeof(io->u.cmd.payload));
	file_begin(w, io, IO_CMD, fd, done, 0);
}
