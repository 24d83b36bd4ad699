/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on stderr; see progress.h. */
#include "loader/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loader/status.h"
#include "runtime/base/clock.h"

#define SHOW_INTERVAL_MS 200
#define DIGEST_SHOWN 19 /* "sha256:" and 12 digits */

static void say(const char *text, size_t len)
{
	/* a terminal that takes nothing misses something */
	(void)!write(STDERR_FILENO, text, len);
}

void ld_progress_init(struct ld_progress *p, bool is_quiet)
{
	*p = (struct ld_progress){
		.is_quiet = is_quiet,
		.is_terminal = isatty(STDERR_FILENO) == 1,
	};
	(void)pthread_mutex_init(&p->lock, NULL); /* allocates nothing */
}

static void wipe(struct ld_progress *p)
{
	if (p->shown_len > 0)
		say("\r\033[K", 4);
	p->shown_len = 0;
}

void ld_progress_fini(struct ld_progress *p)
{
	wipe(p);
	(void)pthread_mutex_destroy(&p->lock); /* nobody holds it */
}

/* "reading 2 of 5 layers: 41.2 MiB of 120.0 MiB, 38.1 MiB/s, 2 s left" */
static void show(struct ld_progress *p, uint64_t now)
{
	uint64_t ms = now - p->start_ms + 1;
	uint64_t rate = p->done * 1000 / ms;
	char done[32], total[32], per_s[32], line[200];
	int n;

	n = snprintf(line, sizeof(line),
		"\rreading layer %zu of %zu: %s of %s, %s/s, %" PRIu64
		" s left\033[K",
		p->ended + 1 < p->layers ? p->ended + 1 : p->layers, p->layers,
		ld_size_text(p->done, done), ld_size_text(p->total, total),
		ld_size_text(rate, per_s),
		rate > 0 ? (p->total - p->done) / rate : 0);
	if (n <= 0 || (size_t)n >= sizeof(line))
		return;
	say(line, (size_t)n);
	p->shown_len = (size_t)n;
	p->shown_ms = now;
}

static void say_layer(const struct digest *layer, uint64_t size)
{
	char id[DIGEST_MAX_TEXT], text[32], line[200];
	int n;

	n = snprintf(line, sizeof(line),
		"sluice: reading layer '%.*s' whole: %s\n", DIGEST_SHOWN,
		digest_text(layer, id), ld_size_text(size, text));
	if (n > 0 && (size_t)n < sizeof(line))
		say(line, (size_t)n);
}

void ld_progress_begin(
	struct ld_progress *p, const struct digest *layer, uint64_t size)
{
	if (!p || p->is_quiet)
		return;
	(void)pthread_mutex_lock(&p->lock); /* a plain mutex cannot fail */
	if (p->layers == 0)
		p->start_ms = clock_ms();
	p->layers++;
	p->total += size;
	if (p->is_terminal)
		show(p, clock_ms());
	else
		say_layer(layer, size);
	(void)pthread_mutex_unlock(&p->lock);
}

void ld_progress_add(struct ld_progress *p, uint64_t n)
{
	uint64_t now;

	if (!p || p->is_quiet)
		return;
	now = clock_ms();
	(void)pthread_mutex_lock(&p->lock);
	p->done += n;
	if (p->is_terminal && now - p->shown_ms >= SHOW_INTERVAL_MS)
		show(p, now);
	(void)pthread_mutex_unlock(&p->lock);
}

void ld_progress_end(struct ld_progress *p)
{
	if (!p || p->is_quiet)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->ended++;
	if (p->ended == p->layers)
		wipe(p);
	(void)pthread_mutex_unlock(&p->lock);
}
