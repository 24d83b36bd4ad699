/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault engine; see engine_fault.h.
 *
 * Everything is done on the way out: a try that shall come back late is sent
 * late, one that shall be short asks for less, one that shall fail is landed
 * without being sent. So the engine inside stays as it is.
 */
#include "runtime/engine_fault.h"

#include <assert.h>
#include <errno.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/engine.h"
#include "runtime/io_int.h"
#include "runtime/worker_int.h"

enum {
	LATE_MAX = 4,         /* turns, of a shuffled try */
	HELD_NAP_NS = 100000, /* a turn's length while something is held */
};

struct rt_engine {
	struct rt_engine *inner;
	struct list
		held; /* tries not sent yet; their tries field counts down */
	uint64_t random;
};

static uint64_t fault_random(struct rt_engine *g)
{
	g->random ^= g->random << 13;
	g->random ^= g->random >> 7;
	g->random ^= g->random << 17;
	return g->random;
}

static int fault_create(struct rt_worker *w, struct err *e)
{
	struct rt_engine *g = mem_zalloc(sizeof(*g));
	int r;

	if (!g)
		return err_set(e, -ENOMEM, "no memory for the fault engine");
	r = rt_engine_threads.create(w, e);
	if (r) {
		mem_free(g);
		return r;
	}
	g->inner = w->engine;
	list_init(&g->held);
	g->random =
		(w->rt->fault->shuffle + w->index) * 0x9e3779b97f4a7c15u | 1;
	w->engine = g;
	return 0;
}

static void fault_destroy(struct rt_worker *w)
{
	struct rt_engine *g = w->engine;

	assert(list_is_empty(&g->held));
	w->engine = g->inner;
	rt_engine_threads.destroy(w);
	mem_free(g);
}

static void fault_send(struct rt_worker *w, struct rt_io *io)
{
	struct rt_engine *g = w->engine;

	w->engine = g->inner;
	(void)rt_engine_threads.submit(w, io); /* takes everything */
	w->engine = g;
}

static const struct rt_fault *fault_find(struct rt_fault_plan *p)
{
	uint64_t n = atomic_fetch_add(&p->tries, 1) + 1;
	const struct rt_fault *f;

	for (unsigned i = 0; i < p->count; i++) {
		f = &p->faults[i];
		if (n == f->nth || (f->every && n > f->nth &&
					   (n - f->nth) % f->every == 0)) {
			atomic_fetch_add(&p->hits, 1);
			return f;
		}
	}
	return NULL;
}

/* A close that fails has closed nevertheless. */
static void fault_fail(struct rt_worker *w, struct rt_io *io, int error)
{
	if (io->kind == IO_CLOSE)
		(void)rt_io_call(io);
	rt_io_landed(w, io, -error);
}

static bool fault_submit(struct rt_worker *w, struct rt_io *io)
{
	const struct rt_fault *f;
	unsigned late = 0;

	if (rt_io_is_watch(io)) {
		fault_send(w, io);
		return true;
	}
	f = fault_find(w->rt->fault);
	if (io->kind == IO_READ || io->kind == IO_WRITE)
		io->u.rw.limit = f ? f->short_to : 0;
	if (f && f->error) {
		fault_fail(w, io, f->error);
		return true;
	}
	if (f)
		late = f->late;
	else if (w->rt->fault->shuffle)
		late = (unsigned)(fault_random(w->engine) % LATE_MAX);
	if (late == 0) {
		fault_send(w, io);
		return true;
	}
	io->held = late;
	if (fault_random(w->engine) & 1)
		list_push_front(&w->engine->held, &io->op.node);
	else
		list_push_back(&w->engine->held, &io->op.node);
	return true;
}

static bool fault_cancel(struct rt_worker *w, struct rt_io *io)
{
	struct rt_engine *g = w->engine;
	bool asked = true;

	if (!rt_io_is_watch(io)) {
		list_remove(&io->op.node);
		rt_io_landed(w, io, -ECANCELED);
	} else {
		w->engine = g->inner;
		asked = rt_engine_threads.cancel(w, io);
		w->engine = g;
	}
	return asked;
}

static void fault_wait(struct rt_worker *w, uint64_t timeout_ns)
{
	struct rt_engine *g = w->engine;
	struct rt_io *io;

	list_for_each_safe(node, &g->held) {
		io = container_of(node, struct rt_io, op.node);
		if (--io->held > 0)
			continue;
		list_remove(node);
		fault_send(w, io);
	}
	if (!list_is_empty(&g->held))
		timeout_ns = min_u64(timeout_ns, HELD_NAP_NS);
	w->engine = g->inner;
	rt_engine_threads.wait(w, timeout_ns);
	w->engine = g;
}

static const struct rt_engine_ops fault_ops = {
	.create = fault_create,
	.destroy = fault_destroy,
	.submit = fault_submit,
	.cancel = fault_cancel,
	.wait = fault_wait,
};

void rt_fault_install(struct rt *rt, struct rt_fault_plan *p)
{
	assert(rt->backend == RT_BACKEND_THREADS);
	rt->fault = p;
	rt->ops = &fault_ops;
}
