/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's beginnings, and how others find and ask it. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/control.h"
#include "loader/daemon.h"
#include "runtime/base/util.h"

/* ---- fork and report ---- */

static void the_parent_returns_when_the_child_is_ready(void **state)
{
	struct ld_daemon d;
	struct err e = {0};
	int fds[2], ret;
	char c = 0;

	assert_int_equal(pipe(fds), 0);
	ret = ld_daemon_fork(&d, &e);
	if (ret == 0) {
		ld_daemon_ready(&d);
		_exit(0);
	}
	assert_int_equal(ret, 1);
	/* nothing that was open here is open there */
	(void)close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 0);
	(void)close(fds[0]);
	while (wait(NULL) > 0)
		;
}

static void the_parent_gets_the_child_s_error(void **state)
{
	struct ld_daemon d;
	struct err e = {0}, why = {0};
	int ret;

	ret = ld_daemon_fork(&d, &e);
	if (ret == 0) {
		(void)err_set_kind(
			&why, ERR_NOT_FOUND, -ENOENT, "no image today");
		ld_daemon_fail(&d, &why);
		_exit(0);
	}
	assert_int_equal(ret, -ENOENT);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	assert_string_equal(e.text, "no image today");
	while (wait(NULL) > 0)
		;
}

static void a_child_that_dies_silently_is_an_error(void **state)
{
	struct ld_daemon d;
	struct err e = {0};
	int ret;

	ret = ld_daemon_fork(&d, &e);
	if (ret == 0) {
		(void)raise(SIGKILL);
		_exit(0);
	}
	assert_int_equal(ret, -ECHILD);
	assert_non_null(strstr(e.text, "signal 9"));
	ret = ld_daemon_fork(&d, &e);
	if (ret == 0)
		_exit(3);
	assert_int_equal(ret, -ECHILD);
	assert_non_null(strstr(e.text, "before it was ready"));
}

static void the_service_manager_is_told(void **state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct ld_daemon d;
	struct pollfd p;
	char text[100] = "";
	int fd;

	(void)snprintf(a.sun_path, sizeof(a.sun_path),
		"/tmp/sluice-test-notify-%ld", (long)getpid());
	(void)unlink(a.sun_path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", a.sun_path, 1), 0);
	ld_daemon_stay(&d);
	ld_daemon_ready(&d);
	p = (struct pollfd){.fd = fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
	assert_non_null(strstr(text, "READY=1\nMAINPID="));
	/* what we start later must not speak for us */
	assert_null(getenv("NOTIFY_SOCKET"));
	(void)close(fd);
	(void)unlink(a.sun_path);
}

/* ---- privileges ---- */

/* The value of a line of /proc/self/status; -1: none. */
static long long status_value(const char *name, int base)
{
	char line[256];
	long long v = -1;
	size_t n = strlen(name);
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, n) == 0)
			v = (long long)strtoull(line + n, NULL, base);
	if (f)
		(void)fclose(f);
	return v;
}

static void privileges_are_gone_for_good(void **state)
{
	struct err e = {0};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (ld_daemon_drop_privileges(&e) < 0)
			_exit(1);
		/* only CAP_DAC_READ_SEARCH, bit 2, may be left */
		if (status_value("CapEff:", 16) & ~4LL ||
			status_value("CapPrm:", 16) & ~4LL ||
			status_value("CapInh:", 16) != 0)
			_exit(2);
		if (geteuid() == 0 && status_value("CapBnd:", 16) & ~4LL)
			_exit(3);
		if (status_value("NoNewPrivs:", 10) != 1)
			_exit(4);
		if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
			_exit(5);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- control ---- */

static void answer(void *arg, const char *word, struct buf *out)
{
	int *asked = arg;

	(*asked)++;
	if (strcmp(word, "status") == 0)
		(void)buf_printf(out, "{\"fine\":true}");
}

/* A process that claims dir, serves `clients` clients and ends. */
static pid_t serve_in_child(const char *dir, int clients)
{
	struct ld_control *c;
	struct pollfd p;
	struct err e = {0};
	int fds[2], asked = 0;
	char byte = 'r';
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ld_control_create(dir, "x.y/z:1", true, &c, &e) < 0 ||
			ld_control_listen(c, &e) < 0)
			_exit(1);
		(void)!write(fds[1], &byte, 1);
		while (clients-- > 0) {
			p = (struct pollfd){
				.fd = ld_control_fd(c), .events = POLLIN};
			(void)poll(&p, 1, 20000);
			ld_control_serve(c, answer, &asked);
		}
		(void)pause();
		_exit(0);
	}
	assert_int_equal(read(fds[0], &byte, 1), 1);
	(void)close(fds[0]);
	(void)close(fds[1]);
	return pid;
}

static void end_child(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

struct search {
	const char *dir;
	int found;
};

static int look_for(void *arg, const struct ld_run *r)
{
	struct search *s = arg;

	s->found += strcmp(r->dir, s->dir) == 0;
	return 0;
}

static const char *test_dir(const char *name)
{
	static char dir[100];

	(void)snprintf(
		dir, sizeof(dir), "/tmp/no-mount-%ld-%s", (long)getpid(), name);
	return dir;
}

static void a_mount_is_found_and_asked(void **state)
{
	const char *dir = test_dir("ask");
	struct search s = {.dir = dir};
	struct ld_run r;
	struct err e = {0};
	struct buf b;
	pid_t pid = serve_in_child(dir, 2);

	buf_init(&b, 16384);
	assert_int_equal(ld_control_find(dir, &r, &e), 0);
	assert_int_equal(r.pid, pid);
	assert_true(r.is_ready);
	assert_string_equal(r.image, "x.y/z:1");
	ld_run_fini(&r);
	assert_int_equal(ld_control_list(look_for, &s, &e), 0);
	assert_int_equal(s.found, 1);
	assert_int_equal(ld_control_ask(dir, "status", &b, &e), 0);
	assert_int_equal(b.len, strlen("{\"fine\":true}"));
	/* a word that is not known gets no answer */
	b.len = 0;
	assert_true(ld_control_ask(dir, "frobnicate", &b, &e) < 0);
	buf_fini(&b);
	end_child(pid);
}

static void the_dead_are_not_found(void **state)
{
	const char *dir = test_dir("dead");
	struct search s = {.dir = dir};
	struct ld_control *c;
	struct ld_run r;
	struct err e = {0};
	struct buf b;

	end_child(serve_in_child(dir, 0));
	buf_init(&b, 16384);
	assert_int_equal(ld_control_find(dir, &r, &e), -ENOENT);
	assert_int_equal(ld_control_ask(dir, "status", &b, &e), -ENOENT);
	assert_int_equal(ld_control_list(look_for, &s, &e), 0);
	assert_int_equal(s.found, 0);
	/* and their place is free */
	assert_int_equal(ld_control_create(dir, "i", true, &c, &e), 0);
	ld_control_destroy(c);
	buf_fini(&b);
}

static void a_place_is_claimed_once(void **state)
{
	const char *dir = test_dir("twice");
	struct ld_control *c;
	struct ld_run r;
	struct err e = {0};
	pid_t pid = serve_in_child(dir, 0);

	assert_int_equal(ld_control_create(dir, "i", true, &c, &e), -EBUSY);
	assert_non_null(strstr(e.text, "already mounted"));
	/* detached: the old process serves on, under no name */
	assert_int_equal(ld_control_create(dir, "i", false, &c, &e), 0);
	assert_int_equal(ld_control_find(dir, &r, &e), 0);
	assert_false(r.is_ready);
	assert_int_equal(r.pid, getpid());
	ld_run_fini(&r);
	end_child(pid);
	ld_control_destroy(c);
	assert_int_equal(ld_control_find(dir, &r, &e), -ENOENT);
}

static void a_client_that_says_nothing_holds_nobody_up(void **state)
{
	const char *dir = test_dir("silent");
	struct ld_control *c;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct ld_run r;
	struct err e = {0};
	socklen_t n = sizeof(a);
	int fd, asked = 0, i;

	assert_int_equal(ld_control_create(dir, "i", false, &c, &e), 0);
	assert_int_equal(ld_control_listen(c, &e), 0);
	assert_int_equal(ld_control_find(dir, &r, &e), 0);
	ld_run_fini(&r);
	assert_int_equal(
		getsockname(ld_control_fd(c), (struct sockaddr *)&a, &n), 0);
	for (i = 0; i < 2; i++) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(
			connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
		/* nothing, then more than any word has */
		for (n = 0; i == 1 && n < 20; n++)
			assert_int_equal(write(fd, "0123456789", 10), 10);
		ld_control_serve(c, answer, &asked);
		(void)close(fd);
	}
	assert_int_equal(asked, 0);
	/* and nobody there at all */
	ld_control_serve(c, answer, &asked);
	ld_control_destroy(c);
}

static void paths_are_resolved(void **state)
{
	char path[4096];
	struct err e = {0};

	assert_int_equal(ld_control_resolve("/usr/../usr/./bin/", path, &e), 0);
	assert_string_equal(path, "/usr/bin");
	assert_int_equal(ld_control_resolve("/no/such", path, &e), -ENOENT);
	assert_int_equal(ld_control_resolve("/etc/passwd", path, &e), -ENOTDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_parent_returns_when_the_child_is_ready),
		cmocka_unit_test(the_parent_gets_the_child_s_error),
		cmocka_unit_test(a_child_that_dies_silently_is_an_error),
		cmocka_unit_test(the_service_manager_is_told),
		cmocka_unit_test(privileges_are_gone_for_good),
		cmocka_unit_test(a_mount_is_found_and_asked),
		cmocka_unit_test(the_dead_are_not_found),
		cmocka_unit_test(a_place_is_claimed_once),
		cmocka_unit_test(a_client_that_says_nothing_holds_nobody_up),
		cmocka_unit_test(paths_are_resolved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
