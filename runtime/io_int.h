/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one operation, for the worker's loop and the engines. ON_WORKER;
 * rt_io_call and rt_io_iov also in the file pool, whose try it is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "runtime/file.h"

/*
 *   IDLE -> WAITING -> FLYING -> ENDED -> IDLE
 *              ^   <-----+ |
 *              +-- PAUSED <+
 *
 * WAITING has no credit yet; FLYING is the engine's; PAUSED waits a moment
 * after EAGAIN; ENDED has its result, and done runs in the worker's next turn.
 */
enum rt_io_state { IO_IDLE, IO_WAITING, IO_FLYING, IO_PAUSED, IO_ENDED };

enum rt_io_kind {
	IO_OPEN,
	IO_CLOSE,
	IO_READ, /* both: one buffer or several */
	IO_WRITE,
	IO_FSYNC,
	IO_FDATASYNC,
	IO_FALLOCATE,
	IO_TRUNCATE,
	IO_STATX,
	IO_POLL, /* from here on: watches, that may fly for ever */
	IO_CMD
};

enum rt_io_marks {
	IO_CANCEL_ASKED = 1, /* by the owner */
	IO_LATE = 2,         /* its deadline has passed */
	IO_STOP_ASKED = 4,   /* the engine has been told to end it */
	IO_AGAIN = 8,        /* the last try gave EAGAIN */
};

static inline bool rt_io_is_watch(const struct rt_io *io)
{
	return io->kind >= IO_POLL;
}

/*
 * Start io, whose kind and arguments are set; refused: it ends with this error.
 */
void rt_io_begin(struct rt_worker *w, struct rt_io *io, int refused);
/* The engine is through with this try: a count, a result or -errno. */
void rt_io_landed(struct rt_worker *w, struct rt_io *io, int64_t res);
/* Give the engine what waits, as far as credits go. */
void rt_io_flush(struct rt_worker *w);
/* Run done of what has ended until now. */
void rt_io_run_ended(struct rt_worker *w);
/* Cancel all polls and commands: the runtime ends. */
void rt_io_cancel_watches(struct rt_worker *w);
/* The ring is gone: end what ends with it, and run done of that. */
void rt_io_end_with_ring(struct rt_worker *w);
/* Is there something to send off, or to call done for? */
bool rt_io_has_work(struct rt_worker *w);

/* The buffers of the next try, *ret_count of them; valid until it lands. */
const struct iovec *rt_io_iov(struct rt_io *io, unsigned *ret_count);

/* One try as plain system calls, here and now: a count, a result or -errno. */
int64_t rt_io_call(struct rt_io *io);
/* One try in the file pool; rt_io_landed follows on w. */
void rt_io_punt(struct rt_worker *w, struct rt_io *io);
/* Take io out of the pool; false if a thread has begun with it. */
bool rt_io_unpunt(struct rt_worker *w, struct rt_io *io);
