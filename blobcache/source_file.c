/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file as source, and the blocking read of any source for start-up code. A
 * fetch is one File read on the fetch's worker; a file that ends too early is
 * an I/O error, as a network that breaks off would be.
 */
#include "blobcache/source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/file.h"

struct file_source {
	struct bc_source source;
	int fd;
};

/* One fetch on its way; hangs on its priv. */
struct file_fetch {
	struct rt_io io;
	struct bc_fetch *fetch;
	int fd;
};

static void fetch_end(struct bc_fetch *f, int result)
{
	f->priv = NULL;
	f->result = result;
	f->done(f);
}

static void fetch_failed(struct rt_task *t)
{
	fetch_end(container_of(t, struct bc_fetch, task), -ENOMEM);
}

static void fetch_read(struct rt_op *op)
{
	struct rt_io *io = container_of(op, struct rt_io, op);
	struct file_fetch *ff = container_of(io, struct file_fetch, io);
	struct bc_fetch *f = ff->fetch;
	int64_t n = op->result;

	mem_free(ff);
	if (n == -ENOMEM || n == -ECANCELED)
		fetch_end(f, (int)n);
	else
		fetch_end(f, n == (int64_t)f->len ? 0 : -EIO);
}

static void fetch_start(struct rt_task *t)
{
	struct bc_fetch *f = container_of(t, struct bc_fetch, task);
	struct file_fetch *ff = f->priv;

	ff->io.flags = RT_IO_ALL;
	ff->io.cls = f->cls;
	rt_file_read(
		f->worker, &ff->io, ff->fd, f->buf, f->len, f->off, fetch_read);
}

static void file_fetch(struct bc_source *s, struct bc_fetch *f)
{
	struct file_source *fs = container_of(s, struct file_source, source);
	struct file_fetch *ff = mem_zalloc(sizeof(*ff));

	f->priv = ff;
	f->task.run = ff ? fetch_start : fetch_failed;
	if (ff) {
		ff->fetch = f;
		ff->fd = fs->fd;
	}
	rt_post(f->worker, &f->task);
}

/* A local read ends by itself. */
static void file_cancel(struct bc_source *s, struct bc_fetch *f)
{
}

static void file_destroy(struct bc_source *s)
{
	struct file_source *fs = container_of(s, struct file_source, source);

	(void)close(fs->fd); /* only read */
	mem_free(fs);
}

static const struct bc_source_ops file_ops = {
	.fetch = file_fetch, .cancel = file_cancel, .destroy = file_destroy};

int bc_source_file_open(const char *path, struct bc_source **ret, struct err *e)
{
	struct file_source *fs;
	struct stat st;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_sys(e, -errno, "cannot open '%s'", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		r = err_set(e, -EINVAL, "'%s' is not a regular file", path);
		goto fail;
	}
	fs = mem_zalloc(sizeof(*fs));
	if (!fs) {
		r = err_set(e, -ENOMEM, "not enough memory to open '%s'", path);
		goto fail;
	}
	fs->source.ops = &file_ops;
	fs->source.size = (uint64_t)st.st_size;
	fs->source.is_local = true;
	fs->fd = fd;
	*ret = &fs->source;
	return 0;

fail:
	(void)close(fd); /* only read */
	return r;
}

/* ---- the blocking read ---- */

struct blocking {
	struct bc_fetch fetch;
	struct bc_source *source;
	struct rt_op *op;
};

static void blocking_done(struct bc_fetch *f)
{
	struct blocking *b = container_of(f, struct blocking, fetch);

	rt_block_on_done(b->op, f->result);
}

static void blocking_start(void *arg, struct rt_op *op)
{
	struct blocking *b = arg;

	b->op = op;
	b->fetch.worker = op->worker;
	bc_source_fetch(b->source, &b->fetch);
}

int bc_source_read(struct rt *rt, struct bc_source *s, uint64_t off, void *buf,
	size_t len, struct err *e)
{
	struct blocking b = {.fetch.off = off,
		.fetch.len = len,
		.fetch.buf = buf,
		.fetch.cls = RT_DEMAND,
		.fetch.done = blocking_done,
		.source = s};
	int r;

	if (len == 0)
		return 0;
	r = (int)rt_block_on(rt, blocking_start, &b);
	if (r < 0)
		return err_sys(e, r,
			"cannot read %zu bytes of the blob at %llu", len,
			(unsigned long long)off);
	return 0;
}
