/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: what the cache has of an image against its digests; with --all the
 * rest is fetched, which verifies it, and then all of it is read back.
 */
#include <errno.h>

#include "loader/cache_verify.h"
#include "loader/cached.h"
#include "loader/cmd.h"
#include "loader/fetch.h"
#include "loader/work.h"

static int verify_one(struct bc_store *s, const struct ld_cached *c,
	const struct ld_cached_image *i, void *v, struct err *e)
{
	return ld_verify_image(s, c, i, v, e);
}

/* 1: some of the image is there. */
static int verify_cached(struct bc_store *s, const char *name,
	struct ld_verified *v, struct err *e)
{
	return ld_cached_each(s, name, verify_one, v, e);
}

static int fetch_all(struct ld_cli *c, struct ld_work *w, struct err *e)
{
	struct ld_fetch *f;
	struct ld_image i;
	int r;

	r = ld_work_prepare(w, c, &i, e);
	if (r < 0)
		return r;
	r = ld_fetch_create(w->rt, &i, &f, e);
	if (r == 0) {
		r = ld_fetch_run(f, NULL, NULL, e);
		ld_fetch_destroy(f);
	}
	ld_image_fini(&i);
	return r;
}

/*
 * What is wrong already is thrown away before the rest is fetched; then
 * everything is read back.
 */
static int check_all(struct ld_cli *c, struct err *e)
{
	struct ld_verified before = {0}, after = {0};
	struct ld_work w;
	int r;

	r = ld_work_start(&w, c, NULL, e);
	if (r < 0)
		return r;
	r = verify_cached(w.store, c->args[0], &before, e);
	if (r >= 0)
		r = fetch_all(c, &w, e);
	if (r == 0)
		r = verify_cached(w.store, c->args[0], &after, e);
	ld_work_stop(&w);
	if (r < 0)
		return r;
	after.bad_chunks += before.bad_chunks;
	after.torn += before.torn;
	after.bad_indexes += before.bad_indexes;
	return ld_verify_end(&after, e);
}

static int check_cached(struct ld_cli *c, struct err *e)
{
	struct ld_verified v = {0};
	struct bc_store *s;
	int r;

	r = bc_store_open(ld_work_cache_dir(c), &s, e);
	if (r < 0)
		return r;
	r = verify_cached(s, c->args[0], &v, e);
	if (r == 0)
		r = err_set_kind(e, ERR_NOT_FOUND, -ENOENT,
			"nothing of '%.200s' is in the cache '%.200s', --all "
			"would fetch it",
			c->args[0], bc_store_path(s));
	bc_store_close(s);
	return r < 0 ? r : ld_verify_end(&v, e);
}

int ld_cmd_check(struct ld_cli *c, struct err *e)
{
	ld_work_log(c);
	return c->all ? check_all(c, e) : check_cached(c, e);
}
