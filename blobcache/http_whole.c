/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of servers that ignore ranges. Asking for each range would fetch the
 * object from its first byte each time; instead one stream writes it to a file
 * without a name in the cache, and fetches are served from there as soon as
 * their bytes have passed.
 *
 *   none --join--> running --all came--> complete --forget--> none
 *                     |
 *                     +--broke for good: who waits fails; the next join goes on
 *                     +--no room: everybody asks alone, from the first byte
 *
 * The file is as long as the object at most. A stream that has to begin again
 * writes only what is not there yet.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "blobcache/http_int.h"
#include "blobcache/store_int.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "http"
/* So often the object is fetched again because bytes of it were wrong. */
#define MAX_RESTARTS 2

static void lock(struct http_source *s)
{
	(void)pthread_mutex_lock(&s->lock); /* a plain mutex cannot fail */
}

static void unlock(struct http_source *s)
{
	(void)pthread_mutex_unlock(&s->lock);
}

/* ---- from the spool ---- */

/* The lock is held. */
static void drop_if_idle(struct http_source *s)
{
	struct http_whole *w = &s->whole;

	if (!w->is_unwanted || w->is_running || w->reading > 0 ||
		!list_is_empty(&w->waiting))
		return;
	bc_source_destroy(w->file);
	bc_spool_close(&w->spool);
	w->file = NULL;
	w->have = 0;
	w->is_unwanted = false;
}

static void inner_done(struct bc_fetch *inner)
{
	struct http_fetch *hf = container_of(inner, struct http_fetch, inner);
	struct http_source *s = hf->source;

	lock(s);
	hf->fetch->via = s->whole.via;
	s->whole.reading--;
	drop_if_idle(s);
	unlock(s);
	http_fetch_end(hf->fetch, inner->result);
}

/* All of hf's bytes are there; the lock is held. */
static void read_spool(struct http_fetch *hf)
{
	struct bc_fetch *f = hf->fetch;

	hf->inner = (struct bc_fetch){.off = f->off,
		.len = f->len,
		.buf = f->buf,
		.cls = f->cls,
		.worker = f->worker,
		.done = inner_done};
	hf->source->whole.reading++;
	bc_source_fetch(hf->source->whole.file, &hf->inner);
}

static bool is_passed(const struct http_fetch *hf)
{
	return hf->fetch->off + hf->fetch->len <= hf->source->whole.have;
}

/* The lock is held. */
static void serve_waiting(struct http_source *s)
{
	list_for_each_safe(it, &s->whole.waiting) {
		struct http_fetch *hf =
			container_of(it, struct http_fetch, node);

		if (!is_passed(hf))
			continue;
		list_remove(&hf->node);
		hf->is_waiting = false;
		read_spool(hf);
	}
}

/* ---- the stream ---- */

static int stream_take(struct bc_call *c, uint64_t off, const void *p, size_t n)
{
	struct http_whole *w = container_of(c, struct http_whole, call);
	struct http_source *s = container_of(w, struct http_source, whole);
	uint64_t skip = w->have > off ? min_u64(w->have - off, n) : 0;
	int rc;

	if (off + n > s->src.size)
		return -EPROTO;
	if (skip == n)
		return 0;
	rc = bc_spool_write(
		&w->spool, (const uint8_t *)p + skip, n - skip, off + skip);
	lock(s);
	if (rc < 0)
		w->has_failed = true;
	else
		w->have = off + n;
	w->via = 1u << c->at;
	s->served |= w->via;
	serve_waiting(s);
	unlock(s);
	return rc;
}

static void stream_ended(struct bc_call *c)
{
	struct http_whole *w = container_of(c, struct http_whole, call);
	struct http_source *s = container_of(w, struct http_source, whole);
	int rc = c->result;
	struct list *it;

	if (rc == 0 && w->have < s->src.size)
		rc = err_set(&c->err, -EPROTO,
			"'%s' sent less than it should have", s->route->label);
	c->result = rc;
	if (w->has_failed)
		log_warn("no room in the cache for '%s', whose server sends "
			 "it only whole: reads of it will be slow",
			s->route->label);
	else if (rc < 0)
		rc = http_fetch_code(s, c);
	bc_call_fini(c);
	lock(s);
	w->is_running = false;
	w->is_unwanted |= w->has_failed;
	while ((it = list_pop_front(&w->waiting))) {
		struct http_fetch *hf =
			container_of(it, struct http_fetch, node);

		hf->is_waiting = false;
		if (w->has_failed)
			http_fetch_call(hf, false);
		else
			http_fetch_end(hf->fetch, rc < 0 ? rc : -EIO);
	}
	drop_if_idle(s);
	(void)pthread_cond_signal(&w->ended);
	unlock(s);
}

static int spool_make(struct http_source *s)
{
	struct http_whole *w = &s->whole;
	char path[40];
	int rc = bc_spool_open(s->src.store, &w->spool);

	if (rc < 0)
		return rc;
	/* Without a name it is gone with us, however we end. */
	(void)unlinkat(s->src.store->dirfd, w->spool.name, 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", w->spool.fd);
	if (ftruncate(w->spool.fd, (off_t)s->src.size) < 0)
		rc = -errno;
	else
		rc = bc_source_file_open(path, &w->file, NULL);
	if (rc < 0)
		bc_spool_close(&w->spool);
	w->have = 0;
	return rc;
}

/* The lock is held. */
static void stream_start(struct http_source *s, uint32_t distrusted)
{
	struct http_whole *w = &s->whole;

	w->is_running = true;
	w->call = (struct bc_call){
		.route = s->route,
		.targets = &s->targets,
		.method = "GET",
		.path = s->path,
		.distrusted = s->distrusted | distrusted,
		.take = stream_take,
		.patience_ms = s->offline_ms,
		.done = stream_ended,
	};
	bc_call_start(&w->call);
}

/* What came was wrong: once more, from another server if there is one. */
static void restart(struct http_source *s, const struct bc_fetch *f)
{
	struct http_whole *w = &s->whole;

	if (w->is_running || !w->file || w->restarts == MAX_RESTARTS)
		return;
	w->restarts++;
	w->have = 0;
	stream_start(s, f->via);
}

/* ---- the outside ---- */

/* bc_source.forget */
static void whole_forget(struct bc_source *src)
{
	struct http_source *s = container_of(src, struct http_source, src);

	lock(s);
	http_whole_reset(s);
	unlock(s);
}

void http_whole_init(struct http_source *s)
{
	s->src.forget = whole_forget;
	list_init(&s->whole.waiting);
	s->whole.spool.fd = -1;
	(void)pthread_cond_init(&s->whole.ended, NULL); /* allocates nothing */
}

void http_whole_fini(struct http_source *s)
{
	struct http_whole *w = &s->whole;

	lock(s);
	if (w->is_running)
		bc_call_cancel(&w->call);
	while (w->is_running)
		(void)pthread_cond_wait(&w->ended, &s->lock);
	unlock(s);
	bc_source_destroy(w->file);
	bc_spool_close(&w->spool);
	(void)pthread_cond_destroy(&w->ended); /* nobody waits */
}

void http_whole_reset(struct http_source *s)
{
	s->whole.is_unwanted = s->whole.file != NULL;
	drop_if_idle(s);
}

static void say_begin(struct http_source *s)
{
	log_info("the server of '%s' sends it only whole: fetching all of it",
		s->route->label);
	if (s->src.whole_begins)
		s->src.whole_begins(&s->src);
}

void http_whole_join(struct http_fetch *hf)
{
	struct http_source *s = hf->source;
	struct http_whole *w = &s->whole;
	bool is_new = false;

	lock(s);
	w->is_on = true;
	if (hf->fetch->is_again)
		restart(s, hf->fetch);
	if (!w->file && !w->has_failed) {
		w->has_failed = spool_make(s) < 0;
		is_new = !w->has_failed;
	}
	unlock(s);
	/* Before hf can end: until then, who wants to know is there. */
	if (is_new)
		say_begin(s);
	lock(s);
	if (!w->file) {
		http_fetch_call(hf, false);
	} else if (is_passed(hf)) {
		read_spool(hf);
	} else {
		list_push_back(&w->waiting, &hf->node);
		hf->is_waiting = true;
		if (!w->is_running)
			stream_start(s, 0);
	}
	unlock(s);
}
