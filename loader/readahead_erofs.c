/* SPDX-License-Identifier: Apache-2.0 */
/* /sys/class/bdi (Linux Documentation/ABI/testing/sysfs-class-bdi). */
#include "loader/readahead_erofs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"

#define PLACE "/sys/class/bdi"
#define PREFIX "erofs-"
#define MAX_DIGITS 18

/* N of "erofs-N"; 0 for other names. The numbers only ever grow. */
static uint64_t number_of(const char *name)
{
	const char *p = name + strlen(PREFIX);
	uint64_t n = 0;
	size_t i;

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return 0;
	for (i = 0; p[i]; i++) {
		if (p[i] < '0' || p[i] > '9' || i == MAX_DIGITS)
			return 0;
		n = n * 10 + (uint64_t)(p[i] - '0');
	}
	return n;
}

/* The highest number, and how many are above floor. */
static uint64_t look(uint64_t floor, unsigned *ret_above)
{
	DIR *dir = opendir(PLACE);
	uint64_t n, highest = 0;
	struct dirent *d;

	*ret_above = 0;
	while (dir && (d = readdir(dir))) {
		n = number_of(d->d_name);
		highest = max_u64(highest, n);
		*ret_above += n > floor;
	}
	if (dir)
		(void)closedir(dir); /* only read */
	return highest;
}

uint64_t ld_readahead_erofs_newest(void)
{
	unsigned above;

	return look(0, &above);
}

void ld_readahead_erofs_set(uint64_t newest, unsigned kilobytes)
{
	char path[80], text[16];
	CLEANUP_FD int fd = -1;
	unsigned above;
	uint64_t n;
	int len;

	n = look(newest, &above);
	if (above != 1)
		return;
	(void)snprintf(path, sizeof(path),
		PLACE "/" PREFIX "%llu/read_ahead_kb", (unsigned long long)n);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	len = snprintf(text, sizeof(text), "%u", kilobytes);
	if (fd >= 0 && write(fd, text, (size_t)len) != len)
		return; /* the default stays */
}
