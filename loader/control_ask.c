/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of the control socket: finding, listing and asking mounts; and
 * what both sides need to know of names and run files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "loader/control_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/digest.h"
#include "runtime/base/mem.h"

/* ---- names and run files ---- */

/* The directories to look in, best first. */
size_t control_places(char ret[CONTROL_MAX_PLACES][CONTROL_PATH_LEN])
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	size_t n = 0;
	int len;

	if (geteuid() == 0)
		(void)snprintf(ret[n++], CONTROL_PATH_LEN, "/run/sluice");
	if (xdg && xdg[0] == '/') {
		len = snprintf(ret[n], CONTROL_PATH_LEN, "%s/sluice", xdg);
		/* room for "/<16 hex>.sock" */
		if (len > 0 && (size_t)len + 24 < CONTROL_PATH_LEN)
			n++;
	}
	(void)snprintf(ret[n++], CONTROL_PATH_LEN, "/tmp/sluice-%lu",
		(unsigned long)geteuid());
	return n;
}

/* A directory of ours that nobody else can write to. */
bool control_is_private_dir(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	       st.st_uid == geteuid() && !(st.st_mode & 0022);
}

/* "<place>/<16 hex digits of the mount point's digest><suffix>" */
int control_name_in(const char *place, const char *dir, const char *suffix,
	char ret[CONTROL_PATH_LEN])
{
	char hex[2 * DIGEST_MAX_BYTES + 1];
	struct digest d;
	int n;

	n = digest_of(DIGEST_SHA256, dir, strlen(dir), &d);
	if (n < 0)
		return n;
	n = snprintf(ret, CONTROL_PATH_LEN, "%s/%.16s%s", place,
		digest_hex(&d, hex), suffix);
	return n < 0 || n >= CONTROL_PATH_LEN ? -ENAMETOOLONG : 0;
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

int control_read_run_file(int fd, struct ld_run *ret)
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

/* ---- sockets ---- */

struct sockaddr_un control_address_of(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

/* Neither side waits for ever for the other. */
void control_set_timeout(int fd, int seconds)
{
	struct timeval t = {.tv_sec = seconds};

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

int control_send_all(int fd, const void *p, size_t n)
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
	return control_read_run_file(fd, ret) < 0 ? -ENOENT : 0;
}

/* Also where it was found, for its socket. */
static int find_in(
	const char *dir, struct ld_run *ret, char place[CONTROL_PATH_LEN])
{
	char all[CONTROL_MAX_PLACES][CONTROL_PATH_LEN], path[CONTROL_PATH_LEN];
	size_t i, n = control_places(all);

	for (i = 0; i < n; i++) {
		if (!control_is_private_dir(all[i]) ||
			control_name_in(all[i], dir, ".json", path) < 0 ||
			read_live(AT_FDCWD, path, ret) < 0)
			continue;
		if (strcmp(ret->dir, dir) == 0) {
			memcpy(place, all[i], CONTROL_PATH_LEN);
			return 0;
		}
		ld_run_fini(ret);
	}
	return -ENOENT;
}

int ld_control_find(const char *dir, struct ld_run *ret, struct err *e)
{
	char place[CONTROL_PATH_LEN];

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

	if (!control_is_private_dir(place))
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
	char all[CONTROL_MAX_PLACES][CONTROL_PATH_LEN];
	size_t i, n = control_places(all);
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
	ret = control_send_all(fd, line, (size_t)n);
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
	char place[CONTROL_PATH_LEN], path[CONTROL_PATH_LEN];
	struct ld_run r;
	struct sockaddr_un a;
	CLEANUP_FD int fd = -1;
	int ret;

	if (find_in(dir, &r, place) < 0)
		return err_set_kind(e, ERR_FAILED, -ENOENT,
			"no process of ours serves '%s'", dir);
	ld_run_fini(&r);
	ret = control_name_in(place, dir, ".sock", path);
	if (ret < 0)
		return err_sys(e, ret, "cannot name the socket");
	a = control_address_of(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, -errno, "cannot make a socket");
	control_set_timeout(fd, 10);
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
