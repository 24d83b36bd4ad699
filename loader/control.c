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
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "loader/json.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/digest.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define RUN_VERSION 1
#define MAX_RUN_FILE 65536
#define MAX_ANSWER (16u << 20)
#define MAX_PLACES 3
#define PATH_LEN 108 /* what fits into a socket's address */

struct ld_control {
	char place[PATH_LEN];
	char run[PATH_LEN], sock[PATH_LEN]; /* paths */
	char *mount_dir, *image;            /* owned */
	int run_fd;                         /* locked */
	int listen_fd;                      /* -1 until ready */
};

/* ---- where ---- */

/* The directories to look in, best first. */
static size_t places(char ret[MAX_PLACES][PATH_LEN])
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	size_t n = 0;
	int len;

	if (geteuid() == 0)
		(void)snprintf(ret[n++], PATH_LEN, "/run/sluice");
	if (xdg && xdg[0] == '/') {
		len = snprintf(ret[n], PATH_LEN, "%s/sluice", xdg);
		/* room for "/<16 hex>.sock" */
		if (len > 0 && (size_t)len + 24 < PATH_LEN)
			n++;
	}
	(void)snprintf(ret[n++], PATH_LEN, "/tmp/sluice-%lu",
		(unsigned long)geteuid());
	return n;
}

/* A directory of ours that nobody else can write to. */
static bool is_private_dir(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	       st.st_uid == geteuid() && !(st.st_mode & 0022);
}

static int make_place(char ret[PATH_LEN], struct err *e)
{
	char all[MAX_PLACES][PATH_LEN];
	size_t i, n = places(all);

	for (i = 0; i < n; i++) {
		if ((mkdir(all[i], 0700) == 0 || errno == EEXIST) &&
			is_private_dir(all[i]) &&
			access(all[i], W_OK | X_OK) == 0) {
			memcpy(ret, all[i], PATH_LEN);
			return 0;
		}
	}
	return err_set(e, -EACCES,
		"'%s' cannot be made or belongs to somebody else", all[n - 1]);
}

/* "<place>/<16 hex digits of the mount point's digest><suffix>" */
static int name_in(const char *place, const char *dir, const char *suffix,
	char ret[PATH_LEN])
{
	char hex[2 * DIGEST_MAX_BYTES + 1];
	struct digest d;
	int n;

	n = digest_of(DIGEST_SHA256, dir, strlen(dir), &d);
	if (n < 0)
		return n;
	n = snprintf(ret, PATH_LEN, "%s/%.16s%s", place, digest_hex(&d, hex),
		suffix);
	return n < 0 || n >= PATH_LEN ? -ENAMETOOLONG : 0;
}

int ld_control_resolve(const char *dir, char *ret, struct err *e)
{
	CLEANUP_FD int fd = -1;
	char link[64];
	ssize_t n;

	/* O_PATH walks to the mount's root and asks it nothing */
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "'%s'", dir);
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, ret, 4095);
	if (n < 0)
		return err_sys(e, -errno, "cannot resolve '%s'", dir);
	ret[n] = '\0';
	return 0;
}

/* ---- the run file ---- */

static int write_run_file(struct ld_control *c, bool is_ready)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:I, s:b}", "version",
		RUN_VERSION, "dir", c->mount_dir, "image", c->image, "pid",
		(json_int_t)getpid(), "ready", (int)is_ready);
	struct buf b;
	ssize_t n;
	int ret;

	buf_init(&b, MAX_RUN_FILE);
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

static int read_run_file(int fd, struct ld_run *ret)
{
	char text[3 * 4096];
	struct ld_run r = {0};
	const char *dir, *image;
	json_t *o;
	ssize_t n;

	n = pread(fd, text, sizeof(text), 0);
	if (n < 0)
		return -errno;
	o = json_loadb(text, (size_t)n, 0, NULL);
	dir = json_string_value(json_object_get(o, "dir"));
	image = json_string_value(json_object_get(o, "image"));
	r.pid = (pid_t)json_integer_value(json_object_get(o, "pid"));
	r.is_ready = json_is_true(json_object_get(o, "ready"));
	if (!dir || !image || r.pid <= 0) {
		json_decref(o);
		return -EPROTO;
	}
	r.dir = mem_strdup(dir);
	r.image = mem_strdup(image);
	json_decref(o);
	if (!r.dir || !r.image) {
		ld_run_fini(&r);
		return -ENOMEM;
	}
	*ret = r;
	return 0;
}

void ld_run_fini(struct ld_run *r)
{
	mem_free(r->dir);
	mem_free(r->image);
	*r = (struct ld_run){0};
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

	is_detached = read_run_file(fd, &r) == 0 && r.is_ready && !is_mounted;
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

static int claim(struct ld_control *c, bool is_mounted, struct err *e)
{
	struct flock lock = {.l_type = F_WRLCK}; /* of this open file */
	int tries, fd, ret;

	for (tries = 0; tries < 10; tries++) {
		fd = open(c->run, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			0600);
		if (fd < 0)
			return err_sys(e, -errno, "cannot make '%s'", c->run);
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
			if (is_named(fd, c->run)) {
				c->run_fd = fd;
				return 0;
			}
			ret = 0; /* it was removed meanwhile */
		} else if (errno == EAGAIN || errno == EACCES) {
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
		err = name_in(c->place, dir, ".json", c->run);
		if (err == 0)
			err = name_in(c->place, dir, ".sock", c->sock);
		if (err < 0)
			(void)err_set(e, err, "cannot name a run file");
	}
	if (err == 0)
		err = claim(c, is_mounted, e);
	if (err == 0) {
		err = write_run_file(c, false);
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

void ld_control_destroy(struct ld_control *c)
{
	if (!c)
		return;
	if (c->listen_fd >= 0)
		(void)close(c->listen_fd);
	if (c->run_fd >= 0 && is_named(c->run_fd, c->run)) {
		(void)unlink(c->sock);
		(void)unlink(c->run);
	}
	if (c->run_fd >= 0)
		(void)close(c->run_fd);
	mem_free(c->mount_dir);
	mem_free(c->image);
	mem_free(c);
}

/* ---- the socket, daemon's side ---- */

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

int ld_control_listen(struct ld_control *c, struct err *e)
{
	struct sockaddr_un a = address_of(c->sock);
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
	ret = write_run_file(c, true);
	if (ret < 0)
		return err_sys(e, ret, "cannot write '%s'", c->run);
	c->listen_fd = take_fd(&fd);
	return 0;
}

int ld_control_fd(const struct ld_control *c)
{
	return c->listen_fd;
}

/* Neither side waits for ever for the other. */
static void set_timeout(int fd, int seconds)
{
	struct timeval t = {.tv_sec = seconds};

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

static bool may_ask(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static int send_all(int fd, const void *p, size_t n)
{
	const char *at = p;
	ssize_t sent;

	while (n > 0) {
		sent = send(fd, at, n, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		at += sent;
		n -= (size_t)sent;
	}
	return 0;
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
	set_timeout(fd, 1);
	if (!may_ask(fd) || receive_word(fd, word, sizeof(word)) < 0)
		return;
	buf_init(&out, MAX_ANSWER);
	answer(arg, word, &out);
	(void)send_all(fd, out.data, out.len); /* a client that left is fine */
	buf_fini(&out);
}

/* ---- the other side ---- */

/* The run file at path if its process lives; -ENOENT otherwise. */
static int read_live(int dirfd, const char *path, struct ld_run *ret)
{
	struct flock lock = {.l_type = F_WRLCK};
	CLEANUP_FD int fd = -1;
	struct stat st;

	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -ENOENT;
	if (fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return -ENOENT; /* left by a dead process */
	return read_run_file(fd, ret) < 0 ? -ENOENT : 0;
}

/* Also where it was found, for its socket. */
static int find_in(const char *dir, struct ld_run *ret, char place[PATH_LEN])
{
	char all[MAX_PLACES][PATH_LEN], path[PATH_LEN];
	size_t i, n = places(all);

	for (i = 0; i < n; i++) {
		if (!is_private_dir(all[i]) ||
			name_in(all[i], dir, ".json", path) < 0 ||
			read_live(AT_FDCWD, path, ret) < 0)
			continue;
		if (strcmp(ret->dir, dir) == 0) {
			memcpy(place, all[i], PATH_LEN);
			return 0;
		}
		ld_run_fini(ret);
	}
	return -ENOENT;
}

int ld_control_find(const char *dir, struct ld_run *ret, struct err *e)
{
	char place[PATH_LEN];

	if (find_in(dir, ret, place) < 0)
		return err_set_kind(e, ERR_FAILED, -ENOENT,
			"no process of ours serves '%s'", dir);
	return 0;
}

static int list_place(const char *place,
	int (*each)(void *arg, const struct ld_run *r), void *arg)
{
	struct dirent *d;
	struct ld_run r;
	DIR *dir;
	size_t n;
	int ret = 0;

	if (!is_private_dir(place))
		return 0;
	dir = opendir(place);
	if (!dir)
		return 0;
	while (ret >= 0 && (d = readdir(dir))) {
		n = strlen(d->d_name);
		if (n < 5 || strcmp(d->d_name + n - 5, ".json") != 0 ||
			read_live(dirfd(dir), d->d_name, &r) < 0)
			continue;
		ret = each(arg, &r);
		ld_run_fini(&r);
	}
	(void)closedir(dir);
	return ret;
}

int ld_control_list(int (*each)(void *arg, const struct ld_run *r), void *arg,
	struct err *e)
{
	char all[MAX_PLACES][PATH_LEN];
	size_t i, n = places(all);
	int ret = 0;

	for (i = 0; i < n && ret >= 0; i++)
		ret = list_place(all[i], each, arg);
	if (ret < 0)
		return err_sys(e, ret, "cannot list the mounts");
	return 0;
}

static int exchange(int fd, const char *word, struct buf *out)
{
	char line[64];
	ssize_t n;
	int ret;

	n = snprintf(line, sizeof(line), "%s\n", word);
	ret = send_all(fd, line, (size_t)n);
	while (ret == 0) {
		ret = buf_reserve(out, 4096);
		if (ret < 0)
			return ret;
		n = recv(fd, out->data + out->len, out->cap - out->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		out->len += (size_t)n;
	}
	return ret;
}

int ld_control_ask(
	const char *dir, const char *word, struct buf *out, struct err *e)
{
	char place[PATH_LEN], path[PATH_LEN];
	struct ld_run r;
	struct sockaddr_un a;
	CLEANUP_FD int fd = -1;
	int ret;

	if (find_in(dir, &r, place) < 0)
		return err_set_kind(e, ERR_FAILED, -ENOENT,
			"no process of ours serves '%s'", dir);
	ld_run_fini(&r);
	ret = name_in(place, dir, ".sock", path);
	if (ret < 0)
		return err_sys(e, ret, "cannot name the socket");
	a = address_of(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, -errno, "cannot make a socket");
	set_timeout(fd, 10);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		ret = -errno;
	else
		ret = exchange(fd, word, out);
	if (ret == -EAGAIN)
		ret = -ETIMEDOUT;
	if (ret == 0 && out->len == 0)
		ret = -EPROTO;
	if (ret < 0)
		return err_sys(e, ret,
			"the process that serves '%s' does not "
			"answer",
			dir);
	return 0;
}
