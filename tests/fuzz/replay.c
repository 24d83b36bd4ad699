/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target without libFuzzer: runs it over the files and folders that are
 * named, over each cut short at many places, and over each with single bytes
 * changed. So every corpus is replayed by every build.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/buf.h"
#include "runtime/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { MUTATIONS = 2000 };

static unsigned long runs;

static void run_one(const uint8_t *data, size_t len)
{
	/* A copy of its own size: a sanitizer sees one byte too far. */
	uint8_t *copy = mem_alloc(len);

	if (!copy)
		return;
	if (len)
		memcpy(copy, data, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	mem_free(copy);
	runs++;
}

/* The same places on every run: a failure can be repeated. */
static void mutate(struct buf *b)
{
	size_t step = b->len / MUTATIONS + 1, i;
	uint8_t old;

	for (i = 0; i < b->len; i += step) {
		old = b->data[i];
		b->data[i] = (uint8_t)(old ^ (1u << i % 8));
		run_one(b->data, b->len);
		b->data[i] = 0xff;
		run_one(b->data, b->len);
		b->data[i] = old;
	}
	for (i = 0; i < b->len; i += step * 8)
		run_one(b->data, i);
}

static int replay_file(const char *path)
{
	struct buf b;
	int r;

	buf_init(&b, 64u << 20);
	r = buf_read_file(&b, AT_FDCWD, path);
	if (r == 0) {
		run_one(b.data, b.len);
		mutate(&b);
	}
	buf_fini(&b);
	return r;
}

static int replay_folder(const char *path)
{
	char name[PATH_MAX];
	const struct dirent *d;
	struct stat st;
	DIR *dir = opendir(path);
	int r = 0;

	if (!dir)
		return -1;
	while (r == 0 && (d = readdir(dir)) != NULL) {
		(void)snprintf(name, sizeof(name), "%s/%s", path, d->d_name);
		if (stat(name, &st) == 0 && S_ISREG(st.st_mode))
			r = replay_file(name);
	}
	(void)closedir(dir);
	return r;
}

int main(int argc, char **argv)
{
	struct stat st;
	int i;

	run_one(NULL, 0);
	for (i = 1; i < argc; i++) {
		if (stat(argv[i], &st) != 0 ||
			(S_ISDIR(st.st_mode) ? replay_folder(argv[i])
					     : replay_file(argv[i])) != 0) {
			(void)fprintf(stderr, "cannot replay %s\n", argv[i]);
			return 1;
		}
	}
	(void)printf("%lu runs\n", runs);
	return 0;
}
