/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals that a thread has not taken yet (Linux Documentation/filesystems/
 * proc.rst, table 1-2). One that ends a process is SIGKILL for each of its
 * threads by the time that they see it; other signals are none of our business.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader/transport_int.h"
#include "runtime/base/cleanup.h"

bool ld_status_says_killed(const char *text)
{
	static const char key[] = "\nSigPnd:";
	const char *line = strstr(text, key);

	return line &&
	       (strtoull(line + sizeof(key) - 1, NULL, 16) >> (SIGKILL - 1) &
		       1);
}

bool ld_was_killed(uint32_t tid)
{
	char path[40], text[4096];
	CLEANUP_FD int fd = -1;
	ssize_t n;

	if (tid == 0) /* of another PID namespace */
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%u/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return false;
	text[n] = '\0';
	return ld_status_says_killed(text);
}
