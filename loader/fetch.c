/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching an image whole; see fetch.h. All blobs, also what an upper layer
 * hides: only a blob that is whole can be given to the kernel.
 *
 * In the process behind a mount a fill is started and cancelled by tasks on
 * worker 0, where its callbacks run; the main thread only looks at the state.
 */
#include "loader/fetch.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>

#include "loader/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "fetch"

enum fetch_state { FETCH_IDLE, FETCH_RUNNING, FETCH_DONE, FETCH_FAILED };

struct ld_fetch {
	struct rt *rt;
	struct ld_image *image;
	struct bc_fill_blob *blobs; /* owned */
	struct bc_fill fill;
	void (*progress)(void *arg, uint64_t ready, uint64_t total);
	void *arg;
	struct rt_task start;
	pthread_mutex_t lock; /* guards the next two */
	enum fetch_state state;
	int result;
	struct rt_op *ended; /* worker 0's: destroy waits */
};

int ld_fetch_create(struct rt *rt, struct ld_image *image,
	struct ld_fetch **ret, struct err *e)
{
	struct ld_fetch *f = mem_zalloc(sizeof(*f));
	size_t i;

	if (f)
		f->blobs = mem_calloc(image->blob_count + 1, sizeof(*f->blobs));
	if (!f || !f->blobs) {
		mem_free(f);
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (i = 0; i < image->blob_count; i++)
		f->blobs[i].blob = image->blobs[i].blob;
	f->rt = rt;
	f->image = image;
	(void)pthread_mutex_init(&f->lock, NULL); /* allocates nothing */
	*ret = f;
	return 0;
}

static void fetch_progress(struct bc_fill *fill)
{
	struct ld_fetch *f = container_of(fill, struct ld_fetch, fill);

	if (f->progress)
		f->progress(f->arg, atomic_load(&fill->bytes_ready),
			atomic_load(&fill->bytes_total));
}

static void fill_set_up(struct ld_fetch *f, enum rt_class cls)
{
	f->fill = (struct bc_fill){.rt = f->rt,
		.blobs = f->blobs,
		.blob_count = f->image->blob_count,
		.cls = cls,
		.progress = fetch_progress};
}

/* What a fill came to, for a person. */
static int explain(const struct ld_fetch *f, int result, struct err *e)
{
	const char *name = f->image->name;

	switch (result) {
	case 0:
		return 0;
	case -ENOSPC:
		return err_set(e, result,
			"the cache could not keep all of '%s', make room on "
			"its disk or raise --cache-size",
			name);
	case -EBADMSG:
		return err_set(e, result,
			"some of '%s' does not have the digest that the image "
			"names",
			name);
	default:
		return err_sys(e, result, "cannot fetch all of '%s'", name);
	}
}

int ld_fetch_run(struct ld_fetch *f,
	void (*progress)(void *arg, uint64_t ready, uint64_t total), void *arg,
	struct err *e)
{
	f->progress = progress;
	f->arg = arg;
	fill_set_up(f, RT_DEMAND);
	return explain(f, bc_fill_run(&f->fill), e);
}

/* ---- behind a mount ---- */

static void background_done(struct bc_fill *fill)
{
	struct ld_fetch *f = container_of(fill, struct ld_fetch, fill);
	struct err e = {0};

	if (explain(f, fill->result, &e) < 0 && fill->result != -ECANCELED)
		log_warn("%s", e.text);
	(void)pthread_mutex_lock(&f->lock); /* a plain mutex cannot fail */
	f->result = fill->result;
	f->state = fill->result == 0 ? FETCH_DONE : FETCH_FAILED;
	(void)pthread_mutex_unlock(&f->lock);
	if (f->ended)
		rt_block_on_done(f->ended, 0);
}

static void background_start(struct rt_task *t)
{
	struct ld_fetch *f = container_of(t, struct ld_fetch, start);

	bc_fill_start(&f->fill);
}

static enum fetch_state state_of(struct ld_fetch *f, int *ret_result)
{
	enum fetch_state state;

	(void)pthread_mutex_lock(&f->lock);
	state = f->state;
	*ret_result = f->result;
	(void)pthread_mutex_unlock(&f->lock);
	return state;
}

static void start(struct ld_fetch *f)
{
	int result;

	if (state_of(f, &result) == FETCH_RUNNING)
		return;
	fill_set_up(f, RT_PREFETCH);
	f->fill.done = background_done;
	f->start.run = background_start;
	(void)pthread_mutex_lock(&f->lock);
	f->state = FETCH_RUNNING;
	(void)pthread_mutex_unlock(&f->lock);
	rt_post(rt_worker_at(f->rt, 0), &f->start);
}

bool ld_fetch_answer(struct ld_fetch *f, const char *word, struct buf *out)
{
	static const char *const names[] = {
		"idle", "running", "done", "failed"};
	enum fetch_state state;
	struct err e = {0};
	int result;
	json_t *o;

	if (strcmp(word, "fetch") == 0)
		start(f);
	else if (strcmp(word, "fetching") != 0)
		return false;
	state = state_of(f, &result);
	(void)explain(f, state == FETCH_FAILED ? result : 0, &e);
	o = json_pack("{s:s, s:s?, s:I, s:I}", "state", names[state], "error",
		e.text[0] ? e.text : NULL, "bytes_ready",
		(json_int_t)atomic_load(&f->fill.bytes_ready), "bytes_total",
		(json_int_t)atomic_load(&f->fill.bytes_total));
	(void)ld_json_write(o, JSON_COMPACT, out); /* else empty: no answer */
	json_decref(o);
	return true;
}

static void end(void *arg, struct rt_op *op)
{
	struct ld_fetch *f = arg;
	int result;

	if (state_of(f, &result) != FETCH_RUNNING) {
		rt_block_on_done(op, 0);
		return;
	}
	f->ended = op;
	bc_fill_cancel(&f->fill);
}

void ld_fetch_destroy(struct ld_fetch *f)
{
	int result;

	if (!f)
		return;
	/* also what has ended may still be in background_done */
	if (state_of(f, &result) != FETCH_IDLE)
		(void)rt_block_on(f->rt, end, f); /* always 0 */
	(void)pthread_mutex_destroy(&f->lock);    /* nobody holds it */
	mem_free(f->blobs);
	mem_free(f);
}
