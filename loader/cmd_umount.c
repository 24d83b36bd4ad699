/* SPDX-License-Identifier: Apache-2.0 */
/*
 * umount: end a mount of ours and wait until its process is gone, so that what
 * comes next finds the cache at rest.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader/cmd.h"
#include "loader/control.h"
#include "loader/mount.h"
#include "runtime/base/cleanup.h"

/* A process that has nothing left to serve ends within moments. */
#define END_TIMEOUT_MS 60000

/* The process behind dir as a descriptor; -1: there is none (any more). */
static int open_process(const char *dir)
{
	struct ld_run r;
	int fd;

	if (ld_control_find(dir, &r, NULL) < 0)
		return -1;
	/* the run file is locked by it, so the number is still its own */
	fd = (int)syscall(SYS_pidfd_open, r.pid, 0);
	ld_run_fini(&r);
	return fd;
}

static int wait_for_end(int process, const char *dir, struct err *e)
{
	struct pollfd p = {.fd = process, .events = POLLIN};
	int n;

	if (process < 0)
		return 0;
	do
		n = poll(&p, 1, END_TIMEOUT_MS);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return err_set(e, -ETIMEDOUT,
			"'%s' is unmounted, but its process does not end", dir);
	return n < 0 ? err_sys(e, -errno, "cannot wait for the process") : 0;
}

int ld_cmd_umount(struct ld_cli *c, struct err *e)
{
	CLEANUP_FD int process = -1;
	char dir[4096];
	int ret;

	ret = ld_control_resolve(c->args[0], dir, e);
	if (ret < 0)
		return ret;
	if (!ld_mount_is_ours(dir))
		return err_set(e, -EINVAL,
			"'%s' is no mount of sluice, nothing was unmounted",
			dir);
	process = open_process(dir);
	ret = ld_unmount(dir, false, e);
	if (ret == -EBUSY && c->lazy)
		/* it ends by itself when the last user has gone */
		return ld_unmount(dir, true, e);
	if (ret < 0)
		return ret;
	return wait_for_end(process, dir, e);
}
