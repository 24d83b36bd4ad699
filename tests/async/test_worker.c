/* SPDX-License-Identifier: Apache-2.0 */
/* Workers: tasks, timers, jobs, start and stop, on every engine. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "tests/async/engines.h"

/* ---- tasks ---- */

static void answer_42(void *arg, struct rt_op *op)
{
	assert_ptr_equal(rt_worker_self(), arg);
	rt_block_on_done(op, 42);
}

static void block_on_body(struct rt *rt)
{
	assert_null(rt_worker_self());
	assert_int_equal(rt_block_on(rt, answer_42, rt_worker_at(rt, 0)), 42);
}

static void block_on_runs_on_worker_zero(void **state)
{
	on_engines(2, block_on_body);
}

enum { POSTERS = 4 };

struct posted {
	struct rt_task task;
	unsigned from, number;
};

struct post_state {
	struct rt *rt;
	unsigned long each;
	unsigned last[POSTERS][2]; /* per poster and worker */
	atomic_ulong run;
	atomic_bool wrong;
} ps;

static void posted_run(struct rt_task *t)
{
	struct posted *p = container_of(t, struct posted, task);
	unsigned i = rt_worker_index(rt_worker_self());

	if (p->number <= ps.last[p->from][i])
		atomic_store(&ps.wrong, true);
	ps.last[p->from][i] = p->number;
	atomic_fetch_add(&ps.run, 1);
	mem_free(p);
}

static void *poster_main(void *arg)
{
	unsigned from = (unsigned)(uintptr_t)arg;
	struct posted *p;

	for (unsigned long n = 1; n <= ps.each; n++) {
		p = mem_zalloc(sizeof(*p));
		p->task.run = posted_run;
		p->from = from;
		p->number = (unsigned)n;
		rt_post(rt_worker_at(ps.rt, n & 1), &p->task);
	}
	return NULL;
}

static void posts_body(struct rt *rt)
{
	pthread_t t[POSTERS];

	memset(&ps, 0, sizeof(ps));
	ps.rt = rt;
	ps.each = soak_count(20000);
	for (uintptr_t i = 0; i < POSTERS; i++)
		assert_int_equal(
			pthread_create(&t[i], NULL, poster_main, (void *)i), 0);
	for (unsigned i = 0; i < POSTERS; i++)
		(void)pthread_join(t[i], NULL);
	rt_stop(rt);
	assert_int_equal(atomic_load(&ps.run), ps.each * POSTERS);
	assert_false(atomic_load(&ps.wrong));
	print_message("counted: %s, %lu tasks from %u threads\n",
		rt_backend_name(rt_backend(rt)), atomic_load(&ps.run), POSTERS);
}

static void posts_of_many_threads_all_run_in_their_order(void **state)
{
	on_engines(2, posts_body);
}

/* ---- timers ---- */

struct timers {
	struct rt_op *op;
	struct rt_worker *w;
	struct rt_timer t[200];
	uint64_t due[200];
	unsigned fired;
	uint64_t last_due;
} ts;

static void timer_fire(struct rt_timer *t)
{
	size_t i = (size_t)(t - ts.t);

	assert_true(clock_ns() >= ts.due[i]);
	assert_true(ts.due[i] >= ts.last_due);
	ts.last_due = ts.due[i];
	if (++ts.fired == 100)
		rt_block_on_done(ts.op, 0);
}

static void timer_never(struct rt_timer *t)
{
	fail();
}

static void timers_start(void *arg, struct rt_op *op)
{
	unsigned ms;

	memset(&ts, 0, sizeof(ts));
	ts.op = op;
	ts.w = rt_worker_self();
	for (unsigned i = 0; i < ARRAY_LEN(ts.t); i++) {
		ms = i * 7919 % 50;
		ts.t[i].fire = i & 1 ? timer_never : timer_fire;
		rt_timer_start(ts.w, &ts.t[i], ms + 1000);
		rt_timer_start(ts.w, &ts.t[i], ms);
		ts.due[i] = ts.t[i].due_ns;
	}
	for (unsigned i = 1; i < ARRAY_LEN(ts.t); i += 2) {
		rt_timer_stop(ts.w, &ts.t[i]);
		rt_timer_stop(ts.w, &ts.t[i]);
	}
}

static void timers_body(struct rt *rt)
{
	assert_int_equal(rt_block_on(rt, timers_start, NULL), 0);
	assert_int_equal(ts.fired, 100);
}

static void timers_fire_once_in_order_never_early(void **state)
{
	on_engines(1, timers_body);
}

static void timer_forgotten_start(void *arg, struct rt_op *op)
{
	static struct rt_timer t = {.fire = timer_never};

	t.armed = false;
	rt_timer_start(rt_worker_self(), &t, 3600 * 1000);
	rt_block_on_done(op, 0);
}

static void timer_forgotten_body(struct rt *rt)
{
	assert_int_equal(rt_block_on(rt, timer_forgotten_start, NULL), 0);
}

static void an_armed_timer_does_not_hold_up_the_stop(void **state)
{
	on_engines(1, timer_forgotten_body);
}

/* ---- jobs ---- */

enum { JOBS = 500 };

struct one_job {
	struct rt_job job;
	unsigned in, out;
} jobs[JOBS];

static struct rt_op *jobs_op;
static unsigned jobs_done;

static void job_work(struct rt_job *j)
{
	struct one_job *o = container_of(j, struct one_job, job);

	assert_null(rt_worker_self());
	o->out = o->in * 2;
}

static void job_done(struct rt_job *j)
{
	struct one_job *o = container_of(j, struct one_job, job);

	rt_worker_assert(j->home);
	assert_int_equal(o->out, o->in * 2);
	if (++jobs_done == JOBS && jobs_op)
		rt_block_on_done(jobs_op, JOBS);
}

static void jobs_start(void *arg, struct rt_op *op)
{
	bool answer_now = arg != NULL;

	jobs_op = answer_now ? NULL : op;
	jobs_done = 0;
	for (unsigned i = 0; i < JOBS; i++) {
		jobs[i] = (struct one_job){
			.job = {.work = job_work,
				.done = job_done,
				.home = rt_worker_self(),
				.cls = i & 1 ? RT_PREFETCH : RT_DEMAND},
			.in = i,
		};
		rt_job_submit(&jobs[i].job);
	}
	if (answer_now)
		rt_block_on_done(op, 0);
}

static void jobs_body(struct rt *rt)
{
	struct rt_stats st;

	assert_int_equal(rt_block_on(rt, jobs_start, NULL), JOBS);
	/* these are under way when the stop begins: they are not lost */
	assert_int_equal(rt_block_on(rt, jobs_start, jobs), 0);
	rt_stop(rt);
	assert_int_equal(jobs_done, JOBS);
	rt_worker_stats(rt_worker_at(rt, 0), &st);
	assert_int_equal(st.jobs, 2 * JOBS);
}

static void jobs_work_in_the_pool_and_end_at_home(void **state)
{
	on_engines(2, jobs_body);
}

/* ---- the calling thread's form ---- */

static void stop_from_inside(struct rt_task *t)
{
	rt_stop(rt_worker_runtime(rt_worker_self()));
}

static void calling_thread_on(enum rt_backend b)
{
	struct rt *rt = engine_start(
		b, (struct rt_options){.calling_thread = true, .workers = 7});
	struct rt_task t = {.run = stop_from_inside};

	if (!rt)
		return;
	assert_int_equal(rt_worker_count(rt), 1);
	assert_int_equal(rt_block_on(rt, answer_42, rt_worker_at(rt, 0)), 42);
	assert_int_equal(rt_block_on(rt, jobs_start, NULL), JOBS);
	assert_int_equal(rt_block_on(rt, jobs_start, jobs), 0);
	rt_post(rt_worker_at(rt, 0), &t);
	assert_int_equal(rt_run(rt), 0);
	assert_int_equal(jobs_done, JOBS);
	engine_stop(rt);
}

static void the_calling_thread_can_be_the_worker(void **state)
{
	calling_thread_on(RT_BACKEND_THREADS);
	calling_thread_on(RT_BACKEND_URING);
}

/* ---- work that makes work while the runtime ends ---- */

static unsigned hops_left;

static void hop(struct rt_task *t)
{
	struct rt_worker *w = rt_worker_self();
	struct rt *rt = rt_worker_runtime(w);

	if (hops_left-- > 1)
		rt_post(rt_worker_at(rt, !rt_worker_index(w)), t);
}

static void hops_body(struct rt *rt)
{
	struct rt_task t = {.run = hop};

	hops_left = 5000;
	rt_post(rt_worker_at(rt, 0), &t);
	rt_stop(rt);
	assert_int_equal(hops_left, 0);
}

static void a_stop_waits_for_work_between_workers(void **state)
{
	on_engines(2, hops_body);
}

static void stop_and_destroy_are_fine_at_any_time(void **state)
{
	struct rt_options o = {.workers = 2, .backend = RT_BACKEND_THREADS};
	struct rt *rt;

	rt_stop(NULL);
	rt_destroy(NULL);
	assert_int_equal(rt_create(&o, &rt, NULL), 0);
	rt_destroy(rt);
	assert_int_equal(rt_create(&o, &rt, NULL), 0);
	rt_stop(rt);
	rt_destroy(rt);
	assert_int_equal(rt_create(&o, &rt, NULL), 0);
	assert_int_equal(rt_start(rt, NULL), 0);
	rt_stop(rt);
	rt_stop(rt);
	rt_destroy(rt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(block_on_runs_on_worker_zero),
		cmocka_unit_test(posts_of_many_threads_all_run_in_their_order),
		cmocka_unit_test(timers_fire_once_in_order_never_early),
		cmocka_unit_test(an_armed_timer_does_not_hold_up_the_stop),
		cmocka_unit_test(jobs_work_in_the_pool_and_end_at_home),
		cmocka_unit_test(the_calling_thread_can_be_the_worker),
		cmocka_unit_test(a_stop_waits_for_work_between_workers),
		cmocka_unit_test(stop_and_destroy_are_fine_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
