/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/self/mountinfo (Linux Documentation/filesystems/proc.rst, 3.5): what is
 * mounted on a directory, without touching what is mounted there. ANY_THREAD.
 */
#pragma once

#include <stddef.h>

#include "loader/tree.h"

#define LD_MOUNTINFO_MAX (16u << 20) /* bytes of the file */

struct ld_mountinfo {
	unsigned dev_major, dev_minor;
	char fstype[64];
	char source[LD_MAX_PATH]; /* cut if longer */
};

/*
 * The mount on top of dir (an absolute path without symlinks). 0, -ENOENT if
 * nothing is mounted there. Lines that cannot be read are skipped.
 */
int ld_mountinfo_find(const char *text, size_t len, const char *dir,
	struct ld_mountinfo *ret);
/* The same over this process' own file. Also -errno of reading it. */
int ld_mountinfo_of(const char *dir, struct ld_mountinfo *ret);
/*
 * Is a mount of that device at dir, on top or below others? dir NULL: anywhere.
 * 1, 0, or -errno.
 */
int ld_mountinfo_has(const char *dir, unsigned dev_major, unsigned dev_minor);
