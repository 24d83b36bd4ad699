/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests that run on every engine: each case is called once per engine that
 * this machine has, with a started runtime; what is left out is said.
 */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/runtime.h"

/* How often a soak repeats: the short form, or what SLUICE_SOAK says. */
static inline unsigned long soak_count(unsigned long short_form)
{
	const char *s = getenv("SLUICE_SOAK");

	return s ? strtoul(s, NULL, 10) : short_form;
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

static inline void engine_stop(struct rt *rt)
{
	rt_stop(rt);
	rt_destroy(rt);
}

/* Call body(rt) on each engine, on a runtime with n workers. */
static inline void on_engines(unsigned n, void (*body)(struct rt *rt))
{
	const enum rt_backend all[] = {RT_BACKEND_THREADS, RT_BACKEND_URING};
	struct rt *rt;

	for (unsigned i = 0; i < 2; i++) {
		rt = engine_start(all[i], (struct rt_options){.workers = n});
		if (!rt)
			continue;
		body(rt);
		engine_stop(rt);
	}
}
