/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one kind of asynchronous operation.
 *
 * An operation is embedded in its caller's structure. Rules:
 *
 *  1. It belongs to one worker from start to completion; done runs there.
 *  2. done runs exactly once for each start, never before the start function
 *     has returned, and may free or restart the operation.
 *  3. From start to done, the operation's buffers and descriptors belong to it.
 *     Cancelling does not shorten that: it asks for an early end.
 *  4. A start function never fails; an operation that could not be started
 *     completes with the error.
 */
#pragma once

#include <stdint.h>

#include "runtime/base/list.h"
#include "runtime/base/thread.h"

struct rt_op;
struct rt_worker;

typedef void rt_op_cb(struct rt_op *op);

/* What somebody waits for, and what nobody waits for yet. */
enum rt_class { RT_DEMAND, RT_PREFETCH, RT_CLASSES };

struct rt_op {
	rt_op_cb *done;
	struct rt_worker *worker;
	int64_t result; /* at done: >= 0, or negative errno */
	/* private to the runtime */
	struct list node;
	uint8_t state;
};
