/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rings of a session: made before the kernel is told that we want them,
 * given to it afterwards. Once it has been told it waits until each possible
 * CPU has an entry, so everything that may be missing is looked for before.
 */
#include <errno.h>
#include <string.h>

#include "loader/transport_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "session"

/* ---- may it be? ---- */

/* An entry that the kernel refuses before INIT: how it does tells enough. */
struct trial {
	struct rt_io io;
	struct rt_op *op;
	struct iovec iov[2];
	struct fw_uring_head head;
	uint8_t payload[FW_URING_MIN_PAYLOAD];
	int fd;
};

static void trial_done(struct rt_op *op)
{
	struct rt_io *io = container_of(op, struct rt_io, op);
	struct trial *t = container_of(io, struct trial, io);

	rt_block_on_done(t->op, op->result);
}

static void trial_start(void *arg, struct rt_op *op)
{
	static const uint8_t zeros[80];
	struct trial *t = arg;

	t->op = op;
	t->iov[0] = (struct iovec){&t->head, sizeof(t->head)};
	t->iov[1] = (struct iovec){t->payload, sizeof(t->payload)};
	rt_cmd_start(op->worker, &t->io, t->fd, FW_URING_REGISTER, t->iov, 2,
		zeros, trial_done);
}

/* What the kernel says; -EAGAIN is what it says where all is well. */
static int try_register(struct ld_session *s, int fd)
{
	struct trial *t = mem_zalloc(sizeof(*t));
	int rc;

	if (!t)
		return -ENOMEM;
	t->fd = fd;
	rc = (int)rt_block_on(s->rt, trial_start, t);
	mem_free(t);
	return rc;
}

static int check_runtime(struct ld_session *s, int fd, struct err *e)
{
	struct rt_stats st;
	unsigned i;
	int rc;

	if (rt_backend(s->rt) != RT_BACKEND_URING)
		return ld_transport_give_up(
			&s->plan, e, "the io backend is threads");
	for (i = 0; i < rt_worker_count(s->rt); i++) {
		rt_worker_stats(rt_worker_at(s->rt, i), &st);
		if (st.queue_depth < s->plan.queue_depth)
			return ld_transport_give_up(&s->plan, e,
				"there is not enough memory for the rings");
	}
	rc = try_register(s, fd);
	if (rc == -EAGAIN)
		return 0;
	return ld_transport_give_up(&s->plan, e,
		rc == -EOPNOTSUPP ? "this kernel's /dev/fuse takes no io_uring "
				    "commands (error %d)"
				  : "/dev/fuse refuses io_uring commands "
				    "(error %d)",
		-rc);
}

/* ---- make ---- */

static bool is_online(const struct ld_transport_plan *p, unsigned cpu)
{
	return p->online[cpu / 64] >> cpu % 64 & 1;
}

/* Which queues worker i serves, and how many entries those get. */
static void share_out(
	const struct ld_session *s, unsigned i, uint16_t entries[LD_CPUS_MAX])
{
	const struct ld_transport_plan *p = &s->plan;
	unsigned n = rt_worker_count(s->rt), q, k, owner;

	for (q = 0; q < p->possible; q++) {
		owner = n;
		for (k = 0; k < n && owner == n; k++)
			if (rt_worker_cpu(rt_worker_at(s->rt, k)) == (int)q)
				owner = k;
		if (owner == n ? q % n != i : owner != i)
			continue;
		entries[q] = (uint16_t)(owner == i        ? p->entries
					: is_online(p, q) ? p->others
							  : 1);
	}
}

static int make_one(struct ld_session *s, unsigned i, int fd)
{
	struct ld_uring_options o = {
		.s = s,
		.worker = rt_worker_at(s->rt, i),
		.queues = s->plan.possible,
	};
	uint16_t *entries = mem_calloc(LD_CPUS_MAX, sizeof(*entries));
	int rc;

	if (!entries)
		return -ENOMEM;
	share_out(s, i, entries);
	o.entries = entries;
	o.fd = ld_session_clone_fd(fd);
	rc = o.fd < 0 ? o.fd : ld_uring_create(&o, &s->urings[i]);
	mem_free(entries);
	return rc;
}

static void drop_urings(struct ld_session *s)
{
	while (s->uring_count)
		ld_uring_release(s->urings[--s->uring_count]);
}

int ld_session_make_urings(struct ld_session *s, int fd, struct err *e)
{
	unsigned n = rt_worker_count(s->rt), i;
	int rc;

	if (!s->plan.uring)
		return 0;
	rc = check_runtime(s, fd, e);
	if (rc < 0 || !s->plan.uring)
		return rc;
	s->fs.max_read = s->plan.max_read;
	s->urings = mem_calloc(n, sizeof(struct ld_uring *));
	rc = s->urings ? 0 : -ENOMEM;
	for (i = 0; i < n && rc == 0; i++) {
		rc = make_one(s, i, fd);
		if (rc == 0)
			s->uring_count++;
	}
	s->fs.wants_uring = rc == 0;
	if (rc == 0)
		return 0;
	drop_urings(s);
	s->fs.max_read = LD_FS_MAX_READ;
	return ld_transport_give_up(
		&s->plan, e, "the rings cannot be made (error %d)", -rc);
}

/* ---- start ---- */

int ld_session_start_urings(struct ld_session *s, struct err *e)
{
	unsigned i, n = s->dev_count + s->uring_count;
	int rc = 0;

	if (!s->plan.uring)
		return 0;
	if (!(s->fs.init_flags & FW_OVER_IO_URING)) {
		drop_urings(s);
		return ld_transport_give_up(&s->plan, e,
			"this kernel does not offer FUSE over io_uring");
	}
	for (i = 0; i < s->uring_count; i++)
		ld_uring_start(s->urings[i]);
	(void)pthread_mutex_lock(&s->lock);
	ld_session_wait_for(s, &s->listening, n);
	(void)pthread_mutex_unlock(&s->lock);
	for (i = 0; i < s->uring_count && rc == 0; i++)
		rc = ld_uring_refused(s->urings[i]);
	/* What it has taken stays with it, and is not used. */
	if (rc < 0)
		return ld_transport_give_up(&s->plan, e,
			"the kernel refuses the rings (error %d)", -rc);
	return 0;
}
