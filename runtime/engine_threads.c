/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine that needs nothing but threads: files go to the runtime's file
 * pool and come home as tasks, polls to an epoll instance per worker, in which
 * the worker also waits for its doorbell.
 *
 * A poll is registered while it flies: its event, or its cancellation, takes it
 * out of the epoll set before it lands, so no later event can find it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/engine.h"
#include "runtime/io_int.h"
#include "runtime/worker_int.h"

enum { EVENTS_PER_WAIT = 64 };

struct rt_engine {
	int epoll;
};

static int threads_create(struct rt_worker *w, struct err *e)
{
	struct rt_engine *g = mem_zalloc(sizeof(*g));
	struct epoll_event bell = {.events = EPOLLIN};

	if (!g)
		return err_set(e, -ENOMEM, "no memory for the threads engine");
	g->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (g->epoll < 0) {
		mem_free(g);
		return err_sys(e, -errno, "cannot make an epoll instance");
	}
	if (epoll_ctl(g->epoll, EPOLL_CTL_ADD, w->doorbell, &bell) < 0) {
		int r = err_sys(e, -errno, "cannot watch the doorbell");

		(void)close(g->epoll); /* nothing is lost with it */
		mem_free(g);
		return r;
	}
	w->engine = g;
	return 0;
}

static void threads_destroy(struct rt_worker *w)
{
	(void)close(w->engine->epoll); /* nothing is lost with it */
	mem_free(w->engine);
	w->engine = NULL;
}

static int threads_poll_fd(const struct rt_io *io)
{
	return io->u.poll.dup_fd >= 0 ? io->u.poll.dup_fd : io->fd;
}

/* Out of the epoll set; -errno only says that the file had gone by itself. */
static void threads_poll_forget(struct rt_worker *w, struct rt_io *io)
{
	(void)epoll_ctl(
		w->engine->epoll, EPOLL_CTL_DEL, threads_poll_fd(io), NULL);
	if (io->u.poll.dup_fd >= 0)
		(void)close(io->u.poll.dup_fd); /* only our second name */
	io->u.poll.dup_fd = -1;
}

static int threads_poll_add(struct rt_worker *w, struct rt_io *io)
{
	struct epoll_event ev = {.events = io->u.poll.events, .data.ptr = io};

	if (io->u.poll.exclusive)
		ev.events |= EPOLLEXCLUSIVE;
	return epoll_ctl(w->engine->epoll, EPOLL_CTL_ADD, threads_poll_fd(io),
		       &ev) < 0
	               ? -errno
	               : 0;
}

static void threads_poll(struct rt_worker *w, struct rt_io *io)
{
	const uint32_t always = EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM;
	int r = threads_poll_add(w, io);

	if (r == -EEXIST) {
		/* epoll takes a descriptor once; under another name, again */
		io->u.poll.dup_fd = fcntl(io->fd, F_DUPFD_CLOEXEC, 0);
		r = io->u.poll.dup_fd < 0 ? -errno : threads_poll_add(w, io);
		if (r && io->u.poll.dup_fd >= 0)
			threads_poll_forget(w, io);
	}
	/* A file that cannot make anybody wait is always ready. */
	if (r == -EPERM)
		rt_io_landed(w, io, io->u.poll.events & always);
	else if (r)
		rt_io_landed(w, io, r);
}

static bool threads_submit(struct rt_worker *w, struct rt_io *io)
{
	if (io->kind == IO_POLL)
		threads_poll(w, io);
	else if (io->kind == IO_CMD)
		rt_io_landed(w, io, -EOPNOTSUPP);
	else
		rt_io_punt(w, io);
	return true;
}

static bool threads_cancel(struct rt_worker *w, struct rt_io *io)
{
	threads_poll_forget(w, io);
	rt_io_landed(w, io, -ECANCELED);
	return true;
}

static int threads_timeout_ms(uint64_t ns)
{
	if (ns == UINT64_MAX)
		return -1;
	return (int)min_u64(div_round_up(ns, 1000000), 3600 * 1000);
}

static void threads_wait(struct rt_worker *w, uint64_t timeout_ns)
{
	struct epoll_event ev[EVENTS_PER_WAIT];
	struct rt_io *io;
	uint32_t got;
	int n;

	/* Awake, the doorbell says nothing new. */
	if (timeout_ns == 0 && w->flying[1] == 0)
		return;
	n = epoll_wait(w->engine->epoll, ev, EVENTS_PER_WAIT,
		threads_timeout_ms(timeout_ns));
	for (int i = 0; i < n; i++) {
		io = ev[i].data.ptr;
		if (!io) {
			rt_worker_hush(w);
			continue;
		}
		got = ev[i].events & (io->u.poll.events | EPOLLERR | EPOLLHUP);
		threads_poll_forget(w, io);
		rt_io_landed(w, io, got);
	}
}

const struct rt_engine_ops rt_engine_threads = {
	.create = threads_create,
	.destroy = threads_destroy,
	.submit = threads_submit,
	.cancel = threads_cancel,
	.wait = threads_wait,
};
