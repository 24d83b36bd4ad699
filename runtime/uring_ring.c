/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making rings, and the trial that decides whether they are of use here. What
 * counts is what works: flags are tried from the newest down, opcodes asked
 * for, and a real file is read through a real ring.
 */
#include "runtime/uring_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"
#include "runtime/engine.h"

enum {
	ENTRIES_MIN = 32,
	WQ_BOUNDED = 4, /* kernel threads per ring: files */
	WQ_UNBOUNDED = 4,
	TRIAL_LEN = 4096,
	TRIAL_SECONDS = 5,
	TRIALS = 3,
};

#define SETUP_SIZES (IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE)
#define SETUP_5_19 \
	(SETUP_SIZES | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SQE128 | \
		IORING_SETUP_TASKRUN_FLAG)

static const unsigned setup_ladder[] = {
	SETUP_5_19 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	SETUP_5_19 | IORING_SETUP_COOP_TASKRUN,
	SETUP_SIZES,
};

static const unsigned needed_features =
	IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;

static const unsigned needed_ops[] = {
	IORING_OP_READ,
	IORING_OP_READV,
	IORING_OP_WRITE,
	IORING_OP_WRITEV,
	IORING_OP_POLL_ADD,
	IORING_OP_ASYNC_CANCEL,
};

/* These are never tried at once. */
static const uint64_t punted_always =
	1ull << IORING_OP_FSYNC | 1ull << IORING_OP_FALLOCATE |
	1ull << IORING_OP_STATX | 1ull << URING_OP_FTRUNCATE;

/* A ring that answers too late must not write the stack. */
static uint8_t trial_data[TRIAL_LEN];

/* ---- who refuses ---- */

/* The number in the line of path that begins with key; -1: not there. */
static int number_in(const char *path, const char *key)
{
	char line[128];
	int n = -1;
	FILE *f = fopen(path, "re");

	if (!f)
		return -1;
	while (n < 0 && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) == 0)
			n = (int)strtol(line + strlen(key), NULL, 10);
	}
	(void)fclose(f); /* read only */
	return n;
}

static bool under_seccomp(void)
{
	return number_in("/proc/self/status", "Seccomp:") == 2;
}

static int explain_eperm(int r, struct err *e)
{
	int off = number_in("/proc/sys/kernel/io_uring_disabled", "");

	if (off > 0)
		return err_set(e, r,
			"io_uring is not available: the system setting "
			"kernel.io_uring_disabled is %d",
			off);
	if (under_seccomp())
		return err_set(e, r,
			"io_uring is not available: a seccomp filter, as "
			"containers have, refuses it (EPERM)");
	return err_set(e, r,
		"io_uring is not available: the system refuses it (%s)",
		r == -EACCES ? "EACCES, a security module" : "EPERM");
}

static int explain_enomem(int r, struct err *e)
{
	struct rlimit lim = {0};

	(void)getrlimit(RLIMIT_MEMLOCK, &lim); /* only for the sentence */
	return err_set(e, r,
		"io_uring is not available: no memory for a ring of %d entries "
		"(the limit of locked memory, RLIMIT_MEMLOCK, is %llu KiB)",
		ENTRIES_MIN, (unsigned long long)lim.rlim_cur / 1024);
}

static int explain(int r, struct err *e)
{
	switch (r) {
	case -EPERM:
	case -EACCES:
		return explain_eperm(r, e);
	case -ENOSYS:
		return err_set_kind(e, ERR_UNSUPPORTED, r,
			under_seccomp()
				? "io_uring is not available: a seccomp "
				  "filter, as containers have, hides it "
				  "(ENOSYS)"
				: "io_uring is not available: this kernel has "
				  "none (ENOSYS)");
	case -ENOMEM:
		return explain_enomem(r, e);
	default:
		return err_sys(e, r, "io_uring is not available");
	}
}

/* ---- make ---- */

static int open_flags(struct uring_ring *u, unsigned entries)
{
	struct io_uring_params p;
	int r = -EINVAL;

	for (unsigned i = 0; i < ARRAY_LEN(setup_ladder) && r == -EINVAL; i++) {
		p = (struct io_uring_params){
			.flags = setup_ladder[i],
			.cq_entries = 4 * entries,
		};
		r = io_uring_queue_init_params(entries, &u->ring, &p);
	}
	if (r)
		return r;
	if ((p.features & needed_features) != needed_features) {
		io_uring_queue_exit(&u->ring);
		return -EOPNOTSUPP;
	}
	u->setup = p.flags;
	/*
	 * What can be in the completion queue: each operation, each watch, at
	 * most as many cancellations, and the doorbell. An overflow would end
	 * what is armed for many events, so there must be room.
	 */
	u->depth = (p.cq_entries - 1) / 3;
	return 0;
}

static int read_opcodes(struct uring_ring *u)
{
	struct io_uring_probe *p = io_uring_get_probe_ring(&u->ring);

	if (!p)
		return -EOPNOTSUPP;
	for (unsigned op = 0; op < 64; op++) {
		if (io_uring_opcode_supported(p, (int)op))
			u->can |= 1ull << op;
	}
	io_uring_free_probe(p);
	if (!(u->setup & IORING_SETUP_SQE128))
		u->can &= ~(1ull << IORING_OP_URING_CMD);
	for (unsigned i = 0; i < ARRAY_LEN(needed_ops); i++) {
		if (!uring_can(u, needed_ops[i]))
			return -EOPNOTSUPP;
	}
	return 0;
}

int uring_open(struct uring_ring *u, unsigned depth, struct err *e)
{
	unsigned entries = ENTRIES_MIN;
	unsigned caps[2] = {WQ_BOUNDED, WQ_UNBOUNDED};
	int r;

	*u = (struct uring_ring){0};
	while (entries < depth)
		entries *= 2;
	do {
		r = open_flags(u, entries);
		entries /= 2;
	} while (r == -ENOMEM && entries >= ENTRIES_MIN);
	if (r == -EOPNOTSUPP)
		return err_set(e, r,
			"io_uring is not available: this kernel's is too old");
	if (r)
		return explain(r, e);
	if (u->depth > depth)
		u->depth = depth;
	r = read_opcodes(u);
	if (r) {
		io_uring_queue_exit(&u->ring);
		return err_set(e, r,
			"io_uring is not available: operations that are needed "
			"are missing here");
	}
	/* None of these has to work. */
	(void)io_uring_register_iowq_max_workers(&u->ring, caps);
	(void)io_uring_register_ring_fd(&u->ring);
	(void)io_uring_ring_dontfork(&u->ring);
	return 0;
}

void uring_close(struct uring_ring *u)
{
	io_uring_queue_exit(&u->ring);
}

/* ---- the trial ---- */

/* A file with content in dir, or, where none can be made, our own program. */
static int trial_file(const char *dir, bool *ret_in_dir)
{
	char path[4096], data[TRIAL_LEN];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && snprintf(path, sizeof(path), "%s/.probe-XXXXXX", dir) <
			      (int)sizeof(path)) {
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			(void)unlink(path); /* found there next time */
	}
	memset(data, 0x5a, sizeof(data));
	*ret_in_dir =
		fd >= 0 && pwrite(fd, data, sizeof(data), 0) == sizeof(data);
	if (*ret_in_dir)
		return fd;
	if (fd >= 0)
		(void)close(fd); /* of no use: the disk is full */
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int trial_wait(struct uring_ring *u, int *ret_res)
{
	struct __kernel_timespec ts = {.tv_sec = TRIAL_SECONDS};
	struct io_uring_cqe *cqe;
	int r = io_uring_wait_cqes(&u->ring, &cqe, 1, &ts, NULL);

	if (r)
		return r;
	*ret_res = cqe->res;
	io_uring_cqe_seen(&u->ring, cqe);
	return 0;
}

/*
 * Read the beginning of fd through the ring: its length, or -errno with a
 * sentence. *ret_inline: the read had ended when the kernel had taken it.
 */
static int trial_once(
	struct uring_ring *u, int fd, bool *ret_inline, struct err *e)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	int r, res = 0;

	if (!sqe)
		return err_set(e, -EIO, "io_uring is not usable: no entries");
	memset(trial_data, 0, sizeof(trial_data));
	io_uring_prep_read(sqe, fd, trial_data, sizeof(trial_data), 0);
	r = io_uring_submit(&u->ring);
	if (r < 0)
		return explain(r, e);
	*ret_inline = io_uring_cq_ready(&u->ring) > 0;
	r = trial_wait(u, &res);
	if (r == -ETIME)
		return err_set(e, r,
			"io_uring is not usable: a trial read did not end");
	if (r)
		return explain(r, e);
	if (res < 0)
		return err_sys(
			e, res, "io_uring is not usable: a trial read failed");
	return res;
}

/* Read fd through the ring and without; both must see the same. */
static int trial_read(
	struct uring_ring *u, int fd, bool *ret_inline, struct err *e)
{
	uint8_t want[TRIAL_LEN];
	ssize_t n = pread(fd, want, sizeof(want), 0);
	int r;

	if (n <= 0)
		return err_set(e, -EIO, "the trial file cannot be read");
	*ret_inline = false;
	/* more than once: a page may be busy just then */
	for (unsigned i = 0; i < TRIALS && !*ret_inline; i++) {
		r = trial_once(u, fd, ret_inline, e);
		if (r < 0)
			return r;
		if (r != n || memcmp(trial_data, want, (size_t)n) != 0)
			return err_set(e, -EIO,
				"io_uring is not usable: a trial read gave "
				"wrong data");
	}
	return 0;
}

static void trial_note(const struct uring_ring *u, const char *dir, bool in_dir,
	bool is_inline, char *note, unsigned size)
{
	const char *kind = "with basic flags";

	if (u->setup & IORING_SETUP_DEFER_TASKRUN)
		kind = "with deferred task runs";
	else if (u->setup & IORING_SETUP_COOP_TASKRUN)
		kind = "with cooperative task runs";
	(void)snprintf(note, size,
		"a trial ring of %u %s read a file %s%.200s%s, %s", u->depth,
		kind, in_dir ? "in '" : "(none could be made in '", dir,
		in_dir ? "'" : "')",
		is_inline ? "cached data at once"
			  : "cached data only by kernel threads");
}

static int trial_in(struct uring_ring *u, int fd, const char *dir, bool in_dir,
	struct rt_uring_trial *ret, struct err *e)
{
	bool is_inline = false;
	int r = trial_read(u, fd, &is_inline, e);

	if (r)
		return r;
	trial_note(u, dir, in_dir, is_inline, ret->note, sizeof(ret->note));
	ret->punts_reads = in_dir && !is_inline;
	ret->punts = punted_always;
	if (ret->punts_reads)
		ret->punts |= 1ull << IORING_OP_READ | 1ull << IORING_OP_READV |
		              1ull << IORING_OP_WRITE |
		              1ull << IORING_OP_WRITEV;
	return 0;
}

int rt_uring_probe(unsigned depth, const char *dir, struct rt_uring_trial *ret,
	struct err *e)
{
	struct uring_ring u;
	bool in_dir = false;
	int fd, r = uring_open(&u, depth, e);

	if (r)
		return r;
	fd = trial_file(dir, &in_dir);
	r = fd < 0 ? err_sys(e, fd, "no file to try io_uring on")
	           : trial_in(&u, fd, dir, in_dir, ret, e);
	if (fd >= 0)
		(void)close(fd); /* nothing is lost with it */
	uring_close(&u);
	return r;
}
