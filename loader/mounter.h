/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mounter: a small process of its own that keeps what mounting needs, so
 * that the daemon can give it up before it starts a thread or reads a byte of
 * an image. It mounts and unmounts when asked; it reads nothing but these
 * requests.
 *
 * fusermount3 does not work under no_new_privs, and capabilities belong to
 * threads: neither can be given up in a running daemon for all of them.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "loader/mount.h"
#include "loader/mount_erofs.h"
#include "runtime/base/err.h"

struct ld_mounter {
	int fd; /* -1: not there */
	pid_t pid;
};

/* Fork it. Before any thread and before privileges are given up. */
int ld_mounter_start(struct ld_mounter *ret, struct err *e);
/* As ld_mount and ld_unmount. BLOCKING. */
int ld_mounter_mount(struct ld_mounter *m, const struct ld_mount_options *o,
	int *ret_fuse_fd, struct err *e);
/*
 * For the driver "erofs", in this order: the FUSE mount of the blobs, whose
 * descriptor must be served before the next one; then the tree. device has the
 * file of each slot, -1 for one that lies in the FUSE mount. Whatever fails,
 * the FUSE mount is gone afterwards unless the tree uses it. BLOCKING.
 */
int ld_mounter_mount_blobs(
	struct ld_mounter *m, int *ret_fuse_fd, struct err *e);
int ld_mounter_mount_erofs(struct ld_mounter *m,
	const struct ld_mount_options *o, const struct ld_erofs_files *f,
	struct ld_mount_id *ret, struct err *e);
int ld_mounter_unmount(
	struct ld_mounter *m, const char *dir, bool lazy, struct err *e);
/* Ends it; fine when it is not there. BLOCKING. */
void ld_mounter_stop(struct ld_mounter *m);
