/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines to stderr, syslog or a file; see log.h. */
#include "runtime/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clock.h"

static enum log_sink sink = LOG_SINK_STDERR;
static int file_fd = STDERR_FILENO;
static atomic_int max_level = LOG_LEVEL_WARN;
static atomic_int echo_level = -1; /* none */

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const int syslog_levels[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

int log_open(enum log_sink to, const char *path)
{
	int fd = STDERR_FILENO;

	if (to == LOG_SINK_FILE) {
		fd = open(
			path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
		if (fd < 0)
			return -errno;
	} else if (to == LOG_SINK_SYSLOG) {
		openlog("sluice", LOG_PID, LOG_DAEMON);
	}
	if (sink == LOG_SINK_FILE)
		(void)close(file_fd); /* append-only, nothing is buffered */
	sink = to;
	file_fd = fd;
	return 0;
}

void log_set_level(enum log_level level)
{
	atomic_store(&max_level, (int)level);
}

void log_echo(bool on, enum log_level level)
{
	atomic_store(&echo_level, on ? (int)level : -1);
}

bool log_is_on(enum log_level level)
{
	return (int)level <=
	       atomic_load_explicit(&max_level, memory_order_relaxed);
}

/* One write per line, so that lines of several threads do not mix. */
static void write_line(enum log_sink to, int fd, enum log_level level,
	const char *topic, const char *msg)
{
	char line[1200], stamp[32] = "";
	struct tm tm;
	time_t now;
	int n;

	if (to == LOG_SINK_FILE) {
		now = time(NULL);
		if (gmtime_r(&now, &tm))
			(void)strftime(stamp, sizeof(stamp),
				"%Y-%m-%dT%H:%M:%SZ ", &tm);
	}
	if (to == LOG_SINK_STDERR && level <= LOG_LEVEL_WARN)
		n = snprintf(line, sizeof(line), "sluice: %s%s\n",
			level == LOG_LEVEL_WARN ? "warning: " : "", msg);
	else
		n = snprintf(line, sizeof(line), "%s%s: %s: %s\n", stamp,
			level_names[level], topic, msg);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	if (write(fd, line, (size_t)n) < 0)
		return; /* nowhere left to report it */
}

void log_line(enum log_level level, const char *topic, const char *fmt, ...)
{
	char msg[1024];
	va_list ap;
	int saved = errno;

	if (!log_is_on(level))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof(msg), fmt, ap); /* may be cut */
	va_end(ap);
	if (sink == LOG_SINK_SYSLOG)
		syslog(syslog_levels[level], "%s: %s", topic, msg);
	else
		write_line(sink, file_fd, level, topic, msg);
	if (sink != LOG_SINK_STDERR && (int)level <= atomic_load(&echo_level))
		write_line(LOG_SINK_STDERR, STDERR_FILENO, level, topic, msg);
	errno = saved;
}

bool log_ratelimit(uint64_t *last_ms, uint64_t interval_ms)
{
	uint64_t now = clock_ms();
	uint64_t last = __atomic_load_n(last_ms, __ATOMIC_RELAXED);

	if (last != 0 && now - last < interval_ms)
		return false;
	return __atomic_compare_exchange_n(
		last_ms, &last, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
