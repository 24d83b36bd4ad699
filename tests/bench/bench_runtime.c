/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Benchmarks of the runtime: a program that links only runtime/.
 *
 *   bench_runtime make FILE MIB              a file to read
 *   bench_runtime NAME FILE ROUNDS [OPS]     measure; see bench.h. NAME.SERIES
 *                                            for one of the reads (profiling)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "tests/bench/bench.h"

void bench_print(const char *series, double value)
{
	printf("%s %.6g\n", series, value);
	(void)fflush(stdout); /* who reads it will notice what is missing */
}

void bench_need(bool good, const char *what)
{
	if (good)
		return;
	(void)fprintf(stderr, "bench_runtime: %s (errno %d)\n", what, errno);
	_exit(1);
}

static uint64_t clock_of(clockid_t id)
{
	struct timespec ts = {0};

	(void)clock_gettime(id, &ts); /* these clocks are always there */
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t bench_cpu_ns(void)
{
	return clock_of(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t bench_thread_ns(void)
{
	return clock_of(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t bench_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

struct rt *bench_runtime(struct rt_options o, enum rt_backend b)
{
	struct rt *rt = NULL;
	struct err e = {0};

	o.backend = b;
	if (rt_create(&o, &rt, &e) == 0)
		bench_need(rt_start(rt, &e) == 0, "the runtime does not start");
	else if (b == RT_BACKEND_URING)
		(void)fprintf(stderr, "no figures for uring: %s\n", e.text);
	else
		bench_need(false, e.text);
	return rt;
}

/* Each block begins with its number. */
static void make_file(const char *path, unsigned long mib)
{
	enum { CHUNK = 1 << 20 };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint64_t *chunk = mem_alloc(CHUNK), n = 0, seed = 1;

	bench_need(fd >= 0 && chunk, "cannot make the file");
	for (unsigned long i = 0; i < mib; i++) {
		for (unsigned k = 0; k < CHUNK / 8; k++)
			chunk[k] = k % 512 ? bench_random(&seed) : n++;
		bench_need(write(fd, chunk, CHUNK) == CHUNK, "cannot write");
	}
	bench_need(fsync(fd) == 0 && close(fd) == 0, "cannot write");
	mem_free(chunk);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const struct bench_args *a);
	} all[] = {
		{"cached", bench_cached},
		{"uncached", bench_uncached},
		{"fairness", bench_fairness},
		{"demand", bench_demand},
	};
	struct bench_args a = {0};
	size_t len;

	bench_need(argc >= 4, "arguments are missing");
	if (strcmp(argv[1], "make") == 0) {
		make_file(argv[2], strtoul(argv[3], NULL, 10));
		return 0;
	}
	a.file = argv[2];
	a.rounds = (unsigned)strtoul(argv[3], NULL, 10);
	a.ops = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 0;
	len = strcspn(argv[1], ".");
	a.only = argv[1][len] ? argv[1] : NULL;
	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		if (strlen(all[i].name) != len ||
			strncmp(argv[1], all[i].name, len) != 0)
			continue;
		all[i].run(&a);
		return 0;
	}
	bench_need(false, "no such benchmark");
	return 1;
}
