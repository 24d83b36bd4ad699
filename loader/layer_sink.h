/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the tar of a streamed layer goes: a thread that hashes it, keeps it,
 * parses it, while another one unpacks what comes next. Private to
 * layer_stream.c. For the other one: ONE_THREAD, BLOCKING.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/store.h"
#include "blobcache/unpack.h"
#include "loader/tar_layer.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

#define SINK_BUF_LEN (1u << 20)
#define SINK_BUFS 4

struct sink_buf {
	uint8_t *data; /* owned; SINK_BUF_LEN bytes */
	size_t len;
	bool new_group; /* it begins one */
};

struct layer_sink {
	pthread_mutex_t lock; /* guards the ring, is_closed and result */
	pthread_cond_t moved;
	struct sink_buf bufs[SINK_BUFS];
	unsigned at, count; /* the oldest filled one; how many are */
	bool is_closed;     /* no more will come */
	int result;         /* of the thread */
	struct err err;
	pthread_t thread;
	bool has_thread, has_lock;
	/* the thread's, until it was joined */
	struct bc_unpack *unpack; /* borrowed; takes the chunks */
	struct ld_tar_layer tar;
	struct digest_ctx *tar_ctx; /* of the whole tar */
	struct digest_ctx *chunk_ctx;
	uint64_t chunk_len, off;
	struct bc_spool spool;
};

/*
 * A zeroed sink. Where store takes no spool, nothing is kept and that is all.
 * algo is the DiffID's. -ENOMEM, -EAGAIN.
 */
int layer_sink_start(struct layer_sink *s, struct bc_store *store,
	struct bc_unpack *unpack, const struct digest *layer,
	enum digest_algo algo, struct err *e);
/* The next free buffer, waiting for one. NULL: the thread has failed. */
uint8_t *layer_sink_room(struct layer_sink *s);
/* That buffer is filled. */
void layer_sink_give(struct layer_sink *s, size_t len, bool new_group);
/*
 * Nothing more comes; waits for the thread. *ret_digest is the tar's. What it
 * failed with, else 0.
 */
int layer_sink_end(
	struct layer_sink *s, struct digest *ret_digest, struct err *e);
/* Also without start and end. What was kept is closed. */
void layer_sink_fini(struct layer_sink *s);
