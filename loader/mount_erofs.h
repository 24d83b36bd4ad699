/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mounts of the driver "erofs", as the mounter makes them: a FUSE mount for
 * the blobs that is attached to no directory, and the kernel's EROFS over an
 * index and a file for each device. Linux 6.12 and later, CAP_SYS_ADMIN.
 * BLOCKING.
 */
#pragma once

#include <stdint.h>

#include "loader/mount.h"
#include "loader/mount_id.h"
#include "runtime/base/err.h"

/*
 * A FUSE mount without a place in the tree: it lasts as long as *ret_mount, or
 * as long as somebody has a file of it open. Both descriptors are the caller's.
 */
int ld_blobs_mount(int *ret_fuse_fd, int *ret_mount, struct err *e);
/*
 * Open the file of a slot. Its server answers for it, so it must be somebody
 * else than the caller. -errno.
 */
int ld_blobs_open(int mount, uint32_t slot);

/* ERR_USAGE for options that ld_erofs_mount does not take, by name. */
int ld_erofs_check_options(const char *opts, struct err *e);

struct ld_erofs_files {
	int index;         /* an index that our writer wrote */
	const char *path;  /* of it; "": it has none */
	const int *device; /* by slot */
	uint32_t count;
	uint32_t served; /* of the devices, those in our FUSE mount */
};

/*
 * Mount the index at o->dir, with room made there as ld_mount does. The files
 * stay the caller's; the kernel opens its own. -EOPNOTSUPP where the kernel
 * cannot do it.
 */
int ld_erofs_mount(const struct ld_mount_options *o,
	const struct ld_erofs_files *f, struct ld_mount_id *ret, struct err *e);
