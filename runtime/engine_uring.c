/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine on io_uring: one ring per worker, made and used on its thread
 * only. The worker sleeps in the ring, in which a read of its doorbell is
 * armed.
 *
 * A try is one entry with the operation's address; it comes back as exactly one
 * completion. A cancellation is an entry of its own whose completion says
 * nothing that we need: what counts is how the operation itself comes back.
 * What the kernel's io_uring cannot do goes to the file pool.
 *
 * Failure modes: no room for an entry (the kernel has no memory, or completions
 * must be taken first): the try waits in the worker. An enter that fails for
 * another reason is logged and tried again; nothing is given up.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/engine.h"
#include "runtime/io_int.h"
#include "runtime/tsan.h"
#include "runtime/uring_int.h"
#include "runtime/worker_int.h"

#define LOG_TOPIC "runtime"

/* user_data of what is no operation; operations are aligned. */
enum { DATA_BELL = 1, DATA_CANCEL = 2 };

struct rt_engine {
	struct uring_ring u;
	uint64_t bell; /* what the doorbell's read fills */
	bool bell_armed;
	unsigned cancels; /* under way */
	uint64_t complained_ms;
};

static int uring_create(struct rt_worker *w, struct err *e)
{
	struct rt_engine *g = mem_zalloc(sizeof(*g));
	int r;

	if (!g)
		return err_set(e, -ENOMEM, "no memory for the uring engine");
	r = uring_open(&g->u, w->depth, e);
	if (r) {
		mem_free(g);
		return r;
	}
	w->depth = g->u.depth;
	w->engine = g;
	return 0;
}

static void uring_destroy(struct rt_worker *w)
{
	uring_close(&w->engine->u);
	mem_free(w->engine);
	w->engine = NULL;
}

/* ---- entries ---- */

/* Trouble that passes is none; the rest must not become a busy loop. */
static void uring_check(struct rt_engine *g, int r)
{
	const struct timespec nap = {.tv_nsec = 1000000};

	if (r >= 0 || r == -EINTR || r == -ETIME || r == -EAGAIN || r == -EBUSY)
		return;
	if (log_ratelimit(&g->complained_ms, 10000))
		log_error("the ring cannot be entered (errno %d), trying again",
			-r);
	(void)nanosleep(&nap, NULL);
}

/* A free entry; NULL: the kernel takes none now. */
static struct io_uring_sqe *uring_entry(struct rt_engine *g)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&g->u.ring);

	if (sqe)
		return sqe;
	uring_check(g, io_uring_submit(&g->u.ring));
	return io_uring_get_sqe(&g->u.ring);
}

static void uring_arm_bell(struct rt_worker *w)
{
	struct rt_engine *g = w->engine;
	struct io_uring_sqe *sqe;

	if (g->bell_armed)
		return;
	sqe = uring_entry(g);
	if (!sqe)
		return; /* not deaf for long: see uring_wait */
	io_uring_prep_read(sqe, w->doorbell, &g->bell, sizeof(g->bell), 0);
	io_uring_sqe_set_data64(sqe, DATA_BELL);
	g->bell_armed = true;
}

static unsigned uring_opcode(struct rt_io *io)
{
	unsigned n;

	switch ((enum rt_io_kind)io->kind) {
	case IO_OPEN:
		return IORING_OP_OPENAT;
	case IO_CLOSE:
		return IORING_OP_CLOSE;
	case IO_READ:
		(void)rt_io_iov(io, &n);
		return n == 1 ? IORING_OP_READ : IORING_OP_READV;
	case IO_WRITE:
		(void)rt_io_iov(io, &n);
		return n == 1 ? IORING_OP_WRITE : IORING_OP_WRITEV;
	case IO_FSYNC:
	case IO_FDATASYNC:
		return IORING_OP_FSYNC;
	case IO_FALLOCATE:
		return IORING_OP_FALLOCATE;
	case IO_TRUNCATE:
		return URING_OP_FTRUNCATE;
	case IO_STATX:
		return IORING_OP_STATX;
	case IO_POLL:
		return IORING_OP_POLL_ADD;
	case IO_CMD:
		break;
	}
	return IORING_OP_URING_CMD;
}

static void uring_fill_rw(
	struct io_uring_sqe *sqe, struct rt_io *io, unsigned op)
{
	unsigned n;
	const struct iovec *iov = rt_io_iov(io, &n);

	if (n == 1)
		io_uring_prep_rw((int)op, sqe, io->fd, iov->iov_base,
			(unsigned)iov->iov_len, io->u.rw.off);
	else
		io_uring_prep_rw((int)op, sqe, io->fd, iov, n, io->u.rw.off);
}

static void uring_fill_poll(struct io_uring_sqe *sqe, struct rt_io *io)
{
	uint32_t events = io->u.poll.events;

	if (io->u.poll.exclusive)
		events |= EPOLLEXCLUSIVE;
	io_uring_prep_poll_add(sqe, io->fd, events);
}

static void uring_fill_cmd(struct io_uring_sqe *sqe, struct rt_io *io)
{
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, io->fd, io->u.cmd.addr,
		io->u.cmd.len, 0);
	sqe->cmd_op = io->u.cmd.cmd_op;
	memcpy(sqe->cmd, io->u.cmd.payload, sizeof(io->u.cmd.payload));
}

static void uring_fill(struct io_uring_sqe *sqe, struct rt_io *io, unsigned op)
{
	switch ((enum rt_io_kind)io->kind) {
	case IO_OPEN:
		io_uring_prep_openat(sqe, io->fd, io->u.path.name,
			io->u.path.flags, io->u.path.mode);
		break;
	case IO_CLOSE:
		io_uring_prep_close(sqe, io->fd);
		break;
	case IO_READ:
	case IO_WRITE:
		uring_fill_rw(sqe, io, op);
		break;
	case IO_FSYNC:
		io_uring_prep_fsync(sqe, io->fd, 0);
		break;
	case IO_FDATASYNC:
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
		break;
	case IO_FALLOCATE:
		io_uring_prep_fallocate(sqe, io->fd, io->u.range.mode,
			(off_t)io->u.range.off, (off_t)io->u.range.len);
		break;
	case IO_TRUNCATE:
		io_uring_prep_rw(
			(int)op, sqe, io->fd, NULL, 0, io->u.range.len);
		break;
	case IO_STATX:
		io_uring_prep_statx(sqe, io->fd, io->u.path.name,
			io->u.path.flags, io->u.path.mask, io->u.path.stx);
		break;
	case IO_POLL:
		uring_fill_poll(sqe, io);
		break;
	case IO_CMD:
		uring_fill_cmd(sqe, io);
		break;
	}
}

static bool uring_submit(struct rt_worker *w, struct rt_io *io)
{
	struct rt_engine *g = w->engine;
	unsigned op = uring_opcode(io);
	struct io_uring_sqe *sqe;

	if (!uring_can(&g->u, op)) {
		if (io->kind == IO_CMD)
			rt_io_landed(w, io, -EOPNOTSUPP);
		else
			rt_io_punt(w, io);
		return true;
	}
	sqe = uring_entry(g);
	if (!sqe)
		return false;
	uring_fill(sqe, io, op);
	if (io->marks & IO_AGAIN)
		sqe->flags |= IOSQE_ASYNC;
	if (io->marks & IO_AGAIN || w->rt->uring_punts >> op & 1)
		rt_count(&w->counters.io_punted, 1);
	io_uring_sqe_set_data(sqe, io);
	tsan_give(io);
	return true;
}

static bool uring_cancel(struct rt_worker *w, struct rt_io *io)
{
	struct rt_engine *g = w->engine;
	struct io_uring_sqe *sqe;

	if (g->cancels >= w->depth)
		return false;
	sqe = uring_entry(g);
	if (!sqe)
		return false;
	io_uring_prep_cancel(sqe, io, 0);
	io_uring_sqe_set_data64(sqe, DATA_CANCEL);
	g->cancels++;
	return true;
}

/* ---- completions ---- */

/*
 * A ring also ends a poll for EPOLLRDHUP when nobody asked for it; that is no
 * news, so the poll has to be tried again, after a moment.
 */
static int64_t uring_poll_result(const struct rt_io *io, int64_t res)
{
	if (res < 0)
		return res;
	res &= io->u.poll.events | EPOLLERR | EPOLLHUP;
	return res ? res : -EAGAIN;
}

static void uring_landed(struct rt_worker *w, struct io_uring_cqe *cqe)
{
	uint64_t data = io_uring_cqe_get_data64(cqe);
	struct rt_io *io;

	if (data == DATA_BELL) {
		w->engine->bell_armed = false;
		rt_count(&w->counters.wakeups, 1);
	} else if (data == DATA_CANCEL) {
		w->engine->cancels--;
	} else {
		io = io_uring_cqe_get_data(cqe);
		tsan_take(io);
		rt_io_landed(w, io,
			io->kind == IO_POLL ? uring_poll_result(io, cqe->res)
					    : cqe->res);
	}
}

static void uring_reap(struct rt_worker *w)
{
	struct io_uring *ring = &w->engine->u.ring;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(ring, head, cqe)
	{
		uring_landed(w, cqe);
		n++;
	}
	io_uring_cq_advance(ring, n);
}

static bool uring_has_news(struct io_uring *ring)
{
	return io_uring_sq_ready(ring) > 0 ||
	       (__atomic_load_n(ring->sq.kflags, __ATOMIC_RELAXED) &
		       (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

static void uring_wait(struct rt_worker *w, uint64_t timeout_ns)
{
	struct io_uring *ring = &w->engine->u.ring;
	struct __kernel_timespec ts;
	struct io_uring_cqe *cqe;

	if (timeout_ns == 0) {
		if (uring_has_news(ring))
			uring_check(w->engine,
				io_uring_submit_and_get_events(ring));
		uring_reap(w);
		return;
	}
	uring_arm_bell(w);
	if (!w->engine->bell_armed) /* look again soon */
		timeout_ns = min_u64(timeout_ns, 1000000);
	timeout_ns = min_u64(timeout_ns, 3600ull * 1000000000u);
	ts.tv_sec = (long long)(timeout_ns / 1000000000u);
	ts.tv_nsec = (long long)(timeout_ns % 1000000000u);
	uring_check(w->engine,
		io_uring_submit_and_wait_timeout(ring, &cqe, 1, &ts, NULL));
	uring_reap(w);
}

const struct rt_engine_ops rt_engine_uring = {
	.create = uring_create,
	.destroy = uring_destroy,
	.submit = uring_submit,
	.cancel = uring_cancel,
	.wait = uring_wait,
};
