/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounting and unmounting through libfuse3's mount code, without its session:
 * option strings, /dev/fuse, fusermount3 for the unprivileged, stale mounts.
 * BLOCKING; ONE_THREAD, because libfuse3 says what it has to say in one place.
 */
#pragma once

#include <stdbool.h>

#include "loader/mount_id.h"
#include "runtime/base/err.h"

struct ld_mount_options {
	const char *dir;    /* absolute, resolved */
	const char *source; /* first column of /proc/mounts */
	const char *opts;   /* what -o said, our own names taken out */
	/* One of ours whose process is dead, by its run file; NULL: none. */
	const struct ld_mount_id *stale;
};

/*
 * Mount and give the /dev/fuse descriptor (close-on-exec, non-blocking). Always
 * ro; nosuid,nodev unless opts say suid, dev; default_permissions always;
 * allow_other for root. A stale mount of ours (its daemon is dead) at dir is
 * replaced; anything else mounted there with a live server is -EBUSY.
 */
int ld_mount(const struct ld_mount_options *o, int *ret_fuse_fd, struct err *e);
/*
 * Would ld_mount take these? ERR_USAGE for those that nobody knows, by name.
 * Opens and mounts nothing. INIT_ONLY.
 */
int ld_mount_check_options(const char *opts, struct err *e);
/*
 * What ld_mount does first: take our own ruins away from dir, and refuse it if
 * it is no directory to mount at.
 */
int ld_mount_make_room(
	const char *dir, const struct ld_mount_id *stale, struct err *e);
/* An option that mount(8) and fstab pass along and that says nothing to us. */
bool ld_mount_is_ignored(const char *option);
/* lazy: MNT_DETACH. Unprivileged: fusermount3 -u. -EBUSY, -EINVAL (not a mount
 * point), -EPERM. */
int ld_unmount(const char *dir, bool lazy, struct err *e);

/* Is dir a FUSE mount of ours ("fuse.sluice"), without touching its tree? */
bool ld_mount_is_ours(const char *dir);
