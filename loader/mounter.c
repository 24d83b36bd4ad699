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
#include "loader/tree.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

enum verb {
	MOUNT = 1,
	UNMOUNT,
	DETACH,
	MOUNT_BLOBS,
	TAKE_FILES,
	MOUNT_EROFS,
	FORGET
};

#define MAX_FILES 200 /* in one message; the kernel takes 253 */

struct request {
	uint32_t verb;
	uint32_t count; /* TAKE_FILES, MOUNT_EROFS: of slots */
	struct ld_mount_id stale;
	char dir[4096];
	char source[4608];
	char opts[4608];
	/* TAKE_FILES: bit i: slot i has a file of its own, which comes along */
	uint8_t has_file[MAX_FILES / 8];
};

struct answer {
	int32_t code;
	struct ld_mount_id id;
	struct err err;
};

union fd_message {
	char bytes[CMSG_SPACE(MAX_FILES * sizeof(int))];
	struct cmsghdr align;
};

/* ---- messages with descriptors ---- */

static int send_message(
	int fd, const void *p, size_t len, const int *fds, uint32_t count)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = len};
	union fd_message control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	ssize_t n;

	if (count > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	return n < 0 ? -errno : n == (ssize_t)len ? 0 : -EIO;
}

/* Exactly len bytes, and up to MAX_FILES descriptors, which become ours. */
static int receive_message(
	int fd, void *p, size_t len, int *ret_fds, uint32_t *ret_count)
{
	struct iovec iov = {.iov_base = p, .iov_len = len};
	union fd_message control;
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c;
	ssize_t n;

	*ret_count = 0;
	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	c = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*ret_count =
			(uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(ret_fds, CMSG_DATA(c), *ret_count * sizeof(int));
	}
	return n == (ssize_t)len ? 0 : -EIO;
}

/* ---- the process ---- */

/* What the daemon's mount is; to be told from what others put over it. */
struct mounted {
	bool is_known;
	unsigned dev_major, dev_minor;
	/* of an EROFS that is being put together */
	int blobs;      /* the FUSE mount, -1: none */
	int *files;     /* owned: the index, then one of each slot, or -1 */
	size_t cap;     /* of files */
	uint32_t count; /* of files that have come */
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

/* ---- an EROFS ---- */

static void close_all(const int *fds, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]); /* only ever read */
}

static void forget_files(struct mounted *m)
{
	close_all(m->files, m->count);
	mem_free(m->files);
	m->files = NULL;
	m->cap = 0;
	m->count = 0;
	if (m->blobs >= 0)
		(void)close(m->blobs); /* the tree has its files open */
	m->blobs = -1;
}

/* Takes the descriptors; the first of all is that of the index. */
static int take_files(struct mounted *m, const struct request *r, int *fds,
	uint32_t count, struct err *e)
{
	uint32_t i, next = 0;
	void *files = m->files;
	int rc;

	rc = r->count > MAX_FILES
	             ? -EPROTO
	             : mem_grow(&files, &m->cap, m->count + r->count,
			       LD_MAX_BLOBS + 1, sizeof(int));
	m->files = files;
	for (i = 0; i < r->count && rc == 0; i++) {
		int fd = -1;

		if (r->has_file[i / 8] & 1u << i % 8) {
			if (next == count) {
				rc = -EPROTO;
				break;
			}
			fd = fds[next++];
		}
		m->files[m->count++] = fd;
	}
	close_all(fds + next, count - next);
	return rc < 0 ? err_sys(e, rc, "cannot take the files of the blobs")
	              : 0;
}

static int open_blobs(struct mounted *m, uint32_t *ret_served, struct err *e)
{
	uint32_t i, served = 0;
	int fd;

	for (i = 1; i < m->count; i++) {
		if (m->files[i] >= 0)
			continue;
		fd = ld_blobs_open(m->blobs, i - 1);
		if (fd < 0)
			return err_sys(e, fd, "cannot open blob %u", i - 1);
		m->files[i] = fd;
		served++;
	}
	*ret_served = served;
	return 0;
}

static int mount_erofs(struct mounted *m, const struct request *r,
	const struct ld_mount_options *o, struct ld_mount_id *ret,
	struct err *e)
{
	struct ld_erofs_files f = {.path = r->source};
	int rc;

	if (m->count == 0 || m->files[0] < 0)
		return err_set(e, -EPROTO, "there is no index");
	rc = open_blobs(m, &f.served, e);
	if (rc < 0)
		return rc;
	f.index = m->files[0];
	f.device = m->files + 1;
	f.count = m->count - 1;
	return ld_erofs_mount(o, &f, ret, e);
}

/* ---- requests ---- */

static void serve(int fd, struct mounted *m, const struct request *r, int *fds,
	uint32_t fd_count)
{
	struct ld_mount_options o = {.dir = r->dir,
		.source = r->source,
		.opts = r->opts,
		.stale = r->stale.id ? &r->stale : NULL};
	struct answer a = {0};
	int fuse_fd = -1;

	switch (r->verb) {
	case MOUNT:
		a.code = ld_mount(&o, &fuse_fd, &a.err);
		break;
	case MOUNT_BLOBS:
		forget_files(m);
		a.code = ld_blobs_mount(&fuse_fd, &m->blobs, &a.err);
		break;
	case TAKE_FILES:
		a.code = take_files(m, r, fds, fd_count, &a.err);
		fd_count = 0;
		break;
	case MOUNT_EROFS:
		a.code = mount_erofs(m, r, &o, &a.id, &a.err);
		forget_files(m);
		break;
	case FORGET:
		forget_files(m);
		break;
	default:
		a.code = unmount(m, r, &a.err);
	}
	close_all(fds, fd_count);
	if ((r->verb == MOUNT || r->verb == MOUNT_EROFS) && a.code == 0)
		note_mounted(m, r->dir);
	/* daemon gone: the next message ends */
	(void)send_message(fd, &a, sizeof(a), &fuse_fd, fuse_fd >= 0);
	if (fuse_fd >= 0)
		(void)close(fuse_fd);
}

static void run(int fd)
{
	static struct request r;
	struct mounted m = {.blobs = -1};
	int fds[MAX_FILES];
	uint32_t count;
	sigset_t all;

	/* ctrl-c in front hits us too, and the unmount is still to come */
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)prctl(PR_SET_NAME, "sluice-mount", 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	ld_daemon_null_std_fds();
	if (fd > STDERR_FILENO + 1)
		(void)close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
	(void)close_range((unsigned)fd + 1, ~0u, 0);
	ld_daemon_allow_descriptors();
	while (receive_message(fd, &r, sizeof(r), fds, &count) == 0)
		serve(fd, &m, &r, fds, count);
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

static bool fill(char *dst, size_t cap, const char *src)
{
	int n = snprintf(dst, cap, "%s", src ? src : "");

	return n >= 0 && (size_t)n < cap;
}

static int ask(struct ld_mounter *m, const struct request *r, const int *fds,
	uint32_t count, struct answer *ret, int *ret_fd, struct err *e)
{
	struct answer a = {0};
	int got[MAX_FILES];
	uint32_t n = 0;

	if (send_message(m->fd, r, sizeof(*r), fds, count) < 0 ||
		receive_message(m->fd, &a, sizeof(a), got, &n) < 0) {
		close_all(got, n);
		return err_set(e, -EIO, "the mounter process has ended");
	}
	a.err.text[sizeof(a.err.text) - 1] = '\0';
	if (ret_fd && n > 0)
		*ret_fd = got[0];
	else
		close_all(got, n);
	if (a.code < 0 && e)
		*e = a.err;
	if (ret)
		*ret = a;
	return a.code;
}

static int fill_options(
	struct request *r, const struct ld_mount_options *o, struct err *e)
{
	if (!fill(r->dir, sizeof(r->dir), o->dir) ||
		!fill(r->source, sizeof(r->source), o->source) ||
		!fill(r->opts, sizeof(r->opts), o->opts))
		return err_set(e, -E2BIG, "the mount options are too long");
	if (o->stale)
		r->stale = *o->stale;
	return 0;
}

/* A request that is answered with a descriptor. */
static int ask_for_fd(struct ld_mounter *m, const struct request *r,
	int *ret_fd, struct err *e)
{
	int fd = -1, ret;

	ret = ask(m, r, NULL, 0, NULL, &fd, e);
	if (ret < 0)
		return ret;
	if (fd < 0)
		return err_set(e, -EIO, "the mounter gave no descriptor");
	*ret_fd = fd;
	return 0;
}

int ld_mounter_mount(struct ld_mounter *m, const struct ld_mount_options *o,
	int *ret_fuse_fd, struct err *e)
{
	struct request r = {.verb = MOUNT};
	int ret = fill_options(&r, o, e);

	return ret < 0 ? ret : ask_for_fd(m, &r, ret_fuse_fd, e);
}

int ld_mounter_mount_blobs(
	struct ld_mounter *m, int *ret_fuse_fd, struct err *e)
{
	struct request r = {.verb = MOUNT_BLOBS};

	return ask_for_fd(m, &r, ret_fuse_fd, e);
}

/* The index, then the device of each slot: file i of all. */
static int file_at(const struct ld_erofs_files *f, uint32_t i)
{
	return i == 0 ? f->index : f->device[i - 1];
}

static int give_files(
	struct ld_mounter *m, const struct ld_erofs_files *f, struct err *e)
{
	int fds[MAX_FILES], ret = 0;
	uint32_t at, i, n;

	for (at = 0; at < f->count + 1 && ret == 0; at += i) {
		struct request r = {.verb = TAKE_FILES};

		n = 0;
		for (i = 0; i < MAX_FILES && at + i < f->count + 1; i++) {
			if (file_at(f, at + i) < 0)
				continue;
			r.has_file[i / 8] |= (uint8_t)(1u << i % 8);
			fds[n++] = file_at(f, at + i);
		}
		r.count = i;
		ret = ask(m, &r, fds, n, NULL, NULL, e);
	}
	return ret;
}

int ld_mounter_mount_erofs(struct ld_mounter *m,
	const struct ld_mount_options *o, const struct ld_erofs_files *f,
	struct ld_mount_id *ret_id, struct err *e)
{
	struct request r = {.verb = MOUNT_EROFS}, forget = {.verb = FORGET};
	struct answer a;
	int ret;

	ret = fill_options(&r, o, e);
	if (ret == 0 && !fill(r.source, sizeof(r.source), f->path))
		ret = err_set(e, -E2BIG, "the path of the index is too long");
	if (ret == 0)
		ret = give_files(m, f, e);
	if (ret < 0) {
		/* ended: then there is nothing to forget */
		(void)ask(m, &forget, NULL, 0, NULL, NULL, NULL);
		return ret;
	}
	ret = ask(m, &r, NULL, 0, &a, NULL, e);
	if (ret == 0)
		*ret_id = a.id;
	return ret;
}

int ld_mounter_unmount(
	struct ld_mounter *m, const char *dir, bool lazy, struct err *e)
{
	struct request r = {.verb = lazy ? DETACH : UNMOUNT};

	if (!fill(r.dir, sizeof(r.dir), dir))
		return err_set(e, -E2BIG, "the path is too long");
	return ask(m, &r, NULL, 0, NULL, NULL, e);
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
