/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run files and control sockets; see control.h. Names are derived from the
 * mount point; the lock on the run file tells the living from the dead.
 */
#include "loader/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "loader/control_int.h"
#include "loader/json.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define MAX_ANSWER (16u << 20)
#define SWEEP_TRIES 5
#define SWEEP_MS 20

struct ld_control {
	char place[CONTROL_PATH_LEN];
	char run[CONTROL_PATH_LEN], sock[CONTROL_PATH_LEN]; /* paths */
	char *mount_dir, *image;                            /* owned */
	int run_fd;                                         /* locked */
	int listen_fd;                                      /* -1 until ready */
	struct ld_mount_id mount; /* ours, or one whose process died */
	bool is_stale;            /* the latter */
	bool is_left;             /* the run file stays behind */
};

static int make_place(char ret[CONTROL_PATH_LEN], struct err *e)
{
	char all[CONTROL_MAX_PLACES][CONTROL_PATH_LEN];
	size_t i, n = control_places(all);

	for (i = 0; i < n; i++) {
		if ((mkdir(all[i], 0700) == 0 || errno == EEXIST) &&
			control_is_private_dir(all[i]) &&
			access(all[i], W_OK | X_OK) == 0) {
			memcpy(ret, all[i], CONTROL_PATH_LEN);
			return 0;
		}
	}
	return err_set(e, -EACCES,
		"'%s' cannot be made or belongs to somebody else", all[n - 1]);
}

/* ---- the run file ---- */

/* status: of a mount that needs no process; NULL: of this process. */
static json_t *run_json(
	const struct ld_control *c, bool is_ready, const struct buf *status)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:o, s:b}", "version",
		CONTROL_RUN_VERSION, "dir", c->mount_dir, "image", c->image,
		"pid", status ? json_null() : json_integer(getpid()), "ready",
		(int)is_ready);
	int bad = o ? 0 : -1;

	if (c->mount.id)
		bad |= json_object_set_new(
			o, "mount", control_mount_json(&c->mount));
	if (status)
		bad |= json_object_set_new(o, "status",
			json_stringn((const char *)status->data, status->len));
	if (bad) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static int write_run_file(
	struct ld_control *c, bool is_ready, const struct buf *status)
{
	json_t *o = run_json(c, is_ready, status);
	struct buf b;
	ssize_t n;
	int ret;

	buf_init(&b, CONTROL_MAX_RUN_FILE);
	ret = ld_json_write(o, JSON_COMPACT, &b);
	json_decref(o);
	/* readers that come between these two see no JSON and pass by */
	if (ret == 0 && ftruncate(c->run_fd, 0) < 0)
		ret = -errno;
	if (ret == 0) {
		n = pwrite(c->run_fd, b.data, b.len, 0);
		ret = n < 0 ? -errno : n < (ssize_t)b.len ? -ENOSPC : 0;
	}
	buf_fini(&b);
	return ret;
}

/* Does fd's file still have that name? */
static bool is_named(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && lstat(path, &b) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The lock is held: by whom, and does that count? -EBUSY, or 0 to go on. */
static int judge_holder(
	struct ld_control *c, int fd, bool is_mounted, struct err *e)
{
	struct ld_run r = {0};
	bool is_detached;

	is_detached =
		control_read_run_file(fd, &r) == 0 && r.is_ready && !is_mounted;
	if (is_detached) {
		/* it serves who still uses the old mount, under no name */
		if (is_named(fd, c->run))
			(void)unlink(c->run);
	} else if (r.is_ready) {
		(void)err_set(e, -EBUSY,
			"'%s' is already mounted, by process %ld", c->mount_dir,
			(long)r.pid);
	} else {
		(void)err_set(e, -EBUSY,
			"'%s' is being mounted by another process",
			c->mount_dir);
	}
	ld_run_fini(&r);
	return is_detached ? 0 : -EBUSY;
}

/* Does an unlocked run file still speak for a mount? */
static bool has_mount(int fd)
{
	struct ld_run r;
	bool has;

	if (control_read_run_file(fd, &r) < 0)
		return false;
	has = ld_mount_id_is_below(&r.mount, r.dir);
	ld_run_fini(&r);
	return has;
}

/*
 * Take away what dead processes left. Whoever is about to lock one of these
 * files sees that its name is gone and starts again.
 */
static void sweep(const char *place)
{
	struct flock lock;
	struct stat a, b;
	struct dirent *d;
	DIR *dir = opendir(place);
	char *ext;
	int fd;

	while (dir && (d = readdir(dir))) {
		ext = strrchr(d->d_name, '.');
		if (!ext || strcmp(ext, ".json") != 0)
			continue;
		fd = openat(
			dirfd(dir), d->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			continue;
		lock = (struct flock){.l_type = F_WRLCK};
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0 && fstat(fd, &a) == 0 &&
			fstatat(dirfd(dir), d->d_name, &b,
				AT_SYMLINK_NOFOLLOW) == 0 &&
			a.st_ino == b.st_ino && !has_mount(fd)) {
			(void)unlinkat(dirfd(dir), d->d_name, 0);
			memcpy(ext, ".sock", sizeof(".sock"));
			(void)unlinkat(dirfd(dir), d->d_name, 0);
		}
		(void)close(fd);
	}
	if (dir)
		(void)closedir(dir);
}

void ld_control_sweep(void)
{
	char all[CONTROL_MAX_PLACES][CONTROL_PATH_LEN];
	size_t i, n = control_places(all);

	for (i = 0; i < n; i++)
		if (control_is_private_dir(all[i]))
			sweep(all[i]);
}

/*
 * The lock is ours, but the file may speak for a mount: -EBUSY for one that is
 * whole without a process, while a dead process' one may be replaced.
 */
static int judge_left(struct ld_control *c, struct err *e)
{
	struct ld_run r;
	int ret = 0;

	if (control_read_run_file(c->run_fd, &r) < 0)
		return 0;
	if (ld_mount_id_is_at(&r.mount, c->mount_dir)) {
		c->is_stale = r.pid > 0;
		c->mount = r.mount;
		if (!c->is_stale) {
			c->is_left = true;
			ret = err_set(e, -EBUSY, "'%s' is already mounted",
				c->mount_dir);
		}
	}
	ld_run_fini(&r);
	return ret;
}

static int claim(struct ld_control *c, bool is_mounted, struct err *e)
{
	struct flock lock = {.l_type = F_WRLCK}; /* of this open file */
	int tries, fd, ret;

	for (tries = 0; tries < SWEEP_TRIES + 10; tries++) {
		fd = open(c->run, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			0600);
		if (fd < 0)
			return err_sys(e, -errno, "cannot make '%s'", c->run);
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
			if (is_named(fd, c->run)) {
				c->run_fd = fd;
				return judge_left(c, e);
			}
			ret = 0; /* it was removed meanwhile */
		} else if (errno == EAGAIN || errno == EACCES) {
			/* somebody who sweeps holds it for a moment */
			if (tries < SWEEP_TRIES) {
				(void)poll(NULL, 0, SWEEP_MS);
				(void)close(fd);
				continue;
			}
			ret = judge_holder(c, fd, is_mounted, e);
		} else {
			ret = err_sys(e, -errno, "cannot lock '%s'", c->run);
		}
		(void)close(fd);
		if (ret < 0)
			return ret;
	}
	return err_set(e, -EBUSY, "others keep mounting at '%s'", c->mount_dir);
}

int ld_control_create(const char *dir, const char *image, bool is_mounted,
	struct ld_control **ret, struct err *e)
{
	struct ld_control *c = mem_zalloc(sizeof(*c));
	int err;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->run_fd = -1;
	c->listen_fd = -1;
	c->mount_dir = mem_strdup(dir);
	c->image = mem_strdup(image);
	err = c->mount_dir && c->image ? 0 : -ENOMEM;
	if (err < 0)
		(void)err_set(e, err, "out of memory");
	else
		err = make_place(c->place, e);
	if (err == 0) {
		err = control_name_in(c->place, dir, ".json", c->run);
		if (err == 0)
			err = control_name_in(c->place, dir, ".sock", c->sock);
		if (err < 0)
			(void)err_set(e, err, "cannot name a run file");
	}
	if (err == 0) {
		sweep(c->place);
		err = claim(c, is_mounted, e);
	}
	if (err == 0) {
		err = write_run_file(c, false, NULL);
		if (err < 0)
			(void)err_sys(e, err, "cannot write '%s'", c->run);
	}
	if (err < 0) {
		ld_control_destroy(c);
		return err;
	}
	*ret = c;
	return 0;
}

const struct ld_mount_id *ld_control_stale(const struct ld_control *c)
{
	return c->is_stale ? &c->mount : NULL;
}

void ld_control_set_mount(struct ld_control *c, const struct ld_mount_id *m)
{
	c->mount = m ? *m : (struct ld_mount_id){0};
	c->is_stale = false;
}

int ld_control_leave(
	struct ld_control *c, const struct buf *status, struct err *e)
{
	int ret = write_run_file(c, true, status);

	if (ret < 0)
		return err_sys(e, ret, "cannot write '%s'", c->run);
	c->is_left = true;
	return 0;
}

void ld_control_destroy(struct ld_control *c)
{
	bool is_left;

	if (!c)
		return;
	if (c->listen_fd >= 0)
		(void)close(c->listen_fd);
	/* a dead process' mount that was not replaced still needs its name */
	is_left = c->is_left ||
	          (c->is_stale && ld_mount_id_is_at(&c->mount, c->mount_dir));
	if (c->run_fd >= 0 && is_named(c->run_fd, c->run)) {
		(void)unlink(c->sock);
		if (!is_left)
			(void)unlink(c->run);
	}
	if (c->run_fd >= 0)
		(void)close(c->run_fd);
	mem_free(c->mount_dir);
	mem_free(c->image);
	mem_free(c);
}

/* ---- the socket, daemon's side ---- */

int ld_control_listen(struct ld_control *c, struct err *e)
{
	struct sockaddr_un a = control_address_of(c->sock);
	CLEANUP_FD int fd = -1;
	int ret;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, -errno, "cannot make the control socket");
	if (unlink(c->sock) < 0 && errno != ENOENT)
		return err_sys(e, -errno, "cannot remove '%s'", c->sock);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		chmod(c->sock, 0600) < 0 || listen(fd, 16) < 0)
		return err_sys(e, -errno, "cannot listen on '%s'", c->sock);
	ret = write_run_file(c, true, NULL);
	if (ret < 0)
		return err_sys(e, ret, "cannot write '%s'", c->run);
	c->listen_fd = take_fd(&fd);
	return 0;
}

int ld_control_fd(const struct ld_control *c)
{
	return c->listen_fd;
}

static bool may_ask(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

/* A word and its newline; what is longer than any word is none. */
static int receive_word(int fd, char *ret, size_t cap)
{
	size_t used = 0;
	char *end;
	ssize_t n;

	for (;;) {
		n = recv(fd, ret + used, cap - 1 - used, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPROTO;
		used += (size_t)n;
		end = memchr(ret, '\n', used);
		if (end) {
			*end = '\0';
			return 0;
		}
		if (used + 1 == cap)
			return -EPROTO;
	}
}

void ld_control_serve(struct ld_control *c,
	void (*answer)(void *arg, const char *word, struct buf *out), void *arg)
{
	CLEANUP_FD int fd = -1;
	char word[64];
	struct buf out;

	fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return; /* it went away again */
	control_set_timeout(fd, 1);
	if (!may_ask(fd) || receive_word(fd, word, sizeof(word)) < 0)
		return;
	buf_init(&out, MAX_ANSWER);
	answer(arg, word, &out);
	(void)control_send_all(
		fd, out.data, out.len); /* a client that left is fine */
	buf_fini(&out);
}
