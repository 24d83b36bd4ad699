/* SPDX-License-Identifier: Apache-2.0 */
/* CPU jobs: a pool per runtime; what is done goes home as a task. */
#include "runtime/base/util.h"
#include "runtime/pool.h"
#include "runtime/worker_int.h"

static void job_done(struct rt_task *t)
{
	struct rt_job *j = container_of(t, struct rt_job, task);
	struct rt_worker *w = j->home;

	rt_count(&w->counters.jobs, 1);
	j->done(j); /* may free or submit j again */
	atomic_fetch_sub(&w->rt->pending, 1);
}

static void job_work(struct rt_work *k)
{
	struct rt_job *j = container_of(k, struct rt_job, pooled);

	j->work(j);
	j->task.run = job_done;
	rt_post(j->home, &j->task);
}

void rt_job_submit(struct rt_job *j)
{
	atomic_fetch_add(&j->home->rt->pending, 1);
	j->pooled.run = job_work;
	j->pooled.cls = j->cls;
	rt_pool_submit(j->home->rt->jobs, &j->pooled);
}
