/* SPDX-License-Identifier: Apache-2.0 */
/* Which threads there are and how they are set up; starts that go wrong. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "runtime/file.h"
#include "tests/async/engines.h"

/* Threads of this process whose name begins with prefix. */
static unsigned threads_named(const char *prefix)
{
	char path[300], name[32];
	unsigned n = 0;
	DIR *d = opendir("/proc/self/task");
	FILE *f;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm",
			e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) &&
			strncmp(name, prefix, strlen(prefix)) == 0)
			n++;
		(void)fclose(f);
	}
	(void)closedir(d);
	return n;
}

static struct rt_job job;
static struct rt_io io;
static struct rt_op *block;
static char byte;
static int self_fd;
static unsigned cpus_of_job;
static uint64_t turn_of_job;

static unsigned own_cpus(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	return (unsigned)CPU_COUNT(&set);
}

/* How long the kernel lets this thread run; 0: it does not tell. */
static uint64_t own_turn_ns(void)
{
	uint64_t attr[6] = {sizeof(attr)};

	assert_int_equal(
		syscall(SYS_sched_getattr, 0, attr, sizeof(attr), 0), 0);
	return attr[3];
}

static void job_work(struct rt_job *j)
{
	cpus_of_job = own_cpus();
	turn_of_job = own_turn_ns();
}

static void job_done(struct rt_job *j)
{
	rt_block_on_done(block, 0);
}

static void job_start(void *arg, struct rt_op *op)
{
	block = op;
	job = (struct rt_job){
		.work = job_work, .done = job_done, .home = rt_worker_self()};
	rt_job_submit(&job);
}

static void read_done(struct rt_op *op)
{
	rt_block_on_done(block, op->result);
}

static void read_start(void *arg, struct rt_op *op)
{
	block = op;
	rt_file_read(rt_worker_self(), &io, self_fd, &byte, 1, 0, read_done);
}

static void threads_start_when_they_are_needed(void **state)
{
	struct rt_options o = {.workers = 2,
		.backend = RT_BACKEND_THREADS,
		.name = "budget-test"};
	struct rt *rt;

	self_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(rt_create(&o, &rt, NULL), 0);
	assert_int_equal(threads_named("budget"), 0);
	assert_int_equal(rt_start(rt, NULL), 0);
	assert_int_equal(threads_named("budget-test-w"), 2);
	assert_int_equal(threads_named("budget"), 2);
	assert_int_equal(rt_block_on(rt, job_start, NULL), 0);
	assert_int_equal(threads_named("budget-test-j"), 1);
	assert_int_equal(rt_block_on(rt, read_start, NULL), 1);
	assert_int_equal(threads_named("budget-test-f"), 1);
	assert_int_equal(threads_named("budget"), 4);
	rt_stop(rt);
	rt_destroy(rt);
	assert_int_equal(threads_named("budget"), 0);
	(void)close(self_fd);
}

static void signals_start(void *arg, struct rt_op *op)
{
	sigset_t now;

	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	rt_block_on_done(op, sigismember(&now, SIGTERM) &&
				     sigismember(&now, SIGCHLD) &&
				     sigismember(&now, SIGUSR1));
}

static void signals_body(struct rt *rt)
{
	assert_true(rt_block_on(rt, signals_start, NULL));
}

static void workers_take_no_signals(void **state)
{
	sigset_t now;

	on_engines(1, signals_body);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	assert_false(sigismember(&now, SIGTERM));
}

static void cpus_start(void *arg, struct rt_op *op)
{
	rt_block_on_done(op, own_cpus());
}

static void pinned_workers_do_not_pin_their_helpers(void **state)
{
	struct rt *rt = engine_start(RT_BACKEND_THREADS,
		(struct rt_options){.workers = 3, .pin = true});

	assert_int_equal(rt_block_on(rt, cpus_start, NULL), 1);
	assert_int_equal(rt_block_on(rt, job_start, NULL), 0);
	assert_int_equal(cpus_of_job, own_cpus());
	engine_stop(rt);
}

static void turn_start(void *arg, struct rt_op *op)
{
	rt_block_on_done(op, (int64_t)own_turn_ns());
}

static void workers_take_shorter_turns_than_jobs(void **state)
{
	uint64_t usual = own_turn_ns();
	struct rt *rt = engine_start(
		RT_BACKEND_THREADS, (struct rt_options){.workers = 1});
	int64_t turn = rt_block_on(rt, turn_start, NULL);

	assert_int_equal(rt_block_on(rt, job_start, NULL), 0);
	engine_stop(rt);
	assert_int_equal(turn_of_job, usual);
	if (usual == 0) {
		print_message("not run: this kernel knows one turn for all\n");
		return;
	}
	assert_true(turn > 0 && (uint64_t)turn < usual);
}

/* ---- an exclusive poll on several workers ---- */

enum { WAITERS = 3 };

static struct rt_io polls[WAITERS];
static struct rt_task poll_tasks[WAITERS];
static atomic_uint polls_ready, polls_ended;
static int poll_fd;

static void poll_done(struct rt_op *op)
{
	eventfd_t v;

	if (op->result == EPOLLIN && eventfd_read(poll_fd, &v) == 0)
		atomic_fetch_add(&polls_ready, 1);
	atomic_fetch_add(&polls_ended, 1);
}

static void poll_task(struct rt_task *t)
{
	unsigned i = rt_worker_index(rt_worker_self());

	rt_poll_start(
		rt_worker_self(), &polls[i], poll_fd, EPOLLIN, true, poll_done);
}

static void exclusive_body(struct rt *rt)
{
	poll_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_store(&polls_ready, 0);
	atomic_store(&polls_ended, 0);
	for (unsigned i = 0; i < WAITERS; i++) {
		poll_tasks[i].run = poll_task;
		rt_post(rt_worker_at(rt, i), &poll_tasks[i]);
	}
	assert_int_equal(eventfd_write(poll_fd, 1), 0);
	while (atomic_load(&polls_ready) == 0)
		(void)sched_yield();
	rt_stop(rt);
	/* one got it; whoever else was woken found nothing */
	assert_int_equal(atomic_load(&polls_ready), 1);
	assert_int_equal(atomic_load(&polls_ended), WAITERS);
	(void)close(poll_fd);
}

static void workers_may_wait_for_the_same_file(void **state)
{
	on_engines(WAITERS, exclusive_body);
}

/* ---- what goes wrong ---- */

static void start_copes_with_every_failing_allocation(void **state)
{
	const enum rt_backend all[] = {RT_BACKEND_THREADS, RT_BACKEND_AUTO};
	struct rt_options o = {.workers = 2};
	struct err e;
	struct rt *rt;
	unsigned failed = 0;
	int r = -1;

	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		o.backend = all[i];
		r = -1;
		for (unsigned long nth = 1; r < 0; nth++) {
			rt = NULL;
			e = (struct err){0};
			(void)mem_fail_nth(nth, 0);
			r = rt_create(&o, &rt, &e);
			if (r == 0)
				r = rt_start(rt, &e);
			(void)mem_fail_nth(0, 0);
			failed += r < 0;
			assert_int_equal(r < 0, e.code != 0);
			rt_stop(rt);
			rt_destroy(rt);
			assert_true(nth < 100);
		}
	}
	assert_true(failed > 5);
}

static void stall_start(void *arg, struct rt_op *op)
{
	uint64_t until = clock_ns() + 1100000000u;

	while (clock_ns() < until)
		continue;
	rt_block_on_done(op, 0);
}

static void a_turn_that_takes_too_long_is_told(void **state)
{
	char path[] = "/tmp/sluice-test-log-XXXXXX", text[500] = "";
	int fd = mkostemp(path, O_CLOEXEC);
	struct rt_stats st;
	struct rt *rt = engine_start(
		RT_BACKEND_THREADS, (struct rt_options){.workers = 1});

	assert_int_equal(log_open(LOG_SINK_FILE, path), 0);
	assert_int_equal(rt_block_on(rt, stall_start, NULL), 0);
	rt_stop(rt);
	rt_worker_stats(rt_worker_at(rt, 0), &st);
	rt_destroy(rt);
	assert_int_equal(log_open(LOG_SINK_STDERR, NULL), 0);
	assert_true(st.longest_turn_ns > 1000000000u);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "worker 0 did nothing else for 1"));
	(void)close(fd);
	(void)unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_start_when_they_are_needed),
		cmocka_unit_test(workers_take_no_signals),
		cmocka_unit_test(pinned_workers_do_not_pin_their_helpers),
		cmocka_unit_test(workers_take_shorter_turns_than_jobs),
		cmocka_unit_test(workers_may_wait_for_the_same_file),
		cmocka_unit_test(start_copes_with_every_failing_allocation),
		cmocka_unit_test(a_turn_that_takes_too_long_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
