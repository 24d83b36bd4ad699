/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a FUSE mount begins and ends: readers that give up, unmounts in the
 * middle of reads, dead mounts, mount points that cannot be used.
 *
 * Readers that may wait for ever are processes of their own, or leave by a
 * signal: a process must not wait for itself when it ends.
 */
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "loader/mountinfo.h"
#include "tests/async/fuse_ways.h"

extern char **environ;

/*
 * Read a file of the mount in a process: "dd" whose direct reads can be
 * INTERRUPTed, or "cat", which a deadly signal ends while it waits for a page.
 */
static pid_t spawn_reader(struct world *w, const char *name, bool direct)
{
	char path[5000], in[5100];
	char *dd[] = {(char *)"dd", in, (char *)"of=/dev/null", (char *)"bs=1M",
		(char *)"iflag=direct", NULL};
	char *cat[] = {(char *)"cat", path, NULL};
	posix_spawn_file_actions_t fa;
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s", at(w, name));
	(void)snprintf(in, sizeof(in), "if=%s", path);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(
		&fa, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(
		&fa, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	assert_int_equal(posix_spawnp(&pid, direct ? "dd" : "cat", &fa, NULL,
				 direct ? dd : cat, environ),
		0);
	posix_spawn_file_actions_destroy(&fa);
	return pid;
}

static int end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* ---- readers that give up ---- */

static void killed_body(struct rt *rt)
{
	static const struct {
		int signal;
		bool direct;
	} how[] = {{SIGKILL, false}, {SIGINT, false}, {SIGKILL, true},
		{SIGINT, true}, {SIGTERM, true}};
	struct world *w = world_make(rt, false);
	size_t i;
	pid_t pid;
	int status;

	for (i = 0; i < ARRAY_LEN(how); i++) {
		pid = spawn_reader(w, "big", how[i].direct);
		gate_wait(w->gate, 1);
		kill(pid, how[i].signal);
		status = end_of(pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), how[i].signal);
	}
	gate_open(w->gate);
	assert_int_equal(end_of(spawn_reader(w, "big", false)), 0);
	world_destroy(w);
}

static void a_reader_that_waits_can_be_killed(void **state)
{
	on_ways(2, killed_body);
}

/* Also in the middle of asking, of which the kernel does not always tell. */
static void any_time_body(struct rt *rt)
{
	struct world *w = world_make(rt, false);
	int i, status;
	pid_t pid;

	for (i = 0; i < 40; i++) {
		pid = spawn_reader(w, "big", i % 2);
		(void)poll(NULL, 0, i % 4);
		kill(pid, i % 3 ? SIGKILL : SIGTERM);
		status = end_of(pid);
		assert_true(WIFSIGNALED(status));
	}
	gate_open(w->gate);
	assert_int_equal(end_of(spawn_reader(w, "big", false)), 0);
	world_destroy(w);
}

static void a_reader_can_be_killed_at_any_time(void **state)
{
	on_uring_transport(2, any_time_body);
}

static void on_signal(int sig)
{
}

struct direct_reader {
	pthread_t thread;
	struct world *w;
	atomic_bool in_read;
	int error;
	ssize_t n;
	uint64_t off;
	uint8_t *buf;
};

static void *direct_main(void *arg)
{
	struct direct_reader *r = arg;
	int fd = open(at(r->w, "big"), O_RDONLY | O_CLOEXEC | O_DIRECT);

	atomic_store(&r->in_read, true);
	r->n = pread(fd, r->buf, 1 << 20, (off_t)r->off);
	r->error = r->n < 0 ? errno : 0;
	close(fd);
	return NULL;
}

static void direct_start(struct direct_reader *r, struct world *w, uint64_t off)
{
	*r = (struct direct_reader){.w = w, .off = off};
	r->buf = mem_alloc_aligned(4096, 1 << 20);
	assert_int_equal(pthread_create(&r->thread, NULL, direct_main, r), 0);
}

static void eintr_body(struct rt *rt)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct world *w = world_make(rt, false);
	struct direct_reader r;
	unsigned asked;
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	/* what nobody waits for any more stays on its way, and has its share */
	for (i = 0; i < 6; i++) {
		asked = gate_asked(w->gate);
		direct_start(&r, w, (uint64_t)i << 20);
		/*
		 * The signal comes anywhere between the start of the read and
		 * its wait for data. Over io_uring the kernel forgets one that
		 * comes before the request has got here.
		 */
		while (!atomic_load(&r.in_read))
			(void)sched_yield();
		if (i % 2 || world_plan)
			gate_wait(w->gate, asked + 1);
		do {
			pthread_kill(r.thread, SIGUSR1);
			(void)poll(NULL, 0, 1);
		} while (pthread_tryjoin_np(r.thread, NULL) != 0);
		assert_int_equal(r.n, -1);
		assert_int_equal(r.error, EINTR);
		mem_free(r.buf);
	}
	world_destroy(w);
}

static void an_interrupted_read_says_eintr(void **state)
{
	on_ways(2, eintr_body);
}

enum { CROWD = 48 };

/* One worker, more megabytes asked for than it holds buffers for. */
static void crowd_body(struct rt *rt)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct world *w = world_make(rt, false);
	static struct direct_reader r[CROWD];
	uint8_t *want = mem_alloc(1 << 20);
	unsigned i;

	sigaction(SIGUSR1, &sa, NULL);
	for (i = 0; i < CROWD; i++)
		direct_start(&r[i], w, (uint64_t)(i % 15) << 20);
	gate_wait(w->gate, 8);
	/* Those at the end of the queue may go as well. */
	for (i = 0; i < CROWD; i += 5)
		do {
			pthread_kill(r[i].thread, SIGUSR1);
			(void)poll(NULL, 0, 1);
		} while (pthread_tryjoin_np(r[i].thread, NULL) != 0);
	gate_open(w->gate);
	for (i = 0; i < CROWD; i++) {
		if (i % 5 == 0) {
			assert_int_equal(r[i].error, EINTR);
		} else {
			pthread_join(r[i].thread, NULL);
			assert_int_equal(r[i].n, 1 << 20);
			expect_bytes(
				w, inode_at(w, "big"), r[i].off, want, 1 << 20);
			assert_memory_equal(r[i].buf, want, 1 << 20);
		}
		mem_free(r[i].buf);
	}
	mem_free(want);
	world_destroy(w);
}

static void more_reads_than_memory_wait_their_turn(void **state)
{
	on_engines(1, crowd_body);
}

enum { MASS = 2200 };

struct mass {
	struct world *w;
	atomic_uint wrong;
	int fd;
};

struct mass_reader {
	pthread_t thread;
	struct mass *m;
	uint64_t off;
};

static void *mass_main(void *arg)
{
	struct mass_reader *r = arg;
	uint8_t *buf = mem_alloc_aligned(4096, 4096), want[4096];

	expect_bytes(r->m->w, inode_at(r->m->w, "big"), r->off, want, 4096);
	if (pread(r->m->fd, buf, 4096, (off_t)r->off) != 4096 ||
		memcmp(buf, want, 4096) != 0)
		atomic_fetch_add(&r->m->wrong, 1);
	mem_free(buf);
	return NULL;
}

/* More requests than a worker holds: the rest stays in the kernel. */
static void mass_body(struct rt *rt)
{
	static struct mass_reader r[MASS];
	struct mass m = {.w = world_make(rt, false)};
	struct stat st;
	pthread_attr_t attr;
	unsigned i;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	m.fd = open(at(m.w, "big"), O_RDONLY | O_CLOEXEC | O_DIRECT);
	for (i = 0; i < MASS; i++) {
		r[i] = (struct mass_reader){.m = &m, .off = i * 4096ull};
		assert_int_equal(
			pthread_create(&r[i].thread, &attr, mass_main, &r[i]),
			0);
	}
	pthread_attr_destroy(&attr);
	gate_wait(m.w->gate, 1);
	(void)poll(NULL, 0, 300); /* for the crowd to arrive */
	gate_open(m.w->gate);
	for (i = 0; i < MASS; i++)
		pthread_join(r[i].thread, NULL);
	assert_int_equal(atomic_load(&m.wrong), 0);
	assert_int_equal(stat(at(m.w, "d/e/f"), &st), 0);
	close(m.fd);
	world_destroy(m.w);
}

static void more_reads_than_requests_stay_in_the_kernel(void **state)
{
	on_ways(1, mass_body);
	on_ways(2, mass_body);
}

/* ---- the end of a mount ---- */

static bool has_ended(struct world *w)
{
	int always = eventfd(1, EFD_CLOEXEC);
	int rc = ld_session_wait(w->s, always);

	close(always);
	return rc == 0;
}

static void unmount_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);

	assert_false(has_ended(w));
	assert_true(ld_mount_is_ours(w->mnt));
	assert_int_equal(ld_unmount(w->mnt, false, NULL), 0);
	assert_int_equal(ld_session_wait(w->s, -1), 0);
	assert_false(ld_mount_is_ours(w->mnt));
	world_destroy(w);
}

static void an_unmount_ends_the_session(void **state)
{
	on_ways(2, unmount_body);
}

static void lazy_body(struct rt *rt)
{
	struct world *w = world_make(rt, false);
	pid_t pid = spawn_reader(w, "big", false);
	struct err e = {0};

	gate_wait(w->gate, 1);
	assert_int_equal(ld_unmount(w->mnt, false, &e), -EBUSY);
	assert_non_null(strstr(e.text, "programs use it"));
	assert_int_equal(ld_unmount(w->mnt, true, &e), 0);
	assert_false(has_ended(w));
	ld_session_stop(w->s);
	/* cat has got EIO and says so. */
	assert_int_equal(WEXITSTATUS(end_of(pid)), 1);
	world_destroy(w);
}

static void stopping_gives_pending_reads_eio(void **state)
{
	on_ways(2, lazy_body);
}

static void forced_body(struct rt *rt)
{
	struct world *w = world_make(rt, false);
	pid_t pid = spawn_reader(w, "big", true);

	gate_wait(w->gate, 1);
	(void)umount2(w->mnt, MNT_FORCE);
	assert_int_equal(WEXITSTATUS(end_of(pid)), 1);
	assert_int_equal(ld_session_wait(w->s, -1), 0);
	world_destroy(w);
}

static void a_forced_unmount_with_reads_pending_ends_the_session(void **state)
{
	on_ways(2, forced_body);
}

static void again_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	int i;

	for (i = 0; i < 20; i++) {
		world_unmount(w);
		world_mount(w, i % 2 ? "nosuid" : "suid,dev,noatime");
	}
	world_destroy(w);
}

static void one_image_mounts_again_and_again(void **state)
{
	on_ways(3, again_body);
}

/* ---- an index that loses its file ---- */

/* w's mount again, over an index that is a mapped file at path. */
static void mount_from_file(struct world *w, const char *path)
{
	struct err e = {0};

	world_unmount(w);
	write_file(path, w->index.data, w->index.len);
	if (ld_index_open(AT_FDCWD, path, &w->image.index, &e) < 0)
		fail_msg("%s", e.text);
	world_mount(w, NULL);
}

static int errno_of(const struct world *w, const char *name)
{
	char path[256];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", w->mnt, name);
	return lstat(path, &st) < 0 ? errno : 0;
}

static void cut_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/index", w->dir);
	mount_from_file(w, path);
	assert_int_equal(errno_of(w, "small"), 0);
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(errno_of(w, "many/entry-05000"), EIO);
	assert_int_equal(errno_of(w, "many/no-such-name"), EIO);
	assert_int_equal(errno_of(w, "no-such-name"), EIO);
	world_unmount(w);
	ld_index_close(&w->image.index);
	/* It is refused from the start, too. */
	assert_true(ld_index_open(AT_FDCWD, path, &w->image.index, NULL) < 0);
	assert_int_equal(ld_index_from_bytes(w->index.data, w->index.len,
				 &w->image.index, NULL),
		0);
	world_mount(w, NULL);
	world_destroy(w);
}

static void an_index_that_was_cut_short_gives_eio(void **state)
{
	on_ways(2, cut_body);
}

/* ---- mount points ---- */

/* A child that mounts with this type and dies. */
static void leave_dead_mount(const char *dir, const char *fstype)
{
	char opts[100];
	pid_t pid = fork();
	int fd;

	if (pid == 0) {
		fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
		(void)snprintf(opts, sizeof(opts),
			"fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
		_exit(mount("ruin", dir, fstype, 0, opts) == 0 ? 0 : 1);
	}
	assert_int_equal(end_of(pid), 0);
}

static void dead_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	struct ld_mountinfo m;

	world_unmount(w);
	leave_dead_mount(w->mnt, "fuse.sluice");
	leave_dead_mount(w->mnt, "fuse.sluice");
	assert_int_equal(ld_mountinfo_of(w->mnt, &m), 0);
	assert_string_equal(m.source, "ruin");
	world_mount(w, "");
	assert_int_equal(ld_mountinfo_of(w->mnt, &m), 0);
	assert_string_equal(m.source, "image, with \\ comma");
	assert_int_equal(ld_unmount(w->mnt, false, NULL), 0);
	assert_int_equal(ld_mountinfo_of(w->mnt, &m), -ENOENT);
	world_destroy(w);
}

static void dead_mounts_of_ours_are_replaced(void **state)
{
	on_ways(1, dead_body);
}

/* What ld_mount says about dir; it must fail with code. */
static void refused(
	const char *dir, const char *opts, int code, const char *says)
{
	struct ld_mount_options o = {.dir = dir, .source = "i", .opts = opts};
	struct err e = {0};
	int fd = -1;

	assert_int_equal(ld_mount(&o, &fd, &e), code);
	assert_int_equal(fd, -1);
	if (!strstr(e.text, says))
		fail_msg("'%s' does not say '%s'", e.text, says);
}

static void refused_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);

	refused(w->mnt, NULL, -EBUSY, "is mounted there already");
	world_unmount(w);
	leave_dead_mount(w->mnt, "fuse.other");
	refused(w->mnt, NULL, -EBUSY, "(fuse.other) is mounted there");
	assert_int_equal(umount2(w->mnt, MNT_DETACH), 0);
	refused("/tmp/there/is/no/such", NULL, -ENOENT, "/no/such'");
	refused(w->blob, NULL, -ENOTDIR, "not a directory");
	refused(w->mnt, "auto_unmount", -EINVAL, "'auto_unmount'");
	refused(w->mnt, "ro,nonsense=1", -EINVAL, "nonsense");
	assert_int_equal(ld_unmount(w->mnt, false, NULL), -EINVAL);
	assert_false(ld_mount_is_ours(w->mnt));
	world_destroy(w);
}

static void mount_points_that_cannot_be_used_are_refused(void **state)
{
	on_engines(1, refused_body);
}

static void flags_body(struct rt *rt)
{
	struct world *w = world_make(rt, true);
	struct buf b;

	world_unmount(w);
	world_mount(w, "rw,dev,defaults,nofail,_netdev,x-systemd.automount,"
		       "user,allow_other");
	buf_init(&b, 0);
	assert_int_equal(
		buf_read_file(&b, AT_FDCWD, "/proc/self/mountinfo"), 0);
	assert_int_equal(buf_terminate(&b), 0);
	{
		const char *line = strstr((char *)b.data, w->mnt);

		assert_non_null(line);
		assert_non_null(strstr(line, " ro,nosuid,relatime"));
		assert_non_null(strstr(line, "default_permissions"));
		assert_non_null(strstr(line, "allow_other"));
	}
	buf_fini(&b);
	world_destroy(w);
}

static void mounts_are_read_only_whatever_is_asked_for(void **state)
{
	on_engines(1, flags_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reader_that_waits_can_be_killed),
		cmocka_unit_test(a_reader_can_be_killed_at_any_time),
		cmocka_unit_test(an_interrupted_read_says_eintr),
		cmocka_unit_test(more_reads_than_memory_wait_their_turn),
		cmocka_unit_test(more_reads_than_requests_stay_in_the_kernel),
		cmocka_unit_test(an_unmount_ends_the_session),
		cmocka_unit_test(stopping_gives_pending_reads_eio),
		cmocka_unit_test(
			a_forced_unmount_with_reads_pending_ends_the_session),
		cmocka_unit_test(one_image_mounts_again_and_again),
		cmocka_unit_test(an_index_that_was_cut_short_gives_eio),
		cmocka_unit_test(dead_mounts_of_ours_are_replaced),
		cmocka_unit_test(mount_points_that_cannot_be_used_are_refused),
		cmocka_unit_test(mounts_are_read_only_whatever_is_asked_for),
	};

	return run_fuse_tests(tests);
}
