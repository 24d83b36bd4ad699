/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache: what the cache directory holds, and making room in it. Works on the
 * directory alone: no network, no runtime, beside mounts that use it.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "blobcache/evict.h"
#include "loader/cache_verify.h"
#include "loader/cached.h"
#include "loader/cmd.h"
#include "loader/json.h"
#include "loader/size.h"
#include "loader/work.h"
#include "runtime/base/util.h"

#define MAX_TEXT (64u << 20)
#define YOUNG_S 3600 /* a mount may still be making its image of it */

static int print_json(json_t *o, struct err *e)
{
	struct buf b;
	int r;

	buf_init(&b, MAX_TEXT);
	r = ld_json_write(o, JSON_INDENT(2), &b);
	if (r == 0)
		(void)printf("%.*s\n", (int)b.len, (char *)b.data);
	buf_fini(&b);
	json_decref(o);
	return r < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

/* ---- ls ---- */

static const char *name_of(const struct ld_cached_image *i)
{
	return i->name && i->name[0] ? i->name : "-";
}

static json_t *image_json(const struct ld_cached_image *i)
{
	char digest[DIGEST_MAX_TEXT];
	json_t *names = json_array(), *name;
	const char *at = i->names;
	size_t n;

	for (; at && *at; at += n + (at[n] == '\n')) {
		n = strcspn(at, "\n");
		(void)json_array_append_new(names, json_stringn(at, n));
	}
	/* a path that is not UTF-8 cannot be said in JSON */
	name = i->name ? json_string(i->name) : NULL;
	return json_pack("{s:s, s:o, s:o, s:s?, s:I, s:I, s:I, s:I, s:b}",
		"digest", digest_text(&i->digest, digest), "name",
		name ? name : json_null(), "names", names, "platform",
		i->platform, "bytes", (json_int_t)i->bytes, "chunks",
		(json_int_t)i->chunks, "chunks_cached", (json_int_t)i->ready,
		"last_used", (json_int_t)i->last_used, "pinned",
		(int)i->is_pinned);
}

/* "3 h ago"; coarse. */
static char *age_text(uint32_t then, char ret[32])
{
	static const struct {
		const char *name;
		uint32_t seconds;
	} units[] = {{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}};
	time_t now = time(NULL);
	uint64_t age = now > (time_t)then ? (uint64_t)now - then : 0;
	size_t k = 0;

	while (k + 1 < ARRAY_LEN(units) && age < units[k].seconds)
		k++;
	(void)snprintf(ret, 32, "%" PRIu64 " %s ago", age / units[k].seconds,
		units[k].name); /* fits */
	return ret;
}

static void print_image(const struct ld_cached_image *i)
{
	char digest[DIGEST_MAX_TEXT], size[32], age[32];
	uint64_t chunks = max_u64(1, i->chunks);

	(void)printf("%.19s %10s %3" PRIu64 " %%%s %-10s %s%s%s%s%s\n",
		digest_text(&i->digest, digest), ld_size_text(i->bytes, size),
		(uint64_t)i->ready * 100 / chunks, i->has_no_chunks ? "-" : " ",
		age_text(i->last_used, age), name_of(i),
		i->platform ? " (" : "", i->platform ? i->platform : "",
		i->platform ? ")" : "", i->is_pinned ? " pinned" : "");
}

static int list(struct bc_store *s, const struct ld_cli *c, struct err *e)
{
	struct ld_cached cached;
	json_t *all;
	size_t k;
	int r;

	r = ld_cached_take(s, &cached, e);
	if (r < 0)
		return r;
	if (c->json) {
		all = json_array();
		for (k = 0; k < cached.count; k++)
			if (json_array_append_new(
				    all, image_json(&cached.images[k])) < 0)
				r = err_set(e, -ENOMEM, "out of memory");
		if (r == 0)
			r = print_json(all, e);
		else
			json_decref(all);
	} else {
		for (k = 0; k < cached.count; k++)
			print_image(&cached.images[k]);
	}
	ld_cached_fini(&cached);
	return r;
}

/* ---- du ---- */

struct usage {
	uint64_t total, blobs, layers, images, tmp, pinned, unneeded, sealed;
};

static int measure_parts(struct bc_store *s, struct usage *u, struct err *e)
{
	int r;

	r = bc_store_usage(s, &u->total, e);
	if (r == 0)
		r = bc_store_usage_of(s, "blobs", &u->blobs, e);
	if (r == 0)
		r = bc_store_usage_of(s, "layers", &u->layers, e);
	if (r == 0)
		r = bc_store_usage_of(s, "images", &u->images, e);
	if (r == 0)
		r = bc_store_usage_of(s, "tmp", &u->tmp, e);
	return r;
}

static int measure(struct bc_store *s, struct usage *u, struct err *e)
{
	const struct bc_inventory_blob *b;
	struct ld_cached c;
	struct bc_pins pins;
	size_t k;
	int r;

	r = measure_parts(s, u, e);
	if (r == 0)
		r = bc_pins_load(s, &pins, e);
	if (r < 0)
		return r;
	r = ld_cached_take(s, &c, e);
	for (k = 0; r == 0 && k < c.files.count; k++) {
		b = &c.files.blobs[k];
		if (b->is_sealed)
			u->sealed += b->bytes;
		if (bc_pins_have(&pins, &b->blob))
			u->pinned += b->bytes;
		if (!ld_cached_needs(&c, &b->blob))
			u->unneeded += b->bytes;
	}
	if (r == 0)
		ld_cached_fini(&c);
	bc_pins_fini(&pins);
	return r;
}

/* One line, or one key. */
static void add_row(
	json_t *o, bool as_json, const char *key, const char *text, uint64_t n)
{
	char size[32];

	/* what is missing for lack of memory is seen when it is written */
	if (as_json)
		(void)json_object_set_new(o, key, json_integer((json_int_t)n));
	else
		(void)printf("%10s  %s\n", ld_size_text(n, size), text);
}

static int usage(struct bc_store *s, const struct ld_cli *c, struct err *e)
{
	struct usage u = {0};
	json_t *o;
	int r;

	r = measure(s, &u, e);
	if (r < 0)
		return r;
	o = c->json ? json_object() : NULL;
	add_row(o, c->json, "bytes_total", "in all", u.total);
	add_row(o, c->json, "bytes_blobs", "blobs", u.blobs);
	add_row(o, c->json, "bytes_layers", "indexes of layers", u.layers);
	add_row(o, c->json, "bytes_images", "images", u.images);
	add_row(o, c->json, "bytes_tmp", "on their way", u.tmp);
	add_row(o, c->json, "bytes_pinned", "pinned blobs", u.pinned);
	add_row(o, c->json, "bytes_sealed", "given to the kernel", u.sealed);
	add_row(o, c->json, "bytes_unneeded", "needed by no image", u.unneeded);
	return c->json ? print_json(o, e) : 0;
}

/* ---- pin, unpin ---- */

static int not_here(const struct bc_store *s, const char *name, struct err *e)
{
	return err_set_kind(e, ERR_NOT_FOUND, -ENOENT,
		"the cache '%.200s' knows no image '%.200s', see 'sluice cache "
		"ls'",
		bc_store_path(s), name);
}

static int pin_one(struct bc_store *s, const struct ld_cached *c,
	const struct ld_cached_image *i, void *on, struct err *e)
{
	(void)c;
	return ld_cached_pin(s, i, *(bool *)on, e);
}

static int pin(struct bc_store *s, const char *name, bool on, struct err *e)
{
	int r = ld_cached_each(s, name, pin_one, &on, e);

	if (r == 0)
		return not_here(s, name, e);
	return r < 0 ? r : 0;
}

/* ---- prune ---- */

static int forget(struct bc_store *s, struct ld_cached_image *i, struct err *e)
{
	int r = ld_cached_forget(s, i, e);

	i->is_forgotten = r == 0;
	return r;
}

/* Images whose names were given; each must be there and not pinned. */
static int forget_named(struct bc_store *s, struct ld_cached *c,
	const struct ld_cli *cli, struct err *e)
{
	struct ld_cached_image *i;
	size_t k, n;
	bool is_there;
	int r = 0;

	for (n = 1; n < cli->arg_count; n++) {
		is_there = false;
		for (k = 0; r == 0 && k < c->count; k++) {
			i = &c->images[k];
			if (!ld_cached_is(i, cli->args[n]))
				continue;
			is_there = true;
			if (i->is_forgotten)
				continue;
			if (i->is_pinned)
				return err_set(e, -EBUSY,
					"'%.200s' is pinned, unpin it first",
					cli->args[n]);
			r = forget(s, i, e);
		}
		if (r == 0 && !is_there)
			return not_here(s, cli->args[n], e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* All that are not pinned and were last used before then. */
static int forget_old(
	struct bc_store *s, struct ld_cached *c, uint64_t then, struct err *e)
{
	size_t k;
	int r = 0;

	for (k = 0; r == 0 && k < c->count; k++)
		if (!c->images[k].is_pinned && c->images[k].last_used < then)
			r = forget(s, &c->images[k], e);
	return r;
}

static int evict(struct bc_store *s, uint64_t want, uint32_t before,
	uint64_t *freed, struct err *e)
{
	struct bc_evict w = {
		.want = want, .before = before, .is_patient = true};
	int r = want > 0 ? bc_store_evict(s, &w, e) : 0;

	*freed += w.freed;
	return r;
}

static int evict_to_size(
	struct bc_store *s, uint64_t size, uint64_t *freed, struct err *e)
{
	uint64_t used;
	int r;

	r = bc_store_usage(s, &used, e);
	if (r == 0 && used > size)
		r = evict(s, used - size, 0, freed, e);
	return r;
}

static uint32_t seconds_ago(uint64_t s)
{
	uint64_t now = (uint64_t)time(NULL);

	return (uint32_t)(now > s ? now - s : 1);
}

static int prune_some(struct bc_store *s, struct ld_cached *c,
	const struct ld_cli *cli, uint64_t *freed, struct err *e)
{
	uint32_t before = seconds_ago(YOUNG_S);
	int r = 0;

	if (cli->arg_count > 1) {
		r = forget_named(s, c, cli, e);
	} else if (cli->all) {
		bc_store_drop_parts(s, 0);
		r = forget_old(s, c, UINT64_MAX, e);
		if (r == 0)
			r = evict(s, UINT64_MAX, 0, freed, e);
		before = UINT32_MAX;
	} else if (cli->older_s) {
		before = seconds_ago(cli->older_s);
		bc_store_drop_parts(
			s, (uint32_t)min_u64(cli->older_s, UINT32_MAX));
		r = forget_old(s, c, before, e);
		if (r == 0)
			r = evict(s, UINT64_MAX, before, freed, e);
	}
	if (r == 0)
		r = ld_cached_sweep(s, c, before, freed, e);
	if (r == 0 && cli->size != UINT64_MAX)
		r = evict_to_size(s, cli->size, freed, e);
	return r;
}

static int prune(struct bc_store *s, const struct ld_cli *cli, struct err *e)
{
	struct ld_cached c;
	uint64_t freed = 0;
	char size[32];
	int r;

	r = ld_cached_take(s, &c, e);
	if (r < 0)
		return r;
	r = prune_some(s, &c, cli, &freed, e);
	ld_cached_fini(&c);
	if (r == 0)
		(void)printf("%s of blobs freed\n", ld_size_text(freed, size));
	return r;
}

/* ---- verify ---- */

static int verify(struct bc_store *s, struct err *e)
{
	struct ld_verified v = {0};
	struct ld_cached c;
	size_t k;
	int r;

	r = ld_cached_take(s, &c, e);
	if (r < 0)
		return r;
	for (k = 0; r == 0 && k < c.files.count; k++)
		r = ld_verify_file(s, &c.files.blobs[k], &v, e);
	for (k = 0; r == 0 && k < c.count; k++)
		r = ld_verify_index(s, &c.images[k], &v, e);
	ld_cached_fini(&c);
	return r < 0 ? r : ld_verify_end(&v, e);
}

/* ---- all of it ---- */

static int act(struct bc_store *s, const struct ld_cli *c, struct err *e)
{
	const char *action = c->args[0];

	if (strcmp(action, "ls") == 0)
		return list(s, c, e);
	if (strcmp(action, "du") == 0)
		return usage(s, c, e);
	if (strcmp(action, "prune") == 0)
		return prune(s, c, e);
	if (strcmp(action, "verify") == 0)
		return verify(s, e);
	return pin(s, c->args[1], strcmp(action, "pin") == 0, e);
}

int ld_cmd_cache(struct ld_cli *c, struct err *e)
{
	struct bc_store *s;
	int r;

	r = bc_store_open(ld_work_cache_dir(c), &s, e);
	if (r < 0)
		return r;
	r = act(s, c, e);
	bc_store_close(s);
	return r;
}
