/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests over /dev/fuse: each worker has a descriptor of its own, reads until
 * there is nothing more, answers from the index and the cache at once, and
 * sleeps in its engine.
 *
 *          +--budget used up: arm again, others get their turn--+
 *          v                                                    |
 *   LISTEN --readable--> TURN --EAGAIN--> LISTEN      TURN --> (budget)
 *                         |  \--no room for a request--> FULL --one ends-->
 * TURN
 *                         \--ENODEV--> ENDED (unmounted)
 *   any --ld_dev_stop--> STOPPING --all ended, poll gone--> STOPPED
 *
 * Memory: at most LD_FS_MAX_WAITING requests per worker are held and their
 * reply buffers have at most DEV_MAX_BYTES of addresses, of which only what
 * replies have filled is memory: many, so that those who wait for a silent
 * source do not keep the others waiting. A READ beyond that waits without a
 * buffer, so that an INTERRUPT still comes through; when even requests run out
 * the kernel queues them. The wake-up that a full worker has swallowed is
 * passed on to the next one.
 *
 * A reply that fails with ENOENT belongs to a request that the kernel has given
 * up; that is no error.
 */
#include "loader/transport_int.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "loader/reply_buf.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "dev"

#define DEV_IDLE_REQS 64
#define DEV_MAX_BYTES (256u << 20)
#define DEV_TURN 64 /* requests in a row before others get their turn */
#define DEV_RETRY_MS 20

struct dev_req {
	struct ld_fs_req fr;
	struct ld_dev *dev;
	unsigned size; /* of fr.out, see reply_buf.h */
	bool parked;   /* waits for a buffer, on dev->parked */
	struct dev_req *next_idle;
};

struct ld_dev {
	struct ld_session *s;
	struct rt_worker *worker;
	int fd;      /* owned */
	uint8_t *in; /* owned; one request */
	struct ld_fs_counters counters;

	struct list busy;   /* requests in work */
	struct list parked; /* the same, waiting for a buffer, oldest first */
	struct dev_req *idle_reqs;
	unsigned req_count, idle_count;
	struct ld_reply_bufs bufs;

	struct rt_io poll;
	struct rt_timer retry;
	bool polling, ended, stopping, stopped;
	bool in_turn; /* whoever ends a request need not go on with others */
	_Atomic bool full;
	struct rt_task start_task, stop_task;
	struct rt_task kick_task;
	bool kick_posted; /* under s->lock */
};

static void dev_turn(struct ld_dev *d);
static void dev_rest(struct ld_dev *d);
static void stop_check(struct ld_dev *d);

/* ---- memory ---- */

static struct dev_req *req_get(struct ld_dev *d)
{
	struct dev_req *q = d->idle_reqs;

	if (q) {
		d->idle_reqs = q->next_idle;
		d->idle_count--;
		return q;
	}
	if (d->req_count == LD_FS_MAX_WAITING)
		return NULL;
	q = mem_zalloc(sizeof(*q));
	if (q)
		d->req_count++;
	return q;
}

static void req_put(struct ld_dev *d, struct dev_req *q)
{
	if (d->idle_count < DEV_IDLE_REQS) {
		q->next_idle = d->idle_reqs;
		d->idle_reqs = q;
		d->idle_count++;
		return;
	}
	d->req_count--;
	mem_free(q);
}

/* ---- replies ---- */

static int dev_write(struct ld_dev *d, uint64_t unique, int error,
	const void *payload, size_t len)
{
	struct fw_out_header h = {
		.len = (uint32_t)(sizeof(h) + len),
		.error = error,
		.unique = unique,
	};
	struct iovec iov[2] = {
		{&h, sizeof(h)},
		{(void *)(uintptr_t)payload, len},
	};

	return writev(d->fd, iov, len ? 2 : 1) < 0 ? -errno : 0;
}

static void dev_reply(struct ld_dev *d, uint64_t unique, int error,
	const void *payload, size_t len)
{
	static uint64_t warned_ms;
	int rc = dev_write(d, unique, error, payload, len);

	if (rc == 0 || rc == -ENOENT || rc == -ENODEV)
		return;
	if (log_ratelimit(&warned_ms, 5000))
		log_warn(
			"cannot answer a request (error %d), it gets EIO", -rc);
	(void)dev_write(d, unique, -EIO, NULL, 0); /* the last thing to try */
}

static void req_reply(struct ld_fs_req *r, int error, size_t len)
{
	struct dev_req *q = container_of(r, struct dev_req, fr);

	dev_reply(q->dev, r->unique, error, r->out, len);
}

static void unpark(struct dev_req *q)
{
	q->parked = false;
	list_remove(&q->fr.node);
	list_push_back(&q->dev->busy, &q->fr.node);
}

static void req_free(struct ld_fs_req *r)
{
	struct dev_req *q = container_of(r, struct dev_req, fr);
	struct ld_dev *d = q->dev;

	list_remove(&r->node);
	if (r->out)
		ld_reply_put(&d->bufs, r->out, q->size);
	r->out = NULL;
	req_put(d, q);
	dev_rest(d);
}

static const struct ld_fs_req_ops req_ops = {req_reply, req_free};

/* ---- one request ---- */

static bool has_room(const struct ld_dev *d, unsigned size)
{
	return d->bufs.used_bytes == 0 ||
	       d->bufs.used_bytes + ld_reply_cap(size) <= DEV_MAX_BYTES;
}

static void cancel_parked(struct ld_fs_req *r)
{
	unpark(container_of(r, struct dev_req, fr));
	ld_fs_finish(r, r->cancel_error, 0);
}

static void park(struct dev_req *q)
{
	q->parked = true;
	list_remove(&q->fr.node);
	list_push_back(&q->dev->parked, &q->fr.node);
	q->fr.on_cancel = cancel_parked;
	ld_fs_hold(&q->fr);
}

/* Give it memory and run it. READs wait if there is none. */
static void run_req(struct dev_req *q)
{
	struct ld_dev *d = q->dev;

	q->size = ld_reply_size(q->fr.out_need);
	if (q->fr.opcode == FW_READ && !has_room(d, q->size)) {
		park(q);
		return;
	}
	q->fr.out = ld_reply_get(&d->bufs, q->size);
	if (!q->fr.out) {
		ld_fs_finish(&q->fr, -ENOMEM, 0);
		return;
	}
	q->fr.out_cap = ld_reply_cap(q->size);
	ld_fs_run(&q->fr);
}

static void run_parked(struct ld_dev *d)
{
	struct dev_req *q;

	while (!list_is_empty(&d->parked) && !d->stopping) {
		q = container_of(d->parked.next, struct dev_req, fr.node);
		if (!has_room(d, q->size))
			return;
		unpark(q);
		run_req(q);
	}
}

static void take_request(struct ld_dev *d, struct dev_req *q, size_t n)
{
	struct fw_in_header h;
	int rc;

	q->dev = d;
	q->fr.fs = &d->s->fs;
	q->fr.ops = &req_ops;
	q->fr.worker = d->worker;
	q->fr.counters = &d->counters;
	q->fr.out = NULL;
	if (n < sizeof(h)) {
		req_put(d, q);
		return;
	}
	memcpy(&h, d->in, sizeof(h));
	if (h.len != n) {
		dev_reply(d, h.unique, -EIO, NULL, 0);
		req_put(d, q);
		return;
	}
	list_push_back(&d->busy, &q->fr.node);
	rc = ld_fs_decode(&q->fr, &h, d->in + sizeof(h), n - sizeof(h));
	if (rc < 0)
		ld_fs_finish(&q->fr, rc, 0);
	else
		run_req(q);
}

/* ---- the loop ---- */

static bool may_take(const struct ld_dev *d)
{
	return d->idle_reqs || d->req_count < LD_FS_MAX_WAITING;
}

/* Unmounted: there will be nothing more. */
static void dev_end(struct ld_dev *d)
{
	uint64_t one = 1;

	d->ended = true;
	/* Cannot fail: the counter is far from full. */
	if (write(d->s->ended_fd, &one, sizeof(one)) < 0)
		log_error("cannot tell that the file system was unmounted");
}

/* Memory was short in the kernel, for one. The request has got its error. */
static void read_failed(struct ld_dev *d, int rc)
{
	static uint64_t warned_ms;

	if (log_ratelimit(&warned_ms, 5000))
		log_warn("cannot read a request (error %d), trying again", -rc);
	rt_timer_start(d->worker, &d->retry, DEV_RETRY_MS);
}

static void on_poll(struct rt_op *op)
{
	struct rt_io *io = container_of(op, struct rt_io, op);
	struct ld_dev *d = container_of(io, struct ld_dev, poll);

	rt_worker_assert(d->worker);
	d->polling = false;
	if (op->result < 0 && !d->stopping) {
		rt_timer_start(d->worker, &d->retry, DEV_RETRY_MS);
		return;
	}
	dev_turn(d);
}

static void on_retry(struct rt_timer *t)
{
	dev_turn(container_of(t, struct ld_dev, retry));
}

static void arm(struct ld_dev *d)
{
	if (d->polling || d->ended || d->stopping)
		return;
	d->polling = true;
	d->poll.deadline_ms = 0;
	rt_poll_start(d->worker, &d->poll, d->fd, EPOLLIN, true, on_poll);
}

static void kicked(struct rt_task *t)
{
	struct ld_dev *d = container_of(t, struct ld_dev, kick_task);
	struct ld_session *s = d->s;

	(void)pthread_mutex_lock(&s->lock);
	d->kick_posted = false;
	(void)pthread_mutex_unlock(&s->lock);
	if (may_take(d))
		dev_turn(d);
	/* Only now may the session go: it waits for this count. */
	ld_session_count(s, &s->kicks, -1);
}

static void kick(struct ld_dev *d)
{
	struct ld_session *s = d->s;

	(void)pthread_mutex_lock(&s->lock);
	if (!d->kick_posted) {
		d->kick_posted = true;
		s->kicks++;
		rt_post(d->worker, &d->kick_task);
	}
	(void)pthread_mutex_unlock(&s->lock);
}

/* We were woken for requests that we cannot take: somebody else shall. */
static void kick_next(struct ld_dev *d)
{
	struct ld_session *s = d->s;
	unsigned me = rt_worker_index(d->worker), i;

	for (i = 1; i < s->dev_count; i++) {
		struct ld_dev *other = s->devs[(me + i) % s->dev_count];

		if (atomic_load_explicit(&other->full, memory_order_relaxed))
			continue;
		kick(other);
		return;
	}
}

/* One request off the device. False: this turn is over. */
static bool dev_step(struct ld_dev *d)
{
	struct dev_req *q = req_get(d);
	ssize_t n;
	int rc;

	if (!q) {
		atomic_store_explicit(&d->full, true, memory_order_relaxed);
		kick_next(d);
		/* Out of memory with nothing in work: nobody would wake us. */
		if (d->req_count == 0)
			rt_timer_start(d->worker, &d->retry, DEV_RETRY_MS);
		return false;
	}
	n = read(d->fd, d->in, FW_MIN_READ_BUFFER);
	if (n >= 0) {
		take_request(d, q, (size_t)n);
		return true;
	}
	rc = -errno;
	req_put(d, q);
	/* ENOENT: the request was given up while we were reading it. */
	if (rc == -EINTR || rc == -ENOENT)
		return true;
	if (rc == -EAGAIN)
		arm(d);
	else if (rc == -ENODEV || rc == -ECONNABORTED)
		dev_end(d);
	else
		read_failed(d, rc);
	return false;
}

/* Something has ended outside a turn: go on with what waits for room. */
static void dev_rest(struct ld_dev *d)
{
	if (d->in_turn)
		return;
	if (atomic_load_explicit(&d->full, memory_order_relaxed) &&
		may_take(d) && !d->stopping) {
		dev_turn(d);
		return;
	}
	d->in_turn = true;
	run_parked(d);
	d->in_turn = false;
	stop_check(d);
}

static void dev_turn(struct ld_dev *d)
{
	bool more = true;
	unsigned i;

	d->in_turn = true;
	atomic_store_explicit(&d->full, false, memory_order_relaxed);
	run_parked(d);
	for (i = 0; i < DEV_TURN && more && !d->ended && !d->stopping; i++)
		more = dev_step(d);
	run_parked(d);
	d->in_turn = false;
	if (atomic_load_explicit(&d->full, memory_order_relaxed)) {
		/* What has just run may have made room: nobody else says so. */
		if (d->idle_reqs && !d->stopping)
			kick(d);
	} else if (more && !d->ended && !d->stopping) {
		/* A poll that is armed already does not fire for what has been
		 * there before. */
		if (d->polling)
			kick(d);
		else
			arm(d);
	}
	stop_check(d);
}

/* ---- life ---- */

static void start_run(struct rt_task *t)
{
	struct ld_dev *d = container_of(t, struct ld_dev, start_task);

	dev_turn(d);
	ld_session_count(d->s, &d->s->listening, 1);
}

static void stop_check(struct ld_dev *d)
{
	if (!d->stopping || d->stopped || d->polling ||
		!list_is_empty(&d->busy) || !list_is_empty(&d->parked))
		return;
	d->stopped = true;
	ld_session_count(d->s, &d->s->stopped, 1);
}

static void stop_run(struct rt_task *t)
{
	struct ld_dev *d = container_of(t, struct ld_dev, stop_task);

	d->stopping = true;
	d->in_turn = true;
	rt_timer_stop(d->worker, &d->retry);
	/* Cancelling a parked request moves it to the other list and ends it.
	 */
	while (!list_is_empty(&d->parked))
		ld_fs_cancel(
			container_of(d->parked.next, struct ld_fs_req, node),
			-EIO);
	list_for_each_safe(it, &d->busy)
		ld_fs_cancel(container_of(it, struct ld_fs_req, node), -EIO);
	if (d->polling)
		rt_io_cancel(d->worker, &d->poll);
	d->in_turn = false;
	stop_check(d);
}

void ld_dev_start(struct ld_dev *d)
{
	d->start_task.run = start_run;
	rt_post(d->worker, &d->start_task);
}

void ld_dev_stop(struct ld_dev *d)
{
	d->stop_task.run = stop_run;
	rt_post(d->worker, &d->stop_task);
}

int ld_dev_take_one(struct ld_dev *d)
{
	struct dev_req *q = req_get(d); /* there is one from the beginning */
	ssize_t n = read(d->fd, d->in, FW_MIN_READ_BUFFER);
	int rc = n < 0 ? -errno : 0;

	d->in_turn = true;
	if (n >= 0)
		take_request(d, q, (size_t)n);
	else
		req_put(d, q);
	d->in_turn = false;
	return rc;
}

int ld_dev_create(
	struct ld_session *s, struct rt_worker *w, int fd, struct ld_dev **ret)
{
	struct ld_dev *d = mem_zalloc(sizeof(*d));

	if (!d) {
		(void)close(fd); /* nothing was written */
		return -ENOMEM;
	}
	d->s = s;
	d->worker = w;
	d->fd = fd;
	d->retry.fire = on_retry;
	d->kick_task.run = kicked;
	list_init(&d->busy);
	list_init(&d->parked);
	d->in = mem_alloc_aligned(4096, FW_MIN_READ_BUFFER);
	/* One request is always there, so that a worker cannot starve. */
	d->idle_reqs = mem_zalloc(sizeof(*d->idle_reqs));
	if (!d->in || !d->idle_reqs) {
		ld_dev_destroy(d);
		return -ENOMEM;
	}
	d->req_count = 1;
	d->idle_count = 1;
	*ret = d;
	return 0;
}

void ld_dev_close(struct ld_dev *d)
{
	if (d->fd >= 0)
		(void)close(d->fd); /* replies are not buffered */
	d->fd = -1;
}

void ld_dev_destroy(struct ld_dev *d)
{
	struct dev_req *q;

	if (!d)
		return;
	ld_dev_close(d);
	while ((q = d->idle_reqs)) {
		d->idle_reqs = q->next_idle;
		mem_free(q);
	}
	ld_reply_fini(&d->bufs);
	mem_free(d->in);
	mem_free(d);
}

const struct ld_fs_counters *ld_dev_counters(const struct ld_dev *d)
{
	return &d->counters;
}
