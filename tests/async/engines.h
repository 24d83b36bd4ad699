/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests that run on every engine: each case is called once per engine that
 * this machine has, with a started runtime; what is left out is said. The third
 * one is threads with tries sent late and out of order, by a seed that is
 * printed when it was not given in SLUICE_SEED.
 */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/engine_fault.h"
#include "runtime/runtime.h"

/* How often a soak repeats: the short form, or what SLUICE_SOAK says. */
static inline unsigned long soak_count(unsigned long short_form)
{
	const char *s = getenv("SLUICE_SOAK");

	return s ? strtoul(s, NULL, 10) : short_form;
}

/* For everything random in a test; never 0. */
static inline uint64_t test_seed(void)
{
	static uint64_t seed;
	const char *s = getenv("SLUICE_SEED");

	if (!seed) {
		seed = s ? strtoull(s, NULL, 10) : clock_ns() % 1000000;
		seed += seed == 0;
		print_message("SLUICE_SEED=%llu\n", (unsigned long long)seed);
	}
	return seed;
}

/* A started runtime on backend b; NULL where it is not available. */
static inline struct rt *engine_start(enum rt_backend b, struct rt_options o)
{
	struct rt *rt = NULL;
	struct err e = {0};

	o.backend = b;
	if (rt_create(&o, &rt, &e) < 0) {
		assert_int_equal(b, RT_BACKEND_URING);
		print_message("not run on uring: %s\n", e.text);
		return NULL;
	}
	assert_int_equal(rt_start(rt, &e), 0);
	assert_int_equal(rt_backend(rt), b);
	return rt;
}

/* A started runtime on threads with the faults of p. */
static inline struct rt *engine_start_faulty(
	struct rt_fault_plan *p, struct rt_options o)
{
	struct rt *rt = NULL;

	o.backend = RT_BACKEND_THREADS;
	assert_int_equal(rt_create(&o, &rt, NULL), 0);
	rt_fault_install(rt, p);
	assert_int_equal(rt_start(rt, NULL), 0);
	return rt;
}

static inline void engine_stop(struct rt *rt)
{
	rt_stop(rt);
	rt_destroy(rt);
}

/* Call body(rt) on each engine, on a runtime with options o. */
static inline void on_engines_with(
	struct rt_options o, void (*body)(struct rt *rt))
{
	struct rt_fault_plan disorder = {.shuffle = test_seed()};
	struct rt *rt = engine_start(RT_BACKEND_THREADS, o);

	body(rt);
	engine_stop(rt);
	rt = engine_start_faulty(&disorder, o);
	body(rt);
	engine_stop(rt);
	rt = engine_start(RT_BACKEND_URING, o);
	if (!rt)
		return;
	body(rt);
	engine_stop(rt);
}

/* The same with n workers and the rest as it is by default. */
static inline void on_engines(unsigned n, void (*body)(struct rt *rt))
{
	on_engines_with((struct rt_options){.workers = n}, body);
}
