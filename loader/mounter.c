/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mounter process; see mounter.h. One request and one answer at a time over
 * a socket pair; when the daemon's end closes, it ends. A mount is left as it
 * is then: the next mount of ours replaces it, and nobody writes into the
 * directory below by mistake.
 */
#include "loader/mounter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/daemon.h"
#include "loader/mountinfo.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"

enum verb { MOUNT = 1, UNMOUNT = 2, DETACH = 3 };

struct request {
	uint32_t verb;
	char dir[4096];
	char source[4608];
	char opts[4608];
};

struct answer {
	int32_t code;
	struct err err;
};

union fd_message {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

/* ---- the process ---- */

static int send_answer(int fd, const struct answer *a, int fuse_fd)
{
	struct iovec iov = {
		.iov_base = (void *)(uintptr_t)a, .iov_len = sizeof(*a)};
	union fd_message control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (fuse_fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fuse_fd, sizeof(fuse_fd));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* What the daemon's mount is; to be told from what others put over it. */
struct mounted {
	bool is_known;
	unsigned dev_major, dev_minor;
};

static void note_mounted(struct mounted *m, const char *dir)
{
	struct ld_mountinfo info = {0};

	m->is_known = ld_mountinfo_of(dir, &info) == 0;
	m->dev_major = info.dev_major;
	m->dev_minor = info.dev_minor;
}

/*
 * Unmounting takes what is on top: another file system that was mounted over
 * ours, or the next mount of an image after ours was detached, must stay.
 */
static int unmount(
	const struct mounted *m, const struct request *r, struct err *e)
{
	struct ld_mountinfo info;

	if (m->is_known && ld_mountinfo_of(r->dir, &info) == 0 &&
		(info.dev_major != m->dev_major ||
			info.dev_minor != m->dev_minor))
		return err_set(e, -EBUSY,
			"cannot unmount '%s': '%.200s' (%s) was mounted there "
			"later",
			r->dir, info.source, info.fstype);
	return ld_unmount(r->dir, r->verb == DETACH, e);
}

static void serve(int fd, struct mounted *m, const struct request *r)
{
	struct ld_mount_options o = {
		.dir = r->dir, .source = r->source, .opts = r->opts};
	struct answer a = {0};
	int fuse_fd = -1;

	if (r->verb == MOUNT)
		a.code = ld_mount(&o, &fuse_fd, &a.err);
	else
		a.code = unmount(m, r, &a.err);
	if (r->verb == MOUNT && a.code == 0)
		note_mounted(m, r->dir);
	if (a.code < 0)
		fuse_fd = -1;
	(void)send_answer(
		fd, &a, fuse_fd); /* daemon gone: the next recv ends */
	if (fuse_fd >= 0)
		(void)close(fuse_fd);
}

static void run(int fd)
{
	static struct request r;
	struct mounted m = {0};
	sigset_t all;
	ssize_t n;

	/* ctrl-c in front hits us too, and the unmount is still to come */
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)prctl(PR_SET_NAME, "sluice-mount", 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	ld_daemon_null_std_fds();
	if (fd > STDERR_FILENO + 1)
		(void)close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
	(void)close_range((unsigned)fd + 1, ~0u, 0);
	for (;;) {
		n = recv(fd, &r, sizeof(r), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof(r))
			return;
		serve(fd, &m, &r);
	}
}

/* ---- the daemon's side ---- */

int ld_mounter_start(struct ld_mounter *ret, struct err *e)
{
	int fds[2], err;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_sys(e, -errno, "cannot make a socket pair");
	(void)fflush(NULL);
	pid = fork();
	if (pid < 0) {
		err = err_sys(e, -errno, "cannot start the mounter");
		(void)close(fds[0]);
		(void)close(fds[1]);
		return err;
	}
	if (pid == 0) {
		run(fds[1]);
		_exit(0);
	}
	(void)close(fds[1]);
	*ret = (struct ld_mounter){.fd = fds[0], .pid = pid};
	return 0;
}

static int receive(int fd, struct answer *a, int *ret_fd)
{
	struct iovec iov = {.iov_base = a, .iov_len = sizeof(*a)};
	union fd_message control;
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*a))
		return -EIO;
	a->err.text[sizeof(a->err.text) - 1] = '\0';
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
	return 0;
}

static bool fill(char *dst, size_t cap, const char *src)
{
	int n = snprintf(dst, cap, "%s", src ? src : "");

	return n >= 0 && (size_t)n < cap;
}

static int ask(struct ld_mounter *m, const struct request *r, int *ret_fd,
	struct err *e)
{
	struct answer a = {0};
	ssize_t n;

	n = send(m->fd, r, sizeof(*r), MSG_NOSIGNAL);
	if (n != (ssize_t)sizeof(*r) || receive(m->fd, &a, ret_fd) < 0)
		return err_set(e, -EIO, "the mounter process has ended");
	if (a.code < 0 && e)
		*e = a.err;
	return a.code;
}

int ld_mounter_mount(struct ld_mounter *m, const struct ld_mount_options *o,
	int *ret_fuse_fd, struct err *e)
{
	struct request r = {.verb = MOUNT};
	int fd = -1, ret;

	if (!fill(r.dir, sizeof(r.dir), o->dir) ||
		!fill(r.source, sizeof(r.source), o->source) ||
		!fill(r.opts, sizeof(r.opts), o->opts))
		return err_set(e, -E2BIG, "the mount options are too long");
	ret = ask(m, &r, &fd, e);
	if (ret < 0)
		return ret;
	if (fd < 0)
		return err_set(e, -EIO, "the mounter gave no descriptor");
	*ret_fuse_fd = fd;
	return 0;
}

int ld_mounter_unmount(
	struct ld_mounter *m, const char *dir, bool lazy, struct err *e)
{
	struct request r = {.verb = lazy ? DETACH : UNMOUNT};
	int fd = -1;

	if (!fill(r.dir, sizeof(r.dir), dir))
		return err_set(e, -E2BIG, "the path is too long");
	return ask(m, &r, &fd, e);
}

void ld_mounter_stop(struct ld_mounter *m)
{
	if (m->fd < 0)
		return;
	(void)close(m->fd);
	m->fd = -1;
	while (waitpid(m->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
