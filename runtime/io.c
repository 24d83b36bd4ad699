/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one operation (states: io_int.h): credits, tries, short counts,
 * EINTR and EAGAIN, cancellation and deadlines, the same for every engine.
 *
 * Who owns what: from start to done the operation is in exactly one place: a
 * waiting list, the engine, a pause timer, or the list of the ended. Cancelling
 * takes it out of the first and third at once; from the engine it comes back
 * when the engine lets go of its buffers, never before.
 */
#include "runtime/io_int.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "runtime/base/util.h"
#include "runtime/engine.h"
#include "runtime/worker_int.h"

enum {
	PAUSE_MAX_SHIFT = 6, /* EAGAIN: tries again after 1, 2 ... 64 ms */
};

/* The kernel moves at most this much in one call. */
static const size_t io_max_len = 0x7ffff000;

static struct list *io_queue(struct rt_worker *w, const struct rt_io *io)
{
	return rt_io_is_watch(io) ? &w->waiting_watches : &w->waiting[io->cls];
}

static void io_to_state(struct rt_io *io, enum rt_io_state s)
{
	io->op.state = (uint8_t)s;
}

static void io_wait_for_credit(struct rt_worker *w, struct rt_io *io)
{
	io_to_state(io, IO_WAITING);
	list_push_back(io_queue(w, io), &io->op.node);
}

/* In no list, not flying: give it its result. */
static void io_end(struct rt_worker *w, struct rt_io *io, int64_t result)
{
	rt_timer_stop(w, &io->deadline);
	rt_timer_stop(w, &io->again);
	io_to_state(io, IO_ENDED);
	io->op.result = result;
	list_push_back(&w->ended, &io->op.node);
}

/* The result of an operation that was asked to end before it came to one. */
static int64_t io_early_result(const struct rt_io *io)
{
	return io->marks & IO_LATE ? -ETIMEDOUT : -ECANCELED;
}

static void io_stop_again(struct rt_timer *t);

static void io_ask_engine_to_stop(struct rt_worker *w, struct rt_io *io)
{
	if (io->in_pool) {
		if (rt_io_unpunt(w, io))
			rt_io_landed(w, io, -ECANCELED);
		return;
	}
	/* set before: the engine may land it at once */
	io->marks |= IO_STOP_ASKED;
	if (!w->ops->cancel(w, io)) {
		io->marks &= (uint8_t)~IO_STOP_ASKED;
		io->again.fire = io_stop_again;
		rt_timer_start(w, &io->again, 1);
	}
}

static void io_ask_to_stop(struct rt_worker *w, struct rt_io *io)
{
	switch ((enum rt_io_state)io->op.state) {
	case IO_WAITING:
		list_remove(&io->op.node);
		io_end(w, io, io_early_result(io));
		break;
	case IO_PAUSED:
		io_end(w, io, io_early_result(io));
		break;
	case IO_FLYING:
		if (io->marks & IO_STOP_ASKED)
			break;
		io_ask_engine_to_stop(w, io);
		break;
	case IO_IDLE:
	case IO_ENDED:
		break;
	}
}

static void io_stop_again(struct rt_timer *t)
{
	struct rt_io *io = container_of(t, struct rt_io, again);

	io_ask_to_stop(io->op.worker, io);
}

static void io_deadline(struct rt_timer *t)
{
	struct rt_io *io = container_of(t, struct rt_io, deadline);

	io->marks |= IO_LATE;
	io_ask_to_stop(io->op.worker, io);
}

static void io_try_again(struct rt_timer *t)
{
	struct rt_io *io = container_of(t, struct rt_io, again);

	if (rt_io_is_watch(io) && io->op.worker->stage >= RT_CANCELLING)
		io_end(io->op.worker, io, -ECANCELED);
	else
		io_wait_for_credit(io->op.worker, io);
}

void rt_io_cancel(struct rt_worker *w, struct rt_io *io)
{
	rt_worker_assert(w);
	if (io->op.state == IO_IDLE || io->op.state == IO_ENDED)
		return;
	assert(io->op.worker == w);
	io->marks |= IO_CANCEL_ASKED;
	io_ask_to_stop(w, io);
}

void rt_io_begin(struct rt_worker *w, struct rt_io *io, int refused)
{
	rt_worker_assert(w);
	assert(io->op.state == IO_IDLE);
	io->op.worker = w;
	io->op.result = 0;
	io->marks = 0;
	io->tries = 0;
	io->in_pool = false;
	io->moved = 0;
	io->deadline = (struct rt_timer){.fire = io_deadline};
	io->again = (struct rt_timer){0};
	if (rt_io_is_watch(io)) {
		w->watches++;
		w->with_ring += (io->flags & RT_IO_WITH_RING) != 0;
	} else {
		w->live++;
	}
	if (rt_io_is_watch(io) && w->stage >= RT_CANCELLING)
		refused = -ECANCELED;
	if (refused) {
		io_end(w, io, refused);
		return;
	}
	if (io->deadline_ms)
		rt_timer_start(w, &io->deadline, io->deadline_ms);
	io_wait_for_credit(w, io);
}

/* ---- buffers of a read or write ---- */

const struct iovec *rt_io_iov(struct rt_io *io, unsigned *ret_count)
{
	struct iovec *part = &io->u.rw.part;

	*ret_count = io->u.rw.iov_count < IOV_MAX ? io->u.rw.iov_count
	                                          : (unsigned)IOV_MAX;
	if (*ret_count == 0)
		return io->u.rw.iov;
	if (!io->u.rw.skip && !io->u.rw.limit &&
		(*ret_count > 1 || io->u.rw.iov->iov_len <= io_max_len))
		return io->u.rw.iov;
	part->iov_base = (uint8_t *)io->u.rw.iov->iov_base + io->u.rw.skip;
	part->iov_len = io->u.rw.iov->iov_len - io->u.rw.skip;
	part->iov_len = (size_t)min_u64(part->iov_len, io_max_len);
	if (io->u.rw.limit)
		part->iov_len = (size_t)min_u64(part->iov_len, io->u.rw.limit);
	*ret_count = 1;
	return part;
}

/* n bytes were moved. True if there are more to move. */
static bool io_advance(struct rt_io *io, size_t n)
{
	size_t room;

	io->moved += (int64_t)n;
	io->u.rw.off += n;
	while (io->u.rw.iov_count > 0) {
		room = io->u.rw.iov->iov_len - io->u.rw.skip;
		if (n < room) {
			io->u.rw.skip += n;
			return true;
		}
		n -= room;
		io->u.rw.skip = 0;
		io->u.rw.iov++;
		io->u.rw.iov_count--;
	}
	return false;
}

/* ---- landing ---- */

static bool io_is_rw(const struct rt_io *io)
{
	return io->kind == IO_READ || io->kind == IO_WRITE;
}

/* Shall this try be followed by another one? */
static bool io_goes_on(struct rt_io *io, int64_t res)
{
	if (!io_is_rw(io) || res <= 0)
		return false;
	return io_advance(io, (size_t)res) && (io->flags & RT_IO_ALL);
}

/* EAGAIN: nothing could be moved now, and we have nothing to wait on. */
static void io_pause(struct rt_worker *w, struct rt_io *io)
{
	unsigned shift =
		io->tries < PAUSE_MAX_SHIFT ? io->tries : PAUSE_MAX_SHIFT;

	io->marks |= IO_AGAIN;
	if (io->tries++ == 0) { /* once more, by force, before waiting */
		io_wait_for_credit(w, io);
		return;
	}
	io->tries = (uint8_t)(shift + 1);
	io_to_state(io, IO_PAUSED);
	io->again.fire = io_try_again;
	rt_timer_start(w, &io->again, 1u << shift);
}

/* A descriptor that comes after the deadline has no owner. */
static void io_drop_late_fd(const struct rt_io *io, int64_t res)
{
	if (io->kind == IO_OPEN && res >= 0)
		(void)close((int)res); /* nothing was written to it */
}

static void io_settle(struct rt_worker *w, struct rt_io *io, int64_t res)
{
	bool asked = io->marks & (IO_CANCEL_ASKED | IO_LATE);
	bool more = io_goes_on(io, res);

	if (io->marks & IO_LATE) {
		io_drop_late_fd(io, res);
		io_end(w, io, -ETIMEDOUT);
	} else if (more && asked) {
		io_end(w, io, -ECANCELED);
	} else if (more) {
		io->tries = 0;
		io->marks &= (uint8_t)~IO_AGAIN;
		io_wait_for_credit(w, io);
	} else if ((res == -EINTR || res == -EAGAIN) && asked) {
		io_end(w, io, -ECANCELED);
	} else if (res == -EINTR) {
		io_wait_for_credit(w, io);
	} else if (res == -EAGAIN && (io_is_rw(io) || io->kind == IO_POLL)) {
		io_pause(w, io);
	} else if (io_is_rw(io) && io->moved > 0 && res != -ECANCELED) {
		io_end(w, io, io->moved);
	} else {
		io_end(w, io, res);
	}
}

void rt_io_landed(struct rt_worker *w, struct rt_io *io, int64_t res)
{
	assert(io->op.state == IO_FLYING);
	if (rt_io_is_watch(io))
		list_remove(&io->op.node);
	w->flying[rt_io_is_watch(io)]--;
	io->marks &= (uint8_t)~IO_STOP_ASKED;
	io->in_pool = false;
	rt_timer_stop(w, &io->again);
	rt_count(&w->counters.io_completed, 1);
	io_settle(w, io, res);
}

/* ---- from the loop ---- */

static bool io_send(struct rt_worker *w, struct rt_io *io)
{
	bool watch = rt_io_is_watch(io);

	/* before submit, which may land it at once */
	io_to_state(io, IO_FLYING);
	w->flying[watch]++;
	if (watch)
		list_push_back(&w->flying_watches, &io->op.node);
	if (w->ops->submit(w, io)) {
		rt_count(&w->counters.io_submitted, 1);
		return true;
	}
	if (watch)
		list_remove(&io->op.node);
	w->flying[watch]--;
	io_to_state(io, IO_WAITING);
	list_push_front(io_queue(w, io), &io->op.node);
	return false;
}

static struct list *io_next_queue(struct rt_worker *w)
{
	if (w->flying[1] < w->depth && !list_is_empty(&w->waiting_watches))
		return &w->waiting_watches;
	if (w->flying[0] >= w->depth)
		return NULL;
	if (!list_is_empty(&w->waiting[RT_DEMAND]))
		return &w->waiting[RT_DEMAND];
	if (!list_is_empty(&w->waiting[RT_PREFETCH]))
		return &w->waiting[RT_PREFETCH];
	return NULL;
}

void rt_io_flush(struct rt_worker *w)
{
	struct list *q;

	while ((q = io_next_queue(w))) {
		if (!io_send(w, container_of(list_pop_front(q), struct rt_io,
					op.node)))
			break;
	}
	atomic_store_explicit(&w->counters.in_flight,
		w->flying[0] + w->flying[1], memory_order_relaxed);
}

bool rt_io_has_work(struct rt_worker *w)
{
	return !list_is_empty(&w->ended) || io_next_queue(w) != NULL;
}

void rt_io_run_ended(struct rt_worker *w)
{
	struct list now;
	struct list *node;
	struct rt_io *io;

	list_init(&now);
	list_splice(&now, &w->ended);
	while ((node = list_pop_front(&now))) {
		io = container_of(node, struct rt_io, op.node);
		if (rt_io_is_watch(io)) {
			w->watches--;
			w->with_ring -= (io->flags & RT_IO_WITH_RING) != 0;
		} else {
			w->live--;
		}
		if (io_is_rw(io) && io->u.rw.vbuf && io->moved > 0)
			rt_vbuf_advance(io->u.rw.vbuf, (size_t)io->moved);
		io_to_state(io, IO_IDLE);
		io->op.done(&io->op);
	}
}

void rt_io_cancel_watches(struct rt_worker *w)
{
	struct list now;
	struct list *node;
	struct rt_io *io;

	list_init(&now);
	list_splice(&now, &w->waiting_watches);
	list_splice(&now, &w->flying_watches);
	while ((node = list_pop_front(&now))) {
		io = container_of(node, struct rt_io, op.node);
		if (io->op.state == IO_FLYING)
			list_push_back(&w->flying_watches, &io->op.node);
		if (io->op.state != IO_FLYING || !(io->flags & RT_IO_WITH_RING))
			rt_io_cancel(w, io);
	}
}

void rt_io_end_with_ring(struct rt_worker *w)
{
	while (!list_is_empty(&w->flying_watches))
		rt_io_landed(w,
			container_of(
				w->flying_watches.next, struct rt_io, op.node),
			-ECANCELED);
	while (!list_is_empty(&w->ended))
		rt_io_run_ended(w);
}
