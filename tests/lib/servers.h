/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real servers for tests: a child process each, on free loopback ports, killed
 * with the test. Start them before any thread.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct server {
	pid_t pid; /* 0: not running */
	int in;    /* its standard input: it ends when this is closed */
	int port[3];
	char crt[256]; /* the fault server's TLS certificate */
};

/* A port that was free a moment ago. */
static inline int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	(void)close(fd);
	return ntohs(a.sin_port);
}

/* Start argv; *ret_out is its standard output when that is asked for. */
static inline void server_spawn(
	struct server *s, char *const argv[], int *ret_out)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(in[0], 0);
		(void)dup2(ret_out ? out[1] : open("/dev/null", O_WRONLY), 1);
		if (!getenv("SLUICE_TEST_VERBOSE"))
			(void)dup2(open("/dev/null", O_WRONLY), 2);
		(void)execvp(argv[0], argv);
		_exit(127);
	}
	(void)close(in[0]);
	(void)close(out[1]);
	s->in = in[1];
	if (ret_out)
		*ret_out = out[0];
	else
		(void)close(out[0]);
}

static inline void server_stop(struct server *s)
{
	int status;

	if (s->pid == 0)
		return;
	(void)close(s->in);
	(void)kill(s->pid, SIGTERM);
	(void)waitpid(s->pid, &status, 0);
	s->pid = 0;
}

static inline bool port_answers(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc = connect(fd, (struct sockaddr *)&a, sizeof(a));

	(void)close(fd);
	return rc == 0;
}

/* Until somebody listens there; fails after 20 s. */
static inline void wait_for_port(int port)
{
	for (int i = 0; i < 2000; i++) {
		if (port_answers(port))
			return;
		(void)poll(NULL, 0, 10);
	}
	fail_msg("nothing listens on port %d", port);
}

static inline const char *source_path(const char *rel)
{
	static char path[4096];
	const char *root = getenv("SLUICE_SOURCE_ROOT");

	assert_non_null(root);
	(void)snprintf(path, sizeof(path), "%s/%s", root, rel);
	return path;
}

/* A python server of tests/lib that prints its three ports and a certificate.
 */
static inline void script_start(
	struct server *s, const char *name, char *const more[3])
{
	char path[4200], line[512];
	char *argv[] = {(char *)"/usr/bin/python3", path, more[0], more[1],
		more[2], NULL};
	int out;
	FILE *f;

	(void)snprintf(
		path, sizeof(path), "%s/%s", source_path("tests/lib"), name);
	server_spawn(s, argv, &out);
	f = fdopen(out, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	assert_int_equal(sscanf(line, "%d %d %d %255s", &s->port[0],
				 &s->port[1], &s->port[2], s->crt),
		4);
	(void)fclose(f);
}

/* tests/lib/faultserver.py; port 0: any free one. */
static inline void faultserver_start(struct server *s, int port)
{
	char text[16];
	char *const more[3] = {text};

	(void)snprintf(text, sizeof(text), "%d", port);
	script_start(s, "faultserver.py", more);
}

static inline void write_text(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
}

/* A shell command that must work. */
static inline void must_run(const char *fmt, ...)
{
	char cmd[4096];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0)
		fail_msg("'%s' failed", cmd);
}
