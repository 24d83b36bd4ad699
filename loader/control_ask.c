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
#include "loader/mount.h"
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

	n = digest_of(DIGEST_BLAKE3, dir, strlen(dir), &d);
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

/* Mounts of another boot are gone, whatever has their number now. */
static void boot_id(char ret[40])
{
	struct buf b;

	ret[0] = '\0';
	buf_init(&b, 39);
	if (buf_read_file(&b, AT_FDCWD, "/proc/sys/kernel/random/boot_id") ==
		0) {
		memcpy(ret, b.data, b.len);
		ret[b.len] = '\0';
		ret[strcspn(ret, "\n")] = '\0';
	}
	buf_fini(&b);
}

json_t *control_mount_json(const struct ld_mount_id *m)
{
	char boot[40];

	boot_id(boot);
	return json_pack("{s:I, s:I, s:i, s:i, s:s}", "id", (json_int_t)m->id,
		"namespace", (json_int_t)m->ns, "major", (int)m->dev_major,
		"minor", (int)m->dev_minor, "boot", boot);
}

static void read_mount(const json_t *o, struct ld_mount_id *ret)
{
	const char *boot = json_string_value(json_object_get(o, "boot"));
	char now[40];

	boot_id(now);
	if (!boot || !now[0] || strcmp(boot, now) != 0)
		return;
	*ret = (struct ld_mount_id){
		.id = (uint64_t)json_integer_value(json_object_get(o, "id")),
		.ns = (uint64_t)json_integer_value(
			json_object_get(o, "namespace")),
		.dev_major = (unsigned)json_integer_value(
			json_object_get(o, "major")),
		.dev_minor = (unsigned)json_integer_value(
			json_object_get(o, "minor")),
	};
}

static int read_run(const json_t *o, struct ld_run *r)
{
	const char *dir = json_string_value(json_object_get(o, "dir"));
	const char *image = json_string_value(json_object_get(o, "image"));
	const json_t *status = json_object_get(o, "status");
	const json_t *pid = json_object_get(o, "pid");

	r->pid = (pid_t)json_integer_value(pid);
	r->is_ready = json_is_true(json_object_get(o, "ready"));
	if (!dir || !image || (r->pid <= 0 && !json_is_null(pid)))
		return -EPROTO;
	read_mount(json_object_get(o, "mount"), &r->mount);
	r->dir = mem_strdup(dir);
	r->image = mem_strdup(image);
	if (json_is_string(status))
		r->status = mem_strdup(json_string_value(status));
	return r->dir && r->image && (r->status || !status) ? 0 : -ENOMEM;
}

int control_read_run_file(int fd, struct ld_run *ret)
{
	struct ld_run r = {0};
	char path[40];
	struct buf b;
	json_t *o;
	int rc;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	buf_init(&b, CONTROL_MAX_RUN_FILE);
	rc = buf_read_file(&b, AT_FDCWD, path);
	if (rc < 0) {
		buf_fini(&b);
		return rc;
	}
	o = json_loadb((char *)b.data, b.len, 0, NULL);
	buf_fini(&b);
	rc = read_run(o, &r);
	json_decref(o);
	if (rc < 0) {
		ld_run_fini(&r);
		return rc;
	}
	*ret = r;
	return 0;
}

void ld_run_fini(struct ld_run *r)
{
	mem_free(r->dir);
	mem_free(r->image);
	mem_free(r->status);
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

static bool is_locked(int fd)
{
	struct flock lock = {.l_type = F_WRLCK};

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/*
 * The run file at path if its process lives, or if none is needed and the mount
 * is there; -ENOENT otherwise.
 */
static int read_live(int dirfd, const char *path, struct ld_run *ret)
{
	CLEANUP_FD int fd = -1;
	struct ld_run r = {0};
	struct stat st;

	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		control_read_run_file(fd, &r) < 0)
		return -ENOENT;
	if (is_locked(fd) ||
		(r.pid == 0 && ld_mount_id_is_at(&r.mount, r.dir))) {
		*ret = r;
		return 0;
	}
	ld_run_fini(&r); /* left by a dead process */
	return -ENOENT;
}

bool ld_control_is_ours(const char *dir)
{
	char all[CONTROL_MAX_PLACES][CONTROL_PATH_LEN], path[CONTROL_PATH_LEN];
	size_t i, n = control_places(all);
	bool is_ours = ld_mount_is_ours(dir);
	struct ld_run r;
	int fd;

	for (i = 0; i < n && !is_ours; i++) {
		if (!control_is_private_dir(all[i]) ||
			control_name_in(all[i], dir, ".json", path) < 0)
			continue;
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			continue;
		if (control_read_run_file(fd, &r) == 0) {
			is_ours = strcmp(r.dir, dir) == 0 &&
			          ld_mount_id_is_at(&r.mount, dir);
			ld_run_fini(&r);
		}
		(void)close(fd); /* only read */
	}
	return is_ours;
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

/* A mount without a process: its run file knows one answer. */
static int ask_run_file(const struct ld_run *r, const char *word,
	struct buf *out, struct err *e)
{
	if (strcmp(word, "status") != 0 || !r->status)
		return err_set(e, -ENOENT,
			"the image at '%s' is complete, no process serves it",
			r->dir);
	return buf_append(out, r->status, strlen(r->status)) < 0
	               ? err_set(e, -ENOMEM, "out of memory")
	               : 0;
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
	if (r.pid == 0) {
		ret = ask_run_file(&r, word, out, e);
		ld_run_fini(&r);
		return ret;
	}
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
