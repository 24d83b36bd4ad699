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
	 * The channel let go of r once (r may still be running).
	 * Called once for each accepted rt_submit and once for each
	 * rt_req_promote that returned true, from any thread: the place to drop
	 * the reference that was taken before that call. NULL if r outlives the
	 * runtime.
	 */
	void (*released)(struct rt_req *r);
	struct rt_worker *worker; /* set before run */
	/*
	 * Set before rt_submit and then left alone; before run the worker sets
	 * it to the class that r was pulled as.
	 */
	enum rt_class cls;
	atomic_uint state; /* private; 0 before the first rt_submit */
};

/*
 * Queue r. 0, -EAGAIN (that class is full: try again when something has ended)
 * or -ESHUTDOWN. On failure r is untouched and released is not called. r may be
 * submitted again after rt_req_done. ANY_THREAD.
 */
int rt_submit(struct rt *rt, struct rt_req *r);
/*
 * Somebody waits for r now: if it still queues as prefetch it goes to the
 * demand queue. True if r was moved or did not need to be (it runs, it has
 * ended, it is demand): then released is called once more, perhaps before this
 * returns, so call it under no lock that released takes. False if the demand
 * queue is full or closed: r keeps its place. ANY_THREAD.
 */
bool rt_req_promote(struct rt *rt, struct rt_req *r);
/* r's slot is free again. ON_WORKER: on r->worker. */
void rt_req_done(struct rt_req *r);
/* Requests waiting in the channel, about. ANY_THREAD. */
unsigned rt_backlog(const struct rt *rt, enum rt_class cls);
