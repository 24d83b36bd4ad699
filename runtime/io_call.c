/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations as plain system calls, and their way through the file pool: all of
 * the threads engine's files, and what a ring of an older kernel cannot do.
 */
#include <errno.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/base/util.h"
#include "runtime/io_int.h"
#include "runtime/pool.h"
#include "runtime/worker_int.h"

/* As a ring does: what has no positions (a pipe) is read where it stands. */
static int64_t call_rw(struct rt_io *io)
{
	unsigned n;
	const struct iovec *iov = rt_io_iov(io, &n);
	off_t off = (off_t)io->u.rw.off;
	ssize_t res;

	if (io->kind == IO_READ) {
		res = preadv(io->fd, iov, (int)n, off);
		if (res < 0 && errno == ESPIPE)
			res = readv(io->fd, iov, (int)n);
		return res;
	}
	res = pwritev(io->fd, iov, (int)n, off);
	if (res < 0 && errno == ESPIPE)
		res = writev(io->fd, iov, (int)n);
	return res;
}

static int64_t call_any(struct rt_io *io)
{
	switch ((enum rt_io_kind)io->kind) {
	case IO_OPEN:
		return openat(io->fd, io->u.path.name,
			io->u.path.flags | O_CLOEXEC, io->u.path.mode);
	case IO_CLOSE:
		return close(io->fd);
	case IO_READ:
	case IO_WRITE:
		return call_rw(io);
	case IO_FSYNC:
		return fsync(io->fd);
	case IO_FDATASYNC:
		return fdatasync(io->fd);
	case IO_FALLOCATE:
		return fallocate(io->fd, io->u.range.mode,
			(off_t)io->u.range.off, (off_t)io->u.range.len);
	case IO_TRUNCATE:
		return ftruncate(io->fd, (off_t)io->u.range.len);
	case IO_STATX:
		return statx(io->fd, io->u.path.name, io->u.path.flags,
			io->u.path.mask, io->u.path.stx);
	case IO_POLL:
	case IO_CMD:
		break;
	}
	errno = EOPNOTSUPP;
	return -1;
}

int64_t rt_io_call(struct rt_io *io)
{
	int64_t res = call_any(io);

	if (res >= 0)
		return res;
	/* The descriptor is gone whatever close says; EINTR must not repeat. */
	if (io->kind == IO_CLOSE && errno == EINTR)
		return 0;
	return -errno;
}

static void call_come_home(struct rt_task *t)
{
	struct rt_io *io = container_of(t, struct rt_io, home);

	rt_io_landed(io->op.worker, io, io->res);
}

static void call_in_pool(struct rt_work *k)
{
	struct rt_io *io = container_of(k, struct rt_io, pooled);

	io->res = rt_io_call(io);
	rt_post(io->op.worker, &io->home);
}

void rt_io_punt(struct rt_worker *w, struct rt_io *io)
{
	io->in_pool = true;
	io->home = (struct rt_task){.run = call_come_home};
	io->pooled.run = call_in_pool;
	io->pooled.cls = io->cls;
	rt_count(&w->counters.io_punted, 1);
	rt_pool_submit(w->rt->files, &io->pooled);
}

bool rt_io_unpunt(struct rt_worker *w, struct rt_io *io)
{
	return rt_pool_remove(w->rt->files, &io->pooled);
}
