/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mount an image file read-only by the bare system call:
 *
 *   mount_file TYPE FILE DIR
 *
 * mount(8) puts a loop device between, which is another thing to measure.
 */
#include <stdio.h>
#include <sys/mount.h>

int main(int argc, char **argv)
{
	if (argc != 4) {
		(void)fprintf(stderr, "usage: mount_file TYPE FILE DIR\n");
		return 2;
	}
	if (mount(argv[2], argv[3], argv[1], MS_RDONLY, NULL) < 0) {
		perror(argv[2]);
		return 1;
	}
	return 0;
}
