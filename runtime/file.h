/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File: positioned operations on a descriptor, run by the worker's engine, with
 * the same results, short counts and errors on each engine.
 *
 * Results: reads and writes give the bytes moved, 0 at the end of the file; a
 * short count is what the kernel gave and is not an error (EINTR and EAGAIN are
 * handled inside). With RT_IO_ALL set the operation goes on until everything
 * is moved or the end of the file is met; after partial progress an error is
 * reported by the next operation, never lost with the count.
 */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "runtime/op.h"
#include "runtime/runtime.h"
#include "runtime/vbuf.h"

struct statx;

struct rt_file {
	int fd;      /* owned by whoever called rt_file_init */
	bool nowait; /* RWF_NOWAIT reads work on this file system */
};

/* Wrap fd and find out what it can do (one tiny read). ANY_THREAD. */
void rt_file_init(struct rt_file *f, int fd);

/*
 * The hit path: read now if that needs no waiting. Bytes read (short at the end
 * of the file, or where the page cache ends), -EAGAIN if it would block or the
 * file system cannot tell, else -errno. ANY_THREAD.
 */
ssize_t rt_file_try_read(
	const struct rt_file *f, void *buf, size_t len, uint64_t off);

enum rt_io_flags {
	RT_IO_ALL = 1, /* go on after a short count */
	/*
	 * A command that the kernel cannot cancel: rt_stop does not wait for
	 * it. It ends with -ECANCELED once its ring is gone, when no task or
	 * timer runs on the worker any more.
	 */
	RT_IO_WITH_RING = 2,
};

/*
 * One file operation. Zero it, set what is public, start it; reusable after
 * done. Cancellation: result is -ECANCELED if the engine could stop it, else
 * whatever it came to. A deadline that passes gives -ETIMEDOUT, whatever the
 * operation came to (moved says how much; a descriptor opened too late is
 * closed); its own descriptor and buffer still belong to it until done.
 */
struct rt_io {
	struct rt_op op;
	unsigned flags;       /* enum rt_io_flags */
	enum rt_class cls;    /* order in the file pool */
	uint32_t deadline_ms; /* from start; 0: none */

	/* private to the runtime */
	uint8_t kind, marks;
	uint8_t tries; /* EAGAINs in a row */
	bool in_pool;  /* a pool thread has it, or will */
	unsigned held; /* fault engine: turns until the try is made */
	int fd;
	union {
		struct {
			struct iovec one, part;
			const struct iovec *iov; /* what is left, */
			unsigned iov_count;
			size_t skip;  /* less so much of its first */
			size_t limit; /* fault engine: most for one try */
			uint64_t off;
			struct rt_vbuf *vbuf;
		} rw;
		struct {
			uint64_t off, len;
			int mode;
		} range;
		struct {
			const char *name;
			int flags;
			mode_t mode;
			unsigned mask;
			struct statx *stx;
		} path;
		struct {
			uint32_t events;
			bool exclusive;
			int dup_fd;
		} poll;
		struct {
			uint32_t cmd_op, len;
			void *addr;
			uint8_t payload[80];
		} cmd;
	} u;
	int64_t moved; /* bytes so far */
	int64_t res;   /* of the last try, from a pool thread */
	struct rt_timer deadline, again;
	struct rt_work pooled;
	struct rt_task home;
};

/* All of these: ON_WORKER. buf/iov/path are borrowed until done. */
void rt_file_open(struct rt_worker *w, struct rt_io *io, int dirfd,
	const char *path, int flags, mode_t mode, rt_op_cb *done);
void rt_file_close(
	struct rt_worker *w, struct rt_io *io, int fd, rt_op_cb *done);
void rt_file_read(struct rt_worker *w, struct rt_io *io, int fd, void *buf,
	size_t len, uint64_t off, rt_op_cb *done);
void rt_file_readv(struct rt_worker *w, struct rt_io *io, int fd,
	const struct iovec *iov, unsigned iov_count, uint64_t off,
	rt_op_cb *done);
void rt_file_write(struct rt_worker *w, struct rt_io *io, int fd,
	const void *buf, size_t len, uint64_t off, rt_op_cb *done);
void rt_file_writev(struct rt_worker *w, struct rt_io *io, int fd,
	const struct iovec *iov, unsigned iov_count, uint64_t off,
	rt_op_cb *done);
void rt_file_fsync(
	struct rt_worker *w, struct rt_io *io, int fd, rt_op_cb *done);
void rt_file_fdatasync(
	struct rt_worker *w, struct rt_io *io, int fd, rt_op_cb *done);
/* mode as in fallocate(2): FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ... */
void rt_file_fallocate(struct rt_worker *w, struct rt_io *io, int fd, int mode,
	uint64_t off, uint64_t len, rt_op_cb *done);
void rt_file_truncate(struct rt_worker *w, struct rt_io *io, int fd,
	uint64_t len, rt_op_cb *done);
void rt_file_statx(struct rt_worker *w, struct rt_io *io, int dirfd,
	const char *path, int flags, unsigned mask, struct statx *buf,
	rt_op_cb *done);
/* Read behind v->len, into its room; v->len moves at done. v borrowed. */
void rt_file_read_vbuf(struct rt_worker *w, struct rt_io *io, int fd,
	struct rt_vbuf *v, uint64_t off, rt_op_cb *done);

/* Ask for an early end; done still runs once. Fine after done. ON_WORKER. */
void rt_io_cancel(struct rt_worker *w, struct rt_io *io);

/*
 * Readiness of fd (EPOLL* bits): result is the events that are there. One shot:
 * start again from done. exclusive wakes one of several workers that wait for
 * the same file. fd must be non-blocking. ON_WORKER.
 */
void rt_poll_start(struct rt_worker *w, struct rt_io *io, int fd,
	uint32_t events, bool exclusive, rt_op_cb *done);

/*
 * An io_uring command (IORING_OP_URING_CMD): the entry's cmd_op, addr and len,
 * and the 80 bytes behind its header. What addr points to is borrowed until
 * done. -EOPNOTSUPP on engines without a ring, and from files without commands.
 * ON_WORKER.
 */
void rt_cmd_start(struct rt_worker *w, struct rt_io *io, int fd,
	uint32_t cmd_op, void *addr, uint32_t len, const uint8_t payload[80],
	rt_op_cb *done);
