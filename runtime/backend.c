/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine, and why: a real trial decides, not the kernel's version. */
#include "runtime/backend_int.h"

#include <stdio.h>

#include "runtime/engine.h"
#include "runtime/worker_int.h"

/* No reason to do without; what the trial found goes with it. */
static void backend_take_uring(struct rt *rt, const struct rt_uring_trial *t)
{
	rt->backend = RT_BACKEND_URING;
	rt->uring_punts = t->punts;
	(void)snprintf(rt->reason, sizeof(rt->reason), "%s%s",
		rt->opt.backend == RT_BACKEND_URING ? "as asked for; " : "",
		t->note);
}

int rt_backend_choose(struct rt *rt, struct err *e)
{
	struct rt_uring_trial t;
	struct err why = {0};
	int r;

	rt->backend = RT_BACKEND_THREADS;
	if (rt->opt.backend == RT_BACKEND_THREADS) {
		(void)snprintf(rt->reason, sizeof(rt->reason), "as asked for");
		return 0;
	}
	r = rt_uring_probe(rt->opt.queue_depth, rt->opt.probe_dir, &t, &why);
	if (r && rt->opt.backend == RT_BACKEND_URING)
		return err_set_kind(e, ERR_UNSUPPORTED, r,
			"the io backend uring was asked for, but %s; "
			"use threads or auto",
			why.text);
	if (r)
		(void)snprintf(rt->reason, sizeof(rt->reason), "%s", why.text);
	else if (t.punts_reads && rt->opt.backend == RT_BACKEND_AUTO)
		(void)snprintf(rt->reason, sizeof(rt->reason),
			"io_uring works, but the file system of '%.200s' makes "
			"it use threads of the kernel; our own read demand "
			"first",
			rt->opt.probe_dir);
	else
		backend_take_uring(rt, &t);
	return 0;
}

bool rt_backend_give_up_uring(struct rt *rt, const struct err *why)
{
	if (rt->backend != RT_BACKEND_URING ||
		rt->opt.backend == RT_BACKEND_URING)
		return false;
	rt->backend = RT_BACKEND_THREADS;
	(void)snprintf(rt->reason, sizeof(rt->reason),
		"a trial ring worked, but %s", why->text);
	return true;
}

enum rt_backend rt_backend(const struct rt *rt)
{
	return rt->backend;
}

const char *rt_backend_name(enum rt_backend b)
{
	switch (b) {
	case RT_BACKEND_AUTO:
		return "auto";
	case RT_BACKEND_URING:
		return "uring";
	case RT_BACKEND_THREADS:
		break;
	}
	return "threads";
}

const char *rt_backend_reason(const struct rt *rt)
{
	return rt->reason;
}
