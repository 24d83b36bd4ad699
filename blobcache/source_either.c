/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source that turns to another one for what it does not have.
 *
 * Each fetch has one of its own below it: of the first source, and after its
 * -ENOENT of the second. A cancel finds whichever is on its way.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "blobcache/source.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

struct either {
	struct bc_source src;
	struct bc_source *first, *second; /* owned */
	atomic_bool use_second;
	bool is_told;         /* both know what src was set to */
	pthread_mutex_t lock; /* guards is_told, every priv, and what it has */
};

struct either_fetch {
	struct bc_fetch inner;
	struct bc_fetch *outer;
	struct either *either;
	struct bc_source *at; /* where inner is */
	bool is_cancelled;
};

static void ask(struct either_fetch *ef)
{
	struct bc_fetch *f = ef->outer;
	void (*done)(struct bc_fetch * f) = ef->inner.done;

	ef->inner = (struct bc_fetch){
		.off = f->off,
		.len = f->len,
		.buf = f->buf,
		.cls = f->cls,
		.is_again = f->is_again,
		.worker = f->worker,
		.done = done,
		.via = f->via,
	};
	bc_source_fetch(ef->at, &ef->inner);
}

static void inner_done(struct bc_fetch *inner)
{
	struct either_fetch *ef =
		container_of(inner, struct either_fetch, inner);
	struct either *s = ef->either;
	struct bc_fetch *f = ef->outer;
	bool again;

	pthread_mutex_lock(&s->lock);
	again = inner->result == -ENOENT && ef->at == s->first &&
	        !ef->is_cancelled;
	if (again) {
		atomic_store(&s->use_second, true);
		ef->at = s->second;
		ask(ef);
	} else {
		f->result = inner->result;
		f->via = inner->via;
		f->wait_us = inner->wait_us;
		f->body_us = inner->body_us;
		f->priv = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (again)
		return;
	mem_free(ef);
	f->done(f);
}

static void fetch_failed(struct rt_task *t)
{
	struct bc_fetch *f = container_of(t, struct bc_fetch, task);

	f->result = -ENOMEM;
	f->done(f);
}

static void tell(const struct either *s, struct bc_source *to)
{
	to->store = s->src.store;
	to->whole_begins = s->src.whole_begins;
	to->whole_arg = s->src.whole_arg;
}

static void either_fetch(struct bc_source *src, struct bc_fetch *f)
{
	struct either *s = container_of(src, struct either, src);
	struct either_fetch *ef = mem_zalloc(sizeof(*ef));

	f->priv = ef;
	if (!ef) {
		f->task.run = fetch_failed;
		rt_post(f->worker, &f->task);
		return;
	}
	ef->outer = f;
	ef->either = s;
	ef->inner.done = inner_done;
	ef->at = atomic_load(&s->use_second) ? s->second : s->first;
	pthread_mutex_lock(&s->lock);
	if (!s->is_told) {
		tell(s, s->first);
		tell(s, s->second);
		s->is_told = true;
	}
	ask(ef);
	pthread_mutex_unlock(&s->lock);
}

static void either_cancel(struct bc_source *src, struct bc_fetch *f)
{
	struct either *s = container_of(src, struct either, src);
	struct either_fetch *ef;

	pthread_mutex_lock(&s->lock);
	ef = f->priv; /* NULL: it has just ended */
	if (ef) {
		ef->is_cancelled = true;
		bc_source_cancel(ef->at, &ef->inner);
	}
	pthread_mutex_unlock(&s->lock);
}

static void either_promote(struct bc_source *src, struct bc_fetch *f)
{
	struct either *s = container_of(src, struct either, src);
	struct either_fetch *ef;

	pthread_mutex_lock(&s->lock);
	ef = f->priv;
	if (ef)
		bc_source_promote(ef->at, &ef->inner);
	pthread_mutex_unlock(&s->lock);
}

static void either_destroy(struct bc_source *src)
{
	struct either *s = container_of(src, struct either, src);

	bc_source_destroy(s->first);
	bc_source_destroy(s->second);
	pthread_mutex_destroy(&s->lock);
	mem_free(s);
}

static void either_forget(struct bc_source *src)
{
	struct either *s = container_of(src, struct either, src);

	if (s->first->forget)
		s->first->forget(s->first);
	if (s->second->forget)
		s->second->forget(s->second);
}

static bool either_distrust(struct bc_source *src)
{
	struct either *s = container_of(src, struct either, src);
	struct bc_source *at =
		atomic_load(&s->use_second) ? s->second : s->first;

	return at->distrust && at->distrust(at);
}

static const struct bc_source_ops either_ops = {
	.fetch = either_fetch,
	.cancel = either_cancel,
	.promote = either_promote,
	.destroy = either_destroy,
};

int bc_source_either(struct bc_source *first, struct bc_source *second,
	struct bc_source **ret)
{
	struct either *s = mem_zalloc(sizeof(*s));

	if (!s) {
		bc_source_destroy(first);
		bc_source_destroy(second);
		return -ENOMEM;
	}
	s->src.ops = &either_ops;
	s->src.size = first->size;
	s->src.forget = either_forget;
	s->src.distrust = either_distrust;
	s->first = first;
	s->second = second;
	pthread_mutex_init(&s->lock, NULL); /* allocates nothing */
	*ret = &s->src;
	return 0;
}
