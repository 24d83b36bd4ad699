/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transports and the session that runs them. One struct ld_dev per worker
 * and, with FUSE over io_uring, one struct ld_uring beside it; all calls into
 * them are posted to that worker.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "loader/fs_int.h"
#include "loader/transport.h"
#include "runtime/file.h"

struct ld_session {
	struct rt *rt;
	struct ld_fs fs;
	int ended_fd; /* eventfd: the kernel has ended the connection */
	unsigned dev_count;
	struct ld_dev **devs; /* owned */
	unsigned uring_count;
	struct ld_uring **urings;      /* owned */
	struct ld_transport_plan plan; /* what is in use, and why */

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	unsigned listening, stopped; /* of devs and urings */
	unsigned kicks;              /* on their way */
	bool is_stopped;
};

/*
 * One of the counts of s changes by so much, and who waits for it sees it. s
 * may go as soon as it has what it waits for. ANY_THREAD.
 */
void ld_session_count(struct ld_session *s, unsigned *count, int by);
/* Wait until *count is n; s->lock is held. BLOCKING. */
void ld_session_wait_for(
	struct ld_session *s, const unsigned *count, unsigned n);

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

/* One worker's queues of the connection. */
struct ld_uring;

struct ld_uring_options {
	struct ld_session *s; /* fs.max_read is set */
	struct rt_worker *worker;
	int fd;          /* taken, on failure too */
	unsigned queues; /* of the connection: one per possible CPU */
	const uint16_t
		*entries; /* of each to begin with; 0: another worker's */
};

/* 0 or -ENOMEM. INIT_ONLY. */
int ld_uring_create(const struct ld_uring_options *o, struct ld_uring **ret);
/* Register the entries, after the handshake: s->listening counts it when the
 * kernel has taken or refused them. ANY_THREAD. */
void ld_uring_start(struct ld_uring *u);
/* After ld_uring_start: 0 if each queue has an entry, else why not. */
int ld_uring_refused(const struct ld_uring *u);
/* End what is in work with EIO, and answer so from now on: s->stopped counts
 * it. ANY_THREAD. */
void ld_uring_stop(struct ld_uring *u);
/* Stopped, or never started: it goes when the kernel lets go of it. ANY_THREAD.
 */
void ld_uring_release(struct ld_uring *u);
const struct ld_fs_counters *ld_uring_counters(const struct ld_uring *u);

/* ---- pending.c ---- */

/*
 * Does a thread that has been killed wait for something? false where that
 * cannot be found out. BLOCKING, for a moment.
 */
bool ld_was_killed(uint32_t tid);
/* The same, from the text of its /proc/TID/status. */
bool ld_status_says_killed(const char *text);

/* ---- session_uring.c ---- */

/*
 * Before the handshake: rings for all workers, if this can be. s->plan says
 * afterwards what it came to. Fails where uring was asked for. BLOCKING.
 */
int ld_session_make_urings(struct ld_session *s, int fd, struct err *e);
/* After the handshake: give them to the kernel. BLOCKING. */
int ld_session_start_urings(struct ld_session *s, struct err *e);
/* Another descriptor of fd's connection, or -errno. */
int ld_session_clone_fd(int fd);
