/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: one operation at a time, from the thread that waits for it. */
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/file.h"
#include "tests/async/engines.h"

struct call {
	struct rt_io io;
	struct rt_op *op;
	void (*start)(struct call *c, struct rt_worker *w);
	/* arguments of the test's start */
	int fd;
	void *buf;
	size_t len;
	uint64_t off;
	const struct iovec *iov;
	unsigned iov_count;
	const char *path;
	int flags;
	struct statx stx;
	struct rt_vbuf *vbuf;
	struct rt_timer timer;
	bool started; /* start has returned */
};

static inline void call_done(struct rt_op *op)
{
	struct call *c = container_of(op, struct call, io.op);

	rt_worker_assert(op->worker);
	assert_true(c->started);
	rt_timer_stop(op->worker, &c->timer);
	rt_block_on_done(c->op, op->result);
}

static inline void call_start(void *arg, struct rt_op *op)
{
	struct call *c = arg;

	c->op = op;
	c->started = false;
	c->start(c, rt_worker_self());
	c->started = true;
}

static inline int64_t call(struct rt *rt, struct call *c)
{
	return rt_block_on(rt, call_start, c);
}

/* A new file with n bytes, byte i being i * 7 + i / 256. */
static inline int new_file(size_t n)
{
	char path[] = "/tmp/sluice-test-file-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	uint8_t *data = mem_alloc(n);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	for (size_t i = 0; i < n; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(pwrite(fd, data, n, 0), n);
	mem_free(data);
	return fd;
}

static inline void assert_file_bytes(const uint8_t *p, size_t n, size_t off)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(
			p[i], (uint8_t)((i + off) * 7 + (i + off) / 256));
}
