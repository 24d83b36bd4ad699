/* SPDX-License-Identifier: Apache-2.0 */
/* Loops around pread and pwrite; see whole.h. */
#include "runtime/base/whole.h"

#include <errno.h>
#include <unistd.h>

int whole_pread(int fd, void *to, size_t n, uint64_t off)
{
	uint8_t *at = to;
	ssize_t got;

	while (n > 0) {
		got = pread(fd, at, n, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		at += got;
		off += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

int whole_pwrite(int fd, const void *from, size_t n, uint64_t off)
{
	const uint8_t *at = from;
	ssize_t put;

	while (n > 0) {
		put = pwrite(fd, at, n, (off_t)off);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		at += put;
		off += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
}
