/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes leave the cache, and when; see evict.h. One process at a time
 * evicts in a cache directory (flock on blobs/); it looks at all ready files,
 * sorts their runs by the last use and takes from the oldest on.
 */
#include "blobcache/evict.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "blobcache/evict_int.h"
#include "blobcache/store_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "store"
#define MAX_CANDIDATES (8u << 20)
#define MAX_PASSES 4      /* estimates may be short of what was wanted */
#define WHOLE UINT32_MAX  /* instead of a run */
#define HIGH_PART 16      /* evict when less than limit/16 is left */
#define LOW_PART 8        /* until limit/8 is */
#define LOOK_MS 10000     /* other processes store too */
#define FRUITLESS_MS 1000 /* after a look that found nothing to take */
#define WARN_INTERVAL_MS 60000
#define FRESH_SECONDS 60
#define PART_SECONDS 3600     /* of beginnings that nobody went on with */
#define FREE_PERCENT_AFTER 6u /* of the file system, once it was below 5 */

/* One run of one file. */
struct candidate {
	uint64_t bytes; /* about */
	uint32_t stamp, file, run;
};

struct choice {
	struct bc_store *store;
	const struct bc_evict *w;
	struct bc_pins pins;
	struct bc_inventory files; /* those with candidates */
	struct candidate *list;    /* owned */
	size_t count, cap;
};

/* ---- candidates ---- */

static bool is_asked_for(const struct choice *c, const struct digest *blob)
{
	size_t i;

	if (!c->w->even_pinned && bc_pins_have(&c->pins, blob))
		return false;
	for (i = 0; c->w->only && i < c->w->only_count; i++)
		if (digest_is_equal(&c->w->only[i], blob))
			return true;
	return !c->w->only;
}

static int add(struct choice *c, uint32_t stamp, uint32_t run, uint64_t bytes)
{
	void *list = c->list;
	int r;

	if (c->w->before && stamp >= c->w->before)
		return 0;
	r = mem_grow(
		&list, &c->cap, c->count + 1, MAX_CANDIDATES, sizeof(*c->list));
	if (r < 0)
		return r == -E2BIG ? 0 : r; /* a later pass takes the rest */
	c->list = list;
	c->list[c->count++] = (struct candidate){.bytes = bytes,
		.stamp = stamp,
		.file = (uint32_t)c->files.count,
		.run = run};
	return 0;
}

static uint32_t ready_in(
	const struct bc_ready *bits, uint32_t first, uint32_t end)
{
	uint32_t n = 0;

	for (; first < end; first++)
		n += bc_ready_test(bits->ready, first, 1);
	return n;
}

static int add_runs(struct choice *c, const struct bc_inventory_blob *b,
	const struct bc_ready *bits)
{
	uint32_t len = bc_ready_run_len(bits->chunk_count), run, n, end;
	uint64_t first;
	int r = 0;

	for (run = 0; r == 0 && run < bc_ready_run_count(bits->chunk_count);
		run++) {
		first = (uint64_t)run * len;
		end = (uint32_t)min_u64(bits->chunk_count, first + len);
		n = ready_in(bits, (uint32_t)first, end);
		if (n > 0)
			r = add(c, bc_ready_stamp(bits, run), run,
				b->bytes / b->ready_count * n);
	}
	return r;
}

static int add_file(void *arg, const struct bc_inventory_blob *b,
	const struct bc_ready *bits)
{
	struct choice *c = arg;
	size_t before = c->count;
	int r;

	if (!is_asked_for(c, &b->blob))
		return 0;
	if (!bits || b->is_sealed || b->ready_count == 0)
		r = add(c, b->last_used, WHOLE, b->bytes + 1);
	else
		r = add_runs(c, b, bits);
	if (r < 0 || c->count == before)
		return r;
	return bc_inventory_add(&c->files, b);
}

/* Oldest first; what is as old by file, so that ties leave files whole. */
static int cmp_age(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->stamp != y->stamp)
		return x->stamp < y->stamp ? -1 : 1;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->run < y->run ? -1 : x->run > y->run;
}

static int cmp_place(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->run < y->run ? -1 : x->run > y->run;
}

/* ---- taking ---- */

/* Candidates [at, at + n) are of one file, by run. */
static int take_file(struct choice *c, size_t at, size_t n, uint32_t of_file,
	uint64_t *ret_freed)
{
	const struct bc_inventory_blob *f = &c->files.blobs[c->list[at].file];
	CLEANUP_FREE uint32_t *runs = NULL;
	bool everything = n == of_file;
	size_t i;

	if (c->list[at].run == WHOLE)
		return cachefile_evict(
			c->store, f->dir, NULL, 0, true, ret_freed);
	runs = mem_calloc(n, sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		runs[i] = c->list[at + i].run;
	return cachefile_evict(
		c->store, f->dir, runs, n, everything, ret_freed);
}

/* How many candidates each file has in all, by file. */
static uint32_t *count_by_file(const struct choice *c)
{
	uint32_t *n = mem_calloc(c->files.count + 1, sizeof(*n));
	size_t i;

	for (i = 0; n && i < c->count; i++)
		n[c->list[i].file]++;
	return n;
}

/* The first `chosen` of the list go. */
static int take(struct choice *c, size_t chosen, uint64_t *ret_freed)
{
	CLEANUP_FREE uint32_t *of_file = count_by_file(c);
	uint64_t freed;
	size_t i, n;
	int r = 0, first_error = 0;

	if (!of_file)
		return -ENOMEM;
	qsort(c->list, chosen, sizeof(*c->list), cmp_place);
	for (i = 0; i < chosen; i += n) {
		uint32_t file = c->list[i].file;

		for (n = 1; i + n < chosen && c->list[i + n].file == file; n++)
			;
		freed = 0;
		r = take_file(c, i, n,
			c->w->before ? UINT32_MAX : of_file[file], &freed);
		*ret_freed += freed;
		if (r < 0 && first_error == 0)
			first_error = r;
	}
	return first_error;
}

static void choice_fini(struct choice *c)
{
	bc_pins_fini(&c->pins);
	bc_inventory_fini(&c->files);
	mem_free(c->list);
}

/* One look, and what it came to. */
struct pass {
	uint64_t chosen; /* bytes, about */
	uint64_t freed;
	bool was_all; /* there were no other candidates */
};

/* Look, choose, take. */
static int evict_once(struct bc_store *s, const struct bc_evict *w,
	uint64_t want, struct pass *p, struct err *e)
{
	struct choice c = {.store = s, .w = w};
	size_t n = 0;
	int r = 0;

	*p = (struct pass){.was_all = true};
	if (!w->even_pinned)
		r = bc_pins_load(s, &c.pins, e);
	if (r < 0)
		return r;
	r = bc_inventory_walk(s, add_file, &c);
	if (r == 0 && c.count > 0) {
		qsort(c.list, c.count, sizeof(*c.list), cmp_age);
		for (; n < c.count && p->chosen < want; n++)
			p->chosen += c.list[n].bytes;
		p->was_all = n == c.count;
		r = take(&c, n, &p->freed);
	}
	choice_fini(&c);
	return r < 0 ? err_sys(e, r, "cannot evict from the cache '%s'",
			       s->path)
	             : 0;
}

/*
 * What was chosen may not go: somebody uses it, or writes it. It stays the
 * oldest, so the next pass chooses as much behind it.
 */
static int evict_some(struct bc_store *s, struct bc_evict *w, struct err *e)
{
	uint64_t stuck = 0, want;
	struct pass p;
	int r = 0, pass;

	for (pass = 0; r == 0 && pass < MAX_PASSES && w->freed < w->want;
		pass++) {
		if (add_overflows(w->want - w->freed, stuck, &want))
			want = UINT64_MAX;
		r = evict_once(s, w, want, &p, e);
		w->freed += p.freed;
		stuck = p.chosen > p.freed ? p.chosen - p.freed : 0;
		if (p.was_all && p.freed == 0)
			break;
	}
	return r;
}

int bc_store_evict(struct bc_store *s, struct bc_evict *w, struct err *e)
{
	CLEANUP_FD int lock = -1;

	w->freed = 0;
	if (s->read_only)
		return err_set(
			e, -EROFS, "the cache '%s' is read-only", s->path);
	lock = openat(s->dirfd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0)
		return err_sys(e, -errno, "cannot open '%s/blobs'", s->path);
	if (flock(lock, LOCK_EX | (w->is_patient ? 0 : LOCK_NB)) < 0)
		return err_set(e, -EBUSY,
			"another process makes room in the cache '%s', try "
			"again",
			s->path);
	return evict_some(s, w, e);
}

void bc_store_drop_parts(struct bc_store *s, uint32_t age_s)
{
	if (!s->read_only)
		store_sweep_tmp(s->dirfd, age_s);
}

/* ---- when ---- */

static uint64_t used(const struct bc_store *s)
{
	return atomic_load(&s->measured) + atomic_load(&s->stored) -
	       atomic_load(&s->stored_then);
}

/* What is stored while we look is counted twice at most, never left out. */
static int measure(struct bc_store *s, struct err *e)
{
	uint64_t then = atomic_load(&s->stored), bytes;
	int r;

	r = bc_store_usage(s, &bytes, e);
	if (r < 0)
		return r;
	atomic_store(&s->stored_then, then);
	atomic_store(&s->measured, bytes);
	return 0;
}

int bc_store_set_limit(struct bc_store *s, uint64_t bytes, struct err *e)
{
	int r = bytes == UINT64_MAX ? 0 : measure(s, e);

	if (r == 0)
		atomic_store(&s->limit, bytes);
	return r;
}

uint64_t bc_store_limit(const struct bc_store *s)
{
	return atomic_load(&s->limit);
}

bool store_is_over(const struct bc_store *s)
{
	uint64_t limit = atomic_load(&s->limit);

	return limit != UINT64_MAX && used(s) >= limit;
}

void bc_store_note(struct bc_store *s, uint64_t bytes)
{
	atomic_fetch_add(&s->stored, bytes);
}

bool bc_store_wants_room(struct bc_store *s)
{
	uint64_t limit = atomic_load(&s->limit), now = clock_ms();

	if (s->read_only || now < atomic_load(&s->next_look_ms))
		return false;
	if (bc_store_is_full(s))
		return true;
	if (limit == UINT64_MAX)
		return false;
	return used(s) > limit - limit / HIGH_PART ||
	       now - atomic_load(&s->looked_ms) > LOOK_MS;
}

/* Bytes above what our own limit allows. */
static uint64_t over_limit(const struct bc_store *s)
{
	uint64_t limit = atomic_load(&s->limit);

	if (limit == UINT64_MAX || used(s) <= limit - limit / HIGH_PART)
		return 0;
	return used(s) - (limit - limit / LOW_PART);
}

/* Bytes that the file system is short of. */
static uint64_t short_of(const struct bc_store *s)
{
	struct statvfs st;

	if (fstatvfs(s->dirfd, &st) < 0 ||
		st.f_bavail >= st.f_blocks / 100 * STORE_FREE_PERCENT)
		return 0;
	return (st.f_blocks / 100 * FREE_PERCENT_AFTER - st.f_bavail) *
	       st.f_frsize;
}

static void warn_no_room(struct bc_store *s)
{
	uint64_t last = atomic_load(&s->warned_ms), now = clock_ms();

	if (last && now - last < WARN_INTERVAL_MS)
		return;
	atomic_store(&s->warned_ms, now);
	log_warn("the cache '%s' is full and has nothing that may be evicted, "
		 "going on without caching",
		s->path);
}

/* Returns whether all of that went. */
static bool make_room(struct bc_store *s, uint64_t want, uint32_t before)
{
	struct bc_evict w = {.want = want, .before = before};
	struct err e = {0};
	int r;

	if (want == 0)
		return true;
	bc_store_drop_parts(s, PART_SECONDS);
	r = bc_store_evict(s, &w, &e);
	if (r < 0 && r != -EBUSY)
		log_warn("%s", e.text);
	else if (r == 0 && w.freed == 0)
		warn_no_room(s);
	if (w.freed > 0)
		log_debug("evicted %llu bytes from the cache '%s'",
			(unsigned long long)w.freed, s->path);
	atomic_fetch_sub(
		&s->measured, min_u64(w.freed, atomic_load(&s->measured)));
	return w.freed >= want;
}

/*
 * On a disk that others fill nothing we throw away is enough: there what was
 * used just now stays, or its readers would fetch it again and again.
 */
bool bc_store_make_room(struct bc_store *s)
{
	struct err e = {0};
	bool is_enough;

	if (s->read_only)
		return false;
	atomic_store(&s->looked_ms, clock_ms());
	if (atomic_load(&s->limit) != UINT64_MAX && measure(s, &e) < 0)
		log_warn("%s", e.text);
	is_enough = make_room(s, over_limit(s), 0);
	is_enough &= make_room(
		s, short_of(s), (uint32_t)(time(NULL) - FRESH_SECONDS));
	atomic_store(&s->full_checked_ms, 0);
	if (!is_enough)
		atomic_store(&s->next_look_ms, clock_ms() + FRUITLESS_MS);
	return !bc_store_is_full(s);
}
