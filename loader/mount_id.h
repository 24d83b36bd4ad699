/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which mount is it? The kernel numbers mounts and uses no number twice until
 * it is booted again, so a mount of ours can be told from whatever others put
 * in its place, also after the process that made it has died. Reads the
 * kernel's files: ANY_THREAD.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "loader/mountinfo.h"

struct ld_mount_id {
	uint64_t id; /* never used twice in one boot; 0: there is none */
	uint64_t ns; /* inode of the mount namespace that it was made in */
	unsigned dev_major, dev_minor;
};

/*
 * The mount of fd, a descriptor of its root. -EOPNOTSUPP: this kernel does not
 * number them (before Linux 6.8). -errno.
 */
int ld_mount_id_of_fd(int fd, struct ld_mount_id *ret);
/*
 * Is that mount the one on top of dir (absolute, without symlinks)? In a mount
 * namespace other than its own, where it has another number: is it an EROFS of
 * the same device? Asks nothing but the kernel.
 */
bool ld_mount_id_is_at(const struct ld_mount_id *m, const char *dir);
/* Is it still somewhere at dir, perhaps below others? When in doubt, yes. */
bool ld_mount_id_is_below(const struct ld_mount_id *m, const char *dir);
