/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a person sees while layers are read whole: on a terminal one line that
 * changes, otherwise one plain line per layer, on stderr.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/digest.h"

struct ld_progress {
	bool is_quiet, is_terminal;
	pthread_t ticker; /* shows the line */
	bool has_ticker;
	/* private, under the lock */
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool is_over; /* the ticker may end */
	uint64_t start_ms;
	uint64_t done, total; /* bytes of all layers begun so far */
	uint64_t kept;        /* of done and to come: not from the network */
	size_t layers, ended;
	size_t shown_len; /* of the line on the terminal */
};

/* INIT_ONLY. */
void ld_progress_init(struct ld_progress *p, bool is_quiet);
/* The line on the terminal goes; others may write there. INIT_ONLY. */
void ld_progress_fini(struct ld_progress *p);

/*
 * From now on SIGINT, SIGTERM and SIGHUP, unless they are ignored, end the
 * process at once; the line on the terminal goes first. For when there is
 * nothing to clean up. INIT_ONLY.
 */
void ld_progress_let_signals_end(const struct ld_progress *p);

/* All of these: p may be NULL; ANY_THREAD. */

/* A layer of size bytes is read from now on; an earlier try has kept some. */
void ld_progress_begin(struct ld_progress *p, const struct digest *layer,
	uint64_t size, uint64_t kept);
/* n more bytes of some layer are done. */
void ld_progress_add(struct ld_progress *p, uint64_t n);
/* n bytes of some layer have to be read again. */
void ld_progress_back(struct ld_progress *p, uint64_t n);
/* A layer is done, or will not be. */
void ld_progress_end(struct ld_progress *p);
