/* SPDX-License-Identifier: Apache-2.0 */
/* fetch: an image whole into the cache, here or by the process of a mount. */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loader/cmd.h"
#include "loader/control.h"
#include "loader/fetch.h"
#include "loader/size.h"
#include "loader/work.h"
#include "runtime/base/clock.h"

#define MAX_ANSWER (1u << 20)
#define POLL_MS 200
#define SHOW_MS 200

/* The line on the terminal. */
struct meter {
	bool is_shown;
	uint64_t start_ms, shown_ms, at_start;
};

static void meter_show(void *arg, uint64_t ready, uint64_t total)
{
	struct meter *m = arg;
	char have[32], all[32], per_s[32];
	uint64_t now = clock_ms(), rate;

	if (!m->is_shown || (m->shown_ms && now - m->shown_ms < SHOW_MS))
		return;
	if (m->shown_ms == 0) {
		m->start_ms = now;
		m->at_start = ready;
	}
	m->shown_ms = now;
	rate = (ready - m->at_start) * 1000 / (now - m->start_ms + 1);
	(void)fprintf(stderr, "\rfetching: %s of %s, %s/s\033[K",
		ld_size_text(ready, have), ld_size_text(total, all),
		ld_size_text(rate, per_s));
}

static void meter_end(struct meter *m)
{
	if (m->shown_ms)
		(void)fprintf(stderr, "\r\033[K");
}

/* ---- here ---- */

static int fetch_all(
	struct ld_cli *c, struct ld_work *w, struct ld_image *i, struct err *e)
{
	struct meter m = {.is_shown = !c->quiet && isatty(STDERR_FILENO) == 1};
	struct ld_fetch *f;
	int r;

	r = ld_fetch_create(w->rt, i, &f, e);
	if (r < 0)
		return r;
	r = ld_fetch_run(f, meter_show, &m, e);
	meter_end(&m);
	ld_fetch_destroy(f);
	return r;
}

static int fetch_image(struct ld_cli *c, struct err *e)
{
	struct ld_image i;
	struct ld_work w;
	int r;

	ld_work_log(c);
	r = ld_work_start(&w, c, NULL, e);
	if (r < 0)
		return r;
	r = ld_work_prepare(&w, c, &i, e);
	if (r == 0) {
		if (bc_store_is_read_only(w.store))
			r = err_set(e, -EROFS, "the cache '%s' is read-only",
				bc_store_path(w.store));
		else
			r = fetch_all(c, &w, &i, e);
		ld_image_fini(&i);
	}
	ld_work_stop(&w);
	return r;
}

/* ---- by the process of a mount ---- */

/* A mount without a process is whole. */
static int is_without_process(const char *dir)
{
	struct ld_run run;
	int r;

	if (ld_control_find(dir, &run, NULL) < 0)
		return 0;
	r = run.pid == 0;
	ld_run_fini(&run);
	return r;
}

/* 1: it goes on; 0: all is there; or -errno. */
static int ask(
	const char *dir, const char *word, struct meter *m, struct err *e)
{
	const char *state, *error;
	json_t *o = NULL;
	struct buf b;
	int r;

	buf_init(&b, MAX_ANSWER);
	r = ld_control_ask(dir, word, &b, e);
	if (r == 0) {
		o = json_loadb((char *)b.data, b.len, 0, NULL);
		state = json_string_value(json_object_get(o, "state"));
		error = json_string_value(json_object_get(o, "error"));
		if (!state)
			r = err_set(e, -EIO,
				"the process that serves '%s' cannot fetch",
				dir);
		else if (strcmp(state, "running") == 0)
			r = 1;
		else if (strcmp(state, "done") != 0)
			r = err_set(e, -EIO, "%.400s",
				error ? error : "fetching has ended");
	}
	if (r == 1)
		meter_show(m,
			(uint64_t)json_integer_value(
				json_object_get(o, "bytes_ready")),
			(uint64_t)json_integer_value(
				json_object_get(o, "bytes_total")));
	json_decref(o);
	buf_fini(&b);
	return r;
}

static int fetch_mount(struct ld_cli *c, const char *dir, struct err *e)
{
	struct meter m = {.is_shown = !c->quiet && isatty(STDERR_FILENO) == 1};
	int r;

	if (is_without_process(dir))
		return 0;
	r = ask(dir, "fetch", &m, e);
	while (r == 1 && c->wait) {
		(void)poll(NULL, 0, POLL_MS); /* only to wait */
		r = ask(dir, "fetching", &m, e);
	}
	meter_end(&m);
	return r < 0 ? r : 0;
}

/* An existing directory at which something of ours is mounted. */
static bool is_mount(const char *name, char dir[4096])
{
	struct ld_run run;

	if (ld_control_resolve(name, dir, NULL) < 0 ||
		ld_control_find(dir, &run, NULL) < 0)
		return false;
	ld_run_fini(&run);
	return true;
}

int ld_cmd_fetch(struct ld_cli *c, struct err *e)
{
	char dir[4096];

	if (is_mount(c->args[0], dir))
		return fetch_mount(c, dir, e);
	return fetch_image(c, e);
}
