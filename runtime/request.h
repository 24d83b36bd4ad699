/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: work that any worker may take.
 *
 * A request goes into the channel, a bounded queue per class. Each worker's
 * scheduler pulls a fair share of the backlog when it has room: demand first;
 * prefetch in at most half of its slots, never the last one, with one grant
 * after 16 demand grants so that it cannot starve. The worker that pulled a
 * request owns it until rt_req_done.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/op.h"
#include "runtime/runtime.h"

struct rt_req {
	/* Start working; ON_WORKER, on the worker that pulled it. */
	void (*run)(struct rt_req *r);
	/*
	 * The channel no longer knows r (it may still be running). Called once
	 * per accepted rt_submit or promotion, from any thread: the place to
	 * drop a reference. NULL if r outlives the runtime.
	 */
	void (*released)(struct rt_req *r);
	struct rt_worker *worker; /* set before run */
	enum rt_class cls; /* set before rt_submit; changed by promotion */
	atomic_uint state; /* private */
};

/*
 * Queue r. 0, -EAGAIN (that class is full: try again when something has ended)
 * or -ESHUTDOWN. On failure r is untouched. ANY_THREAD.
 */
int rt_submit(struct rt *rt, struct rt_req *r);
/*
 * Somebody waits for r now: if it still queues as prefetch it goes to the
 * demand queue. True if r was moved or did not need to be. ANY_THREAD.
 */
bool rt_req_promote(struct rt *rt, struct rt_req *r);
/* r's slot is free again. ON_WORKER: on r->worker. */
void rt_req_done(struct rt_req *r);
/* Requests waiting in the channel. ANY_THREAD. */
unsigned rt_backlog(const struct rt *rt, enum rt_class cls);
