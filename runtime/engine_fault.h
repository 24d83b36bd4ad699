/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults on purpose, for tests: an engine around the threads engine that lets
 * chosen tries fail, come back short or late, and all of them out of order.
 * What it does follows from the plan and its seed alone, so a failing run can
 * be had again.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct rt;

struct rt_fault {
	uint64_t nth;    /* which try of the runtime's operations; from 1 */
	uint64_t every;  /* and each so many-th after it; 0: just once */
	int error;       /* the try is not made and fails with this errno */
	size_t short_to; /* a read or write moves at most this much */
	unsigned late;   /* the try is made so many turns later */
};

struct rt_fault_plan {
	const struct rt_fault *faults; /* borrowed until the runtime ends */
	unsigned count;
	uint64_t shuffle;    /* 0: in order; else the seed of the disorder */
	atomic_ullong tries; /* made so far; polls and commands are none */
	atomic_ullong hits;  /* of these, met by a fault */
};

/*
 * Have rt, whose backend must be threads, go wrong as p says; before rt_start.
 * p is borrowed until the runtime ends. INIT_ONLY.
 */
void rt_fault_install(struct rt *rt, struct rt_fault_plan *p);
