/* SPDX-License-Identifier: Apache-2.0 */
/* Polls and commands: what may fly for ever, on every engine. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "tests/async/call.h"

static void cancel_fire(struct rt_timer *t)
{
	struct call *c = container_of(t, struct call, timer);

	rt_io_cancel(c->io.op.worker, &c->io);
	rt_io_cancel(c->io.op.worker, &c->io);
}

static void start_poll(struct call *c, struct rt_worker *w)
{
	rt_poll_start(w, &c->io, c->fd, EPOLLIN, c->flags != 0, call_done);
	if (c->timer.fire)
		rt_timer_start(w, &c->timer, 5);
}

static void poll_body(struct rt *rt)
{
	int sv[2], efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct call c = {.start = start_poll, .fd = efd};

	for (c.flags = 0; c.flags < 2; c.flags++) {
		assert_int_equal(eventfd_write(efd, 1), 0);
		assert_int_equal(call(rt, &c), EPOLLIN);
		assert_int_equal(call(rt, &c), EPOLLIN);
		assert_int_equal(eventfd_read(efd, (eventfd_t[1]){0}), 0);
		c.timer.fire = cancel_fire;
		assert_int_equal(call(rt, &c), -ECANCELED);
		c.timer.fire = NULL;
		c.io.deadline_ms = 5;
		assert_int_equal(call(rt, &c), -ETIMEDOUT);
		c.io.deadline_ms = 0;
	}
	(void)close(efd);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	c.fd = sv[0];
	(void)close(sv[1]);
	assert_int_equal(call(rt, &c), EPOLLIN | EPOLLHUP);
	(void)close(sv[0]);
	c.fd = new_file(1); /* a plain file is always ready */
	assert_int_equal(call(rt, &c), EPOLLIN);
	(void)close(c.fd);
	c.fd = -1;
	assert_int_equal(call(rt, &c), -EBADF);
}

static void a_poll_tells_readiness_once(void **state)
{
	on_engines(1, poll_body);
}

/* ---- several polls of one descriptor ---- */

static struct rt_io twins[2];
static unsigned twins_ready;
static struct rt_op *twins_op;

static void twin_done(struct rt_op *op)
{
	assert_int_equal(op->result, EPOLLIN);
	if (++twins_ready == 2)
		rt_block_on_done(twins_op, 0);
}

static void twins_start(void *arg, struct rt_op *op)
{
	int *efd = arg;

	twins_op = op;
	twins_ready = 0;
	for (unsigned i = 0; i < 2; i++)
		rt_poll_start(rt_worker_self(), &twins[i], *efd, EPOLLIN, i,
			twin_done);
	assert_int_equal(eventfd_write(*efd, 1), 0);
}

static void twins_body(struct rt *rt)
{
	int efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_int_equal(rt_block_on(rt, twins_start, &efd), 0);
	(void)close(efd);
}

static void a_descriptor_may_be_polled_twice(void **state)
{
	on_engines(1, twins_body);
}

/* ---- the end ---- */

static struct rt_io left_poll, left_read;
static unsigned left_done;
static int64_t left_result[2];
static uint8_t left_buf[4096];

static void left_ended(struct rt_op *op)
{
	left_result[left_done++] = op->result;
}

static void left_start(void *arg, struct rt_op *op)
{
	struct rt_worker *w = rt_worker_self();
	int *fds = arg;

	rt_poll_start(w, &left_poll, fds[0], EPOLLIN, false, left_ended);
	rt_file_read(w, &left_read, fds[1], left_buf, sizeof(left_buf), 0,
		left_ended);
	rt_block_on_done(op, 0);
}

static void left_body(struct rt *rt)
{
	int fds[2] = {eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), new_file(4096)};

	left_done = 0;
	assert_int_equal(rt_block_on(rt, left_start, fds), 0);
	rt_stop(rt);
	assert_int_equal(left_done, 2);
	assert_int_equal(left_result[0], 4096);
	assert_int_equal(left_result[1], -ECANCELED);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static void a_stop_ends_files_and_then_cancels_polls(void **state)
{
	on_engines(1, left_body);
}

static void start_cmd(struct call *c, struct rt_worker *w)
{
	static const uint8_t payload[80];

	rt_cmd_start(w, &c->io, c->fd, 1, NULL, 0, payload, call_done);
}

static void cmd_body(struct rt *rt)
{
	/* a plain file knows no commands, as an engine without a ring */
	struct call c = {.start = start_cmd, .fd = new_file(1)};

	assert_int_equal(call(rt, &c), -EOPNOTSUPP);
	(void)close(c.fd);
}

static void a_command_goes_to_who_understands_it(void **state)
{
	on_engines(1, cmd_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_poll_tells_readiness_once),
		cmocka_unit_test(a_descriptor_may_be_polled_twice),
		cmocka_unit_test(a_stop_ends_files_and_then_cancels_polls),
		cmocka_unit_test(a_command_goes_to_who_understands_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
