/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Becoming a daemon: fork before any thread exists, tell the parent how it
 * went, give up privileges.
 *
 *   parent                          daemon
 *   ld_daemon_fork ---- fork -----> returns 0
 *     waits on a pipe               ... prepares, mounts ...
 *     <--- ready, or the error ---  ld_daemon_ready / ld_daemon_fail
 *   returns 1, or the error         serves
 *
 * On the program's first thread.
 */
#pragma once

#include <stdbool.h>

#include "runtime/base/err.h"

struct ld_daemon {
	int report_fd; /* -1: in front */
};

/*
 * Fork. In the child: 0, in a session of its own, "/" as directory, stdin and
 * stdout on /dev/null, no inherited descriptor but stderr. In the parent: 1
 * when the child has reported that it is ready, else the child's error in e
 * (-ECHILD if it ended without a word). Until it is ready the child gets a
 * SIGTERM when the parent dies. One thread only.
 */
int ld_daemon_fork(struct ld_daemon *ret, struct err *e);
/* Stay in front: no fork, nothing closed. */
void ld_daemon_stay(struct ld_daemon *ret);
/* Tell the parent and the service manager; stderr goes to /dev/null. */
void ld_daemon_ready(struct ld_daemon *d);
/* Tell the parent, which says it; in front, do nothing. */
void ld_daemon_fail(struct ld_daemon *d, const struct err *e);

/*
 * Make descriptors 0 to 2 exist, so that no file of ours gets their number.
 * First thing in main.
 */
void ld_daemon_fill_std_fds(void);
/* Descriptors 0 to 2 on /dev/null, for a child that says nothing itself. */
void ld_daemon_null_std_fds(void);

/* More descriptors, as far as that is allowed. */
void ld_daemon_allow_descriptors(void);
/*
 * For good and for every thread started later: no new privileges, no core
 * dumps or tracing, and of the capabilities only the right to read files of
 * others, where it is held. More descriptors are allowed while that is
 * possible. Call before any thread starts.
 */
int ld_daemon_drop_privileges(struct err *e);
