/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounting is libfuse3's: it knows the options, opens /dev/fuse, and calls
 * mount(2) or fusermount3. Its session is thrown away before it has read
 * anything, only the descriptor is kept.
 *
 * What libfuse3 and fusermount3 have to say about a failure goes to stderr by
 * itself; here it is caught, so that one sentence comes out.
 */
#define FUSE_USE_VERSION 31

#include "loader/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/mountinfo.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "mount"

#define OUR_TYPE "fuse.sluice"
#define FUSERMOUNT "fusermount3"
#define MAX_STALE 16 /* mounts on one directory that we take away */

extern char **environ;

#ifdef __SANITIZE_ADDRESS__
/* fuse_session_destroy() forgets the name of the mount point. */
const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(
	void)
{
	return "leak:fuse_session_mount\n";
}
#endif

/* ---- what libfuse3 says ---- */

/* Its log function has no argument for a place to put things. */
static _Thread_local char said[300];

/* Messages come in pieces; only the first line counts. */
static void keep_said(const char *text)
{
	size_t n = strlen(said), more = strlen(text);

	if (strchr(said, '\n'))
		return;
	more = min_u64(more, sizeof(said) - 1 - n); /* cut is fine */
	memcpy(said + n, text, more);
	said[n + more] = '\0';
}

/* Without the prefix that libfuse3 and fusermount3 put. */
static const char *what_was_said(void)
{
	const char *colon = strstr(said, ": ");

	said[strcspn(said, "\n")] = '\0';
	if (!said[0])
		return "libfuse3 does not say why";
	if (strncmp(said, "fuse", 4) == 0 && colon && colon - said < 16)
		return colon + 2;
	return said;
}

__attribute__((format(printf, 2, 0))) static void keep_log(
	enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[300];

	if (level > FUSE_LOG_WARNING)
		return;
	(void)vsnprintf(line, sizeof(line), fmt, ap); /* cut is fine */
	keep_said(line);
}

/*
 * fusermount3 inherits stderr: for the time of the call that is a file in
 * memory. Returns the real one, or -1 if nothing was changed.
 */
static int catch_stderr(int *ret_file)
{
	int file = memfd_create("stderr", MFD_CLOEXEC), real;

	if (file < 0)
		return -1;
	real = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (real < 0 || dup2(file, STDERR_FILENO) < 0) {
		(void)close(file); /* nothing was written */
		if (real >= 0)
			(void)close(real); /* a duplicate */
		return -1;
	}
	*ret_file = file;
	return real;
}

/* Put stderr back; what was written meanwhile is said by us or passed on. */
static void release_stderr(int real, int file, bool failed)
{
	char text[1024];
	ssize_t n;

	if (real < 0)
		return;
	(void)dup2(real, STDERR_FILENO); /* both are open */
	n = pread(file, text, sizeof(text) - 1, 0);
	if (n > 0) {
		text[n] = '\0';
		if (failed)
			keep_said(text);
		else
			(void)!write(STDERR_FILENO, text, (size_t)n);
	}
	(void)close(file); /* memory */
	(void)close(real); /* a duplicate */
}

/* ---- options ---- */

enum { KEY_REFUSE = 1, KEY_ALLOW_OTHER };

struct options {
	bool allow_other;
	char *refused; /* owned: the option that we do not take */
};

/* What mount(8) and fstab pass along, and what is ours to say. */
static const char *const ignored[] = {"ro", "rw", "defaults", "auto", "noauto",
	"nofail", "_netdev", "user", "nouser", "users", "owner", "group",
	"default_permissions"};
static const char *const ignored_prefixes[] = {
	"user=", "comment=", "x-", "subtype=", "fsname="};

bool ld_mount_is_ignored(const char *option)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(ignored); i++)
		if (strcmp(option, ignored[i]) == 0)
			return true;
	for (i = 0; i < ARRAY_LEN(ignored_prefixes); i++)
		if (strncmp(option, ignored_prefixes[i],
			    strlen(ignored_prefixes[i])) == 0)
			return true;
	return false;
}

static const struct fuse_opt option_keys[] = {
	FUSE_OPT_KEY("auto_unmount", KEY_REFUSE),
	FUSE_OPT_KEY("blkdev", KEY_REFUSE),
	FUSE_OPT_KEY("max_read=", KEY_REFUSE),
	FUSE_OPT_KEY("allow_other", KEY_ALLOW_OTHER),
	FUSE_OPT_END,
};

static int take_option(
	void *data, const char *arg, int key, struct fuse_args *out)
{
	struct options *o = data;

	switch (key) {
	case KEY_ALLOW_OTHER:
		o->allow_other = true;
		return 0;
	case KEY_REFUSE:
		if (!o->refused)
			o->refused = mem_strdup(arg);
		return 0;
	default:
		return ld_mount_is_ignored(arg) ? 0 : 1;
	}
}

static int add_options(
	struct fuse_args *args, const struct options *o, const char *source)
{
	char *opts = NULL;
	char *fsname = mem_printf("fsname=%s", source);
	int rc = -ENOMEM;

	if (fsname && fuse_opt_add_opt(&opts, "ro") == 0 &&
		fuse_opt_add_opt(&opts, "default_permissions") == 0 &&
		fuse_opt_add_opt(&opts, "subtype=sluice") == 0 &&
		(!o->allow_other ||
			fuse_opt_add_opt(&opts, "allow_other") == 0) &&
		fuse_opt_add_opt_escaped(&opts, fsname) == 0 &&
		fuse_opt_add_arg(args, "-o") == 0 &&
		fuse_opt_add_arg(args, opts) == 0)
		rc = 0;
	mem_free(fsname);
	mem_free(opts); /* from libfuse3, which says free(3) */
	return rc;
}

/* ---- is there room at dir? ---- */

static int check_device(struct err *e)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), rc = -errno;

	if (fd >= 0) {
		(void)close(fd); /* nothing was written */
		return 0;
	}
	if (rc == -EACCES || rc == -EPERM)
		return err_set(e, rc,
			"cannot open '/dev/fuse': permission denied, run this "
			"as root or let everybody read and write it");
	if (rc == -ENOENT || rc == -ENODEV || rc == -ENXIO)
		return err_set_kind(e, ERR_UNSUPPORTED, rc,
			"'/dev/fuse' is missing, load it with 'modprobe fuse'");
	return err_sys(e, rc, "cannot open '/dev/fuse'");
}

/*
 * Statfs always asks the server, while stat is answered from what the kernel
 * remembers for ever: only the first one meets a dead server.
 */
static bool is_stale(const char *dir)
{
	struct statfs st;

	return statfs(dir, &st) < 0 &&
	       (errno == ENOTCONN || errno == ECONNABORTED);
}

static int check_dir(const char *dir, struct err *e)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return err_sys(e, -errno, "cannot mount at '%s'", dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR,
			"cannot mount at '%s': it is not a directory", dir);
	if (geteuid() != 0 && access(dir, W_OK) < 0)
		return err_set(e, -EACCES,
			"cannot mount at '%s': the directory is not yours to "
			"write to",
			dir);
	return 0;
}

static int take_away(
	const struct ld_mountinfo *m, const char *dir, struct err *e)
{
	log_info("replacing '%s' at '%s', its daemon is dead", m->source, dir);
	return ld_unmount(dir, true, e);
}

/* Something may be mounted on dir already; only our own ruins are taken away.
 */
int ld_mount_make_room(
	const char *dir, const struct ld_mount_id *stale, struct err *e)
{
	struct ld_mountinfo m;
	unsigned i;
	int rc;

	for (i = 0; i < MAX_STALE; i++) {
		rc = ld_mountinfo_of(dir, &m);
		if (rc < 0 && rc != -ENOENT)
			return err_sys(e, rc, "cannot read what is mounted");
		if (rc == 0 && stale && ld_mount_id_is_at(stale, dir)) {
			rc = take_away(&m, dir, e);
			if (rc < 0)
				return rc;
			continue;
		}
		if (rc < 0 || strncmp(m.fstype, "fuse", 4) != 0)
			return check_dir(dir, e);
		if (strcmp(m.fstype, OUR_TYPE) != 0)
			return err_set(e, -EBUSY,
				"cannot mount at '%s': '%s' (%s) is mounted "
				"there, unmount it first",
				dir, m.source, m.fstype);
		if (!is_stale(dir))
			return err_set(e, -EBUSY,
				"cannot mount at '%s': '%s' is mounted there "
				"already, unmount it first",
				dir, m.source);
		rc = take_away(&m, dir, e);
		if (rc < 0)
			return rc;
	}
	return err_set(e, -EBUSY, "too many dead mounts at '%s'", dir);
}

/* ---- mounting ---- */

static int mount_failed(const char *dir, struct err *e)
{
	/*
	 * Refused by the kernel, libfuse3 turns to fusermount3 without a word;
	 * where that is not installed there is no word at all.
	 */
	if (geteuid() == 0 && !said[0])
		return err_set(e, -EPERM,
			"cannot mount at '%s': Operation not permitted, root "
			"needs CAP_SYS_ADMIN for it (in a container: "
			"--cap-add SYS_ADMIN)",
			dir);
	/* libfuse3 gives no code. */
	return err_set(e, geteuid() == 0 ? -EIO : -EPERM,
		"cannot mount at '%s': %s", dir, what_was_said());
}

static int mount_session(
	struct fuse_session *se, const char *dir, int *ret_fd, struct err *e)
{
	int file = -1, real = -1, fd, rc;

	if (geteuid() != 0)
		real = catch_stderr(&file);
	rc = fuse_session_mount(se, dir);
	release_stderr(real, file, rc != 0);
	if (rc != 0)
		return mount_failed(dir, e);
	fd = fcntl(fuse_session_fd(se), F_DUPFD_CLOEXEC, 3);
	if (fd >= 0 &&
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
		(void)close(fd); /* a duplicate */
		fd = -1;
	}
	if (fd < 0) {
		rc = err_sys(e, -errno, "cannot keep /dev/fuse");
		fuse_session_unmount(se);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

/* What libfuse3 and we make of the options; nothing is opened or mounted. */
static int make_session(struct fuse_args *args,
	const struct ld_mount_options *o, struct fuse_session **ret,
	struct err *e)
{
	static const struct fuse_lowlevel_ops no_ops;
	struct options opts = {.allow_other = geteuid() == 0};
	int rc;

	if (fuse_opt_add_arg(args, "sluice") != 0 ||
		(o->opts && o->opts[0] &&
			(fuse_opt_add_arg(args, "-o") != 0 ||
				fuse_opt_add_arg(args, o->opts) != 0)) ||
		fuse_opt_parse(args, &opts, option_keys, take_option) != 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (opts.refused) {
		rc = err_set_kind(e, ERR_USAGE, -EINVAL,
			"mount option '%s' is not supported", opts.refused);
		mem_free(opts.refused);
		return rc;
	}
	if (add_options(args, &opts, o->source) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = fuse_session_new(args, &no_ops, sizeof(no_ops), NULL);
	if (!*ret)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"cannot use the mount options: %s", what_was_said());
	return 0;
}

/* Mount where ret_fuse_fd is wanted. */
static int with_session(
	const struct ld_mount_options *o, int *ret_fuse_fd, struct err *e)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se;
	int rc;

	said[0] = '\0';
	fuse_set_log_func(keep_log);
	rc = make_session(&args, o, &se, e);
	if (rc == 0) {
		if (ret_fuse_fd)
			rc = mount_session(se, o->dir, ret_fuse_fd, e);
		fuse_session_destroy(se);
	}
	fuse_set_log_func(NULL);
	fuse_opt_free_args(&args);
	return rc;
}

int ld_mount(const struct ld_mount_options *o, int *ret_fuse_fd, struct err *e)
{
	int rc = check_device(e);

	if (rc == 0)
		rc = ld_mount_make_room(o->dir, o->stale, e);
	return rc < 0 ? rc : with_session(o, ret_fuse_fd, e);
}

int ld_mount_check_options(const char *opts, struct err *e)
{
	const struct ld_mount_options o = {.source = "none", .opts = opts};

	return with_session(&o, NULL, e);
}

/* ---- unmounting ---- */

/* Run fusermount3 with its stderr in said. Its exit status, or -errno. */
static int run_fusermount(const char *dir, bool lazy)
{
	char *argv[] = {(char *)FUSERMOUNT, (char *)"-u",
		lazy ? (char *)"-z" : (char *)"-q", (char *)"--",
		(char *)(uintptr_t)dir, NULL};
	posix_spawn_file_actions_t fa;
	char text[300];
	int file CLEANUP_FD = memfd_create("stderr", MFD_CLOEXEC);
	int rc, status;
	ssize_t n;
	pid_t pid;

	if (file < 0)
		return -errno;
	rc = posix_spawn_file_actions_init(&fa);
	if (rc != 0)
		return -rc;
	rc = posix_spawn_file_actions_adddup2(&fa, file, STDERR_FILENO);
	if (rc == 0)
		rc = posix_spawnp(&pid, FUSERMOUNT, &fa, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&fa); /* cannot fail */
	if (rc != 0)
		return -rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	said[0] = '\0';
	n = pread(file, text, sizeof(text) - 1, 0);
	if (n > 0) {
		text[n] = '\0';
		keep_said(text);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

static int unmount_by_helper(const char *dir, bool lazy, struct err *e)
{
	int rc = run_fusermount(dir, lazy);

	if (rc == 0)
		return 0;
	if (rc == -ENOENT)
		return err_set(e, rc,
			"cannot unmount '%s': '%s' is not installed", dir,
			FUSERMOUNT);
	if (rc < 0)
		return err_sys(e, rc, "cannot unmount '%s'", dir);
	if (strstr(said, "busy"))
		return err_set(
			e, -EBUSY, "cannot unmount '%s': programs use it", dir);
	return err_set(
		e, -EPERM, "cannot unmount '%s': %s", dir, what_was_said());
}

int ld_unmount(const char *dir, bool lazy, struct err *e)
{
	int rc;

	if (umount2(dir, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	rc = -errno;
	if (rc == -EPERM && geteuid() != 0)
		return unmount_by_helper(dir, lazy, e);
	if (rc == -EBUSY)
		return err_set(
			e, rc, "cannot unmount '%s': programs use it", dir);
	if (rc == -EINVAL)
		return err_set(e, rc,
			"cannot unmount '%s': nothing is mounted there", dir);
	return err_sys(e, rc, "cannot unmount '%s'", dir);
}

bool ld_mount_is_ours(const char *dir)
{
	struct ld_mountinfo m;

	return ld_mountinfo_of(dir, &m) == 0 && strcmp(m.fstype, OUR_TYPE) == 0;
}
