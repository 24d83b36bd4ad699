/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines. The library parts log nothing above debug except changes of state
 * that a person must see; whoever handles an error logs it, once.
 *
 * Grammar: lower case, no full stop, what failed first, the subject in single
 * quotes, then what happens next. Never a secret, never the query of a URL.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

enum log_sink { LOG_SINK_STDERR, LOG_SINK_SYSLOG, LOG_SINK_FILE };

/*
 * Where lines go from now on. path is for LOG_SINK_FILE (appended to, reopened
 * never). Default: stderr, warnings and errors. INIT_ONLY. 0 or -errno.
 */
int log_open(enum log_sink to, const char *path);
/* INIT_ONLY. */
void log_set_level(enum log_level level);
/*
 * Lines up to level also go to stderr, wherever the others go: while a daemon
 * starts, its user still looks there. ANY_THREAD.
 */
void log_echo(bool on, enum log_level level);
bool log_is_on(enum log_level level);
/* ANY_THREAD. */
void log_line(enum log_level level, const char *topic, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A file defines LOG_TOPIC ("store") before it uses these. */
#define log_error(...) log_line(LOG_LEVEL_ERROR, LOG_TOPIC, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, LOG_TOPIC, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, LOG_TOPIC, __VA_ARGS__)
#define log_debug(...) \
	do { \
		if (log_is_on(LOG_LEVEL_DEBUG)) \
			log_line(LOG_LEVEL_DEBUG, LOG_TOPIC, __VA_ARGS__); \
	} while (0)

/* True at most once per interval_ms for this *last_ms: for repeated warnings.
 */
bool log_ratelimit(uint64_t *last_ms, uint64_t interval_ms);
