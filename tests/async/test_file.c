/* SPDX-License-Identifier: Apache-2.0 */
/* File operations: the same results on every engine. */
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/async/call.h"

static void start_read(struct call *c, struct rt_worker *w)
{
	rt_file_read(w, &c->io, c->fd, c->buf, c->len, c->off, call_done);
}

static void start_write(struct call *c, struct rt_worker *w)
{
	rt_file_write(w, &c->io, c->fd, c->buf, c->len, c->off, call_done);
}

static void start_readv(struct call *c, struct rt_worker *w)
{
	rt_file_readv(
		w, &c->io, c->fd, c->iov, c->iov_count, c->off, call_done);
}

static void start_writev(struct call *c, struct rt_worker *w)
{
	rt_file_writev(
		w, &c->io, c->fd, c->iov, c->iov_count, c->off, call_done);
}

static void read_body(struct rt *rt)
{
	uint8_t buf[8192];
	struct call c = {.start = start_read, .fd = new_file(5000), .buf = buf};

	c.len = 4096;
	assert_int_equal(call(rt, &c), 4096);
	assert_file_bytes(buf, 4096, 0);
	c.off = 4096; /* short at the end of the file */
	assert_int_equal(call(rt, &c), 904);
	assert_file_bytes(buf, 904, 4096);
	c.io.flags = RT_IO_ALL; /* which ends at the end of the file, too */
	c.len = sizeof(buf);
	c.off = 1;
	assert_int_equal(call(rt, &c), 4999);
	assert_file_bytes(buf, 4999, 1);
	c.off = 5000;
	assert_int_equal(call(rt, &c), 0);
	c.off = 1ull << 40;
	assert_int_equal(call(rt, &c), 0);
	c.len = 0;
	c.off = 0;
	assert_int_equal(call(rt, &c), 0);
	(void)close(c.fd);
}

static void reads_are_short_only_at_the_end(void **state)
{
	on_engines(1, read_body);
}

static void errors_body(struct rt *rt)
{
	uint8_t buf[16];
	struct call c = {.start = start_read, .buf = buf, .len = 16};

	c.fd = -1;
	assert_int_equal(call(rt, &c), -EBADF);
	c.fd = open("/", O_RDONLY | O_CLOEXEC);
	assert_int_equal(call(rt, &c), -EISDIR);
	(void)close(c.fd);
	c.fd = new_file(100);
	c.off = UINT64_MAX; /* not "where the file stands" */
	assert_int_equal(call(rt, &c), -EINVAL);
	c.off = (uint64_t)INT64_MAX - 3;
	assert_int_equal(call(rt, &c), -EINVAL);
	c.off = 0;
	c.buf = (void *)16;
	assert_int_equal(call(rt, &c), -EFAULT);
	c.start = start_write;
	c.buf = buf;
	c.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(call(rt, &c), -EBADF);
	(void)close(c.fd);
}

static void errors_are_the_kernels_own(void **state)
{
	on_engines(1, errors_body);
}

static void vectors_body(struct rt *rt)
{
	uint8_t a[1000], b[3000], out[4000];
	struct iovec iov[4] = {
		{a, sizeof(a)}, {NULL, 0}, {b, sizeof(b)}, {NULL, 0}};
	struct iovec many[IOV_MAX + 8];
	struct call c = {.start = start_readv,
		.fd = new_file(5000),
		.iov = iov,
		.iov_count = 4,
		.off = 500};

	assert_int_equal(call(rt, &c), 4000);
	assert_file_bytes(a, sizeof(a), 500);
	assert_file_bytes(b, sizeof(b), 1500);
	c.io.flags = RT_IO_ALL;
	c.off = 2000;
	assert_int_equal(call(rt, &c), 3000);
	assert_file_bytes(b, 2000, 3000);
	c.start = start_writev;
	c.off = 10000;
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	assert_int_equal(call(rt, &c), 4000);
	assert_int_equal(pread(c.fd, out, 4000, 10000), 4000);
	assert_memory_equal(out, a, sizeof(a));
	assert_memory_equal(out + 1000, b, sizeof(b));
	/* more pieces than one call takes */
	for (unsigned i = 0; i < ARRAY_LEN(many); i++)
		many[i] = (struct iovec){out + i, 1};
	c.start = start_readv;
	c.iov = many;
	c.iov_count = ARRAY_LEN(many);
	c.off = 0;
	assert_int_equal(call(rt, &c), ARRAY_LEN(many));
	assert_file_bytes(out, ARRAY_LEN(many), 0);
	c.io.flags = 0;
	assert_int_equal(call(rt, &c), IOV_MAX);
	c.iov_count = 0;
	assert_int_equal(call(rt, &c), 0);
	(void)close(c.fd);
}

static void vectors_move_what_single_buffers_move(void **state)
{
	on_engines(1, vectors_body);
}

static void start_open(struct call *c, struct rt_worker *w)
{
	rt_file_open(w, &c->io, AT_FDCWD, c->path, c->flags, 0600, call_done);
}

static void start_close(struct call *c, struct rt_worker *w)
{
	rt_file_close(w, &c->io, c->fd, call_done);
}

static void start_fsync(struct call *c, struct rt_worker *w)
{
	rt_file_fsync(w, &c->io, c->fd, call_done);
}

static void start_fdatasync(struct call *c, struct rt_worker *w)
{
	rt_file_fdatasync(w, &c->io, c->fd, call_done);
}

static void start_punch(struct call *c, struct rt_worker *w)
{
	rt_file_fallocate(
		w, &c->io, c->fd, c->flags, c->off, c->len, call_done);
}

static void start_truncate(struct call *c, struct rt_worker *w)
{
	rt_file_truncate(w, &c->io, c->fd, c->len, call_done);
}

static void start_statx(struct call *c, struct rt_worker *w)
{
	rt_file_statx(w, &c->io, c->fd, c->path, AT_EMPTY_PATH,
		STATX_BASIC_STATS, &c->stx, call_done);
}

static void life_body(struct rt *rt)
{
	char path[] = "/tmp/sluice-test-life-XXXXXX";
	uint8_t buf[4096];
	struct call c = {.path = path, .buf = buf, .fd = AT_FDCWD};

	(void)close(mkostemp(path, O_CLOEXEC));
	c.start = start_open;
	c.flags = O_RDWR;
	c.fd = (int)call(rt, &c);
	assert_true(c.fd >= 0);
	assert_true(fcntl(c.fd, F_GETFD) & FD_CLOEXEC);
	memset(buf, 'x', sizeof(buf));
	c.start = start_write;
	c.len = sizeof(buf);
	for (c.off = 0; c.off < 4 * 4096; c.off += 4096)
		assert_int_equal(call(rt, &c), 4096);
	c.start = start_fsync;
	assert_int_equal(call(rt, &c), 0);
	c.start = start_fdatasync;
	assert_int_equal(call(rt, &c), 0);
	c.start = start_punch;
	c.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	c.off = 4096;
	assert_int_equal(call(rt, &c), 0);
	c.start = start_read;
	assert_int_equal(call(rt, &c), 4096);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(buf[i], 0);
	c.start = start_truncate;
	c.len = 5000;
	assert_int_equal(call(rt, &c), 0);
	c.start = start_statx;
	c.path = "";
	assert_int_equal(call(rt, &c), 0);
	assert_int_equal(c.stx.stx_size, 5000);
	c.start = start_close;
	assert_int_equal(call(rt, &c), 0);
	assert_int_equal(call(rt, &c), -EBADF);
	c.path = path;
	assert_int_equal(unlink(path), 0);
	c.start = start_open;
	assert_int_equal(call(rt, &c), -ENOENT);
	c.start = start_statx;
	c.fd = AT_FDCWD;
	assert_int_equal(call(rt, &c), -ENOENT);
	c.start = start_fsync;
	c.fd = -1;
	assert_int_equal(call(rt, &c), -EBADF);
	c.start = start_truncate;
	assert_int_equal(call(rt, &c), -EBADF);
}

static void a_file_lives_from_open_to_close(void **state)
{
	on_engines(1, life_body);
}

static void start_vbuf(struct call *c, struct rt_worker *w)
{
	rt_file_read_vbuf(w, &c->io, c->fd, c->vbuf, c->off, call_done);
}

static void vbuf_body(struct rt *rt)
{
	struct rt_vbuf v;
	struct call c = {.start = start_vbuf, .fd = new_file(6000), .vbuf = &v};

	assert_int_equal(rt_vbuf_alloc(&v, 8192), 0);
	memcpy(v.addr, "head", 4);
	rt_vbuf_advance(&v, 4);
	assert_int_equal(call(rt, &c), 6000);
	assert_int_equal(v.len, 6004);
	assert_memory_equal(v.addr, "head", 4);
	assert_file_bytes(v.addr + 4, 6000, 0);
	assert_int_equal(call(rt, &c), 8192 - 6004);
	assert_int_equal(v.len, 8192);
	assert_int_equal(call(rt, &c), 0);
	rt_vbuf_fini(&v);
	(void)close(c.fd);
}

static void a_read_fills_a_buffer_behind_what_it_has(void **state)
{
	on_engines(1, vbuf_body);
}

/* ---- cancellation and deadlines ---- */

static void cancel_fire(struct rt_timer *t)
{
	struct call *c = container_of(t, struct call, timer);

	rt_io_cancel(c->io.op.worker, &c->io);
	rt_io_cancel(c->io.op.worker, &c->io);
}

/* ---- an open that comes to its end after its deadline ---- */

static int fifo_writer;

static void fifo_open_writer(struct rt_timer *t)
{
	struct call *c = container_of(t, struct call, timer);

	/* fails if nobody reads or waits to read any more */
	fifo_writer = open(c->path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
}

static void start_fifo(struct call *c, struct rt_worker *w)
{
	c->timer.fire = fifo_open_writer;
	rt_timer_start(w, &c->timer, 20);
	start_open(c, w);
}

static void late_open_body(struct rt *rt)
{
	char path[] = "/tmp/sluice-test-fifo-XXXXXX";
	struct call c = {.start = start_fifo,
		.path = path,
		.flags = O_RDONLY,
		.io.deadline_ms = 5};
	int64_t r;

	(void)close(mkostemp(path, O_CLOEXEC));
	(void)unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	fifo_writer = -1;
	r = call(rt, &c);
	if (r >= 0) /* a ring opens a pipe without waiting */
		(void)close((int)r);
	else
		assert_int_equal(r, -ETIMEDOUT);
	if (fifo_writer >= 0) { /* the open could not be stopped */
		assert_int_equal(write(fifo_writer, "x", 1), -1);
		assert_int_equal(errno, EPIPE);
		(void)close(fifo_writer);
	}
	(void)unlink(path);
}

static void what_is_opened_too_late_is_closed(void **state)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, old;

	assert_int_equal(sigaction(SIGPIPE, &ignore, &old), 0);
	on_engines(1, late_open_body);
	assert_int_equal(sigaction(SIGPIPE, &old, NULL), 0);
}

static void start_slow_read(struct call *c, struct rt_worker *w)
{
	start_read(c, w);
	if (c->timer.fire)
		rt_timer_start(w, &c->timer, 5);
	else
		rt_io_cancel(w, &c->io);
}

/*
 * Cancelled before it left the worker; a read of an empty pipe that is under
 * way can be stopped where the engine can, and where not ends with its data.
 */
static void cancel_body(struct rt *rt)
{
	uint8_t buf[16];
	int p[2];
	struct call c = {.start = start_slow_read, .buf = buf, .len = 16};
	int64_t r;

	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	c.fd = p[0];
	assert_int_equal(call(rt, &c), -ECANCELED);
	/* not blocking and nothing there: tried again, until cancelled */
	c.timer.fire = cancel_fire;
	assert_int_equal(call(rt, &c), -ECANCELED);
	c.start = start_read;
	c.io.deadline_ms = 5;
	assert_int_equal(call(rt, &c), -ETIMEDOUT);
	c.io.deadline_ms = 0;
	assert_int_equal(write(p[1], "hello", 5), 5);
	r = call(rt, &c);
	assert_int_equal(r, 5);
	assert_memory_equal(buf, "hello", 5);
	(void)close(p[1]);
	assert_int_equal(call(rt, &c), 0);
	(void)close(p[0]);
}

static void a_cancelled_operation_ends_once(void **state)
{
	on_engines(1, cancel_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_are_short_only_at_the_end),
		cmocka_unit_test(errors_are_the_kernels_own),
		cmocka_unit_test(vectors_move_what_single_buffers_move),
		cmocka_unit_test(a_file_lives_from_open_to_close),
		cmocka_unit_test(a_read_fills_a_buffer_behind_what_it_has),
		cmocka_unit_test(what_is_opened_too_late_is_closed),
		cmocka_unit_test(a_cancelled_operation_ends_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
