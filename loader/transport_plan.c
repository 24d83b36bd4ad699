/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine allows, and how large the rings are; see transport.h. */
#include "loader/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loader/fs_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"

#define SETTING "/sys/module/fuse/parameters/enable_uring"
#define CPU_DIR "/sys/devices/system/cpu/"

enum {
	WORKERS_MAX = 16,
	POSSIBLE_PER_ONLINE = 4, /* more queues than that are not worth it */
	ENTRIES_MAX = 128,
	ENTRIES_MIN = 4,
	OTHERS_SHARE = 4, /* of the entries, where a CPU has no worker */
	SPARE_DEPTH = 256,
};

/*
 * Larger requests than this save nothing any more, and each entry needs the
 * room of the largest. What those may fill together that are there from the
 * beginning:
 */
static const uint32_t max_read = 256u << 10;
static const uint64_t payload_total = 256u << 20;

const char *ld_transport_name(enum ld_transport t)
{
	static const char *const names[] = {"auto", "dev", "uring"};

	return names[t];
}

/* ---- the CPUs ---- */

/* Digits at *s. -1: none, or too many CPUs. */
static int take_cpu(const char **s)
{
	unsigned v = 0;

	if (**s < '0' || **s > '9')
		return -1;
	while (**s >= '0' && **s <= '9') {
		v = v * 10 + (unsigned)(*(*s)++ - '0');
		if (v >= LD_CPUS_MAX)
			return -1;
	}
	return (int)v;
}

int ld_cpu_list(const char *text, uint64_t set[LD_CPUS_MAX / 64], unsigned *ret)
{
	int first, last;
	unsigned n = 0;

	memset(set, 0, LD_CPUS_MAX / 8);
	while (*text && *text != '\n') {
		first = take_cpu(&text);
		last = first;
		if (first >= 0 && *text == '-') {
			text++;
			last = take_cpu(&text);
		}
		if (first < 0 || last < first)
			return -EPROTO;
		for (; first <= last; first++) {
			n += !(set[first / 64] >> first % 64 & 1);
			set[first / 64] |= 1ull << first % 64;
		}
		if (*text == ',')
			text++;
	}
	*ret = n;
	return n ? 0 : -EPROTO;
}

/* A small file of the kernel's into text. */
static int read_text(const char *path, char *text, size_t cap)
{
	int fd CLEANUP_FD = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, cap - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return 0;
}

static int read_cpus(
	const char *path, uint64_t set[LD_CPUS_MAX / 64], unsigned *ret)
{
	char text[4096];
	int rc = read_text(path, text, sizeof(text));

	return rc < 0 ? rc : ld_cpu_list(text, set, ret);
}

/* How many CPUs this process may use; 0: cannot be found out. */
static unsigned usable_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 0;
	return (unsigned)CPU_COUNT(&set);
}

/* ---- the decision ---- */

__attribute__((format(printf, 3, 0))) static int give_up(
	struct ld_transport_plan *p, struct err *e, const char *fmt, va_list ap)
{
	p->uring = false;
	(void)vsnprintf(p->reason, sizeof(p->reason), fmt, ap); /* cut: fine */
	if (!p->forced)
		return 0;
	return err_set_kind(e, ERR_UNSUPPORTED, -EOPNOTSUPP,
		"the transport uring was asked for, but %s; use dev or auto",
		p->reason);
}

int ld_transport_give_up(
	struct ld_transport_plan *p, struct err *e, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = give_up(p, e, fmt, ap);
	va_end(ap);
	return rc;
}

/* Asking may load the module that the setting belongs to. */
static int read_setting(char *text, size_t cap)
{
	int rc = read_text(SETTING, text, cap), fd;

	if (rc != -ENOENT)
		return rc;
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		(void)close(fd); /* nothing was written */
	return read_text(SETTING, text, cap);
}

static int check_setting(struct ld_transport_plan *p, struct err *e)
{
	char text[16];
	int rc = read_setting(text, sizeof(text));

	if (rc < 0)
		return ld_transport_give_up(p, e,
			"this kernel has no FUSE over io_uring (Linux 6.14 and "
			"later can have it; there is no '" SETTING "')");
	if (text[0] != 'Y' && text[0] != '1')
		return ld_transport_give_up(p, e,
			"FUSE over io_uring is switched off here ('echo Y "
			">" SETTING "' as root switches it on)");
	return 0;
}

static void size_rings(
	struct ld_transport_plan *p, unsigned online, unsigned workers)
{
	unsigned cpus = usable_cpus(), shared, ring;

	if (cpus == 0 || cpus > online)
		cpus = online;
	p->workers = workers ? workers : (unsigned)min_u64(cpus, WORKERS_MAX);
	p->max_read = max_read;
	p->entries = (unsigned)min_u64(ENTRIES_MAX,
		max_u64(ENTRIES_MIN,
			payload_total / ((uint64_t)max_read * online)));
	p->others = (unsigned)max_u64(1, p->entries / OTHERS_SHARE);
	/* Queues without a worker of their own are spread over all of them. */
	shared = (unsigned)div_round_up(p->possible, p->workers);
	ring = p->entries + shared * p->others;
	/* Those of a mount that has just failed may be there yet. */
	p->queue_depth =
		SPARE_DEPTH + ring + (unsigned)max_u64(ring, LD_FS_MAX_WAITING);
}

static int check_cpus(
	struct ld_transport_plan *p, unsigned workers, struct err *e)
{
	uint64_t possible[LD_CPUS_MAX / 64];
	unsigned online = 0;

	if (read_cpus(CPU_DIR "possible", possible, &p->possible) < 0 ||
		read_cpus(CPU_DIR "online", p->online, &online) < 0)
		return ld_transport_give_up(p, e,
			"the CPUs of this machine cannot be found out in "
			"'" CPU_DIR "'");
	if (!(possible[(p->possible - 1) / 64] >> (p->possible - 1) % 64 & 1))
		return ld_transport_give_up(p, e,
			"the CPUs of this machine are not numbered in a row");
	if (p->possible > POSSIBLE_PER_ONLINE * online)
		return ld_transport_give_up(p, e,
			"of %u possible CPUs only %u are there, and each would "
			"need a queue",
			p->possible, online);
	size_rings(p, online, workers);
	return 0;
}

int ld_transport_decide(enum ld_transport wish, enum rt_backend backend,
	unsigned workers, struct ld_transport_plan *ret, struct err *e)
{
	int rc;

	*ret = (struct ld_transport_plan){
		.uring = true,
		.forced = wish == LD_TRANSPORT_URING,
	};
	if (wish == LD_TRANSPORT_DEV)
		return ld_transport_give_up(ret, e, "as asked for");
	if (backend == RT_BACKEND_THREADS)
		return ld_transport_give_up(
			ret, e, "the io backend threads was asked for");
	rc = check_setting(ret, e);
	if (rc == 0 && ret->uring)
		rc = check_cpus(ret, workers, e);
	if (rc == 0 && ret->uring)
		(void)snprintf(ret->reason, sizeof(ret->reason), "%s",
			ret->forced ? "as asked for"
				    : "this kernel has FUSE over io_uring");
	return rc;
}
