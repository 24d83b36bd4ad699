/* SPDX-License-Identifier: Apache-2.0 */
/* When system calls fail, come short, late or in disorder: nothing is lost. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/util.h"
#include "runtime/file.h"
#include "tests/async/engines.h"

enum { FILE_LEN = 40000 };

static uint8_t content[FILE_LEN], buf[FILE_LEN];

struct call {
	struct rt_io io;
	struct rt_op *op;
	int fd, cancel_after_ms;
	size_t len;
	bool write;
	struct rt_timer timer;
};

static void call_done(struct rt_op *op)
{
	struct call *c = container_of(op, struct call, io.op);

	rt_timer_stop(op->worker, &c->timer);
	rt_block_on_done(c->op, op->result);
}

static void call_cancel(struct rt_timer *t)
{
	struct call *c = container_of(t, struct call, timer);

	rt_io_cancel(c->io.op.worker, &c->io);
}

static void call_start(void *arg, struct rt_op *op)
{
	struct call *c = arg;
	struct rt_worker *w = rt_worker_self();

	c->op = op;
	c->timer = (struct rt_timer){.fire = call_cancel};
	if (c->write)
		rt_file_write(w, &c->io, c->fd, buf, c->len, 0, call_done);
	else
		rt_file_read(w, &c->io, c->fd, buf, c->len, 0, call_done);
	if (c->cancel_after_ms)
		rt_timer_start(w, &c->timer, (uint64_t)c->cancel_after_ms);
}

static int64_t call(struct rt *rt, struct call *c)
{
	memset(buf, 0, sizeof(buf));
	return rt_block_on(rt, call_start, c);
}

static struct rt *start(struct rt_fault_plan *p)
{
	return engine_start_faulty(p, (struct rt_options){.workers = 1});
}

static int new_file(void)
{
	char path[] = "/tmp/sluice-test-fault-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	for (size_t i = 0; i < FILE_LEN; i++)
		content[i] = (uint8_t)(i * 31 + i / 251);
	assert_int_equal(pwrite(fd, content, FILE_LEN, 0), FILE_LEN);
	return fd;
}

static void each_try_may_fail_and_the_rest_works(void **state)
{
	const int errors[] = {EIO, ENOSPC, ENOMEM, EBADF};
	struct rt_fault f;
	struct rt_fault_plan p = {.faults = &f, .count = 1};
	struct call c = {.fd = new_file(), .len = FILE_LEN};
	struct rt *rt;

	for (unsigned i = 0; i < ARRAY_LEN(errors); i++) {
		f = (struct rt_fault){.nth = i + 1, .error = errors[i]};
		p.tries = p.hits = 0;
		rt = start(&p);
		for (unsigned n = 1; n < 8; n++)
			assert_int_equal(call(rt, &c),
				n == i + 1 ? -errors[i] : FILE_LEN);
		assert_memory_equal(buf, content, FILE_LEN);
		assert_int_equal(p.hits, 1);
		engine_stop(rt);
	}
	(void)close(c.fd);
}

static void interrupted_tries_are_made_again(void **state)
{
	const struct rt_fault f[] = {{.nth = 1, .every = 2, .error = EINTR},
		{.nth = 2, .error = EAGAIN}, {.nth = 4, .error = EAGAIN}};
	struct rt_fault_plan p = {.faults = f, .count = ARRAY_LEN(f)};
	struct rt *rt = start(&p);
	struct call c = {.fd = new_file(), .len = FILE_LEN};

	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(call(rt, &c), FILE_LEN);
		assert_memory_equal(buf, content, FILE_LEN);
	}
	assert_true(p.hits > 10);
	engine_stop(rt);
	(void)close(c.fd);
}

static void short_tries_go_on_only_when_all_is_wanted(void **state)
{
	const struct rt_fault f = {.nth = 1, .every = 1, .short_to = 997};
	struct rt_fault_plan p = {.faults = &f, .count = 1};
	struct rt *rt = start(&p);
	struct call c = {.fd = new_file(), .len = FILE_LEN};

	assert_int_equal(call(rt, &c), 997);
	c.io.flags = RT_IO_ALL;
	assert_int_equal(call(rt, &c), FILE_LEN);
	assert_memory_equal(buf, content, FILE_LEN);
	c.write = true;
	assert_int_equal(call(rt, &c), FILE_LEN);
	assert_int_equal(pread(c.fd, content, FILE_LEN, 0), FILE_LEN);
	assert_memory_equal(buf, content, FILE_LEN);
	engine_stop(rt);
	(void)close(c.fd);
}

static const struct iovec pieces[] = {{buf, 1000}, {NULL, 0}, {buf + 1000, 1},
	{buf + 1001, 2993}, {buf + 3994, FILE_LEN - 3994}};

static void pieces_start(void *arg, struct rt_op *op)
{
	struct call *c = arg;

	c->op = op;
	c->timer = (struct rt_timer){0};
	rt_file_readv(rt_worker_self(), &c->io, c->fd, pieces,
		ARRAY_LEN(pieces), 0, call_done);
}

static void short_tries_may_end_inside_any_piece(void **state)
{
	const struct rt_fault f = {.nth = 1, .every = 1, .short_to = 333};
	struct rt_fault_plan p = {.faults = &f, .count = 1};
	struct rt *rt = start(&p);
	struct call c = {.fd = new_file(), .io.flags = RT_IO_ALL};

	memset(buf, 0, sizeof(buf));
	assert_int_equal(rt_block_on(rt, pieces_start, &c), FILE_LEN);
	assert_memory_equal(buf, content, FILE_LEN);
	engine_stop(rt);
	(void)close(c.fd);
}

static void an_error_after_some_bytes_keeps_their_count(void **state)
{
	const struct rt_fault f[] = {{.nth = 1, .short_to = 100},
		{.nth = 2, .short_to = 100}, {.nth = 3, .error = EIO}};
	struct rt_fault_plan p = {.faults = f, .count = ARRAY_LEN(f)};
	struct rt *rt = start(&p);
	struct call c = {.fd = new_file(), .len = FILE_LEN};

	c.io.flags = RT_IO_ALL;
	assert_int_equal(call(rt, &c), 200);
	assert_memory_equal(buf, content, 200);
	assert_int_equal(call(rt, &c), FILE_LEN);
	engine_stop(rt);
	(void)close(c.fd);
}

static void what_is_late_can_be_cancelled_or_times_out(void **state)
{
	const struct rt_fault f = {.nth = 1, .every = 1, .late = 100000000};
	struct rt_fault_plan p = {.faults = &f, .count = 1};
	struct rt *rt = start(&p);
	struct call c = {
		.fd = new_file(), .len = FILE_LEN, .cancel_after_ms = 2};

	assert_int_equal(call(rt, &c), -ECANCELED);
	c.cancel_after_ms = 0;
	c.io.deadline_ms = 2;
	assert_int_equal(call(rt, &c), -ETIMEDOUT);
	engine_stop(rt);
	(void)close(c.fd);
}

/* A descriptor that is opened too late has no owner: it must not stay open. */
static void open_start(void *arg, struct rt_op *op)
{
	struct call *c = arg;

	c->op = op;
	c->timer = (struct rt_timer){0};
	rt_file_open(rt_worker_self(), &c->io, AT_FDCWD, "/proc/self/exe",
		O_RDONLY, 0, call_done);
}

static void failing_operations_leave_no_descriptor(void **state)
{
	const struct rt_fault f[] = {{.nth = 1, .every = 3, .error = EMFILE},
		{.nth = 2, .every = 3, .late = 5}};
	struct rt_fault_plan p = {.faults = f, .count = ARRAY_LEN(f)};
	struct rt *rt = start(&p);
	struct call c = {0};
	int64_t fd;
	int first, last;

	first = open("/", O_RDONLY | O_CLOEXEC);
	(void)close(first);
	for (unsigned i = 0; i < 90; i++) {
		c.io.deadline_ms = i % 4 ? 1 : 0;
		fd = rt_block_on(rt, open_start, &c);
		assert_true(fd >= 0 || fd == -EMFILE || fd == -ETIMEDOUT);
		if (fd >= 0)
			(void)close((int)fd);
	}
	engine_stop(rt);
	last = open("/", O_RDONLY | O_CLOEXEC);
	assert_true(last <= first);
	(void)close(last);
}

/* ---- many at once, each with its own fate ---- */

enum { MANY = 2000, AT_ONCE = 100 };

static struct many {
	struct rt_io io;
	uint8_t buf[64];
	uint64_t off;
} many[AT_ONCE];

static struct rt_op *many_op;
static unsigned many_started, many_ended, many_failed;
static int many_fd;

static void many_start_one(struct many *m);

static void many_done(struct rt_op *op)
{
	struct many *m = container_of(op, struct many, io.op);

	many_ended++;
	if (op->result == -EIO)
		many_failed++;
	else {
		assert_int_equal(op->result, sizeof(m->buf));
		assert_memory_equal(m->buf, content + m->off, sizeof(m->buf));
	}
	if (many_started < MANY)
		many_start_one(m);
	else if (many_ended == MANY)
		rt_block_on_done(many_op, 0);
}

static void many_start_one(struct many *m)
{
	m->off = many_started++ * 7919 % (FILE_LEN - sizeof(m->buf));
	m->io.flags = RT_IO_ALL;
	rt_file_read(rt_worker_self(), &m->io, many_fd, m->buf, sizeof(m->buf),
		m->off, many_done);
}

static void many_start(void *arg, struct rt_op *op)
{
	many_op = op;
	many_started = many_ended = many_failed = 0;
	for (unsigned i = 0; i < AT_ONCE; i++)
		many_start_one(&many[i]);
}

static void in_disorder_each_operation_gets_its_own_result(void **state)
{
	const struct rt_fault f[] = {{.nth = 11, .every = 17, .short_to = 13},
		{.nth = 5, .every = 50, .error = EINTR},
		{.nth = 100, .every = 100, .late = 20}};
	struct rt_fault_plan p = {
		.faults = f, .count = ARRAY_LEN(f), .shuffle = test_seed()};
	struct rt *rt = start(&p);

	many_fd = new_file();
	assert_int_equal(rt_block_on(rt, many_start, NULL), 0);
	assert_int_equal(many_failed, 0);
	assert_true(p.tries > MANY);
	engine_stop(rt);
	(void)close(many_fd);
}

static void failing_operations_fail_once_each(void **state)
{
	const struct rt_fault f = {.nth = 1, .every = 10, .error = EIO};
	struct rt_fault_plan p = {
		.faults = &f, .count = 1, .shuffle = test_seed()};
	struct rt *rt = start(&p);

	many_fd = new_file();
	assert_int_equal(rt_block_on(rt, many_start, NULL), 0);
	assert_int_equal(p.tries, MANY);
	assert_int_equal(many_failed, p.hits);
	assert_int_equal(many_failed, MANY / 10);
	engine_stop(rt);
	(void)close(many_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_try_may_fail_and_the_rest_works),
		cmocka_unit_test(interrupted_tries_are_made_again),
		cmocka_unit_test(short_tries_go_on_only_when_all_is_wanted),
		cmocka_unit_test(short_tries_may_end_inside_any_piece),
		cmocka_unit_test(an_error_after_some_bytes_keeps_their_count),
		cmocka_unit_test(what_is_late_can_be_cancelled_or_times_out),
		cmocka_unit_test(failing_operations_leave_no_descriptor),
		cmocka_unit_test(
			in_disorder_each_operation_gets_its_own_result),
		cmocka_unit_test(failing_operations_fail_once_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
