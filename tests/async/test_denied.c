/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where io_uring is not to be had, for each of the reasons that occur: auto
 * works without and says why, and asking for it fails with the same sentence.
 * Each case runs in a process of its own, which cannot get its rights back.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/util.h"
#include "runtime/file.h"
#include "tests/async/engines.h"

/* ---- in the child: no assertions, but exit codes that tell the line ---- */

#define NEED(x) \
	do { \
		if (!(x)) { \
			(void)fprintf(stderr, "line %d: " #x "\n", __LINE__); \
			_exit(1); \
		} \
	} while (0)

enum { NOT_HERE = 77 };

static struct rt_io io;
static char byte;
static struct rt_op *block;

static void read_done(struct rt_op *op)
{
	rt_block_on_done(block, op->result);
}

static void read_start(void *arg, struct rt_op *op)
{
	block = op;
	rt_file_read(
		rt_worker_self(), &io, *(int *)arg, &byte, 1, 0, read_done);
}

/* A runtime works; its reason has all of these words. */
static void need_auto(const struct rt_options *o, enum rt_backend expected,
	const char *const words[])
{
	struct err e = {0};
	struct rt *rt = NULL;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	NEED(fd >= 0);
	NEED(rt_create(o, &rt, &e) == 0);
	NEED(rt_start(rt, &e) == 0);
	NEED(rt_backend(rt) == expected);
	for (unsigned i = 0; words[i]; i++) {
		if (!strstr(rt_backend_reason(rt), words[i]))
			(void)fprintf(stderr, "no '%s' in: %s\n", words[i],
				rt_backend_reason(rt));
		NEED(strstr(rt_backend_reason(rt), words[i]));
	}
	NEED(rt_block_on(rt, read_start, &fd) == 1);
	NEED(byte == 0x7f);
	rt_stop(rt);
	rt_destroy(rt);
	(void)close(fd);
}

/* auto does without, uring is an error; both name the words. */
static void need_denied(const char *const words[])
{
	struct rt_options o = {.workers = 2};
	struct err e = {0};
	struct rt *rt = NULL;

	need_auto(&o, RT_BACKEND_THREADS, words);
	o.backend = RT_BACKEND_URING;
	NEED(rt_create(&o, &rt, &e) < 0);
	NEED(strstr(e.text, "asked for"));
	for (unsigned i = 0; words[i]; i++)
		NEED(strstr(e.text, words[i]));
	o.backend = RT_BACKEND_THREADS;
	need_auto(&o, RT_BACKEND_THREADS, (const char *const[]){"asked", NULL});
}

static void in_child(void (*body)(void))
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == NOT_HERE)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void need_uring(void)
{
	struct rt_options o = {.backend = RT_BACKEND_URING};
	struct rt *rt = NULL;

	if (!HAVE_URING) { /* refused by the build, which must be said, too */
		need_denied((const char *const[]){"this build", NULL});
		_exit(0);
	}
	if (rt_create(&o, &rt, NULL) < 0)
		_exit(NOT_HERE);
	rt_destroy(rt);
}

/* ---- seccomp ---- */

static void deny_syscall(unsigned nr, unsigned error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = ARRAY_LEN(code), .filter = code};

	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

static void setup_eperm(void)
{
	need_uring();
	deny_syscall(SYS_io_uring_setup, EPERM);
	need_denied((const char *const[]){"seccomp", "EPERM", NULL});
}

static void setup_enosys(void)
{
	need_uring();
	deny_syscall(SYS_io_uring_setup, ENOSYS);
	need_denied((const char *const[]){"seccomp", "ENOSYS", NULL});
}

/* The ring can be made but not used: only a real read finds that out. */
static void enter_eperm(void)
{
	need_uring();
	deny_syscall(SYS_io_uring_enter, EPERM);
	need_denied((const char *const[]){"seccomp", "EPERM", NULL});
}

static void a_seccomp_filter_may_refuse_with_eperm(void **state)
{
	in_child(setup_eperm);
}

static void a_seccomp_filter_may_refuse_with_enosys(void **state)
{
	in_child(setup_enosys);
}

static void a_seccomp_filter_may_refuse_only_the_use(void **state)
{
	in_child(enter_eperm);
}

/* ---- memlock ---- */

static void limit_memlock(rlim_t bytes)
{
	struct rlimit lim = {.rlim_cur = bytes, .rlim_max = bytes};

	NEED(setrlimit(RLIMIT_MEMLOCK, &lim) == 0);
	if (getuid() == 0) {
		NEED(setgroups(0, NULL) == 0);
		NEED(setresgid(65534, 65534, 65534) == 0);
		NEED(setresuid(65534, 65534, 65534) == 0);
	}
}

static void no_memlock(void)
{
	struct rt_options o = {.backend = RT_BACKEND_URING};
	struct rt *rt = NULL;

	need_uring();
	limit_memlock(0);
	if (rt_create(&o, &rt, NULL) == 0)
		_exit(NOT_HERE); /* kernels that do not charge for rings */
	need_denied((const char *const[]){"memory", "RLIMIT_MEMLOCK", NULL});
}

/* Enough for the trial ring, not for one per worker. */
static void scarce_memlock(void)
{
	struct rt_options o = {.workers = 60};
	struct err e = {0};
	struct rt *rt = NULL;

	need_uring();
	limit_memlock(400 * 1024);
	o.backend = RT_BACKEND_URING;
	NEED(rt_create(&o, &rt, &e) == 0);
	if (rt_start(rt, &e) == 0)
		_exit(NOT_HERE);
	NEED(strstr(e.text, "RLIMIT_MEMLOCK"));
	rt_destroy(rt);
	o.backend = RT_BACKEND_AUTO;
	/* rings are given back late: even the trial may fail by now */
	need_auto(&o, RT_BACKEND_THREADS,
		(const char *const[]){"RLIMIT_MEMLOCK", NULL});
}

static void the_limit_of_locked_memory_may_refuse(void **state)
{
	in_child(no_memlock);
}

static void rings_may_run_out_while_workers_start(void **state)
{
	in_child(scarce_memlock);
}

/* ---- the system setting ---- */

static const char setting[] = "/proc/sys/kernel/io_uring_disabled";

/* Whether the setting could be written. */
static bool write_setting(const char *s)
{
	int fd = open(setting, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, s, 1) == 1;

	if (fd >= 0)
		(void)close(fd);
	return done;
}

static void child_of_sysctl(void)
{
	need_denied(
		(const char *const[]){"kernel.io_uring_disabled is 2", NULL});
}

/*
 * Other programs meet the setting, too, while this runs: only where somebody
 * has said that the machine is ours.
 */
static void the_system_setting_may_refuse(void **state)
{
	if (!getenv("SLUICE_TEST_SYSCTL") || access(setting, W_OK) < 0) {
		print_message("not run: SLUICE_TEST_SYSCTL is not set\n");
		return;
	}
	assert_true(write_setting("2"));
	in_child(child_of_sysctl);
	assert_true(write_setting("0"));
}

/* ---- and where nothing is denied ---- */

static void nothing_denied(void)
{
	const char *const dirs[] = {"/tmp", "/var/tmp", "."};
	struct rt_options o = {.workers = 2};
	struct rt *rt = NULL;
	bool has_ring = false;

	need_uring();
	for (unsigned i = 0; i < ARRAY_LEN(dirs) && !has_ring; i++) {
		o.probe_dir = dirs[i];
		NEED(rt_create(&o, &rt, NULL) == 0);
		has_ring = rt_backend(rt) == RT_BACKEND_URING;
		rt_destroy(rt);
	}
	if (has_ring)
		need_auto(&o, RT_BACKEND_URING,
			(const char *const[]){
				o.probe_dir, "cached data at once", NULL});
	else
		(void)fprintf(stderr, "not run: no disk here\n");
	o.probe_dir = "/proc/nothing/here"; /* where no file can be made */
	need_auto(&o, RT_BACKEND_URING, (const char *const[]){"none", NULL});
	o.queue_depth = 1;
	o.backend = RT_BACKEND_URING;
	need_auto(&o, RT_BACKEND_URING,
		(const char *const[]){"asked", "ring of 1 ", NULL});
}

static void auto_takes_the_ring_where_it_works(void **state)
{
	in_child(nothing_denied);
}

/* ---- and where a ring would be no more than a pool ---- */

/* Run one operation of this kind: how many have been given to threads since? */
static uint64_t punted_by(struct rt *rt, int fd,
	void (*start)(void *arg, struct rt_op *op), int64_t expected)
{
	struct rt_stats before, after;

	rt_worker_stats(rt_worker_at(rt, 0), &before);
	NEED(rt_block_on(rt, start, &fd) == expected);
	rt_worker_stats(rt_worker_at(rt, 0), &after);
	return after.io_punted - before.io_punted;
}

static void sync_start(void *arg, struct rt_op *op)
{
	block = op;
	rt_file_fsync(rt_worker_self(), &io, *(int *)arg, read_done);
}

/*
 * dir's file system can only be read by threads: auto takes our own; a ring
 * that is asked for works and counts what goes to the kernel's.
 */
static void need_own_threads(const char *dir)
{
	struct rt_options o = {.workers = 1, .probe_dir = dir};
	struct rt *rt = NULL;
	int fd;

	need_uring();
	need_auto(&o, RT_BACKEND_THREADS,
		(const char *const[]){dir, "threads of the kernel", NULL});
	o.backend = RT_BACKEND_URING;
	need_auto(&o, RT_BACKEND_URING,
		(const char *const[]){
			"asked", dir, "only by kernel threads", NULL});
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	NEED(fd >= 0 && rt_create(&o, &rt, NULL) == 0);
	NEED(rt_start(rt, NULL) == 0);
	NEED(punted_by(rt, fd, read_start, 1) == 1);
	NEED(punted_by(rt, fd, sync_start, 0) == 1);
	rt_stop(rt);
	rt_destroy(rt);
	(void)close(fd);
}

static void on_tmpfs(void)
{
	need_own_threads("/dev/shm");
}

static void on_overlay(void)
{
	char dir[] = "/tmp/sluice-test-XXXXXX";

	need_uring();
	/* whatever is mounted goes with this process */
	NEED(mkdtemp(dir));
	if (unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", dir, "tmpfs", 0, NULL) < 0 || chdir(dir) < 0 ||
		mkdir("low", 0700) < 0 || mkdir("up", 0700) < 0 ||
		mkdir("work", 0700) < 0 ||
		mount("none", dir, "overlay", 0,
			"lowerdir=low,upperdir=up,workdir=work") < 0) {
		(void)fprintf(stderr, "not run: no overlay can be mounted\n");
		(void)umount2(dir, MNT_DETACH);
		(void)rmdir(dir);
		return;
	}
	need_own_threads(dir);
	NEED(umount2(dir, MNT_DETACH) == 0 && umount2(dir, MNT_DETACH) == 0);
	NEED(rmdir(dir) == 0);
}

static void auto_takes_threads_on_a_tmpfs(void **state)
{
	in_child(on_tmpfs);
}

static void auto_takes_threads_on_an_overlay(void **state)
{
	in_child(on_overlay);
}

static void on_a_disk(void)
{
	struct rt_options o = {.workers = 1, .backend = RT_BACKEND_URING};
	struct rt *rt = NULL;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	need_uring();
	NEED(rt_create(&o, &rt, NULL) == 0 && rt_start(rt, NULL) == 0);
	if (strstr(rt_backend_reason(rt), "at once"))
		NEED(punted_by(rt, fd, read_start, 1) == 0);
	NEED(punted_by(rt, fd, sync_start, 0) == 1);
	rt_stop(rt);
	rt_destroy(rt);
	(void)close(fd);
}

static void what_the_kernel_gives_to_threads_is_counted(void **state)
{
	in_child(on_a_disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_seccomp_filter_may_refuse_with_eperm),
		cmocka_unit_test(a_seccomp_filter_may_refuse_with_enosys),
		cmocka_unit_test(a_seccomp_filter_may_refuse_only_the_use),
		cmocka_unit_test(the_limit_of_locked_memory_may_refuse),
		cmocka_unit_test(rings_may_run_out_while_workers_start),
		cmocka_unit_test(the_system_setting_may_refuse),
		cmocka_unit_test(auto_takes_the_ring_where_it_works),
		cmocka_unit_test(auto_takes_threads_on_a_tmpfs),
		cmocka_unit_test(auto_takes_threads_on_an_overlay),
		cmocka_unit_test(what_the_kernel_gives_to_threads_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
