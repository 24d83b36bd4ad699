/* SPDX-License-Identifier: Apache-2.0 */
/* Cache, runtime and network of a command; see work.h. */
#include "loader/work.h"

#include <stdlib.h>

#include "blobcache/evict.h"
#include "loader/progress.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "runtime"

const char *ld_work_cache_dir(const struct ld_cli *c)
{
	const char *env = getenv("SLUICE_CACHE");

	if (c->cache)
		return c->cache;
	return env && env[0] ? env : NULL;
}

static int make_runtime(struct ld_work *w, const struct ld_cli *c,
	struct ld_transport_plan *plan, struct err *e)
{
	struct rt_options rt = {
		.workers = c->workers,
		.backend = c->backend,
		.probe_dir = bc_store_path(w->store),
		.name = "sluice",
	};
	struct rt_options pinned = rt;
	int err;

	if (!plan || !plan->uring)
		return rt_create(&rt, &w->rt, e);
	pinned.workers = plan->workers;
	pinned.queue_depth = plan->queue_depth;
	pinned.pin = true;
	if (plan->forced)
		pinned.backend = RT_BACKEND_URING;
	err = rt_create(&pinned, &w->rt, e);
	if (err < 0 || rt_backend(w->rt) == RT_BACKEND_URING)
		return err;
	rt_destroy(w->rt);
	w->rt = NULL;
	err = ld_transport_give_up(plan, e, "the io backend is threads");
	return err < 0 ? err : rt_create(&rt, &w->rt, e);
}

int ld_work_start(struct ld_work *ret, const struct ld_cli *c,
	struct ld_transport_plan *plan, struct err *e)
{
	struct bc_net_options net = {0};
	struct ld_work w = {0};
	int err;

	err = bc_store_open(ld_work_cache_dir(c), &w.store, e);
	if (err == 0)
		err = bc_store_set_limit(w.store, c->cache_size, e);
	if (err == 0)
		err = make_runtime(&w, c, plan, e);
	if (err == 0)
		err = rt_start(w.rt, e);
	if (err == 0)
		err = bc_net_create(&net, &w.net, e);
	if (err < 0) {
		ld_work_stop(&w);
		return err;
	}
	*ret = w;
	return 0;
}

void ld_work_stop(struct ld_work *w)
{
	bc_net_destroy(w->net);
	rt_stop(w->rt);
	rt_destroy(w->rt);
	bc_store_close(w->store);
	*w = (struct ld_work){0};
}

void ld_work_image_options(const struct ld_cli *c, struct ld_image_options *ret)
{
	*ret = (struct ld_image_options){
		.name = c->arg_count > 0 ? c->args[0] : "",
		.platform = c->platform,
		.authfile = c->authfile,
		.cert_dir = c->cert_dir,
		.plain_http = c->plain_http,
		.blobs = c->blobs,
		.offline_ms = c->offline_ms,
	};
}

int ld_work_prepare(struct ld_work *w, const struct ld_cli *c,
	struct ld_image *ret, struct err *e)
{
	struct ld_progress progress;
	struct ld_image_options o;
	int r;

	ld_work_image_options(c, &o);
	ld_progress_init(&progress, c->quiet);
	ld_progress_let_signals_end(&progress);
	o.progress = &progress;
	r = ld_image_prepare(&o, w->rt, w->net, w->store, ret, e);
	ld_progress_fini(&progress);
	return r;
}

void ld_work_log(const struct ld_cli *c)
{
	log_set_level(c->verbose ? LOG_LEVEL_DEBUG
		      : c->quiet ? LOG_LEVEL_ERROR
				 : LOG_LEVEL_WARN);
}
