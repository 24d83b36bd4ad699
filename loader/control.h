/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How other processes find and ask a running mount: a run file that its daemon
 * keeps locked, and a socket beside it, in a directory of the user's own
 * (/run/sluice for root, $XDG_RUNTIME_DIR/sluice, else /tmp/sluice-UID).
 *
 * Protocol: connect, send one word and a newline, read the answer until its
 * end. "status" answers one JSON object. Only the same user and root are
 * answered.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

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
/* Removes run file and socket, unless they are another process' by now. */
void ld_control_destroy(struct ld_control *c);

/* ---- the other side ---- */

struct ld_run {
	char *dir, *image; /* owned */
	pid_t pid;
	bool is_ready;
};

/*
 * The live mount at dir (absolute, resolved). -ENOENT if no process of ours
 * serves it.
 */
int ld_control_find(const char *dir, struct ld_run *ret, struct err *e);
void ld_run_fini(struct ld_run *r);
/* Calls each for every live mount of this user; stops when it is negative. */
int ld_control_list(int (*each)(void *arg, const struct ld_run *r), void *arg,
	struct err *e);
/* Ask the mount at dir. BLOCKING, 10 s at most. */
int ld_control_ask(
	const char *dir, const char *word, struct buf *out, struct err *e);

/*
 * dir with every symlink resolved, into ret (4096 bytes), without asking the
 * file system that is mounted there, which may be dead. -ENOENT, -ENOTDIR, ...
 */
int ld_control_resolve(const char *dir, char *ret, struct err *e);
