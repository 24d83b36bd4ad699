/* SPDX-License-Identifier: Apache-2.0 */
/* The second half of streaming a layer; see layer_sink.h. */
#include "loader/layer_sink.h"

#include <errno.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "layer"

static void sink_lock(struct layer_sink *s)
{
	(void)pthread_mutex_lock(&s->lock); /* a plain mutex cannot fail */
}

static void sink_unlock(struct layer_sink *s)
{
	(void)pthread_mutex_unlock(&s->lock);
}

/* ---- the thread ---- */

static int end_chunk(struct layer_sink *s)
{
	struct digest d;
	int r;

	if (s->chunk_len == 0)
		return 0;
	r = digest_ctx_final(s->chunk_ctx, &d);
	digest_ctx_destroy(s->chunk_ctx);
	s->chunk_ctx = NULL;
	if (r == 0)
		r = bc_unpack_add_chunk(s->unpack, s->chunk_len, &d);
	s->chunk_len = 0;
	return r;
}

static int hash_chunks(struct layer_sink *s, const struct sink_buf *b)
{
	const uint8_t *p = b->data;
	size_t left = b->len, n;
	int r = b->new_group ? end_chunk(s) : 0;

	while (r == 0 && left > 0) {
		n = (size_t)min_u64(left, BC_UNPACK_MAX_CHUNK - s->chunk_len);
		if (!s->chunk_ctx)
			r = digest_ctx_create(DIGEST_SHA256, &s->chunk_ctx);
		if (r == 0)
			r = digest_ctx_update(s->chunk_ctx, p, n);
		s->chunk_len += n;
		p += n;
		left -= n;
		if (r == 0 && s->chunk_len == BC_UNPACK_MAX_CHUNK)
			r = end_chunk(s);
	}
	return r;
}

/* What the disk refuses costs the caching, not the layer. */
static void keep(struct layer_sink *s, const struct sink_buf *b)
{
	int r;

	if (!s->spool.store)
		return;
	r = bc_spool_write(&s->spool, b->data, b->len, s->off);
	if (r == 0)
		return;
	log_warn("cannot keep a layer in the cache (error %d), it will be "
		 "fetched again as it is read",
		-r);
	bc_spool_close(&s->spool);
}

static int take(struct layer_sink *s, const struct sink_buf *b)
{
	int r = digest_ctx_update(s->tar_ctx, b->data, b->len);

	if (r == 0)
		r = hash_chunks(s, b);
	if (r < 0)
		return err_sys(&s->err, r, "cannot hash it");
	keep(s, b);
	s->off += b->len;
	return ld_tar_layer_feed(&s->tar, b->data, b->len, &s->err);
}

static void *sink_run(void *arg)
{
	struct layer_sink *s = arg;
	const struct sink_buf *b;
	int r = 0;

	sink_lock(s);
	for (;;) {
		while (s->count == 0 && !s->is_closed)
			(void)pthread_cond_wait(&s->moved, &s->lock);
		if (s->count == 0)
			break;
		b = &s->bufs[s->at];
		sink_unlock(s);
		r = take(s, b);
		sink_lock(s);
		if (r < 0)
			break;
		s->at = (s->at + 1) % SINK_BUFS;
		s->count--;
		(void)pthread_cond_signal(&s->moved);
	}
	s->result = r;
	(void)pthread_cond_signal(&s->moved);
	sink_unlock(s);
	return NULL;
}

/* ---- the other side ---- */

static int make(struct layer_sink *s, const struct digest *layer,
	enum digest_algo algo, struct err *e)
{
	unsigned i;
	int r;

	for (i = 0; i < SINK_BUFS; i++) {
		s->bufs[i].data = mem_alloc(SINK_BUF_LEN);
		if (!s->bufs[i].data)
			return err_set(e, -ENOMEM, "out of memory");
	}
	r = digest_ctx_create(algo, &s->tar_ctx);
	if (r < 0)
		return err_sys(e, r, "cannot hash it");
	return ld_tar_layer_init(&s->tar, layer, e);
}

int layer_sink_start(struct layer_sink *s, struct bc_store *store,
	struct bc_unpack *unpack, const struct digest *layer,
	enum digest_algo algo, struct err *e)
{
	int r;

	s->unpack = unpack;
	r = make(s, layer, algo, e);
	if (r < 0)
		return r;
	r = bc_spool_open(store, &s->spool);
	if (r < 0)
		log_info("nothing of layers is kept in the cache (error %d)",
			-r);
	if (pthread_mutex_init(&s->lock, NULL) != 0 ||
		pthread_cond_init(&s->moved, NULL) != 0)
		return err_set(e, -ENOMEM, "out of memory");
	s->has_lock = true;
	r = pthread_create(&s->thread, NULL, sink_run, s);
	if (r != 0)
		return err_sys(e, -r, "cannot start a thread");
	s->has_thread = true;
	return 0;
}

uint8_t *layer_sink_room(struct layer_sink *s)
{
	uint8_t *room = NULL;

	sink_lock(s);
	while (s->count == SINK_BUFS && s->result == 0)
		(void)pthread_cond_wait(&s->moved, &s->lock);
	if (s->result == 0)
		room = s->bufs[(s->at + s->count) % SINK_BUFS].data;
	sink_unlock(s);
	return room;
}

void layer_sink_give(struct layer_sink *s, size_t len, bool new_group)
{
	struct sink_buf *b;

	sink_lock(s);
	b = &s->bufs[(s->at + s->count) % SINK_BUFS];
	b->len = len;
	b->new_group = new_group;
	s->count++;
	(void)pthread_cond_signal(&s->moved);
	sink_unlock(s);
}

static void join(struct layer_sink *s)
{
	if (!s->has_thread)
		return;
	sink_lock(s);
	s->is_closed = true;
	(void)pthread_cond_signal(&s->moved);
	sink_unlock(s);
	(void)pthread_join(s->thread, NULL); /* a thread of ours */
	s->has_thread = false;
}

int layer_sink_end(
	struct layer_sink *s, struct digest *ret_digest, struct err *e)
{
	int r;

	join(s);
	if (s->result < 0) {
		if (e)
			*e = s->err;
		return s->result;
	}
	r = end_chunk(s);
	if (r == 0)
		r = digest_ctx_final(s->tar_ctx, ret_digest);
	return r < 0 ? err_sys(e, r, "cannot hash it") : 0;
}

void layer_sink_fini(struct layer_sink *s)
{
	unsigned i;

	join(s);
	if (s->has_lock) {
		(void)pthread_cond_destroy(&s->moved); /* nobody waits */
		(void)pthread_mutex_destroy(&s->lock);
	}
	for (i = 0; i < SINK_BUFS; i++)
		mem_free(s->bufs[i].data);
	digest_ctx_destroy(s->tar_ctx);
	digest_ctx_destroy(s->chunk_ctx);
	ld_tar_layer_fini(&s->tar);
	bc_spool_close(&s->spool);
	*s = (struct layer_sink){0};
}
