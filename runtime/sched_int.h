/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker's loop asks of the channel and the scheduler. The scheduler
 * keeps its part in rt->channel and worker->sched and counts the requests that
 * a worker has taken and not ended in worker->live.
 */
#pragma once

#include <stdbool.h>

struct rt;
struct rt_worker;

/* Set rt->channel and each worker's sched from rt->opt. 0 or -ENOMEM. INIT_ONLY
 */
int rt_sched_init(struct rt *rt);
/* Everything has ended. Fine after a failed init. INIT_ONLY. */
void rt_sched_fini(struct rt *rt);
/* From now on rt_submit gives -ESHUTDOWN; what is queued still runs.
 * ANY_THREAD. */
void rt_sched_close(struct rt *rt);
/* Once per turn, before the worker sleeps: take a share and run it. ON_WORKER.
 */
void rt_sched_turn(struct rt_worker *w);
/*
 * Would rt_sched_turn take something now? Asked after the turn, and again after
 * w->asleep is set. Announces that w is about to sleep, so it must be the last
 * thing that decides: after false, whoever brings work calls rt_worker_wake.
 * ON_WORKER.
 */
bool rt_sched_has_work(struct rt_worker *w);
/*
 * The channel is closed and nothing queues in it: what has been accepted has
 * been pulled (rt_worker.live counts it on). When that becomes true every
 * worker is woken. ANY_THREAD.
 */
bool rt_sched_is_drained(const struct rt *rt);
