/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine carries a worker's operations to the kernel and back. It knows
 * nothing of retries, short counts, deadlines: each submit is one try, and
 * comes back through rt_io_landed exactly once. All calls are ON_WORKER.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct rt_io;
struct rt_worker;

struct rt_engine_ops {
	/*
	 * Set w->engine and w->depth (the credits per kind of operation; what
	 * the caller set there is the most that it wants). 0 or -errno.
	 */
	int (*create)(struct rt_worker *w, struct err *e);
	/* Nothing flies any more. */
	void (*destroy)(struct rt_worker *w);
	/* Take one try of io. False: no room now, after the next wait. */
	bool (*submit)(struct rt_worker *w, struct rt_io *io);
	/*
	 * io flies: ask for its early end. May land it at once. False: could
	 * not be asked now.
	 */
	bool (*cancel)(struct rt_worker *w, struct rt_io *io);
	/*
	 * Send off what is submitted and land what has come back; wait for
	 * that, or the doorbell, for at most timeout_ns (0: do not wait,
	 * UINT64_MAX: for ever).
	 */
	void (*wait)(struct rt_worker *w, uint64_t timeout_ns);
};

extern const struct rt_engine_ops rt_engine_threads, rt_engine_uring;

/* What a ring did in a directory. */
struct rt_uring_trial {
	char note[500]; /* with which features, in words */
	/*
	 * Bit per opcode: the kernel gives it to threads of its own; of reads
	 * and writes that goes for the directory's file system.
	 */
	uint64_t punts;
	bool punts_reads;
};

/*
 * Can this machine do io_uring, as a worker needs it, with files in dir? 0, or
 * -errno with the reason in e. BLOCKING.
 */
int rt_uring_probe(unsigned depth, const char *dir, struct rt_uring_trial *ret,
	struct err *e);
