/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How other processes find and ask a running mount: a run file that its daemon
 * keeps locked, and a socket beside it, in a directory of the user's own
 * (/run/sluice for root, $XDG_RUNTIME_DIR/sluice, else /tmp/sluice-UID).
 *
 * Protocol: connect, send one word and a newline, read the answer until its
 * end. "status" answers one JSON object. Only the same user and root are
 * answered. On the program's first thread. What asks other processes is
 * BLOCKING.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "loader/mount_id.h"
#include "runtime/base/buf.h"
#include "runtime/base/err.h"

/* ---- the daemon's side ---- */

struct ld_control;

/*
 * Claim the mount point dir (absolute, resolved) for this process: makes and
 * locks the run file. -EBUSY if another live process of ours serves dir or is
 * about to; is_mounted says whether a mount of ours is there now: a daemon
 * whose mount was detached does not count.
 */
int ld_control_create(const char *dir, const char *image, bool is_mounted,
	struct ld_control **ret, struct err *e);
/*
 * What the run file says of a mount of the driver "erofs" whose process has
 * died, if it is still there: then that may be replaced. NULL: none.
 */
const struct ld_mount_id *ld_control_stale(const struct ld_control *c);
/* What is mounted by now; NULL: what FUSE mounts show by themselves. */
void ld_control_set_mount(struct ld_control *c, const struct ld_mount_id *m);
/*
 * No process is needed any more: the run file stays and speaks for the mount.
 * status is the answer to "status" from now on.
 */
int ld_control_leave(
	struct ld_control *c, const struct buf *status, struct err *e);
/* The mount is there: listen. */
int ld_control_listen(struct ld_control *c, struct err *e);
/* The listening socket, for poll; non-blocking. */
int ld_control_fd(const struct ld_control *c);
/*
 * Answer one client that waits, if there is one. answer writes the reply to
 * word into out; what it does not know stays empty. BLOCKING for a second at
 * most.
 */
void ld_control_serve(struct ld_control *c,
	void (*answer)(void *arg, const char *word, struct buf *out),
	void *arg);
/*
 * Removes run file and socket, unless they are another process' by now, or have
 * to speak for a mount.
 */
void ld_control_destroy(struct ld_control *c);

/* ---- the other side ---- */

struct ld_run {
	char *dir, *image; /* owned */
	pid_t pid;         /* 0: no process is needed */
	bool is_ready;
	struct ld_mount_id mount; /* id 0: a FUSE mount, or of another boot */
	char *status;             /* owned; NULL: ask the process */
};

/*
 * The live mount at dir (absolute, resolved). -ENOENT if no process of ours
 * serves it, nor did one leave it behind whole.
 */
int ld_control_find(const char *dir, struct ld_run *ret, struct err *e);
void ld_run_fini(struct ld_run *r);
/* Calls each for every live mount of this user; stops when it is negative. */
int ld_control_list(int (*each)(void *arg, const struct ld_run *r), void *arg,
	struct err *e);
/* Ask the mount at dir. BLOCKING, 10 s at most. */
int ld_control_ask(
	const char *dir, const char *word, struct buf *out, struct err *e);

/* Is what lies on top of dir a mount of ours, dead or alive? */
bool ld_control_is_ours(const char *dir);
/* Take away what speaks for mounts that are gone. */
void ld_control_sweep(void);

/*
 * dir with every symlink resolved, into ret (4096 bytes), without asking the
 * file system that is mounted there, which may be dead. -ENOENT, -ENOTDIR, ...
 */
int ld_control_resolve(const char *dir, char *ret, struct err *e);
