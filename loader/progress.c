/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on stderr; see progress.h. */
#include "loader/progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "loader/size.h"
#include "runtime/base/clock.h"
#include "runtime/base/util.h"

#define SHOW_INTERVAL_MS 200
#define DIGEST_SHOWN 19 /* "sha256:" and 12 digits */

static void say(const char *text, size_t len)
{
	/* a terminal that takes nothing misses something */
	(void)!write(STDERR_FILENO, text, len);
}

static void wipe_line(void)
{
	say("\r\033[K", 4);
}

static void wipe(struct ld_progress *p)
{
	if (p->shown_len > 0)
		wipe_line();
	p->shown_len = 0;
}

/* The first process of a container is not ended by raise. */
static void end_at_once(int signal)
{
	(void)raise(signal);
	_exit(128 + signal);
}

static void wipe_and_end(int signal)
{
	wipe_line();
	end_at_once(signal);
}

void ld_progress_let_signals_end(const struct ld_progress *p)
{
	struct sigaction act = {
		.sa_handler = p->is_terminal && !p->is_quiet ? wipe_and_end
	                                                     : end_at_once,
		.sa_flags = (int)(SA_RESETHAND | SA_NODEFER),
	};
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction old;
	size_t i;

	for (i = 0; i < ARRAY_LEN(signals); i++)
		if (sigaction(signals[i], NULL, &old) == 0 &&
			old.sa_handler != SIG_IGN)
			(void)sigaction(signals[i], &act, NULL);
}

/* Bytes a second over the network, since the first layer was begun. */
static uint64_t rate_of(const struct ld_progress *p, uint64_t now)
{
	uint64_t fetched = p->done > p->kept ? p->done - p->kept : 0;

	return fetched * 1000 / (now - p->start_ms + 1);
}

/* ", 38.1 MiB/s, 2 s left"; nothing before there is a rate. */
static void rate_text(const struct ld_progress *p, uint64_t rate, char ret[80])
{
	char per_s[32];

	ret[0] = '\0';
	if (rate == 0 || p->done > p->total)
		return;
	(void)snprintf(ret, 80, ", %s/s, %" PRIu64 " s left",
		ld_size_text(rate, per_s),
		(p->total - p->done + rate - 1) / rate); /* fits */
}

/* "reading layer 2 of 5: 41.2 MiB of 120.0 MiB, 38.1 MiB/s, 2 s left" */
static void show(struct ld_progress *p, uint64_t now)
{
	size_t layer = p->ended + 1 < p->layers ? p->ended + 1 : p->layers;
	char done[32], total[32], rate[80], line[200];
	int n;

	rate_text(p, rate_of(p, now), rate);
	n = snprintf(line, sizeof(line),
		"\rreading layer %zu of %zu: %s of %s%s\033[K", layer,
		p->layers, ld_size_text(p->done, done),
		ld_size_text(p->total, total), rate);
	if (n <= 0 || (size_t)n >= sizeof(line))
		return;
	say(line, (size_t)n);
	p->shown_len = (size_t)n;
}

/* The line changes also while nothing comes: the rate falls. */
static void *tick(void *arg)
{
	struct ld_progress *p = arg;
	struct timespec until;
	uint64_t at;

	(void)pthread_mutex_lock(&p->lock); /* a plain mutex cannot fail */
	while (!p->is_over) {
		if (p->ended < p->layers)
			show(p, clock_ms());
		at = clock_ns() + SHOW_INTERVAL_MS * UINT64_C(1000000);
		until = (struct timespec){
			.tv_sec = (time_t)(at / 1000000000u),
			.tv_nsec = (long)(at % 1000000000u),
		};
		(void)pthread_cond_timedwait(&p->over, &p->lock, &until);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return NULL;
}

void ld_progress_init(struct ld_progress *p, bool is_quiet)
{
	pthread_condattr_t monotonic;

	*p = (struct ld_progress){
		.is_quiet = is_quiet,
		.is_terminal = isatty(STDERR_FILENO) == 1,
	};
	/* these allocate nothing, so they cannot fail */
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&p->over, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
}

void ld_progress_fini(struct ld_progress *p)
{
	if (p->has_ticker) {
		(void)pthread_mutex_lock(&p->lock);
		p->is_over = true;
		(void)pthread_cond_signal(&p->over);
		(void)pthread_mutex_unlock(&p->lock);
		(void)pthread_join(p->ticker, NULL); /* a thread of ours */
	}
	wipe(p);
	(void)pthread_cond_destroy(&p->over); /* nobody waits */
	(void)pthread_mutex_destroy(&p->lock);
}

static void say_layer(const struct digest *layer, uint64_t size, uint64_t kept)
{
	char id[DIGEST_MAX_TEXT], text[32], here[64] = "", line[200];
	int n;

	if (kept > 0)
		(void)snprintf(here, sizeof(here), ", %s of it are here",
			ld_size_text(kept, text)); /* fits */
	n = snprintf(line, sizeof(line),
		"sluice: reading layer '%.*s' whole: %s%s\n", DIGEST_SHOWN,
		digest_text(layer, id), ld_size_text(size, text), here);
	if (n > 0 && (size_t)n < sizeof(line))
		say(line, (size_t)n);
}

void ld_progress_begin(struct ld_progress *p, const struct digest *layer,
	uint64_t size, uint64_t kept)
{
	if (!p || p->is_quiet)
		return;
	(void)pthread_mutex_lock(&p->lock); /* a plain mutex cannot fail */
	if (p->layers == 0)
		p->start_ms = clock_ms();
	p->layers++;
	p->total += size;
	p->kept += kept;
	if (p->is_terminal && !p->has_ticker) /* without it there is no line */
		p->has_ticker = pthread_create(&p->ticker, NULL, tick, p) == 0;
	if (!p->is_terminal)
		say_layer(layer, size, kept);
	(void)pthread_mutex_unlock(&p->lock);
}

void ld_progress_add(struct ld_progress *p, uint64_t n)
{
	if (!p || p->is_quiet)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->done += n;
	(void)pthread_mutex_unlock(&p->lock);
}

void ld_progress_back(struct ld_progress *p, uint64_t n)
{
	if (!p || p->is_quiet)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->done -= n;
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
