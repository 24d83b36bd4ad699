/* SPDX-License-Identifier: Apache-2.0 */
/* Fork, report, privileges; see daemon.h. */
#include "loader/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"

#define MAX_FDS 65536

/* ---- descriptors ---- */

void ld_daemon_fill_std_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		(void)close(fd);
}

static void null_fd(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return; /* a /dev without null: what is open stays open */
	(void)dup2(null, fd);
	if (null != fd)
		(void)close(null);
}

void ld_daemon_null_std_fds(void)
{
	null_fd(STDIN_FILENO);
	null_fd(STDOUT_FILENO);
	null_fd(STDERR_FILENO);
}

/* ---- fork and report ---- */

/* What crosses the pipe; code 0 means ready. */
static int send_report(int fd, const struct err *e)
{
	ssize_t n;

	do
		n = write(fd, e, sizeof(*e)); /* atomic: less than PIPE_BUF */
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*e) ? 0 : -EIO;
}

static int wait_for_child(pid_t pid, struct err *e)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD,
			"the daemon was ended by signal %d before it was ready",
			WTERMSIG(status));
	return err_set(e, -ECHILD,
		"the daemon ended before it was ready, see its log");
}

static void end_signals(sigset_t *s)
{
	(void)sigemptyset(s);
	(void)sigaddset(s, SIGINT);
	(void)sigaddset(s, SIGTERM);
	(void)sigaddset(s, SIGHUP);
}

/* The number of the signal that waits, 0: none. */
static int take_signal(int signal_fd)
{
	struct signalfd_siginfo info;

	if (read(signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	return (int)info.ssi_signo;
}

/*
 * Until fd has something to read. A signal is passed on; the first one asks the
 * daemon to end, which closes fd. *ret_signal is that one.
 */
static void wait_for_fd(int fd, int signal_fd, pid_t pid, int *ret_signal)
{
	struct pollfd p[] = {
		{.fd = fd, .events = POLLIN},
		{.fd = signal_fd, .events = POLLIN},
	};
	int n;

	do {
		p[0].revents = p[1].revents = 0;
		(void)poll(p, ARRAY_LEN(p), -1); /* EINTR: once more */
		n = p[1].revents ? take_signal(signal_fd) : 0;
		if (n != 0)
			(void)kill(pid, *ret_signal ? SIGKILL : SIGTERM);
		if (n != 0 && *ret_signal == 0)
			*ret_signal = n;
	} while (!p[0].revents);
}

static int wait_for_report(int fd, pid_t pid, struct err *e)
{
	struct err report = {0};
	ssize_t n;

	do
		n = read(fd, &report, sizeof(report));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(report))
		return wait_for_child(pid, e);
	if (report.code == 0)
		return 1;
	report.text[sizeof(report.text) - 1] = '\0';
	if (e)
		*e = report;
	return report.code;
}

/*
 * The parent's part. Who ends the command finds nothing left of it when it has
 * ended: the daemon ends first. The signals are blocked.
 */
static int wait_for_daemon(int fd, pid_t pid, struct err *e)
{
	CLEANUP_FD int signal_fd = -1;
	int ret, by_signal = 0;
	sigset_t s;

	end_signals(&s);
	signal_fd = signalfd(-1, &s, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd >= 0)
		wait_for_fd(fd, signal_fd, pid, &by_signal);
	ret = wait_for_report(fd, pid, e);
	if (by_signal == 0)
		return ret;
	if (ret == 1)
		(void)wait_for_child(pid, NULL); /* it unmounts, and ends */
	(void)raise(by_signal); /* when it is let through, we end as asked */
	return ret;
}

/* Whoever ends the command before it is done ends the daemon with it. */
static void die_with(pid_t parent)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != parent)
		(void)raise(SIGTERM); /* it was faster */
}

static void become_daemon(int report_fd)
{
	(void)setsid();    /* fails only for a group leader, which we are not */
	(void)umask(0077); /* sockets and run files are for their owner */
	if (chdir("/") < 0)
		return; /* keeps some directory busy, nothing worse */
	null_fd(STDIN_FILENO);
	null_fd(STDOUT_FILENO);
	if (report_fd > STDERR_FILENO + 1)
		(void)close_range(
			STDERR_FILENO + 1, (unsigned)report_fd - 1, 0);
	(void)close_range((unsigned)report_fd + 1, ~0u, 0);
}

int ld_daemon_fork(struct ld_daemon *ret, struct err *e)
{
	pid_t pid, parent = getpid();
	sigset_t ends, before;
	int fds[2], result;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot make a pipe");
	(void)fflush(NULL);
	end_signals(&ends);
	(void)sigprocmask(SIG_BLOCK, &ends, &before);
	pid = fork();
	if (pid <= 0)
		(void)sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		result = err_sys(e, -errno, "cannot start the daemon");
		(void)close(fds[0]);
		(void)close(fds[1]);
		return result;
	}
	if (pid == 0) {
		(void)close(fds[0]);
		die_with(parent);
		become_daemon(fds[1]);
		ret->report_fd = fds[1];
		return 0;
	}
	(void)close(fds[1]);
	result = wait_for_daemon(fds[0], pid, e);
	(void)close(fds[0]);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return result;
}

void ld_daemon_stay(struct ld_daemon *ret)
{
	ret->report_fd = -1;
}

/* sd_notify(3), its protocol: one datagram to $NOTIFY_SOCKET. */
static void notify_service_manager(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = -1;
	char text[64];
	size_t n;

	if (!path || (path[0] != '/' && path[0] != '@'))
		return;
	n = strlen(path);
	if (n >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, n);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)snprintf(
		text, sizeof(text), "READY=1\nMAINPID=%ld", (long)getpid());
	/* a manager that does not listen waits for its time-out */
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL,
		(struct sockaddr *)&to,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

void ld_daemon_ready(struct ld_daemon *d)
{
	struct err ok = {0};

	notify_service_manager();
	/* what we start later must not speak for us */
	(void)unsetenv("NOTIFY_SOCKET");
	if (d->report_fd < 0)
		return;
	null_fd(STDERR_FILENO);
	(void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	(void)send_report(d->report_fd, &ok); /* it has just died: mounted */
	(void)close(d->report_fd);
	d->report_fd = -1;
}

void ld_daemon_fail(struct ld_daemon *d, const struct err *e)
{
	struct err report = *e;

	if (d->report_fd < 0)
		return;
	if (report.code == 0)
		report.code = -EIO;
	(void)send_report(d->report_fd, &report);
	(void)close(d->report_fd);
	d->report_fd = -1;
}

/* ---- privileges ---- */

/* The two 32-bit halves of the kernel's version 3. */
struct caps {
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct half[2];
};

static int reduce_capabilities(struct err *e)
{
	static const uint64_t keep = UINT64_C(1) << CAP_DAC_READ_SEARCH;
	struct caps c = {.head.version = _LINUX_CAPABILITY_VERSION_3};
	unsigned i;

	if (syscall(SYS_capget, &c.head, c.half) < 0)
		return err_sys(e, -errno, "cannot read the capabilities");
	/* without the right to, there is none to gain either */
	for (i = 0; i < 64; i++)
		if (!(keep >> i & 1) && prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			(void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (i = 0; i < 2; i++) {
		c.half[i].permitted &= (uint32_t)(keep >> 32 * i);
		c.half[i].effective = c.half[i].permitted;
		c.half[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &c.head, c.half) < 0)
		return err_sys(e, -errno, "cannot give up capabilities");
	return 0;
}

/* Many blobs, many files; nothing is lost if it is not allowed. */
void ld_daemon_allow_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur >= MAX_FDS)
		return;
	r.rlim_cur = r.rlim_max < MAX_FDS ? r.rlim_max : MAX_FDS;
	(void)setrlimit(RLIMIT_NOFILE, &r);
}

int ld_daemon_drop_privileges(struct err *e)
{
	int ret;

	ld_daemon_allow_descriptors();
	ret = reduce_capabilities(e);
	if (ret < 0)
		return ret;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, -errno, "cannot give up privileges");
	return 0;
}
