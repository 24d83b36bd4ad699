/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests over io_uring: the kernel hands a request to the queue of the CPU
 * that made it, and the worker pinned to that CPU finds it as a completion of
 * its own ring, with memory for the reply.
 *
 * An entry:
 *
 *   REGISTER --> LENT --request--> IN WORK --reply, COMMIT_AND_FETCH--> LENT
 *                  \--unmounted, refused, or the ring's end--> OVER
 *
 * An entry is kept from its request until its reply, so a queue needs as many
 * as reads wait for data at a time: a request that finds none, be it a lookup,
 * waits in the kernel behind them. So a queue with half of its entries in work
 * gets as many again, until the worker has LD_FS_MAX_WAITING of them. (At half,
 * since the kernel gives a late entry nothing that waits already, but the
 * next request.) Their memory is touched as far as requests use it, and given
 * back by and by; entries are not, before the end.
 *
 * FORGET and INTERRUPT still come over /dev/fuse (transport_dev.c), as do all
 * requests until every queue has an entry.
 *
 * Linux 6.18 forgets a signal that comes before its request has got here, and
 * then waits for the reply even if that was SIGKILL. So whoever made a request
 * that takes long is looked at now and then.
 *
 * The kernel cannot cancel what it has borrowed; only the end of the connection
 * or of the ring does. So a struct ld_uring outlives its session: stopped, it
 * answers with EIO and looks at nothing else, and it goes with its last entry.
 */
#include "loader/transport_int.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "uring"

#define PAYLOAD_KEPT 8192 /* the kernel may write names there at any time */
#define TRIM_MS 5000
#define LOOK_MS 1000

struct uring_ent {
	struct ld_fs_req fr;
	struct ld_uring *u;
	struct rt_io io;
	struct iovec iov[2]; /* head, payload */
	struct fw_uring_head head;
	uint8_t *payload;
	uint64_t commit_id;
	uint32_t pid; /* who made the request */
	uint16_t qid;
	bool is_old; /* it was in work when we looked last */
	bool over, in_work, registered;
	bool large; /* more than PAYLOAD_KEPT of the payload was used */
};

/* Entries that a queue got together. */
struct uring_batch {
	struct list node;
	uint8_t *payload; /* owned: of all of them */
	unsigned count;
	struct uring_ent ents[];
};

struct uring_queue {
	unsigned entries, in_work;
};

struct ld_uring {
	struct ld_session *s; /* not once stopped */
	struct rt_worker *worker;
	int fd; /* owned */
	uint32_t payload_len;
	struct uring_queue *queues; /* owned: of all, also those of others */
	struct list batches;        /* owned: struct uring_batch */
	unsigned count, alive, in_work;
	struct ld_fs_counters counters;
	struct list busy; /* requests in work */
	struct rt_timer trim, look;
	struct rt_task start_task, stop_task, release_task;
	unsigned hops; /* turns until the outcome of REGISTER is known */
	int refused;   /* the first error of a REGISTER */
	int outcome;   /* of all of them, see ld_uring_refused */
	bool trimming, looking, stopping, stopped, released;
};

/* ---- to the kernel ---- */

static void ent_done(struct rt_op *op);

static void ent_send(struct uring_ent *e, uint32_t cmd)
{
	struct fw_uring_cmd_req req = {
		.commit_id = e->commit_id, .qid = e->qid};
	uint8_t bytes[80] = {0};
	bool reg = cmd == FW_URING_REGISTER;

	memcpy(bytes, &req, sizeof(req));
	e->io.flags = RT_IO_WITH_RING;
	rt_cmd_start(e->u->worker, &e->io, e->u->fd, cmd, reg ? e->iov : NULL,
		reg ? 2 : 0, bytes, ent_done);
}

/* The reply: error, or len bytes of the payload. */
static void ent_fill(
	struct uring_ent *e, uint64_t unique, int error, size_t len)
{
	struct fw_out_header h = {
		.len = (uint32_t)(sizeof(h) + len),
		.error = error,
		.unique = unique,
	};

	memcpy(e->head.in_out, &h, sizeof(h));
	e->head.ent.payload_sz = (uint32_t)len;
	if (len > PAYLOAD_KEPT)
		e->large = true;
}

/* ---- memory ---- */

/* True if some of it is in use and has to be looked at again. */
static bool batch_trim(const struct ld_uring *u, struct uring_batch *b)
{
	bool more = false;
	unsigned i;

	for (i = 0; i < b->count; i++) {
		struct uring_ent *e = &b->ents[i];

		more |= e->large && e->in_work;
		if (!e->large || e->in_work)
			continue;
		e->large = false;
		/* without it, memory is only used for longer */
		(void)madvise(e->payload + PAYLOAD_KEPT,
			u->payload_len - PAYLOAD_KEPT, MADV_DONTNEED);
	}
	return more;
}

/* Hits use few entries again and again; what many misses used goes back. */
static void on_trim(struct rt_timer *t)
{
	struct ld_uring *u = container_of(t, struct ld_uring, trim);
	bool more = false;

	u->trimming = false;
	list_for_each(it, &u->batches)
		more |= batch_trim(
			u, container_of(it, struct uring_batch, node));
	if (more && !u->stopping) {
		u->trimming = true;
		rt_timer_start(u->worker, &u->trim, TRIM_MS);
	}
}

static void trim_later(struct ld_uring *u)
{
	if (u->trimming || u->stopping)
		return;
	u->trimming = true;
	rt_timer_start(u->worker, &u->trim, TRIM_MS);
}

static void batch_free(struct uring_batch *b)
{
	mem_free(b->payload);
	mem_free(b);
}

static struct uring_batch *batch_new(
	struct ld_uring *u, unsigned qid, unsigned count)
{
	struct uring_batch *b =
		mem_zalloc(sizeof(*b) + count * sizeof(b->ents[0]));
	size_t len = (size_t)count * u->payload_len;
	unsigned i;

	if (!b)
		return NULL;
	b->payload = mem_alloc_aligned(4096, len);
	if (!b->payload) {
		mem_free(b);
		return NULL;
	}
	/* It is used here and there, which is no reason to fill it up. */
	(void)madvise(b->payload, len, MADV_NOHUGEPAGE);
	for (i = 0; i < count; i++) {
		struct uring_ent *e = &b->ents[i];

		e->u = u;
		e->qid = (uint16_t)qid;
		e->payload = b->payload + (size_t)i * u->payload_len;
		e->iov[0] = (struct iovec){&e->head, sizeof(e->head)};
		e->iov[1] = (struct iovec){e->payload, u->payload_len};
	}
	b->count = count;
	list_push_back(&u->batches, &b->node);
	u->count += count;
	u->queues[qid].entries += count;
	return b;
}

static void batch_register(struct ld_uring *u, struct uring_batch *b)
{
	unsigned i;

	for (i = 0; i < b->count; i++) {
		u->alive++;
		ent_send(&b->ents[i], FW_URING_REGISTER);
	}
}

/* Who waits must leave entries to others. */
static void queue_grow(struct ld_uring *u, unsigned qid)
{
	const struct uring_queue *q = &u->queues[qid];
	unsigned n = q->entries;
	struct uring_batch *b;

	if (u->hops || 2 * q->in_work <= n || u->count >= LD_FS_MAX_WAITING)
		return;
	n = (unsigned)min_u64(n, LD_FS_MAX_WAITING - u->count);
	b = batch_new(u, qid, n);
	if (b)
		batch_register(u, b);
	log_debug("queue %u has %u entries, %u in work", qid, q->entries,
		q->in_work);
}

/* ---- replies ---- */

static void req_reply(struct ld_fs_req *r, int error, size_t len)
{
	struct uring_ent *e = container_of(r, struct uring_ent, fr);

	ent_fill(e, r->unique, error, len);
	if (e->large)
		trim_later(e->u);
}

static void stop_check(struct ld_uring *u);

static void req_free(struct ld_fs_req *r)
{
	struct uring_ent *e = container_of(r, struct uring_ent, fr);
	struct ld_uring *u = e->u;

	list_remove(&r->node);
	e->in_work = false;
	u->in_work--;
	u->queues[e->qid].in_work--;
	ent_send(e, FW_URING_COMMIT_AND_FETCH);
	stop_check(u);
}

static const struct ld_fs_req_ops req_ops = {req_reply, req_free};

/* ---- readers that are gone ---- */

static void look_later(struct ld_uring *u)
{
	if (u->looking || u->stopping || u->in_work == 0)
		return;
	u->looking = true;
	rt_timer_start(u->worker, &u->look, LOOK_MS);
}

static void on_look(struct rt_timer *t)
{
	struct ld_uring *u = container_of(t, struct ld_uring, look);

	u->looking = false;
	list_for_each_safe(it, &u->busy) {
		struct uring_ent *e =
			container_of(it, struct uring_ent, fr.node);

		if (e->is_old && ld_was_killed(e->pid))
			ld_fs_cancel(&e->fr, -EINTR);
		else
			e->is_old = true;
	}
	look_later(u);
}

/* ---- one request ---- */

static void ent_refuse(struct uring_ent *e, uint64_t unique, int error)
{
	ent_fill(e, unique, error, 0);
	ent_send(e, FW_URING_COMMIT_AND_FETCH);
}

static void ent_request(struct uring_ent *e)
{
	struct ld_uring *u = e->u;
	size_t len = min_u64(e->head.ent.payload_sz, u->payload_len);
	struct fw_in_header h;
	int rc;

	memcpy(&h, e->head.in_out, sizeof(h));
	e->commit_id = e->head.ent.commit_id;
	e->pid = h.pid;
	e->is_old = false;
	e->registered = true;
	if (u->stopping) {
		ent_refuse(e, h.unique, -EIO);
		return;
	}
	e->fr.fs = &u->s->fs;
	e->fr.ops = &req_ops;
	e->fr.worker = u->worker;
	e->fr.counters = &u->counters;
	e->fr.out = e->payload;
	e->fr.out_cap = u->payload_len;
	e->in_work = true;
	u->in_work++;
	u->queues[e->qid].in_work++;
	list_push_back(&u->busy, &e->fr.node);
	/* in case that it is one without a reply: an empty one then */
	ent_fill(e, h.unique, 0, 0);
	rc = ld_fs_decode_ring(&e->fr, &h, &e->head, e->payload, len);
	if (rc == 0 && e->fr.out_need > u->payload_len)
		rc = -EIO; /* more than INIT allows to ask for */
	if (rc < 0)
		ld_fs_finish(&e->fr, rc, 0);
	else
		ld_fs_run(&e->fr);
	queue_grow(u, e->qid);
	look_later(u);
}

static void uring_free(struct ld_uring *u)
{
	if (u->fd >= 0)
		(void)close(u->fd); /* replies are not buffered */
	list_for_each_safe(it, &u->batches)
		batch_free(container_of(it, struct uring_batch, node));
	mem_free(u->queues);
	mem_free(u);
}

static bool is_end(int64_t rc)
{
	return rc == -ENOTCONN || rc == -ECONNABORTED || rc == -ENODEV ||
	       rc == -ECANCELED;
}

/* The kernel has given the entry back without a request. */
static void ent_over(struct uring_ent *e, int rc)
{
	struct ld_uring *u = e->u;

	/* It does not know the request any more, but the queue needs us. */
	if (e->registered && !is_end(rc) && !u->stopping) {
		log_warn("a request was lost by the kernel (error %d)", -rc);
		e->registered = false;
		ent_send(e, FW_URING_REGISTER);
		return;
	}
	if (!is_end(rc) && !u->refused)
		u->refused = rc;
	e->over = true;
	u->alive--;
	if (u->released && u->alive == 0)
		uring_free(u);
}

static void ent_done(struct rt_op *op)
{
	struct rt_io *io = container_of(op, struct rt_io, op);
	struct uring_ent *e = container_of(io, struct uring_ent, io);

	rt_worker_assert(e->u->worker);
	if (op->result < 0)
		ent_over(e, (int)op->result);
	else
		ent_request(e);
}

/* ---- life ---- */

static int find_outcome(const struct ld_uring *u)
{
	/* So far there is one batch for each queue; an entry is enough. */
	list_for_each(it, &u->batches) {
		const struct uring_batch *b =
			container_of(it, struct uring_batch, node);
		bool works = false;
		unsigned i;

		for (i = 0; i < b->count; i++)
			works |= !b->ents[i].over;
		if (!works)
			return u->refused ? u->refused : -ENOTCONN;
	}
	return 0;
}

/* A refusal is a completion: those of one turn are there in the next one. */
static void start_hop(struct rt_task *t)
{
	struct ld_uring *u = container_of(t, struct ld_uring, start_task);

	if (--u->hops) {
		rt_post(u->worker, t);
		return;
	}
	u->outcome = find_outcome(u);
	ld_session_count(u->s, &u->s->listening, 1);
}

static void start_run(struct rt_task *t)
{
	struct ld_uring *u = container_of(t, struct ld_uring, start_task);

	list_for_each(it, &u->batches)
		batch_register(u, container_of(it, struct uring_batch, node));
	u->hops = 3;
	t->run = start_hop;
	start_hop(t);
}

static void stop_check(struct ld_uring *u)
{
	if (!u->stopping || u->stopped || u->in_work)
		return;
	u->stopped = true;
	ld_session_count(u->s, &u->s->stopped, 1);
}

static void stop_run(struct rt_task *t)
{
	struct ld_uring *u = container_of(t, struct ld_uring, stop_task);

	u->stopping = true;
	u->in_work++; /* nobody else shall say that it is over */
	rt_timer_stop(u->worker, &u->trim);
	rt_timer_stop(u->worker, &u->look);
	list_for_each_safe(it, &u->busy)
		ld_fs_cancel(container_of(it, struct ld_fs_req, node), -EIO);
	u->in_work--;
	stop_check(u);
}

static void release_run(struct rt_task *t)
{
	struct ld_uring *u = container_of(t, struct ld_uring, release_task);

	rt_timer_stop(u->worker, &u->trim);
	rt_timer_stop(u->worker, &u->look);
	u->stopping = true;
	u->released = true;
	if (u->alive == 0)
		uring_free(u);
}

void ld_uring_start(struct ld_uring *u)
{
	u->start_task.run = start_run;
	rt_post(u->worker, &u->start_task);
}

void ld_uring_stop(struct ld_uring *u)
{
	u->stop_task.run = stop_run;
	rt_post(u->worker, &u->stop_task);
}

void ld_uring_release(struct ld_uring *u)
{
	u->release_task.run = release_run;
	rt_post(u->worker, &u->release_task);
}

int ld_uring_refused(const struct ld_uring *u)
{
	return u->outcome;
}

int ld_uring_create(const struct ld_uring_options *o, struct ld_uring **ret)
{
	struct ld_uring *u = mem_zalloc(sizeof(*u));
	unsigned q;

	if (!u) {
		(void)close(o->fd); /* nothing was written */
		return -ENOMEM;
	}
	u->s = o->s;
	u->worker = o->worker;
	u->fd = o->fd;
	u->trim.fire = on_trim;
	u->look.fire = on_look;
	list_init(&u->busy);
	list_init(&u->batches);
	u->payload_len =
		(uint32_t)max_u64(o->s->fs.max_read, FW_URING_MIN_PAYLOAD);
	u->queues = mem_calloc(o->queues, sizeof(*u->queues));
	for (q = 0; u->queues && q < o->queues; q++) {
		if (o->entries[q] && !batch_new(u, q, o->entries[q]))
			break;
	}
	if (u->queues && q == o->queues) {
		*ret = u;
		return 0;
	}
	uring_free(u);
	return -ENOMEM;
}

const struct ld_fs_counters *ld_uring_counters(const struct ld_uring *u)
{
	return &u->counters;
}
