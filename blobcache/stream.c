/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching ahead: a ring of ranges, each on its way or arrived, handed out in
 * order; what was handed out is fetched into again for a range further on.
 *
 * Whoever ends the process loses the ranges on their way. So they are short
 * where the network is slow, and become longer while they come quickly.
 */
#include "blobcache/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define MIN_RANGE_LEN (1u << 20)
#define RANGE_LEN (4u << 20)
#define QUICK_MS 250 /* a range that took less: ask for more at once */
#define SLOW_MS 1000 /* a range that took more: for less */
#define RANGES 4     /* in memory: one is being worked on, the others come */

struct range {
	struct bc_fetch fetch;
	struct bc_stream *stream;
	bool is_flying;  /* under the stream's lock */
	uint8_t *buf;    /* owned */
	uint64_t ask_ms; /* when it was asked for */
	uint64_t took_ms;
};

struct bc_stream {
	struct bc_source *source;
	struct rt *rt;
	struct bc_part *part; /* borrowed; may be none */
	uint64_t kept;        /* bytes that part had */
	uint8_t *kept_buf;    /* owned; for those */
	uint64_t size;
	size_t range_len; /* of ranges asked for from now on */
	uint64_t asked;   /* bytes for which ranges were started */
	uint64_t handed;  /* bytes handed out */
	unsigned at;      /* the range to hand out next */
	bool has_handed;  /* the one before is the caller's at the moment */
	pthread_mutex_t lock;
	pthread_cond_t arrived;
	struct range ranges[RANGES];
};

static void range_done(struct bc_fetch *f)
{
	struct range *r = container_of(f, struct range, fetch);
	struct bc_stream *st = r->stream;

	r->took_ms = clock_ms() - r->ask_ms;
	(void)pthread_mutex_lock(&st->lock); /* a plain mutex cannot fail */
	r->is_flying = false;
	(void)pthread_cond_broadcast(&st->arrived);
	(void)pthread_mutex_unlock(&st->lock);
}

static void range_start(struct bc_stream *st, struct range *r)
{
	size_t len = (size_t)min_u64(st->size - st->asked, st->range_len);
	unsigned i = (unsigned)(r - st->ranges);

	if (len == 0) {
		r->fetch.len = 0;
		return;
	}
	r->fetch = (struct bc_fetch){
		.off = st->asked,
		.len = len,
		.buf = r->buf,
		.cls = RT_DEMAND,
		.worker = rt_worker_at(st->rt, i % rt_worker_count(st->rt)),
		.done = range_done,
	};
	st->asked += len;
	r->ask_ms = clock_ms();
	r->is_flying = true;
	bc_source_fetch(st->source, &r->fetch);
}

static int make_buffers(struct bc_stream *st)
{
	uint64_t size = max_u64(st->size, 1);
	unsigned i;

	for (i = 0; i < RANGES; i++) {
		st->ranges[i].stream = st;
		st->ranges[i].buf = mem_alloc((size_t)min_u64(size, RANGE_LEN));
		if (!st->ranges[i].buf)
			return -ENOMEM;
	}
	if (st->kept == 0)
		return 0;
	st->kept_buf = mem_alloc(MIN_RANGE_LEN);
	return st->kept_buf ? 0 : -ENOMEM;
}

int bc_stream_open(struct rt *rt, struct bc_source *s, uint64_t size,
	struct bc_part *part, struct bc_stream **ret)
{
	struct bc_stream *st = mem_zalloc(sizeof(*st));
	unsigned i;

	if (!st)
		return -ENOMEM;
	*st = (struct bc_stream){
		.source = s,
		.rt = rt,
		.size = size,
		.part = part,
		.kept = part->store ? part->len : 0,
		.range_len = MIN_RANGE_LEN,
	};
	st->asked = st->kept;
	(void)pthread_mutex_init(&st->lock, NULL); /* allocate nothing */
	(void)pthread_cond_init(&st->arrived, NULL);
	if (make_buffers(st) < 0) {
		bc_stream_close(st);
		return -ENOMEM;
	}
	for (i = 0; i < RANGES; i++)
		range_start(st, &st->ranges[i]);
	*ret = st;
	return 0;
}

static void wait_for(struct bc_stream *st, const struct range *r)
{
	(void)pthread_mutex_lock(&st->lock);
	while (r->is_flying)
		(void)pthread_cond_wait(&st->arrived, &st->lock);
	(void)pthread_mutex_unlock(&st->lock);
}

static int next_kept(struct bc_stream *st, const uint8_t **ret, size_t *ret_len,
	struct err *e)
{
	size_t n = (size_t)min_u64(st->kept - st->handed, MIN_RANGE_LEN);

	/* given up meanwhile, it has no file any more */
	if (!st->part->store ||
		bc_part_read(st->part, st->kept_buf, n, st->handed) < 0)
		return err_set(e, -EBADMSG,
			"what was kept of it cannot be read any more");
	st->handed += n;
	*ret = st->kept_buf;
	*ret_len = n;
	return 1;
}

static void adapt(struct bc_stream *st, const struct range *r)
{
	if (r->took_ms < QUICK_MS && st->range_len < RANGE_LEN)
		st->range_len *= 2;
	else if (r->took_ms > SLOW_MS && st->range_len > MIN_RANGE_LEN)
		st->range_len /= 2;
}

int bc_stream_next(struct bc_stream *st, const uint8_t **ret, size_t *ret_len,
	struct err *e)
{
	struct range *r;

	if (st->has_handed) {
		st->has_handed = false;
		range_start(st, &st->ranges[st->at]);
		st->at = (st->at + 1) % RANGES;
	}
	if (st->handed == st->size)
		return 0;
	if (st->handed < st->kept)
		return next_kept(st, ret, ret_len, e);
	r = &st->ranges[st->at];
	wait_for(st, r);
	if (r->fetch.result < 0)
		return err_sys(e, r->fetch.result,
			"cannot read %zu bytes at %llu", r->fetch.len,
			(unsigned long long)r->fetch.off);
	adapt(st, r);
	bc_part_add(st->part, r->buf, r->fetch.len);
	st->has_handed = true;
	st->handed += r->fetch.len;
	*ret = r->buf;
	*ret_len = r->fetch.len;
	return 1;
}

void bc_stream_close(struct bc_stream *st)
{
	struct range *r;
	unsigned i;

	if (!st)
		return;
	for (i = 0; i < RANGES; i++) {
		r = &st->ranges[i];
		/* done cannot have been forgotten: cancel may come late */
		(void)pthread_mutex_lock(&st->lock);
		if (r->is_flying)
			bc_source_cancel(st->source, &r->fetch);
		(void)pthread_mutex_unlock(&st->lock);
	}
	for (i = 0; i < RANGES; i++) {
		wait_for(st, &st->ranges[i]);
		mem_free(st->ranges[i].buf);
	}
	mem_free(st->kept_buf);
	(void)pthread_cond_destroy(&st->arrived); /* nobody waits */
	(void)pthread_mutex_destroy(&st->lock);
	mem_free(st);
}
