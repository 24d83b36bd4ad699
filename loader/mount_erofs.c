/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsopen(2) and its relatives: a string of mount options ends at a page, which
 * is near 40 devices, while these take one device at a time. Files go in as
 * /proc/self/fd/N, so that no path has to be found a second time.
 */
#include "loader/mount_erofs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/readahead_erofs.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"

#define READAHEAD_KB 1024 /* of what is fetched when it is asked for */
#define MAX_PARAMETER 255 /* bytes of a string that fsconfig(2) takes */

/* ---- what the kernel says ---- */

/*
 * The first error in the context's log, "e <file system>: <text>"; "" if there
 * is none.
 */
static void read_log(int fs, char *ret, size_t cap)
{
	char line[300];
	const char *text;
	ssize_t n;

	ret[0] = '\0';
	while (!ret[0] && (n = read(fs, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		text = strstr(line, ": ");
		if (line[0] == 'e')
			(void)snprintf(ret, cap, "%s", text ? text + 2 : line);
	}
}

static int cannot_mount(int fs, int rc, const char *dir, struct err *e)
{
	char log[300];

	read_log(fs, log, sizeof(log));
	if (log[0])
		return err_set(
			e, rc, "cannot mount at '%s' by EROFS: %s", dir, log);
	return err_sys(e, rc, "cannot mount at '%s' by EROFS", dir);
}

static int cannot_open(int rc, const char *type, struct err *e)
{
	if (rc == -ENODEV)
		return err_set_kind(e, ERR_UNSUPPORTED, -EOPNOTSUPP,
			"this kernel has no '%s'", type);
	if (rc == -ENOSYS)
		return err_set_kind(e, ERR_UNSUPPORTED, -EOPNOTSUPP,
			"this kernel has no fsopen(2)");
	if (rc == -EPERM)
		return err_set(e, rc,
			"mounting EROFS needs CAP_SYS_ADMIN in the first user "
			"namespace");
	return err_sys(e, rc, "cannot begin to mount '%s'", type);
}

static int set_string(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno
	                                                            : 0;
}

static int set_file(int fs, const char *key, int fd)
{
	char value[40];

	(void)snprintf(value, sizeof(value), "/proc/self/fd/%d", fd);
	return set_string(fs, key, value);
}

/* ---- the blobs ---- */

static int configure_blobs(int fs, int fuse_fd)
{
	char fd[16];
	int rc;

	(void)snprintf(fd, sizeof(fd), "%d", fuse_fd);
	rc = set_string(fs, "source", "sluice-blobs");
	if (rc == 0)
		rc = set_string(fs, "fd", fd);
	if (rc == 0)
		rc = set_string(fs, "rootmode", "40000");
	if (rc == 0)
		rc = set_string(fs, "user_id", "0");
	if (rc == 0)
		rc = set_string(fs, "group_id", "0");
	if (rc == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		rc = -errno;
	return rc;
}

int ld_blobs_mount(int *ret_fuse_fd, int *ret_mount, struct err *e)
{
	CLEANUP_FD int fuse = -1;
	CLEANUP_FD int fs = -1;
	int mount, rc;

	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0)
		return err_sys(e, -errno, "cannot open '/dev/fuse'");
	fs = fsopen("fuse", FSOPEN_CLOEXEC);
	if (fs < 0)
		return cannot_open(-errno, "fuse", e);
	rc = configure_blobs(fs, fuse);
	if (rc < 0)
		return err_sys(e, rc, "cannot make a FUSE mount for the blobs");
	mount = fsmount(fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			MOUNT_ATTR_NOEXEC);
	if (mount < 0)
		return err_sys(
			e, -errno, "cannot make a FUSE mount for the blobs");
	*ret_mount = mount;
	*ret_fuse_fd = take_fd(&fuse);
	return 0;
}

int ld_blobs_open(int mount, uint32_t slot)
{
	char name[16];
	int fd;

	(void)snprintf(name, sizeof(name), "%u", slot);
	fd = openat(mount, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* ---- options ---- */

static const struct {
	const char *name;
	unsigned set, clear;
} flags[] = {
	{"suid", 0, MOUNT_ATTR_NOSUID},
	{"nosuid", MOUNT_ATTR_NOSUID, 0},
	{"dev", 0, MOUNT_ATTR_NODEV},
	{"nodev", MOUNT_ATTR_NODEV, 0},
	{"exec", 0, MOUNT_ATTR_NOEXEC},
	{"noexec", MOUNT_ATTR_NOEXEC, 0},
	{"noatime", MOUNT_ATTR_NOATIME, 0},
	{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
	/* nothing is written, so they say nothing */
	{"atime", 0, 0},
	{"diratime", 0, 0},
	{"relatime", 0, 0},
	{"async", 0, 0},
	{"sync", 0, 0},
	{"dirsync", 0, 0},
	/* of FUSE mounts; others may read this one anyway */
	{"allow_other", 0, 0},
};

/* Security modules take these for any file system. */
static const char *const contexts[] = {
	"context=", "fscontext=", "defcontext=", "rootcontext="};

static int apply_context(int fs, const char *option, struct err *e)
{
	const char *value = strchr(option, '=');
	char key[16];
	int rc = 0;

	(void)snprintf(key, sizeof(key), "%.*s", (int)(value - option), option);
	if (fs >= 0)
		rc = set_string(fs, key, value + 1);
	return rc < 0 ? err_sys(e, rc, "cannot use the mount option '%s'",
				option)
	              : 0;
}

static int apply_option(
	int fs, const char *option, unsigned *attributes, struct err *e)
{
	size_t i;

	if (!option[0] || ld_mount_is_ignored(option))
		return 0;
	for (i = 0; i < ARRAY_LEN(flags); i++) {
		if (strcmp(option, flags[i].name) != 0)
			continue;
		*attributes = (*attributes & ~flags[i].clear) | flags[i].set;
		return 0;
	}
	for (i = 0; i < ARRAY_LEN(contexts); i++)
		if (strncmp(option, contexts[i], strlen(contexts[i])) == 0)
			return apply_context(fs, option, e);
	return err_set_kind(e, ERR_USAGE, -EINVAL,
		"mount option '%s' is not supported by the driver 'erofs'",
		option);
}

/* Separated by commas; "\," is a comma in a value. */
static int apply_options(
	int fs, const char *opts, unsigned *attributes, struct err *e)
{
	char one[MAX_PARAMETER + 16];
	size_t n = 0;
	int rc = 0;

	for (; opts && rc == 0; opts++) {
		if (opts[0] == '\\' && opts[1])
			opts++;
		else if (!opts[0] || opts[0] == ',') {
			one[n] = '\0';
			rc = apply_option(fs, one, attributes, e);
			n = 0;
			if (!opts[0])
				break;
			continue;
		}
		if (n + 1 == sizeof(one))
			return err_set_kind(e, ERR_USAGE, -EINVAL,
				"a mount option is longer than %d bytes",
				MAX_PARAMETER);
		one[n++] = opts[0];
	}
	return rc;
}

int ld_erofs_check_options(const char *opts, struct err *e)
{
	unsigned attributes = 0;

	return apply_options(-1, opts, &attributes, e);
}

/* ---- the tree ---- */

/* Does path lead to that file, and is it short enough to be shown? */
static bool is_showable(const char *path, int fd)
{
	struct stat a, b;

	return path[0] && strlen(path) <= MAX_PARAMETER &&
	       stat(path, &a) == 0 && fstat(fd, &b) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int configure(int fs, const struct ld_erofs_files *f, struct err *e)
{
	uint32_t i;
	int rc;

	/* the source is what /proc/mounts shows */
	rc = is_showable(f->path, f->index) ? set_string(fs, "source", f->path)
	                                    : set_file(fs, "source", f->index);
	for (i = 0; i < f->count && rc == 0; i++)
		rc = set_file(fs, "device", f->device[i]);
	if (rc < 0)
		return err_sys(e, rc, "cannot give the kernel an EROFS index");
	return 0;
}

/*
 * Reads go past the page cache of the FUSE mount: one copy of the bytes less,
 * in time and in memory, and readahead does not wait for its own requests. The
 * option is for all devices, and a disk may refuse what is not aligned to its
 * blocks, so it is not for sealed files. A kernel without it reads all the
 * same.
 */
static void go_past_cache(int fs)
{
	char ignored_log[300];

	if (fsconfig(fs, FSCONFIG_SET_FLAG, "directio", NULL, 0) < 0)
		read_log(fs, ignored_log, sizeof(ignored_log));
}

static int create(
	int fs, const char *dir, const struct ld_erofs_files *f, struct err *e)
{
	uint64_t newest = f->served ? ld_readahead_erofs_newest() : 0;

	if (f->served && f->served == f->count)
		go_past_cache(fs);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0) {
		if (f->served)
			ld_readahead_erofs_set(newest, READAHEAD_KB);
		return 0;
	}
	if (errno == ENOTBLK)
		return err_set_kind(e, ERR_UNSUPPORTED, -EOPNOTSUPP,
			"this kernel's EROFS cannot mount a file, Linux 6.12 "
			"with CONFIG_EROFS_FS_BACKED_BY_FILE is needed");
	if (errno == EINVAL)
		return err_set_kind(e, ERR_UNSUPPORTED, -EOPNOTSUPP,
			"this kernel's EROFS does not take the index, or not "
			"from the cache directory's file system");
	return cannot_mount(fs, -errno, dir, e);
}

int ld_erofs_mount(const struct ld_mount_options *o,
	const struct ld_erofs_files *f, struct ld_mount_id *ret, struct err *e)
{
	unsigned attributes =
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	struct ld_mount_id id;
	CLEANUP_FD int mount = -1;
	CLEANUP_FD int fs = -1;
	int rc;

	fs = fsopen("erofs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return cannot_open(-errno, "erofs", e);
	rc = apply_options(fs, o->opts, &attributes, e);
	if (rc == 0)
		rc = configure(fs, f, e);
	if (rc == 0)
		rc = create(fs, o->dir, f, e);
	if (rc < 0)
		return rc;
	mount = fsmount(fs, FSMOUNT_CLOEXEC, attributes);
	if (mount < 0)
		return cannot_mount(fs, -errno, o->dir, e);
	rc = ld_mount_id_of_fd(mount, &id);
	if (rc < 0)
		return err_sys(e, rc, "cannot tell mounts apart");
	rc = ld_mount_make_room(o->dir, o->stale, e);
	if (rc < 0)
		return rc;
	if (move_mount(mount, "", AT_FDCWD, o->dir, MOVE_MOUNT_F_EMPTY_PATH) <
		0)
		return err_sys(e, -errno, "cannot mount at '%s'", o->dir);
	*ret = id;
	return 0;
}
