/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of all kinds, cancelled and timed out at random, on all workers at
 * once: each one is accounted for. SLUICE_SOAK says how many per worker.
 */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/file.h"
#include "tests/async/engines.h"

enum { WIDTH = 300, WORKERS = 2, FILE_LEN = 70000 };

struct storm;

struct storm_op {
	struct rt_io io;
	struct storm *storm;
	bool running;
	uint8_t buf[512];
};

struct storm {
	struct storm_op ops[WIDTH];
	struct rt_task task;
	unsigned long started, done, cancelled, late, good, want;
	uint64_t random;
	int fd, quiet;
};

static struct storm *storms;
static struct rt_op *block;
static unsigned storms_ended;
static atomic_bool enough; /* nothing more is started */

static unsigned storm_random(struct storm *s, unsigned n)
{
	s->random = s->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(s->random >> 33) % n;
}

static void storm_start_one(struct storm_op *o);

/* On worker 0. */
static void storm_ended(struct rt_task *t)
{
	if (++storms_ended == WORKERS)
		rt_block_on_done(block, 0);
}

static void storm_count(struct storm *s, int64_t result)
{
	s->done++;
	if (result == -ECANCELED)
		s->cancelled++;
	else if (result == -ETIMEDOUT)
		s->late++;
	else
		s->good += result >= 0;
}

static void storm_done(struct rt_op *op)
{
	struct storm_op *o = container_of(op, struct storm_op, io.op);
	struct storm *s = o->storm;
	struct rt_worker *w = op->worker;

	rt_worker_assert(w);
	assert_true(o->running);
	o->running = false;
	storm_count(s, op->result);
	/* somebody else's operation, at any moment of its life */
	if (storm_random(s, 3) == 0)
		rt_io_cancel(w, &s->ops[storm_random(s, WIDTH)].io);
	if (s->started < s->want && !atomic_load(&enough)) {
		storm_start_one(o);
	} else if (s->want != ULONG_MAX && s->done == s->started) {
		s->task.run = storm_ended;
		rt_post(rt_worker_at(rt_worker_runtime(w), 0), &s->task);
	}
}

static void storm_start_one(struct storm_op *o)
{
	struct storm *s = o->storm;
	struct rt_worker *w = rt_worker_self();
	unsigned what = storm_random(s, 8);

	assert_false(o->running);
	o->running = true;
	s->started++;
	o->io.deadline_ms = storm_random(s, 8) == 0 ? 1 : 0;
	o->io.cls = storm_random(s, 2) ? RT_DEMAND : RT_PREFETCH;
	o->io.flags = storm_random(s, 2) ? RT_IO_ALL : 0;
	if (what == 0) {
		/* nothing ever happens there: it must be stopped */
		o->io.deadline_ms = 1 + storm_random(s, 3);
		rt_poll_start(w, &o->io, s->quiet, EPOLLIN, storm_random(s, 2),
			storm_done);
	} else if (what == 1) {
		rt_file_write(w, &o->io, s->fd, o->buf, sizeof(o->buf),
			1u << 20, storm_done);
	} else if (what == 2) {
		rt_file_fdatasync(w, &o->io, s->quiet, storm_done);
	} else {
		rt_file_read(w, &o->io, s->fd, o->buf, sizeof(o->buf),
			storm_random(s, FILE_LEN), storm_done);
	}
	if (storm_random(s, 4) == 0)
		rt_io_cancel(w, &o->io);
}

static void storm_run(struct rt_task *t)
{
	struct storm *s = container_of(t, struct storm, task);

	for (unsigned i = 0; i < WIDTH; i++) {
		s->ops[i].storm = s;
		storm_start_one(&s->ops[i]);
	}
}

static void storms_start(void *arg, struct rt_op *op)
{
	block = op;
	storms_ended = 0;
	atomic_store(&enough, false);
	for (unsigned i = 0; i < WORKERS; i++) {
		storms[i].task.run = storm_run;
		rt_post(rt_worker_at(arg, i), &storms[i].task);
	}
}

static void storm_body(struct rt *rt)
{
	struct rt_stats st;
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int quiet = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_int_equal(ftruncate(fd, FILE_LEN), 0);
	storms = mem_calloc(WORKERS, sizeof(*storms));
	for (unsigned i = 0; i < WORKERS; i++) {
		storms[i].random = test_seed() + i;
		storms[i].want = soak_count(20000);
		storms[i].fd = fd;
		storms[i].quiet = quiet;
	}
	assert_int_equal(rt_block_on(rt, storms_start, rt), 0);
	rt_stop(rt);
	for (unsigned i = 0; i < WORKERS; i++) {
		const struct storm *s = &storms[i];

		assert_int_equal(s->done, s->started);
		assert_true(s->cancelled > 0);
		assert_true(s->good > 0);
		rt_worker_stats(rt_worker_at(rt, i), &st);
		assert_int_equal(st.io_submitted, st.io_completed);
		assert_int_equal(st.in_flight, 0);
		print_message("counted: %s, worker %u, %lu operations, %lu "
			      "cancelled, %lu late\n",
			rt_backend_name(rt_backend(rt)), i, s->done,
			s->cancelled, s->late);
	}
	(void)close(fd);
	(void)close(quiet);
	mem_free(storms);
}

static void a_cancel_storm_loses_no_operation(void **state)
{
	on_engines(WORKERS, storm_body);
}

/* ---- a stop at any moment ---- */

static void no_more(struct rt_task *t)
{
}

static void stop_in_the_middle(struct rt *rt, unsigned yields)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int quiet = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct rt_task last = {.run = no_more};

	atomic_store(&enough, false);
	storms = mem_calloc(WORKERS, sizeof(*storms));
	for (unsigned i = 0; i < WORKERS; i++) {
		storms[i].random = test_seed() + i + yields;
		storms[i].want = ULONG_MAX;
		storms[i].fd = fd;
		storms[i].quiet = quiet;
		storms[i].task.run = storm_run;
		rt_post(rt_worker_at(rt, i), &storms[i].task);
	}
	while (yields-- > 0)
		(void)sched_yield();
	rt_post(rt_worker_at(rt, 1), &last);
	atomic_store(&enough, true);
	rt_stop(rt);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(storms[i].done, storms[i].started);
	(void)close(fd);
	(void)close(quiet);
	mem_free(storms);
}

static void a_stop_in_the_middle_drains(void **state)
{
	const enum rt_backend all[] = {RT_BACKEND_THREADS, RT_BACKEND_URING};
	struct rt_options o = {.workers = WORKERS};
	unsigned long rounds = min_u64(soak_count(30), 1000);
	struct rt *rt;

	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		for (unsigned long n = 0; n < rounds; n++) {
			rt = engine_start(all[i], o);
			if (!rt)
				break;
			stop_in_the_middle(rt, (unsigned)n);
			rt_destroy(rt);
		}
	}
	print_message("counted: %lu stops on each engine\n", rounds);
}

/* Hardly a credit for anything: everything waits for everything else. */
static void a_cancel_storm_fits_through_one_credit(void **state)
{
	on_engines_with((struct rt_options){.workers = WORKERS,
				.queue_depth = 1,
				.file_threads = 1},
		storm_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cancel_storm_loses_no_operation),
		cmocka_unit_test(a_cancel_storm_fits_through_one_credit),
		cmocka_unit_test(a_stop_in_the_middle_drains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
