/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmarks of the runtime share. Each measures in rounds, in which
 * all that is compared takes its turn, and prints one line per figure:
 *
 *   SERIES VALUE
 *
 * Medians, ratios and targets are made of these by tests/bench/run.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/runtime.h"

struct bench_args {
	const char *file; /* what is read; 4 KiB blocks, each with its number */
	unsigned rounds;
	unsigned ops;     /* per series and round; 0: as the benchmark likes */
	const char *only; /* this series of the reads; NULL: all */
};

/* 4 KiB reads: page-cached, and not. */
void bench_cached(const struct bench_args *a);
void bench_uncached(const struct bench_args *a);
/* Four workers that share a flood of requests; one of them slow. */
void bench_fairness(const struct bench_args *a);
/* Demand requests alone, and in a flood of prefetch. */
void bench_demand(const struct bench_args *a);

void bench_print(const char *series, double value);
/* What cannot go on: say why and end with 1. */
void bench_need(bool good, const char *what);
/* CPU time of all threads of this process, kernel threads of rings included. */
uint64_t bench_cpu_ns(void);
/* CPU time of this thread. */
uint64_t bench_thread_ns(void);
uint64_t bench_random(uint64_t *state);

/* NULL where the engine is not to be had; that is said. */
struct rt *bench_runtime(struct rt_options o, enum rt_backend b);
