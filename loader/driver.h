/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two ways into the kernel: "fuse", a FUSE file tree, and "erofs", where
 * the kernel's EROFS mounts the index and gets each blob either from its sealed
 * cache file or from a FUSE mount of ours.
 */
#pragma once

#include <stdbool.h>

#include "blobcache/net.h"
#include "blobcache/store.h"
#include "loader/cli.h"
#include "loader/fs.h"
#include "loader/mounter.h"

struct ld_driver_options {
	enum ld_driver want;
	struct ld_mounter *mounter;
	struct bc_store *store;
	bool watch_reads; /* none may pass us by: EROFS gets no file of its own
	                   */
	struct ld_mount_options mount;
	struct ld_session_options session; /* all but fuse_fd, serves_blobs */
};

/* A mount that has been made. */
struct ld_driven {
	const char *name; /* "fuse", "erofs"; NULL: there is none yet */
	char reason[sizeof(((struct err *)0)->text)];
	struct ld_session *session; /* NULL: the kernel needs nobody */
	struct ld_mount_id id;      /* of an EROFS; id 0: a FUSE mount */
	bool is_mounted;
};

/*
 * Mount. AUTO: by "erofs" where that works, else by "fuse", and why is said.
 * On failure *ret says what is there all the same. BLOCKING, not on a worker.
 */
int ld_driver_mount(const struct ld_driver_options *o, struct ld_driven *ret,
	struct err *e);
/*
 * Wait until the mount is gone (0) or fd becomes readable (1). Where nobody
 * serves it, mounts are looked at whenever one changes. An EROFS that is being
 * unmounted while the network is gone has its waiting reads ended. BLOCKING.
 */
int ld_driver_wait(const struct ld_driven *d, struct bc_net *net, int fd);
/* Ends the session, if there is one. BLOCKING, not on a worker. */
void ld_driver_stop(struct ld_driven *d);

/* driver_erofs.c. As ld_driver_mount; on failure nothing is mounted. */
int ld_driver_erofs_mount(const struct ld_driver_options *o,
	struct ld_driven *ret, struct err *e);
