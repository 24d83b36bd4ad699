/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FUSE session: one connection to the kernel, served by all workers.
 *
 *   handshake --> start (a descriptor per worker) --> serve --> stop --> closed
 *
 * The kernel ends a connection by itself when it is unmounted: each worker then
 * reads ENODEV and the session's eventfd becomes readable. Closing the last
 * descriptor ends it from our side.
 */
#include "loader/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loader/transport_int.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define LOG_TOPIC "session"

#define INIT_TIMEOUT_MS 30000

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

/*
 * Another descriptor of fd's connection. Where /dev/fuse cannot be opened again
 * the workers share one: they find their requests on it all the same.
 */
int ld_session_clone_fd(int fd)
{
	uint32_t arg = (uint32_t)fd;
	int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK), rc;

	if (clone >= 0 && ioctl(clone, FW_DEV_IOC_CLONE, &arg) == 0)
		return clone;
	rc = -errno;
	if (clone >= 0)
		(void)close(clone); /* nothing was written */
	log_info("cannot clone /dev/fuse (error %d), the workers share one "
		 "descriptor",
		-rc);
	clone = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return clone < 0 ? -errno : clone;
}

/* Wait for the kernel's INIT and answer it. */
static int handshake(struct ld_session *s, int fd, struct err *e)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int rc;

	while (!s->fs.init_done) {
		rc = poll(&p, 1, INIT_TIMEOUT_MS);
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return err_set(e, rc < 0 ? -errno : -ETIMEDOUT,
				"the kernel did not begin to speak FUSE");
		rc = ld_dev_take_one(s->devs[0]);
		if (rc < 0 && rc != -EINTR && rc != -EAGAIN)
			return err_sys(e, rc, "cannot read from /dev/fuse");
		if (s->fs.init_failed)
			return err_set(e, -EOPNOTSUPP,
				"this kernel's FUSE is too old, 7.%u is needed",
				FW_MIN_MINOR);
	}
	return 0;
}

/* The first worker serves fd itself. fd is taken. */
static int make_devs(struct ld_session *s, int fd, struct err *e)
{
	unsigned n = rt_worker_count(s->rt), i;
	int first = fd, rc;

	s->devs = mem_calloc(n, sizeof(struct ld_dev *));
	if (!s->devs) {
		(void)close(fd); /* nothing was written */
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (i = 0; i < n; i++) {
		if (i > 0)
			fd = ld_session_clone_fd(first);
		if (fd < 0)
			return err_sys(e, fd, "cannot duplicate /dev/fuse");
		rc = ld_dev_create(s, rt_worker_at(s->rt, i), fd, &s->devs[i]);
		if (rc < 0)
			return err_set(e, rc, "out of memory");
		s->dev_count++;
	}
	return 0;
}

void ld_session_count(struct ld_session *s, unsigned *count, int by)
{
	(void)pthread_mutex_lock(&s->lock); /* a plain mutex cannot fail */
	*count += (unsigned)by;
	(void)pthread_cond_broadcast(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
}

void ld_session_wait_for(
	struct ld_session *s, const unsigned *count, unsigned n)
{
	while (*count != n)
		(void)pthread_cond_wait(&s->changed, &s->lock);
}

int ld_session_start(const struct ld_session_options *o,
	struct ld_session **ret, struct err *e)
{
	struct ld_session *s = mem_zalloc(sizeof(*s));
	unsigned i;
	int rc;

	if (!s) {
		(void)close(o->fuse_fd); /* nothing was written */
		return err_set(e, -ENOMEM, "out of memory");
	}
	s->rt = o->rt;
	s->ended_fd = -1;
	if (o->plan)
		s->plan = *o->plan;
	(void)pthread_mutex_init(&s->lock, NULL);   /* cannot fail */
	(void)pthread_cond_init(&s->changed, NULL); /* cannot fail */
	ld_fs_init(&s->fs, o->image);
	s->fs.workers = rt_worker_count(o->rt);
	s->fs.serves_blobs = o->serves_blobs;
	ld_index_read_alone(&o->image->index, true);
	rc = set_nonblocking(o->fuse_fd);
	if (rc < 0) {
		(void)close(o->fuse_fd); /* nothing was written */
		(void)err_sys(e, rc, "cannot use /dev/fuse");
		goto fail;
	}
	rc = make_devs(s, o->fuse_fd, e);
	if (rc < 0)
		goto fail;
	s->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->ended_fd < 0) {
		rc = err_sys(e, -errno, "cannot make an eventfd");
		goto fail;
	}
	rc = ld_session_make_urings(s, o->fuse_fd, e);
	if (rc < 0)
		goto fail;
	rc = handshake(s, o->fuse_fd, e);
	if (rc < 0)
		goto fail;
	for (i = 0; i < s->dev_count; i++)
		ld_dev_start(s->devs[i]);
	(void)pthread_mutex_lock(&s->lock);
	ld_session_wait_for(s, &s->listening, s->dev_count);
	(void)pthread_mutex_unlock(&s->lock);
	rc = ld_session_start_urings(s, e);
	if (rc < 0)
		goto stop;
	*ret = s;
	return 0;
fail:
	s->is_stopped = true;
stop:
	ld_session_destroy(s);
	return rc;
}

int ld_session_wait(struct ld_session *s, int fd)
{
	struct pollfd p[2] = {
		{.fd = s->ended_fd, .events = POLLIN},
		{.fd = fd, .events = POLLIN}, /* -1 is skipped */
	};

	for (;;) {
		if (poll(p, 2, -1) < 0)
			continue; /* EINTR, or memory is short for a moment */
		if (p[0].revents)
			return 0;
		if (p[1].revents)
			return 1;
	}
}

int ld_session_ended_fd(const struct ld_session *s)
{
	return s->ended_fd;
}

void ld_session_cancel(struct ld_session *s)
{
	ld_fs_cancel_held(&s->fs);
}

void ld_session_stop(struct ld_session *s)
{
	unsigned i;

	if (s->is_stopped)
		return;
	s->is_stopped = true;
	for (i = 0; i < s->dev_count; i++)
		ld_dev_stop(s->devs[i]);
	for (i = 0; i < s->uring_count; i++)
		ld_uring_stop(s->urings[i]);
	(void)pthread_mutex_lock(&s->lock);
	ld_session_wait_for(s, &s->stopped, s->dev_count + s->uring_count);
	ld_session_wait_for(s, &s->kicks, 0);
	(void)pthread_mutex_unlock(&s->lock);
	for (i = 0; i < s->dev_count; i++)
		ld_dev_close(s->devs[i]);
}

void ld_session_destroy(struct ld_session *s)
{
	unsigned i;

	if (!s)
		return;
	ld_session_stop(s);
	for (i = 0; i < s->dev_count; i++)
		ld_dev_destroy(s->devs[i]);
	for (i = 0; i < s->uring_count; i++)
		ld_uring_release(s->urings[i]);
	mem_free(s->devs);
	mem_free(s->urings);
	if (s->ended_fd >= 0)
		(void)close(s->ended_fd); /* nothing is lost */
	ld_fs_fini(&s->fs);
	(void)pthread_cond_destroy(&s->changed);
	(void)pthread_mutex_destroy(&s->lock);
	mem_free(s);
}

static uint64_t load(const _Atomic uint64_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static void add_counters(
	struct ld_session_stats *sum, const struct ld_fs_counters *c)
{
	sum->requests += load(&c->requests);
	sum->reads += load(&c->reads);
	sum->read_bytes += load(&c->read_bytes);
	sum->read_errors += load(&c->read_errors);
}

void ld_session_stats(const struct ld_session *s, struct ld_session_stats *ret)
{
	struct ld_session_stats sum = {0};
	unsigned i;

	for (i = 0; i < s->dev_count; i++)
		add_counters(&sum, ld_dev_counters(s->devs[i]));
	for (i = 0; i < s->uring_count; i++)
		add_counters(&sum, ld_uring_counters(s->urings[i]));
	*ret = sum;
}

enum ld_transport ld_session_transport(
	const struct ld_session *s, const char **ret_reason)
{
	*ret_reason = s->plan.reason;
	return s->plan.uring ? LD_TRANSPORT_URING : LD_TRANSPORT_DEV;
}
