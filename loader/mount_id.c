/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of mounts, by statx(2); see mount_id.h. */
#include "loader/mount_id.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000u /* Linux 6.8 */
#endif

/* The inode of this process' mount namespace; 0: it cannot be found out. */
static uint64_t this_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/mnt", &st) == 0 ? st.st_ino : 0;
}

static int read_id(int fd, const char *path, int flags, struct ld_mount_id *ret)
{
	struct statx x;

	if (statx(fd, path, flags | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC,
		    STATX_MNT_ID_UNIQUE, &x) < 0)
		return -errno;
	if (!(x.stx_mask & STATX_MNT_ID_UNIQUE))
		return -EOPNOTSUPP;
	*ret = (struct ld_mount_id){
		.id = x.stx_mnt_id,
		.ns = this_namespace(),
		.dev_major = x.stx_dev_major,
		.dev_minor = x.stx_dev_minor,
	};
	return 0;
}

int ld_mount_id_of_fd(int fd, struct ld_mount_id *ret)
{
	return read_id(fd, "", AT_EMPTY_PATH, ret);
}

bool ld_mount_id_is_at(const struct ld_mount_id *m, const char *dir)
{
	struct ld_mount_id now = {0};
	struct ld_mountinfo i;

	if (m->id == 0)
		return false;
	if (m->ns == this_namespace())
		return read_id(AT_FDCWD, dir, AT_SYMLINK_NOFOLLOW, &now) == 0 &&
		       now.id == m->id;
	return ld_mountinfo_of(dir, &i) == 0 && i.dev_major == m->dev_major &&
	       i.dev_minor == m->dev_minor && strcmp(i.fstype, "erofs") == 0;
}

bool ld_mount_id_is_below(const struct ld_mount_id *m, const char *dir)
{
	int rc;

	if (m->id == 0)
		return false;
	if (m->ns != this_namespace() || ld_mount_id_is_at(m, dir))
		return true;
	rc = ld_mountinfo_has(dir, m->dev_major, m->dev_minor);
	return rc != 0;
}
