/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which way FUSE requests take from the kernel to the workers. What can be
 * known before there are workers is found out here, since it decides how many
 * of them there are; the rest is the session's (fs.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/runtime.h"

#define LD_CPUS_MAX 4096

enum ld_transport {
	LD_TRANSPORT_AUTO,
	LD_TRANSPORT_DEV,  /* read and write of /dev/fuse */
	LD_TRANSPORT_URING /* FUSE over io_uring */
};

/* "auto", "dev", "uring" */
const char *ld_transport_name(enum ld_transport t);

struct ld_transport_plan {
	bool uring;  /* worth trying */
	bool forced; /* and nothing else will do */
	char reason[300];
	/* the rest only with uring */
	unsigned possible; /* CPUs that the kernel wants a queue for */
	uint64_t online[LD_CPUS_MAX / 64];
	unsigned
		entries; /* of the queue of a CPU that has a worker, at first */
	unsigned others; /* of that of an online CPU that has none */
	uint32_t max_read;             /* bytes of one request */
	unsigned workers, queue_depth; /* what the runtime shall have */
};

/*
 * What this machine allows. workers: 0, or how many were asked for. Fails only
 * where uring was asked for and cannot be: ERR_UNSUPPORTED, why. INIT_ONLY.
 */
int ld_transport_decide(enum ld_transport wish, enum rt_backend backend,
	unsigned workers, struct ld_transport_plan *ret, struct err *e);
/*
 * It turned out later that uring cannot be: fails if it was asked for, else p
 * says "dev" and why.
 */
int ld_transport_give_up(struct ld_transport_plan *p, struct err *e,
	const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * A list of CPUs as the kernel writes them, "0-3,8": bits into set, their
 * number into *ret. -EPROTO.
 */
int ld_cpu_list(
	const char *text, uint64_t set[LD_CPUS_MAX / 64], unsigned *ret);
