/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a credential helper.
 *
 * posix_spawn is safe in a process with threads. The helper is a stranger: its
 * output is capped, it is killed after a time, and children of its own that
 * keep the pipe open are not waited for.
 */
#include "blobcache/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define POLL_MS 50

extern char **environ;

struct child {
	pid_t pid;
	int in, out; /* our ends; -1: closed */
	uint64_t deadline_ms;
	const atomic_bool *stop;
};

static int spawn_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	if (posix_spawnattr_setsigmask(attr, &none) != 0 ||
		posix_spawnattr_setsigdefault(attr, &all) != 0 ||
		posix_spawnattr_setpgroup(attr, 0) != 0 ||
		posix_spawnattr_setflags(
			attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
				      POSIX_SPAWN_SETPGROUP) != 0)
		return -EINVAL;
	return 0;
}

static int spawn_actions(posix_spawn_file_actions_t *fa, int in, int out)
{
	if (posix_spawn_file_actions_adddup2(fa, in, 0) != 0 ||
		posix_spawn_file_actions_adddup2(fa, out, 1) != 0 ||
		posix_spawn_file_actions_addopen(
			fa, 2, "/dev/null", O_WRONLY, 0) != 0 ||
		posix_spawn_file_actions_addclosefrom_np(fa, 3) != 0)
		return -ENOMEM;
	return 0;
}

static int spawn(const char *program, int in, int out, pid_t *ret)
{
	char verb[] = "get";
	char *argv[] = {(char *)program, verb, NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int rc;

	if (posix_spawn_file_actions_init(&fa) != 0)
		return -ENOMEM;
	if (posix_spawnattr_init(&attr) != 0) {
		(void)posix_spawn_file_actions_destroy(&fa);
		return -ENOMEM;
	}
	rc = spawn_attributes(&attr);
	if (rc == 0)
		rc = spawn_actions(&fa, in, out);
	if (rc == 0)
		rc = -posix_spawnp(ret, program, &fa, &attr, argv, environ);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&fa);
	return rc;
}

/* Pipe ends above the numbers that become the child's 0 and 1. */
static int make_pipe(int fd[2])
{
	int raw[2];

	if (pipe2(raw, O_CLOEXEC) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		fd[i] = fcntl(raw[i], F_DUPFD_CLOEXEC, 3);
		(void)close(raw[i]); /* nothing was written */
	}
	if (fd[0] >= 0 && fd[1] >= 0)
		return 0;
	if (fd[0] >= 0)
		(void)close(fd[0]);
	if (fd[1] >= 0)
		(void)close(fd[1]);
	return -EMFILE;
}

static int child_start(struct child *c, const char *program)
{
	int to[2], from[2], rc = make_pipe(to);

	if (rc < 0)
		return rc;
	rc = make_pipe(from);
	if (rc < 0) {
		(void)close(to[0]);
		(void)close(to[1]);
		return rc;
	}
	rc = spawn(program, to[0], from[1], &c->pid);
	(void)close(to[0]);
	(void)close(from[1]);
	c->in = to[1];
	c->out = from[0];
	if (rc < 0) {
		(void)close(c->in);
		(void)close(c->out);
		return rc;
	}
	(void)fcntl(c->in, F_SETFL, O_NONBLOCK);
	(void)fcntl(c->out, F_SETFL, O_NONBLOCK);
	return 0;
}

/* 0: go on. */
static int child_is_late(const struct child *c)
{
	if (c->stop && atomic_load(c->stop))
		return -ECANCELED;
	return clock_ms() >= c->deadline_ms ? -ETIMEDOUT : 0;
}

/* A pipe's buffer is larger than any server name: one write does it. */
static int child_tell(struct child *c, const char *server)
{
	size_t n = strlen(server);
	ssize_t got;

	/* The caller's thread has SIGPIPE blocked. */
	got = write(c->in, server, n);
	(void)close(c->in);
	c->in = -1;
	/* One that does not read its input may still answer. */
	return got < 0 && errno != EPIPE ? -errno : 0;
}

/* Read until the end of its output, or until it is late. */
static int child_read(struct child *c, struct buf *out)
{
	struct pollfd p = {.fd = c->out, .events = POLLIN};
	char part[4096];
	ssize_t n;
	int rc;

	for (;;) {
		rc = child_is_late(c);
		if (rc < 0)
			return rc;
		if (poll(&p, 1, POLL_MS) == 0)
			continue;
		n = read(c->out, part, sizeof(part));
		if (n == 0)
			return 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0)
			rc = buf_append(out, part, (size_t)n);
		explicit_bzero(part, sizeof(part));
		if (rc < 0)
			return rc;
	}
}

/* Its exit status, or it is late. */
static int child_wait(struct child *c, int *ret_status)
{
	int rc;
	pid_t p;

	for (;;) {
		p = waitpid(c->pid, ret_status, WNOHANG);
		if (p == c->pid)
			return 0;
		if (p < 0 && errno != EINTR)
			return -errno;
		rc = child_is_late(c);
		if (rc < 0)
			return rc;
		(void)poll(NULL, 0, 5);
	}
}

static void child_kill(struct child *c)
{
	int status;

	(void)kill(-c->pid, SIGKILL); /* its group: it leads one */
	(void)kill(c->pid, SIGKILL);
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		continue;
}

/* Its whole output and exit status. */
static int child_run(const char *program, const char *server,
	const atomic_bool *stop, unsigned timeout_ms, struct buf *out,
	int *ret_status)
{
	struct child c = {.deadline_ms = clock_ms() + timeout_ms, .stop = stop};
	int rc = child_start(&c, program);

	if (rc < 0)
		return rc;
	rc = child_tell(&c, server);
	if (rc == 0)
		rc = child_read(&c, out);
	(void)close(c.out); /* only read from */
	if (rc == 0)
		rc = child_wait(&c, ret_status);
	if (rc < 0)
		child_kill(&c);
	return rc;
}

static int take_answer(const char *program, struct buf *out, int status,
	struct bc_credentials *ret, struct err *e)
{
	static const char none[] = "credentials not found";

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		if (bc_helper_answer_parse(
			    (const char *)out->data, out->len, ret) == 0)
			return 0;
		return err_set(e, -EPROTO,
			"credential helper '%s' gave an answer that is none",
			program);
	}
	if (out->len && memmem(out->data, out->len, none, strlen(none)))
		return err_set(e, -ENOKEY,
			"credential helper '%s' knows nothing of this registry",
			program);
	return err_set(e, -EIO, "credential helper '%s' failed (status %d)",
		program, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

int bc_helper_get(const char *suffix, const char *server,
	const atomic_bool *stop, unsigned timeout_ms,
	struct bc_credentials *ret, struct err *e)
{
	CLEANUP_FREE char *program = NULL;
	struct buf out;
	int rc, status = 0;

	if (!bc_helper_name_is_ok(suffix))
		return err_set(e, -EPROTO,
			"'%s' is not the name of a credential helper", suffix);
	program = mem_printf("docker-credential-%s", suffix);
	if (!program)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&out, BC_AUTH_FILE_MAX);
	rc = child_run(program, server, stop, timeout_ms, &out, &status);
	if (rc < 0)
		rc = err_sys(
			e, rc, "cannot ask credential helper '%s'", program);
	else
		rc = take_answer(program, &out, status, ret, e);
	if (out.data)
		explicit_bzero(out.data, out.len);
	buf_fini(&out);
	return rc;
}
