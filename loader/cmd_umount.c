/* SPDX-License-Identifier: Apache-2.0 */
/*
 * umount: end a mount of ours and wait until its process is gone, so that what
 * comes next finds the cache at rest.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader/cmd.h"
#include "loader/control.h"
#include "loader/mount.h"
#include "runtime/base/cleanup.h"

#define MAX_ANSWER (16u << 20)

/* A process that has nothing left to serve ends within moments. */
#define SOON_MS 3000
#define END_MS 60000

/* The process behind dir as a descriptor; -1: there is none (any more). */
static int open_process(const char *dir)
{
	struct ld_run r;
	int fd;

	if (ld_control_find(dir, &r, NULL) < 0)
		return -1;
	/* the run file is locked by it, so the number is still its own */
	fd = r.pid > 0 ? (int)syscall(SYS_pidfd_open, r.pid, 0) : -1;
	ld_run_fini(&r);
	return fd;
}

static bool ends_within(int process, int ms)
{
	struct pollfd p = {.fd = process, .events = POLLIN};
	int n;

	do
		n = poll(&p, 1, ms);
	while (n < 0 && errno == EINTR);
	return n != 0;
}

/* Does it still answer, as one that serves does? */
static bool is_serving(const char *dir)
{
	struct buf b;
	int ret;

	buf_init(&b, MAX_ANSWER);
	ret = ld_control_ask(dir, "status", &b, NULL);
	buf_fini(&b);
	return ret == 0;
}

/*
 * A mount that was copied into another mount namespace (by unshare(1), by a
 * container) lives on there, and its process with it.
 */
static int wait_for_end(int process, const char *dir, struct err *e)
{
	if (process < 0 || ends_within(process, SOON_MS))
		return 0;
	if (is_serving(dir))
		return err_set(e, -EBUSY,
			"'%s' is unmounted here, but another mount namespace "
			"still has it, its process goes on until that ends",
			dir);
	if (ends_within(process, END_MS))
		return 0;
	return err_set(e, -ETIMEDOUT,
		"'%s' is unmounted, but its process does not end", dir);
}

int ld_cmd_umount(struct ld_cli *c, struct err *e)
{
	CLEANUP_FD int process = -1;
	char dir[4096];
	int ret;

	ret = ld_control_resolve(c->args[0], dir, e);
	if (ret < 0)
		return ret;
	if (!ld_control_is_ours(dir))
		return err_set(e, -EINVAL,
			"'%s' is no mount of sluice, nothing was unmounted",
			dir);
	process = open_process(dir);
	ret = ld_unmount(dir, false, e);
	if (ret == -EBUSY && c->lazy) {
		/* it ends by itself when the last user has gone */
		ret = ld_unmount(dir, true, e);
		ld_control_sweep();
		return ret;
	}
	if (ret < 0)
		return ret;
	ret = wait_for_end(process, dir, e);
	ld_control_sweep(); /* what no process takes away */
	return ret;
}
