/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run: one range of the blob, fetched, decoded, verified and handed out.
 *
 *   NEW --> PLACE --> BUDGET --> FETCH --> DECODE --> STORE --> END
 *                                 ^          |
 *                                 +----------+  a group failed, tries left
 *
 * PLACE waits, if somebody waits for the run, until its blob may have one more
 * of the slots (a source that is silent must not hold those that others want),
 * then for one of them; BUDGET waits for room in memory, FETCH for the source,
 * DECODE for a job, STORE for the cache file; each state is entered on the
 * run's worker only. A group lands as soon as the job has verified it; what a
 * cancelled or failed run still carries lands with the error before STORE,
 * which then writes what there is. Nothing here is fatal: the worst is that
 * readers get an error.
 */
#include <errno.h>
#include <string.h>

#include "blobcache/blob_int.h"
#include "blobcache/store_int.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "blob"
#define WARN_INTERVAL_MS 10000

enum { RUN_NEW, RUN_BUDGET, RUN_FETCH, RUN_DECODE, RUN_STORE, RUN_END };

static void run_enter(struct blob_run *run, unsigned state);

static void run_lock(struct blob_run *run)
{
	(void)pthread_mutex_lock(&run->blob->lock); /* cannot fail */
}

static void run_unlock(struct blob_run *run)
{
	(void)pthread_mutex_unlock(&run->blob->lock);
}

static void run_unref(struct blob_run *run)
{
	if (atomic_fetch_sub(&run->refs, 1) == 1)
		mem_free(run);
}

/* Any thread that has the run: its owner, or the job. */
static void run_land(struct blob_run *run, struct run_group *rg, int result)
{
	struct blob_flight *fl = rg->flight;

	rg->flight = NULL;
	run_lock(run);
	fl->run = NULL;
	run_unlock(run);
	rt_flight_land(&run->blob->flights, &fl->f, result);
}

static void run_land_all(struct blob_run *run, int result)
{
	uint32_t i;

	for (i = 0; i < run->count; i++)
		if (run->groups[i].flight)
			run_land(run, &run->groups[i],
				result == -ENOMEM &&
						run->groups[i].flight->is_extra
					? -EAGAIN
					: result);
}

/* ---- the job ---- */

static void work_group(struct blob_run *run, struct run_group *rg)
{
	rg->status = blob_decode_group(run, rg);
	if (rg->status < 0)
		return;
	rg->flight->mem = rg->mem;
	rg->flight->bytes = rg->bytes;
	rg->flight->len = rg->g.dec_len;
	blob_mem_ref(rg->mem);
	blob_storing_add(run->blob, rg);
	run_land(run, rg, 0);
}

/* What somebody asked for goes before what was taken along. */
static void run_work(struct rt_job *j)
{
	struct blob_run *run = container_of(j, struct blob_run, job);
	struct run_group *rg;
	uint32_t i, pass;

	for (pass = 0; pass < 2; pass++)
		for (i = 0; i < run->count; i++) {
			rg = &run->groups[i];
			if (rg->flight && rg->flight->is_extra == (pass == 1))
				work_group(run, rg);
		}
}

static void warn_bad_group(struct blob_run *run, const struct run_group *rg)
{
	const struct bc_group *g = &rg->g;
	char text[DIGEST_MAX_TEXT];
	bool is_due;

	run_lock(run);
	is_due = log_ratelimit(&run->blob->warned_bad_ms, WARN_INTERVAL_MS);
	run_unlock(run);
	if (is_due)
		log_warn("blob '%s', %u bytes at %llu: %s after %u tries, "
			 "answering with an I/O error",
			digest_text(&run->blob->digest, text), g->src_len,
			(unsigned long long)g->src_off,
			rg->status == -EBADMSG ? "wrong digest"
					       : "cannot be decoded",
			run->tries);
}

/* Errors as a read knows them. */
static int read_error(int r)
{
	switch (r) {
	case -ENOMEM:
	case -ETIMEDOUT:
	case -ECANCELED:
	case -EBADMSG:
	case -EAGAIN:
		return r;
	default:
		return -EIO;
	}
}

static void run_worked(struct rt_job *j)
{
	struct blob_run *run = container_of(j, struct blob_run, job);
	struct run_group *rg;
	uint32_t i, bad = 0;

	rt_worker_assert(run->worker);
	for (i = 0; i < run->count; i++) {
		rg = &run->groups[i];
		if (!rg->flight)
			continue;
		if (rg->status == -ENOMEM) {
			run_land(run, rg,
				rg->flight->is_extra ? -EAGAIN : -ENOMEM);
			continue;
		}
		atomic_fetch_add(&run->blob->verify_failures, 1);
		if (rg->flight->is_extra) {
			run_land(run, rg, -EAGAIN);
			continue;
		}
		bad++;
		if (run->tries < BLOB_TRIES)
			continue;
		warn_bad_group(run, rg);
		run_land(run, rg, read_error(rg->status));
	}
	run_enter(run, bad && run->tries < BLOB_TRIES ? RUN_FETCH : RUN_STORE);
}

static void run_decode(struct blob_run *run)
{
	run->job.work = run_work;
	run->job.done = run_worked;
	run->job.home = run->worker;
	run_lock(run);
	run->job.cls = run->cls;
	run_unlock(run);
	rt_job_submit(&run->job);
}

/* ---- fetch ---- */

/* The lock is held. */
static void count_waited_for(struct blob_run *run, bool is)
{
	if (run->is_waited_for == is)
		return;
	run->is_waited_for = is;
	if (is)
		atomic_fetch_add(&run->blob->waited_for, 1);
	else
		atomic_fetch_sub(&run->blob->waited_for, 1);
}

/* The lock is held. */
static void note_distance(struct blob_run *run)
{
	const struct bc_fetch *f = &run->fetch;
	struct bc_blob *b = run->blob;

	count_waited_for(run, false);
	if (f->result < 0 || f->wait_us + f->body_us == 0)
		return;
	bc_distance_note(&b->distance, f->wait_us, f->body_us, f->len);
	atomic_store(&b->distance_us, bc_distance_us(&b->distance));
	atomic_store(&b->distance_bytes, bc_distance_bytes(&b->distance));
}

static void run_fetched(struct bc_fetch *f)
{
	struct blob_run *run = container_of(f, struct blob_run, fetch);

	rt_worker_assert(run->worker);
	run_lock(run);
	run->is_fetching = false;
	note_distance(run);
	run_unlock(run);
	if (f->result == 0) {
		run_enter(run, RUN_DECODE);
		return;
	}
	run_land_all(run, read_error(f->result));
	run_enter(run, RUN_STORE);
}

/* Returns the next state, or RUN_FETCH to wait. */
static unsigned run_fetch(struct blob_run *run)
{
	bool is_cancelled;

	/*
	 * After a failed try groups without compression still share the old
	 * bytes with readers, so each try has memory of its own.
	 */
	blob_mem_unref(run->src);
	run->src = blob_mem_create(run->blob, run->len);
	if (!run->src) {
		run_land_all(run, -ENOMEM);
		return RUN_STORE;
	}
	run->tries++;
	run->fetch.off = run->off;
	run->fetch.len = run->len;
	run->fetch.buf = run->src->data;
	run->fetch.is_again = run->tries > 1;
	run->fetch.wait_us = run->fetch.body_us = 0;
	run->fetch.worker = run->worker;
	run->fetch.done = run_fetched;
	run_lock(run);
	is_cancelled = run->is_cancelled;
	if (!is_cancelled) {
		run->fetch.cls = run->cls;
		run->is_fetching = true;
		count_waited_for(run, run->cls == RT_DEMAND);
		bc_source_fetch(run->blob->source, &run->fetch);
	}
	run_unlock(run);
	if (!is_cancelled)
		return RUN_FETCH;
	run_land_all(run, -ECANCELED);
	return RUN_STORE;
}

/* ---- budget ---- */

static void run_granted_here(struct rt_task *t)
{
	run_enter(container_of(t, struct blob_run, task), RUN_FETCH);
}

static void run_granted(struct bc_ticket *t)
{
	struct blob_run *run = container_of(t, struct blob_run, ticket);

	run->task.run = run_granted_here;
	rt_post(run->worker, &run->task);
}

static unsigned run_budget(struct blob_run *run)
{
	struct bc_budget *budget = &run->blob->store->budget;
	enum rt_class cls;

	run->ticket.granted = run_granted;
	run->ticket.share = &run->blob->memory_share;
	run_lock(run);
	cls = run->cls;
	run_unlock(run);
	if (bc_budget_take(budget, &run->ticket, run->len + run->decoded, cls))
		return RUN_FETCH;
	/* Whoever promoted it before it queued could not move it. */
	run_lock(run);
	cls = run->cls;
	run_unlock(run);
	if (cls == RT_DEMAND)
		bc_budget_promote(budget, &run->ticket);
	return RUN_BUDGET;
}

/* ---- end ---- */

static void run_end(struct blob_run *run)
{
	struct bc_blob *b = run->blob;

	blob_mem_unref(run->src);
	bc_budget_give(&b->store->budget, &run->ticket);
	bc_budget_give(&b->store->places, &run->place);
	run_lock(run);
	list_remove(&run->node);
	run_unlock(run);
	if (run->has_slot)
		rt_req_done(&run->req);
	run_unref(run);
	blob_release(b);
}

void blob_run_stored(struct blob_run *run)
{
	run_enter(run, RUN_END);
}

/* The only place that changes the state; run may be gone when it returns. */
static void run_enter(struct blob_run *run, unsigned state)
{
	for (;;) {
		run->state = (uint8_t)state;
		switch (state) {
		case RUN_BUDGET:
			state = run_budget(run);
			break;
		case RUN_FETCH:
			state = run_fetch(run);
			break;
		case RUN_DECODE:
			run_decode(run);
			return;
		case RUN_STORE:
			blob_store_start(run);
			return;
		default:
			run_end(run);
			return;
		}
		if (state == run->state)
			return;
	}
}

/* ---- into the channel ---- */

static void run_pulled(struct rt_req *r)
{
	struct blob_run *run = container_of(r, struct blob_run, req);

	run->worker = r->worker;
	run_enter(run, RUN_BUDGET);
}

static void run_released(struct rt_req *r)
{
	run_unref(container_of(r, struct blob_run, req));
}

/* The caller has a reference to run. */
static void run_promote_request(struct blob_run *run)
{
	atomic_fetch_add(&run->refs, 1);
	if (!rt_req_promote(run->blob->rt, &run->req))
		run_unref(run);
}

void blob_flight_promote(struct blob_flight *fl)
{
	struct bc_blob *b = fl->blob;
	struct blob_run *run;
	bool was_demand = true, is_submitted = false;

	(void)pthread_mutex_lock(&b->lock);
	fl->is_demand = true;
	run = fl->run;
	if (run) {
		was_demand = run->cls == RT_DEMAND;
		is_submitted = run->is_submitted;
		run->cls = RT_DEMAND;
		if (!was_demand && run->is_fetching) {
			count_waited_for(run, true);
			bc_source_promote(b->source, &run->fetch);
		}
		atomic_fetch_add(&run->refs, 1);
	}
	(void)pthread_mutex_unlock(&b->lock);
	if (run && !was_demand) {
		bc_budget_promote(&b->store->budget, &run->ticket);
		if (is_submitted)
			run_promote_request(run);
	}
	if (run)
		run_unref(run);
	rt_flight_unref(&b->flights, &fl->f);
}

/* One more reference than the run's own is the caller's during this. */
static void run_queue(struct blob_run *run, enum rt_class cls)
{
	bool was_promoted;
	int r;

	run->req.run = run_pulled;
	run->req.released = run_released;
	run->req.cls = cls;
	run->has_slot = true;
	atomic_fetch_add(&run->refs, 1); /* the channel's */
	r = rt_submit(run->blob->rt, &run->req);
	if (r == 0) {
		run_lock(run);
		run->is_submitted = true;
		was_promoted = cls != run->cls;
		run_unlock(run);
		if (was_promoted)
			run_promote_request(run);
		return;
	}
	run_unref(run);
	run->has_slot = false;
	run->req.worker = rt_worker_self();
	run_lock(run);
	cls = run->cls;
	run_unlock(run);
	if (r == -EAGAIN && cls == RT_DEMAND) {
		run_pulled(&run->req);
		return;
	}
	run_land_all(run, r == -EAGAIN ? -EAGAIN : -ECANCELED);
	run_end(run);
}

static void run_placed_here(struct rt_task *t)
{
	struct blob_run *run = container_of(t, struct blob_run, task);

	run_queue(run, RT_DEMAND);
	run_unref(run);
}

static void run_placed(struct bc_ticket *t)
{
	struct blob_run *run = container_of(t, struct blob_run, place);

	run->task.run = run_placed_here;
	rt_post(run->worker, &run->task);
}

/* As run_queue, once there is a place. */
static void run_submit(struct blob_run *run, enum rt_class cls)
{
	if (cls == RT_DEMAND) {
		run->worker = rt_worker_self();
		run->place.granted = run_placed;
		run->place.share = &run->blob->place_share;
		atomic_fetch_add(&run->refs, 1); /* run_placed_here's */
		if (!bc_budget_take(&run->blob->store->places, &run->place, 1,
			    RT_DEMAND))
			return;
		run_unref(run);
	}
	run_queue(run, cls);
}

/* NULL: out of memory. */
static struct blob_run *run_create(struct bc_blob *b,
	struct blob_flight *const *flights, const struct bc_range *range,
	enum rt_class cls)
{
	struct blob_run *run;
	uint32_t i;

	run = mem_zalloc(
		sizeof(*run) + range->count * sizeof(struct run_group));
	if (!run)
		return NULL;
	run->blob = b;
	run->off = range->off;
	run->len = (size_t)range->len;
	run->decoded = range->decoded;
	run->count = range->count;
	run->cls = cls;
	list_init(&run->ticket.node);
	list_init(&run->place.node);
	atomic_init(&run->refs, 2); /* its own and its maker's */
	blob_hold(b);
	(void)pthread_mutex_lock(&b->lock);
	list_push_back(&b->runs, &run->node);
	run->is_cancelled = b->is_closing;
	for (i = 0; i < run->count; i++) {
		struct run_group *rg = &run->groups[i];

		rg->flight = flights[i];
		rg->group = (uint32_t)flights[i]->f.key;
		rg->g = bc_map_group(&b->map, rg->group);
		list_init(&rg->storing_node);
		flights[i]->run = run;
		if (flights[i]->is_demand)
			run->cls = RT_DEMAND;
	}
	(void)pthread_mutex_unlock(&b->lock);
	return run;
}

/* Groups that only come with the whole blob: nobody can fetch them now. */
static void refuse_stream(struct bc_blob *b, struct blob_flight *fl)
{
	char text[DIGEST_MAX_TEXT];
	bool is_due;

	(void)pthread_mutex_lock(&b->lock); /* a plain mutex cannot fail */
	is_due = log_ratelimit(&b->warned_bad_ms, WARN_INTERVAL_MS);
	(void)pthread_mutex_unlock(&b->lock);
	if (is_due)
		log_warn("bytes of blob '%s' are no longer in the cache and "
			 "cannot be fetched alone, answering with an I/O "
			 "error until the image is mounted again",
			digest_text(&b->digest, text));
	rt_flight_land(&b->flights, &fl->f, -EIO);
}

static void fetch_some(struct bc_blob *b, const struct bc_plan_limits *limits,
	struct blob_flight *const *flights, const uint32_t *wanted, uint32_t n,
	enum rt_class cls)
{
	struct bc_range range;
	struct blob_run *run;
	uint32_t at, i;

	for (at = 0; at < n; at += range.count) {
		range = bc_plan_next(&b->map, limits, wanted, at, n);
		run = NULL;
		if (!bc_map_is_lost(&b->map))
			run = run_create(b, flights + at, &range, cls);
		if (run) {
			run_submit(run, cls);
			run_unref(run);
			continue;
		}
		for (i = at; i < at + range.count; i++)
			rt_flight_land(&b->flights, &flights[i]->f,
				bc_map_is_lost(&b->map) ? -EIO : -ENOMEM);
	}
}

static bool is_stream(const struct bc_blob *b, uint32_t group)
{
	return b->map.has_stream &&
	       bc_map_group(&b->map, group).codec == BC_CODEC_STREAM;
}

void blob_fetch(struct bc_blob *b, const struct bc_plan_limits *limits,
	struct blob_flight *const *flights, const uint32_t *wanted, uint32_t n,
	enum rt_class cls)
{
	uint32_t at = 0, end;

	while (at < n) {
		if (is_stream(b, wanted[at])) {
			refuse_stream(b, flights[at++]);
			continue;
		}
		end = at + 1;
		while (end < n && !is_stream(b, wanted[end]))
			end++;
		fetch_some(b, limits, flights + at, wanted + at, end - at, cls);
		at = end;
	}
}

void blob_cancel_runs(struct bc_blob *b)
{
	struct blob_run *run;

	(void)pthread_mutex_lock(&b->lock);
	list_for_each(it, &b->runs) {
		run = container_of(it, struct blob_run, node);
		run->is_cancelled = true;
		if (run->is_fetching)
			bc_source_cancel(b->source, &run->fetch);
	}
	(void)pthread_mutex_unlock(&b->lock);
}
