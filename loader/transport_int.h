/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport "dev" and the session that runs it. One struct ld_dev per
 * worker; all calls into it are posted to that worker.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "loader/fs_int.h"
#include "runtime/file.h"

struct ld_session {
	struct rt *rt;
	struct ld_fs fs;
	int ended_fd; /* eventfd: the kernel has ended the connection */
	unsigned dev_count;
	struct ld_dev **devs; /* owned */

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	unsigned listening, stopped, kicks; /* of workers; kicks on their way */
	bool is_stopped;
};

/* One worker's end of the connection. */
struct ld_dev;

/* fd is taken, on failure too. 0 or -ENOMEM. INIT_ONLY. */
int ld_dev_create(
	struct ld_session *s, struct rt_worker *w, int fd, struct ld_dev **ret);
/* Closes the descriptor, if it is still open. NULL is fine. INIT_ONLY. */
void ld_dev_destroy(struct ld_dev *d);
/* Read one request and answer it, before ld_dev_start. 0 or -errno of read. */
int ld_dev_take_one(struct ld_dev *d);
/* Take requests: s->listening counts it. ANY_THREAD. */
void ld_dev_start(struct ld_dev *d);
/* Take none any more, end those in work with EIO: s->stopped counts it when
 * nothing is left. ANY_THREAD. */
void ld_dev_stop(struct ld_dev *d);
/* After the stop of all: the connection ends with the last descriptor. */
void ld_dev_close(struct ld_dev *d);
const struct ld_fs_counters *ld_dev_counters(const struct ld_dev *d);
