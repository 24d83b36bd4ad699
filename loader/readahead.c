/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's setting for one mount; see readahead.h. */
#include "loader/readahead.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loader/mountinfo.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "mount"
#define WIDE_KB "1024"

static bool has_all(const struct ld_image *image)
{
	struct bc_blob_stats s;
	size_t i;

	for (i = 0; i < image->blob_count; i++) {
		bc_blob_stats(image->blobs[i].blob, &s);
		if (bc_blob_cached_bytes(image->blobs[i].blob) < s.bytes_total)
			return false;
	}
	return true;
}

static int write_setting(const struct ld_mountinfo *m)
{
	char path[64];
	CLEANUP_FD int fd = -1;

	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
		m->dev_major, m->dev_minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, WIDE_KB, strlen(WIDE_KB)) < 0)
		return -errno;
	return 0;
}

void ld_readahead_widen(const char *dir, const struct ld_image *image)
{
	struct ld_mountinfo m;
	int rc;

	if (has_all(image))
		return;
	rc = ld_mountinfo_of(dir, &m);
	if (rc == 0)
		rc = write_setting(&m);
	if (rc < 0)
		log_info("the kernel reads no further ahead than it does by "
			 "itself (error %d)",
			-rc);
}
