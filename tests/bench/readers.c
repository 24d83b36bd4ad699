/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reads in the benchmarks:
 *
 *   readers files LIST THREADS        every file named in LIST, whole
 *   readers random FILE THREADS OPS [SECONDS]
 *                                     OPS blocks of 4 KiB, no block twice; no
 *                                     longer than that
 *
 * Prints "COUNT BYTES SECONDS ERRORS P50 P99", the latter two in microseconds
 * per file or block. The order of the blocks is the same in every run.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define FILE_BUFFER (128 * 1024)
#define MAX_THREADS 1024

struct work {
	char **names;     /* files: what is read */
	int fd;           /* random: the file */
	uint32_t *blocks; /* random: in which order */
	uint32_t count;
	uint64_t *ns;   /* how long each took */
	uint64_t until; /* when to stop; 0: at the end */
	/* taken by all threads, atomically */
	uint32_t next;
	uint32_t errors;
	uint64_t bytes;
};

static void need(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static ssize_t read_file(const char *name, char *buf)
{
	ssize_t n, sum = 0;
	int fd = open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while ((n = read(fd, buf, FILE_BUFFER)) > 0)
		sum += n;
	(void)close(fd);
	return n < 0 ? -1 : sum;
}

static void *reader(void *arg)
{
	struct work *w = arg;
	char *buf = malloc(FILE_BUFFER);
	uint64_t start;
	uint32_t i;
	ssize_t n;

	need(buf != NULL, "memory");
	for (;;) {
		i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
		if (i >= w->count)
			break;
		start = now_ns();
		if (w->until && start > w->until)
			break;
		if (w->names)
			n = read_file(w->names[i], buf);
		else
			n = pread(
				w->fd, buf, BLOCK, (off_t)w->blocks[i] * BLOCK);
		w->ns[i] = now_ns() - start;
		if (n < 0)
			(void)__atomic_add_fetch(
				&w->errors, 1, __ATOMIC_RELAXED);
		else
			(void)__atomic_add_fetch(
				&w->bytes, (uint64_t)n, __ATOMIC_RELAXED);
	}
	free(buf);
	return NULL;
}

/* One name in each line. */
static void load_names(struct work *w, const char *list)
{
	FILE *f = fopen(list, "re");
	char *line = NULL;
	size_t size = 0, room = 0;
	ssize_t n;

	need(f != NULL, list);
	while ((n = getline(&line, &size, f)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		if (w->count == room) {
			room = room * 2 + 1024;
			w->names = realloc(w->names, room * sizeof(*w->names));
			need(w->names != NULL, "memory");
		}
		w->names[w->count] = strdup(line);
		need(w->names[w->count++] != NULL, "memory");
	}
	free(line);
	(void)fclose(f);
}

/* All blocks of the file, shuffled; the first ops of them. */
static void load_blocks(struct work *w, const char *file, uint32_t ops)
{
	uint64_t seed = 0x9e3779b97f4a7c15u;
	uint32_t n, other, kept;
	struct stat st;

	w->fd = open(file, O_RDONLY | O_CLOEXEC);
	need(w->fd >= 0 && fstat(w->fd, &st) == 0, file);
	/* fio's way, too: no readahead for reads that do not follow another */
	(void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_RANDOM);
	/* what this file has in memory; below a daemon there may be more */
	(void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
	n = (uint32_t)(st.st_size / BLOCK);
	w->blocks = calloc(n ? n : 1, sizeof(*w->blocks));
	need(w->blocks != NULL, "memory");
	for (uint32_t i = 0; i < n; i++)
		w->blocks[i] = i;
	for (uint32_t i = n; i > 1; i--) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		other = (uint32_t)(seed % i);
		kept = w->blocks[i - 1];
		w->blocks[i - 1] = w->blocks[other];
		w->blocks[other] = kept;
	}
	w->count = ops < n ? ops : n;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void print_figures(struct work *w, double seconds)
{
	uint32_t done = 0;

	/* what was stopped took no time */
	for (uint32_t i = 0; i < w->count; i++)
		if (w->ns[i])
			w->ns[done++] = w->ns[i];
	w->count = done;
	need(done > 0, "readers");
	qsort(w->ns, w->count, sizeof(*w->ns), by_value);
	(void)printf("%u %llu %.6f %u %.1f %.1f\n", w->count,
		(unsigned long long)w->bytes, seconds, w->errors,
		(double)w->ns[w->count / 2] / 1e3,
		(double)w->ns[(uint64_t)w->count * 99 / 100] / 1e3);
}

int main(int argc, char **argv)
{
	struct work w = {.fd = -1};
	pthread_t threads[MAX_THREADS];
	unsigned long n;
	uint64_t start;

	if (argc == 4 && strcmp(argv[1], "files") == 0) {
		load_names(&w, argv[2]);
	} else if ((argc == 5 || argc == 6) && strcmp(argv[1], "random") == 0) {
		load_blocks(&w, argv[2], (uint32_t)strtoul(argv[4], NULL, 10));
	} else {
		(void)fprintf(stderr,
			"usage: readers files LIST THREADS\n"
			"       readers random FILE THREADS OPS [SECONDS]\n");
		return 2;
	}
	errno = EINVAL;
	n = strtoul(argv[3], NULL, 10);
	need(n > 0 && n <= MAX_THREADS && w.count > 0, "readers");
	w.ns = calloc(w.count, sizeof(*w.ns));
	need(w.ns != NULL, "memory");
	start = now_ns();
	if (argc == 6)
		w.until = start + strtoul(argv[5], NULL, 10) * 1000000000u;
	for (unsigned long i = 0; i < n; i++)
		need(pthread_create(&threads[i], NULL, reader, &w) == 0,
			"thread");
	for (unsigned long i = 0; i < n; i++)
		(void)pthread_join(threads[i], NULL);
	print_figures(&w, (double)(now_ns() - start) / 1e9);
	return 0;
}
