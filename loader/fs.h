/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The read-only file system over an index and its blobs, spoken in FUSE
 * (Linux Documentation/filesystems/fuse; uapi/linux/fuse.h 7.31 and later).
 *
 * A session owns the /dev/fuse descriptor; each worker serves a clone of it.
 * Requests are decoded once, by fs.c; transports only move bytes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "loader/image.h"
#include "loader/transport.h"
#include "runtime/base/err.h"
#include "runtime/runtime.h"

struct ld_session;

struct ld_session_options {
	struct rt *rt;          /* borrowed, started */
	struct ld_image *image; /* borrowed; outlives the session */
	int fuse_fd;            /* taken: /dev/fuse, mounted */
	const struct ld_transport_plan *plan; /* NULL: dev */
	/* Not the tree: one file per blob, for the kernel's EROFS (blobfs.c).
	 */
	bool serves_blobs;
};

/*
 * Serve fuse_fd: answer INIT, then let every worker take requests. Returns when
 * the INIT has been answered and every worker listens. ON failure fuse_fd is
 * closed. BLOCKING, not on a worker.
 */
int ld_session_start(const struct ld_session_options *o,
	struct ld_session **ret, struct err *e);
/*
 * Wait until the kernel has ended the connection (unmounted: 0) or fd becomes
 * readable (1; for signals and the control socket, -1: none). BLOCKING.
 */
int ld_session_wait(struct ld_session *s, int fd);
/*
 * Stop: pending reads get EIO, later requests ENODEV; returns when no request
 * is in work. BLOCKING, not on a worker.
 */
void ld_session_stop(struct ld_session *s);
void ld_session_destroy(struct ld_session *s);
/* Readable when the kernel has ended the connection. ANY_THREAD. */
int ld_session_ended_fd(const struct ld_session *s);
/* End what waits now with an error; go on with what comes later. ANY_THREAD. */
void ld_session_cancel(struct ld_session *s);

/* The transport in use, and why; *ret_reason lives as long as s. ANY_THREAD. */
enum ld_transport ld_session_transport(
	const struct ld_session *s, const char **ret_reason);

struct ld_session_stats {
	uint64_t requests, reads, read_bytes, read_errors;
};
/* A consistent enough copy. ANY_THREAD. */
void ld_session_stats(const struct ld_session *s, struct ld_session_stats *ret);
