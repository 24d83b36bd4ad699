/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine, and why: a real trial decides, not the kernel's version. */
#include "runtime/backend_int.h"

#include <stdio.h>

#include "runtime/engine.h"
#include "runtime/worker_int.h"

int rt_backend_choose(struct rt *rt, struct err *e)
{
	struct err why = {0};
	char note[500];
	int r;

	rt->backend = RT_BACKEND_THREADS;
	if (rt->opt.backend == RT_BACKEND_THREADS) {
		(void)snprintf(rt->reason, sizeof(rt->reason), "as asked for");
		return 0;
	}
	r = rt_uring_probe(rt->opt.queue_depth, rt->opt.probe_dir, note,
		sizeof(note), &why);
	if (r && rt->opt.backend == RT_BACKEND_URING)
		return err_set_kind(e, ERR_UNSUPPORTED, r,
			"the io backend uring was asked for, but %s; "
			"use threads or auto",
			why.text);
	if (r) {
		(void)snprintf(rt->reason, sizeof(rt->reason), "%s", why.text);
		return 0;
	}
	rt->backend = RT_BACKEND_URING;
	(void)snprintf(rt->reason, sizeof(rt->reason), "%s%s",
		rt->opt.backend == RT_BACKEND_URING ? "as asked for; " : "",
		note);
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
