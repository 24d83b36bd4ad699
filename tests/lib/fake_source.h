/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source in memory that does as it is told: answer at once, hold answers
 * back, fail, answer wrong bytes. Counts what it is asked.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "blobcache/source.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define FAKE_MAX_HELD 1024

struct fake_source {
	struct bc_source s;
	const uint8_t *bytes; /* borrowed */
	size_t len;
	pthread_mutex_t lock; /* guards held */
	struct bc_fetch *held[FAKE_MAX_HELD];
	unsigned held_count;
	atomic_bool hold;     /* keep answers back */
	atomic_int fail_code; /* the next fail_count answers */
	atomic_int fail_count;
	atomic_int wrong_count; /* so many answers have every byte wrong */
	atomic_uint fetches, promotes, cancels;
	atomic_uint_least64_t fetched;
	bool *destroyed; /* set by destroy; may be NULL */
};

static inline void fake_deliver(struct rt_task *t)
{
	struct bc_fetch *f = container_of(t, struct bc_fetch, task);

	f->done(f);
}

static inline void fake_spoil(uint8_t *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		buf[i] ^= 1;
}

/* Fill f and send it home. */
static inline void fake_answer(
	struct fake_source *fs, struct bc_fetch *f, int result)
{
	if (result == 0 && atomic_load(&fs->fail_count) > 0 &&
		atomic_fetch_sub(&fs->fail_count, 1) > 0)
		result = atomic_load(&fs->fail_code);
	if (result == 0 && !range_fits(f->off, f->len, fs->len))
		result = -EIO;
	if (result == 0) {
		memcpy(f->buf, fs->bytes + f->off, f->len);
		if (atomic_load(&fs->wrong_count) > 0 &&
			atomic_fetch_sub(&fs->wrong_count, 1) > 0)
			fake_spoil(f->buf, f->len);
		atomic_fetch_add(&fs->fetched, f->len);
	}
	f->result = result;
	f->task.run = fake_deliver;
	rt_post(f->worker, &f->task);
}

static inline void fake_fetch(struct bc_source *s, struct bc_fetch *f)
{
	struct fake_source *fs = container_of(s, struct fake_source, s);
	bool is_held;

	atomic_fetch_add(&fs->fetches, 1);
	pthread_mutex_lock(&fs->lock);
	is_held = atomic_load(&fs->hold) && fs->held_count < FAKE_MAX_HELD;
	if (is_held)
		fs->held[fs->held_count++] = f;
	pthread_mutex_unlock(&fs->lock);
	if (!is_held)
		fake_answer(fs, f, 0);
}

static inline void fake_cancel(struct bc_source *s, struct bc_fetch *f)
{
	struct fake_source *fs = container_of(s, struct fake_source, s);
	bool was_held = false;
	unsigned i;

	atomic_fetch_add(&fs->cancels, 1);
	pthread_mutex_lock(&fs->lock);
	for (i = 0; i < fs->held_count && !was_held; i++) {
		if (fs->held[i] != f)
			continue;
		fs->held[i] = fs->held[--fs->held_count];
		was_held = true;
	}
	pthread_mutex_unlock(&fs->lock);
	if (was_held)
		fake_answer(fs, f, -ECANCELED);
}

static inline void fake_promote(struct bc_source *s, struct bc_fetch *f)
{
	struct fake_source *fs = container_of(s, struct fake_source, s);

	atomic_fetch_add(&fs->promotes, 1);
}

static inline void fake_destroy(struct bc_source *s)
{
	struct fake_source *fs = container_of(s, struct fake_source, s);

	if (fs->destroyed)
		*fs->destroyed = true;
	pthread_mutex_destroy(&fs->lock);
	mem_free(fs);
}

static const struct bc_source_ops fake_ops = {.fetch = fake_fetch,
	.cancel = fake_cancel,
	.promote = fake_promote,
	.destroy = fake_destroy};

static inline struct fake_source *fake_create(const uint8_t *bytes, size_t len)
{
	struct fake_source *fs = mem_zalloc(sizeof(*fs));

	assert_non_null(fs);
	fs->s.ops = &fake_ops;
	fs->s.size = len;
	fs->bytes = bytes;
	fs->len = len;
	pthread_mutex_init(&fs->lock, NULL);
	return fs;
}

static inline unsigned fake_held(struct fake_source *fs)
{
	unsigned n;

	pthread_mutex_lock(&fs->lock);
	n = fs->held_count;
	pthread_mutex_unlock(&fs->lock);
	return n;
}

/* Hold nothing back any more. */
static inline void fake_release(struct fake_source *fs)
{
	struct bc_fetch *f;

	atomic_store(&fs->hold, false);
	for (;;) {
		f = NULL;
		pthread_mutex_lock(&fs->lock);
		if (fs->held_count)
			f = fs->held[--fs->held_count];
		pthread_mutex_unlock(&fs->lock);
		if (!f)
			return;
		fake_answer(fs, f, 0);
	}
}
