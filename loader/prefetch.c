/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay and record of a mount; see prefetch.h.
 *
 *   replay:  record or list -> queue (blobcache/prefetch.h) -> with ALL: fill
 *   record:  first touches (blobcache/trace.h) -> every some seconds, and at
 *            the end -> images/<algo>/<hex>/record, and the user's file
 *
 * A later run adds to the record what it touches and the record lacks. What is
 * read long after the first read is no start, and is not recorded. Whatever
 * fails here costs speed and nothing else, but for files that the user named:
 * those are tried before the mount.
 */
#include "loader/prefetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "blobcache/fill.h"
#include "blobcache/prefetch.h"
#include "blobcache/trace.h"
#include "loader/image_int.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "prefetch"

#define RECORD_NAME "record"
#define SAVE_INTERVAL_MS 5000
#define SAVE_MAX_INTERVAL_MS 60000
/* What is read so long after the first read does not belong to a start. */
#define START_MS (10 * 60 * 1000)

struct ld_prefetch {
	struct ld_prefetch_options o;
	char *record_path;      /* owned; NULL: only in the cache */
	struct bc_record known; /* the image's record as it was found */
	struct bc_trace *trace;
	struct bc_prefetch *queue; /* NULL with NONE */
	bool has_items;            /* something was queued at the start */
	/* the home worker's: saving */
	struct rt_worker *home;
	struct rt_timer timer;
	struct rt_job job;
	struct rt_op *end_op;
	bool is_saving, is_ending;
	uint64_t first_ms, interval_ms;
	uint64_t saved; /* bc_trace_count of the last save; the job's */
	/* the home worker's: the rest */
	struct bc_fill fill;
	struct bc_fill_blob *fill_blobs; /* owned; NULL: not wanted */
	bool is_filling, has_filled;
};

static void tick(struct ld_prefetch *p);
static void start_fill(struct ld_prefetch *p);

/* ---- records ---- */

static int read_file(const char *path, struct bc_record *ret, struct err *e)
{
	struct buf b;
	int err;

	buf_init(&b, BC_RECORD_MAX_FILE);
	err = buf_read_file(&b, AT_FDCWD, path);
	if (err < 0)
		(void)err_sys(e, err, "cannot read the record '%s'", path);
	else
		err = bc_record_parse(b.data, b.len, ret, e);
	if (err == -EPROTO || err == -EBADMSG)
		(void)err_wrap(e, "cannot use '%s'", path);
	buf_fini(&b);
	return err;
}

/* What this machine has learned of the image; empty if nothing. */
static void read_known(struct ld_prefetch *p)
{
	char rel[IMAGE_REL_LEN];
	struct buf b;

	buf_init(&b, BC_RECORD_MAX_FILE);
	image_rel(&p->o.image->digest, RECORD_NAME, rel);
	if (bc_store_get(p->o.store, rel, &b, NULL) == 0 &&
		bc_record_parse(b.data, b.len, &p->known, NULL) < 0)
		log_info("the record of reads of this image is not whole, "
			 "starting a new one");
	buf_fini(&b);
}

/* Whole or not at all, for who reads it meanwhile. */
static int write_file(const char *path, const struct buf *b)
{
	char *tmp = mem_printf("%s.%ld", path, (long)getpid());
	ssize_t n = -1;
	int fd, err = 0;

	if (!tmp)
		return -ENOMEM;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd >= 0)
		n = write(fd, b->data, b->len);
	if (fd < 0 || n < 0)
		err = -errno;
	else if ((size_t)n != b->len)
		err = -ENOSPC;
	if (fd >= 0 && close(fd) < 0 && err == 0)
		err = -errno;
	if (err == 0 && rename(tmp, path) < 0)
		err = -errno;
	if (err < 0 && fd >= 0)
		(void)unlink(tmp); /* of no use to anybody */
	mem_free(tmp);
	return err;
}

/* What is known of the image from now on: what was, and what r adds. */
static void save_known(struct ld_prefetch *p, const struct bc_record *r)
{
	char rel[IMAGE_REL_LEN];
	struct bc_record all = {0};
	struct buf b;

	if (bc_store_is_read_only(p->o.store))
		return;
	buf_init(&b, BC_RECORD_MAX_FILE);
	image_rel(&p->o.image->digest, RECORD_NAME, rel);
	if (bc_record_merge(&all, &p->known) == 0 &&
		bc_record_merge(&all, r) == 0 &&
		bc_record_groups(&all) > bc_record_groups(&p->known) &&
		bc_record_write(&all, &b) == 0)
		(void)bc_store_put(p->o.store, rel, b.data, b.len, NULL);
	bc_record_fini(&all);
	buf_fini(&b);
}

static int save_file(struct ld_prefetch *p, const struct bc_record *r)
{
	struct buf b;
	int err;

	buf_init(&b, BC_RECORD_MAX_FILE);
	err = bc_record_write(r, &b);
	if (err == 0)
		err = write_file(p->record_path, &b);
	buf_fini(&b);
	return err;
}

/* BLOCKING. */
static void save(struct ld_prefetch *p)
{
	uint64_t count = bc_trace_count(p->trace);
	struct bc_record r = {0};
	int err;

	if (count == p->saved || bc_trace_read(p->trace, &r) < 0)
		return;
	p->saved = count;
	save_known(p, &r);
	if (p->record_path) {
		err = save_file(p, &r);
		if (err < 0)
			log_warn("cannot write the record '%s' (error %d)",
				p->record_path, -err);
	}
	bc_record_fini(&r);
}

/* ---- what is fetched ---- */

struct items {
	struct bc_prefetch_item *list; /* owned */
	size_t count, cap;
};

static struct bc_blob *find_blob(
	const struct ld_image *i, const struct bc_record_blob *b)
{
	size_t k;

	for (k = 0; k < i->blob_count; k++)
		if (i->blobs[k].blob &&
			digest_is_equal(&i->blobs[k].digest, &b->digest) &&
			digest_is_equal(
				&bc_blob_map(i->blobs[k].blob)->id, &b->map_id))
			return i->blobs[k].blob;
	return NULL;
}

/*
 * The part of r that this image has. The groups of r may be looked at as often
 * as the image has groups: a record that names them again and again is cut.
 */
static int resolve(
	const struct ld_image *i, const struct bc_record *r, struct items *out)
{
	const struct bc_record_entry *x;
	uint64_t budget = 0;
	struct bc_blob *b;
	uint32_t groups, n;
	size_t k;
	int err;

	for (k = 0; k < i->blob_count; k++)
		if (i->blobs[k].blob)
			budget += bc_blob_map(i->blobs[k].blob)->group_count;
	for (k = 0; k < r->entry_count; k++) {
		x = &r->entries[k];
		b = find_blob(i, &r->blobs[x->blob]);
		groups = b ? bc_blob_map(b)->group_count : 0;
		if (x->group >= groups)
			continue;
		n = (uint32_t)min_u64(x->count, groups - x->group);
		if (n > budget)
			break;
		budget -= n;
		err = mem_grow((void **)&out->list, &out->cap, out->count + 1,
			BC_RECORD_MAX_ENTRIES, sizeof(*out->list));
		if (err < 0)
			return err;
		out->list[out->count++] = (struct bc_prefetch_item){
			.blob = b, .group = x->group, .count = n};
	}
	return 0;
}

static void queue_is_dry(void *arg)
{
	start_fill(arg);
}

/* Readers go through the whole blob: it comes from where they are. */
static void on_bulk(void *arg, struct bc_blob *b, uint32_t at)
{
	struct ld_prefetch *p = arg;
	const struct bc_prefetch_item items[] = {
		{b, at, bc_blob_map(b)->group_count - at},
		{b, 0, at},
	};

	/* that is no start that the next mount should replay */
	bc_trace_stop(p->trace);
	if (p->fill_blobs)
		return; /* it is on its way */
	log_info("a blob of the image is read whole, fetching all of it");
	if (bc_prefetch_add(p->queue, items, ARRAY_LEN(items)) < 0)
		log_info("no memory to fetch a blob ahead");
}

static bool is_complete(const struct ld_image *i)
{
	bool r = true;
	size_t k;

	for (k = 0; k < i->blob_count && r; k++)
		r = i->blobs[k].blob && bc_blob_is_complete(i->blobs[k].blob);
	return r;
}

static int start_queue(
	struct ld_prefetch *p, const struct bc_record *r, struct err *e)
{
	const struct bc_prefetch_options o = {.rt = p->o.rt,
		.rate = p->o.rate,
		.dry = queue_is_dry,
		.arg = p};
	struct items items = {0};
	int err = 0;

	/* To see that group by group takes maps that are on a cold disk. */
	if (!is_complete(p->o.image))
		err = resolve(p->o.image, r, &items);
	if (err == 0)
		err = bc_prefetch_create(&o, &p->queue);
	p->has_items = items.count > 0;
	if (err == 0 && p->has_items) {
		log_info("fetching %zu stretches of the image ahead",
			items.count);
		err = bc_prefetch_add(p->queue, items.list, items.count);
	}
	mem_free(items.list);
	return err < 0 ? err_set(e, err, "out of memory") : 0;
}

/* ---- everything ---- */

static void fill_done(struct bc_fill *f)
{
	struct ld_prefetch *p = container_of(f, struct ld_prefetch, fill);

	p->is_filling = false;
	if (f->result == -ENOSPC)
		log_info("the cache has no room for all of the image, or it "
			 "would need more than half of --cache-size: the rest "
			 "is not fetched ahead");
	else if (f->result < 0 && f->result != -ECANCELED)
		log_info("not all of the image could be fetched ahead "
			 "(error %d)",
			-f->result);
	else if (f->result == 0)
		log_info("all of the image is in the cache");
	tick(p);
}

static int prepare_fill(struct ld_prefetch *p, struct err *e)
{
	struct ld_image *i = p->o.image;
	size_t k;

	p->fill_blobs = mem_calloc(i->blob_count, sizeof(*p->fill_blobs));
	if (!p->fill_blobs || ld_image_find_wanted(i) == -ENOMEM)
		return err_set(e, -ENOMEM, "out of memory");
	for (k = 0; k < i->blob_count; k++)
		p->fill_blobs[k] = (struct bc_fill_blob){
			i->blobs[k].blob, i->blobs[k].wanted};
	p->fill = (struct bc_fill){.rt = p->o.rt,
		.blobs = p->fill_blobs,
		.blob_count = i->blob_count,
		.cls = RT_PREFETCH,
		.rate = p->o.rate,
		.is_ahead = true,
		.done = fill_done};
	return 0;
}

/* What is wanted first has been fetched: now all the rest. */
static void start_fill(struct ld_prefetch *p)
{
	struct bc_prefetch_stats stats;

	if (!p->fill_blobs || p->has_filled || p->is_ending)
		return;
	p->has_filled = true;
	p->is_filling = true;
	if (p->queue) {
		bc_prefetch_stats(p->queue, &stats);
		p->fill.brought = stats.decoded;
	}
	bc_fill_start(&p->fill);
}

/* ---- from time to time ---- */

static void save_work(struct rt_job *j)
{
	save(container_of(j, struct ld_prefetch, job));
}

static void save_done(struct rt_job *j)
{
	struct ld_prefetch *p = container_of(j, struct ld_prefetch, job);

	p->is_saving = false;
	tick(p);
}

static void look_at_record(struct ld_prefetch *p)
{
	uint64_t now = clock_ms();

	if (p->is_saving || bc_trace_count(p->trace) == p->saved)
		return;
	if (p->first_ms == 0)
		p->first_ms = now;
	if (now - p->first_ms > START_MS)
		bc_trace_stop(p->trace);
	p->is_saving = true;
	/* what comes late is seldom worth another write */
	p->interval_ms = min_u64(p->interval_ms * 2, SAVE_MAX_INTERVAL_MS);
	rt_job_submit(&p->job);
}

/* On the home worker: whatever is due now. */
static void tick(struct ld_prefetch *p)
{
	struct rt_op *op = p->end_op;

	if (!p->is_ending)
		return;
	if (p->is_saving || p->is_filling || !op)
		return;
	rt_timer_stop(p->home, &p->timer);
	p->end_op = NULL;
	rt_block_on_done(op, 0); /* p may be gone */
}

static void fired(struct rt_timer *t)
{
	struct ld_prefetch *p = container_of(t, struct ld_prefetch, timer);

	look_at_record(p);
	rt_timer_start(p->home, &p->timer, p->interval_ms);
}

static void begin(void *arg, struct rt_op *op)
{
	struct ld_prefetch *p = arg;

	rt_timer_start(p->home, &p->timer, p->interval_ms);
	if (!p->has_items)
		start_fill(p);
	rt_block_on_done(op, 0);
}

static void end(void *arg, struct rt_op *op)
{
	struct ld_prefetch *p = arg;

	p->is_ending = true;
	p->end_op = op;
	rt_timer_stop(p->home, &p->timer);
	if (p->is_filling)
		bc_fill_cancel(&p->fill);
	tick(p);
}

/* ---- the outside ---- */

static int start_trace(struct ld_prefetch *p, struct err *e)
{
	struct ld_image *i = p->o.image;
	uint32_t n;
	size_t k;
	int err;

	err = bc_trace_create(&p->trace);
	for (k = 0; err == 0 && k < i->blob_count; k++) {
		err = bc_trace_add_blob(p->trace, &i->blobs[k].digest,
			&bc_blob_map(i->blobs[k].blob)->id, &n);
		if (err == 0)
			err = bc_blob_set_trace(i->blobs[k].blob, p->trace, n);
		if (err == 0 && p->o.what != LD_PREFETCH_NONE)
			err = bc_blob_set_ahead(i->blobs[k].blob, on_bulk, p);
	}
	return err < 0 ? err_set(e, err, "out of memory") : 0;
}

/* The user is told now, and not when the mount has ended. */
static int try_record(struct ld_prefetch *p, struct err *e)
{
	const struct bc_record none = {0};
	int err;

	if (!p->o.record)
		return 0;
	p->record_path = mem_strdup(p->o.record);
	if (!p->record_path)
		return err_set(e, -ENOMEM, "out of memory");
	err = save_file(p, &none);
	if (err < 0)
		return err_sys(
			e, err, "cannot write the record '%s'", p->o.record);
	return 0;
}

static int start_replay(struct ld_prefetch *p, struct err *e)
{
	const struct bc_record *r = &p->known;
	struct bc_record from = {0};
	int err = 0;

	if (p->o.what == LD_PREFETCH_NONE)
		return 0;
	if (p->o.from)
		err = read_file(p->o.from, &from, e);
	if (p->o.from)
		r = &from;
	else if (p->o.what == LD_PREFETCH_LIST || r->entry_count == 0)
		r = &p->o.image->wish;
	if (err == 0)
		err = start_queue(p, r, e);
	if (err == 0 && p->o.what == LD_PREFETCH_ALL)
		err = prepare_fill(p, e);
	bc_record_fini(&from);
	return err;
}

int ld_prefetch_start(const struct ld_prefetch_options *o,
	struct ld_prefetch **ret, struct err *e)
{
	struct ld_prefetch *p = mem_zalloc(sizeof(*p));
	int err;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->o = *o;
	p->home = rt_worker_at(o->rt, 0);
	p->interval_ms = SAVE_INTERVAL_MS;
	p->timer.fire = fired;
	p->job.work = save_work;
	p->job.done = save_done;
	p->job.home = p->home;
	p->job.cls = RT_PREFETCH;
	read_known(p);
	err = try_record(p, e);
	if (err == 0)
		err = start_replay(p, e);
	if (err == 0)
		err = start_trace(p, e);
	if (err < 0) {
		ld_prefetch_stop(p);
		return err;
	}
	(void)rt_block_on(o->rt, begin, p); /* always 0 */
	*ret = p;
	return 0;
}

void ld_prefetch_stop(struct ld_prefetch *p)
{
	struct ld_image *i;
	size_t k;

	if (!p)
		return;
	i = p->o.image;
	for (k = 0; k < i->blob_count; k++)
		bc_blob_stop(i->blobs[k].blob);
	(void)rt_block_on(p->o.rt, end, p); /* always 0 */
	bc_prefetch_destroy(p->queue);
	if (p->trace)
		save(p);
	for (k = 0; k < i->blob_count; k++)
		bc_blob_set_trace(i->blobs[k].blob, NULL, 0);
	bc_trace_destroy(p->trace);
	bc_record_fini(&p->known);
	mem_free(p->fill_blobs);
	mem_free(p->record_path);
	mem_free(p);
}
