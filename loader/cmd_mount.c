/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount: from the command line to a served mount, and its end.
 *
 *   parse, resolve DIR -> fork -> mounter -> claim DIR -> privileges down
 *   -> cache, runtime, network -> image -> mount -> serve -> ready
 *
 * Until "ready" every failure goes back to the user as one sentence, with
 * nothing left mounted. Afterwards the main thread waits for the end of the
 * mount, for signals and for clients of the control socket.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "loader/cmd.h"
#include "loader/control.h"
#include "loader/daemon.h"
#include "loader/driver.h"
#include "loader/fetch.h"
#include "loader/imageref.h"
#include "loader/json.h"
#include "loader/mount.h"
#include "loader/prefetch.h"
#include "loader/progress.h"
#include "loader/status.h"
#include "loader/work.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define LOG_TOPIC "mount"
#define MAX_STATUS (16u << 20)

struct mount {
	struct ld_cli *cli;
	struct ld_ref ref;
	char dir[4096]; /* resolved */
	struct ld_daemon daemon;
	struct ld_mounter mounter;
	struct ld_control *control;
	struct ld_transport_plan plan;
	struct ld_work work;
	struct ld_image image;
	struct ld_prefetch *prefetch;
	struct ld_driven driven;
	struct ld_fetch *fetch;
	bool has_image, is_mounted;
	bool is_left; /* the mount needs no process, this one ends */
	int signal_fd, epoll_fd;
};

/* ---- before the fork ---- */

static int resolve_dir(struct mount *m, struct err *e)
{
	const char *dir = m->cli->args[1];
	int ret;

	ret = ld_control_resolve(dir, m->dir, e);
	if (ret == -ENOENT)
		return err_set(e, ret,
			"the mount point '%s' does not exist, make it first",
			dir);
	if (ret == -ENOTDIR)
		return err_set(
			e, ret, "the mount point '%s' is no directory", dir);
	return ret;
}

/* Before anything is asked for. By "auto" either driver has to take them. */
static int check_options(const struct ld_cli *c, struct err *e)
{
	const char *opts = (const char *)c->mount_opts.data;

	if (c->driver == LD_DRIVER_EROFS)
		return ld_erofs_check_options(opts, e);
	return ld_mount_check_options(opts, e);
}

/* ---- signals ---- */

static void end_signals(sigset_t *s)
{
	(void)sigemptyset(s);
	(void)sigaddset(s, SIGINT);
	(void)sigaddset(s, SIGTERM);
	(void)sigaddset(s, SIGHUP);
}

/*
 * Blocked from the start, so that no thread inherits them. While the image is
 * prepared they end the process at once: there is nothing to clean up then,
 * the cache is made for that.
 */
static void let_signals_end_us(bool on)
{
	sigset_t s;

	end_signals(&s);
	(void)sigprocmask(on ? SIG_UNBLOCK : SIG_BLOCK, &s, NULL);
}

static int watch(int epoll_fd, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int start_watching(struct mount *m, struct err *e)
{
	sigset_t s;
	int ret;

	end_signals(&s);
	m->signal_fd = signalfd(-1, &s, SFD_CLOEXEC | SFD_NONBLOCK);
	m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (m->signal_fd < 0 || m->epoll_fd < 0)
		return err_sys(e, -errno, "cannot watch for signals");
	ret = watch(m->epoll_fd, m->signal_fd);
	if (ret == 0)
		ret = watch(m->epoll_fd, ld_control_fd(m->control));
	if (ret < 0)
		return err_sys(e, ret, "cannot watch for signals");
	return 0;
}

/* ---- start ---- */

static int open_log(struct mount *m, struct err *e)
{
	const struct ld_cli *c = m->cli;
	enum log_level echo = c->quiet ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN;
	int ret = 0;

	ld_work_log(c);
	if (c->log)
		ret = log_open(LOG_SINK_FILE, c->log);
	else if (!c->foreground)
		ret = log_open(LOG_SINK_SYSLOG, NULL);
	if (ret < 0)
		return err_sys(e, ret, "cannot open the log '%s'", c->log);
	if (c->foreground && !c->log)
		return 0;
	/* a file is read when something is to be found out: say more there */
	if (!c->verbose && !c->quiet)
		log_set_level(LOG_LEVEL_INFO);
	log_echo(true, echo);
	return 0;
}

static int mount_it(struct mount *m, struct err *e)
{
	struct ld_driver_options o = {
		.want = m->cli->driver,
		.mounter = &m->mounter,
		.store = m->work.store,
		.mount.dir = m->dir,
		.mount.source = m->image.name,
		.mount.opts = (const char *)m->cli->mount_opts.data,
		.mount.stale = ld_control_stale(m->control),
		.watch_reads = m->cli->record != NULL,
		.session.rt = m->work.rt,
		.session.image = &m->image,
		.session.plan = &m->plan,
	};
	int ret;

	ret = ld_driver_mount(&o, &m->driven, e);
	m->is_mounted = m->driven.is_mounted;
	if (ret == 0)
		ld_control_set_mount(m->control, &m->driven.id);
	return ret;
}

static int prepare_image(struct mount *m, struct err *e)
{
	struct ld_progress progress;
	struct ld_image_options o;
	int ret;

	ld_work_image_options(m->cli, &o);
	/* paths in it begin where the command was given, not the daemon */
	o.ref = &m->ref;
	ld_progress_init(&progress, m->cli->quiet);
	o.progress = &progress;
	ld_progress_let_signals_end(&progress);
	let_signals_end_us(true);
	ret = ld_image_prepare(
		&o, m->work.rt, m->work.net, m->work.store, &m->image, e);
	let_signals_end_us(false);
	mem_trim(); /* tables of contents are large */
	ld_progress_fini(&progress);
	m->has_image = ret == 0;
	return ret;
}

/* shown: of a complete image, or NULL. */
static json_t *status_json(struct mount *m, const uint64_t *shown)
{
	struct ld_status_of s = {
		.image = &m->image,
		.session = m->driven.session,
		.rt = m->work.rt,
		.net = m->work.net,
		.shown = shown,
		.driver = m->driven.name,
		.driver_reason = m->driven.reason,
		.transport_reason =
			"the image is complete, the kernel reads it alone",
	};

	if (m->driven.session)
		s.transport = ld_transport_name(ld_session_transport(
			m->driven.session, &s.transport_reason));
	return ld_status_json(&s);
}

/* The kernel has all it needs: the run file speaks for the mount from now on.
 */
static int leave(struct mount *m, struct err *e)
{
	CLEANUP_FREE uint64_t *shown = NULL;
	struct buf b;
	json_t *o;
	int ret;

	shown = mem_calloc(m->image.blob_count + 1, sizeof(*shown));
	if (!shown || ld_image_shown_bytes(&m->image, m->work.store, shown) < 0)
		o = status_json(m, NULL);
	else
		o = status_json(m, shown);

	buf_init(&b, MAX_STATUS);
	ret = ld_status_forget_process(o);
	if (ret == 0)
		ret = ld_json_write(o, JSON_COMPACT, &b);
	json_decref(o);
	if (ret < 0)
		(void)err_sys(e, ret, "cannot write down what was mounted");
	else
		ret = ld_control_leave(m->control, &b, e);
	buf_fini(&b);
	m->is_left = ret == 0;
	return ret;
}

/* Before the mount: nobody can ask earlier. */
static int start_prefetch(struct mount *m, struct err *e)
{
	const struct ld_prefetch_options o = {
		.rt = m->work.rt,
		.store = m->work.store,
		.image = &m->image,
		.what = m->cli->prefetch,
		.from = m->cli->prefetch_from,
		.record = m->cli->record,
		.rate = m->cli->prefetch_rate,
	};

	return ld_prefetch_start(&o, &m->prefetch, e);
}

static int start(struct mount *m, struct err *e)
{
	int ret;

	let_signals_end_us(false);
	ret = open_log(m, e);
	if (ret == 0)
		ret = ld_mounter_start(&m->mounter, e);
	if (ret == 0)
		ret = ld_control_create(m->dir, m->ref.canonical,
			ld_control_is_ours(m->dir), &m->control, e);
	if (ret == 0)
		ret = ld_daemon_drop_privileges(e);
	if (ret == 0)
		ret = ld_transport_decide(m->cli->transport, m->cli->backend,
			m->cli->workers, &m->plan, e);
	if (ret == 0)
		ret = ld_work_start(&m->work, m->cli, &m->plan, e);
	if (ret == 0)
		ret = prepare_image(m, e);
	if (ret == 0)
		ret = start_prefetch(m, e);
	if (ret == 0)
		ret = mount_it(m, e);
	if (ret == 0 && !m->driven.session && !m->cli->foreground)
		return leave(m, e);
	if (ret == 0)
		ret = ld_fetch_create(m->work.rt, &m->image, &m->fetch, e);
	if (ret == 0)
		ret = ld_control_listen(m->control, e);
	if (ret == 0)
		ret = start_watching(m, e);
	return ret;
}

/* ---- serve ---- */

static void answer(void *arg, const char *word, struct buf *out)
{
	struct mount *m = arg;
	json_t *o;

	if (ld_fetch_answer(m->fetch, word, out) || strcmp(word, "status") != 0)
		return;
	o = status_json(arg, NULL);
	(void)ld_json_write(o, JSON_COMPACT, out); /* else empty: no answer */
	json_decref(o);
}

static void unmount_for_signal(struct mount *m)
{
	struct signalfd_siginfo info;
	struct err e = {0};

	if (read(m->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	log_info("got signal %u, unmounting '%s'", info.ssi_signo, m->dir);
	/* the kernel does not let go of an EROFS while reads of it wait */
	if (m->driven.id.id)
		ld_driver_stop(&m->driven);
	if (ld_mounter_unmount(&m->mounter, m->dir, true, &e) < 0)
		log_warn("%s, ending anyway", e.text);
	m->is_mounted = false;
}

/* Until the kernel has ended the connection or a signal came. */
static void serve(struct mount *m)
{
	struct epoll_event ev;

	while (m->is_mounted &&
		ld_driver_wait(&m->driven, m->work.net, m->epoll_fd) == 1) {
		if (epoll_wait(m->epoll_fd, &ev, 1, 0) != 1)
			continue;
		if (ev.data.fd == m->signal_fd)
			unmount_for_signal(m);
		else
			ld_control_serve(m->control, answer, m);
	}
	if (m->is_mounted)
		log_info("'%s' was unmounted", m->dir);
	m->is_mounted = false;
}

/* ---- end ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

/* In the order opposite to start; copes with any part of it. */
static void finish(struct mount *m)
{
	struct err e = {0};

	if (m->driven.id.id)
		ld_driver_stop(&m->driven);
	if (m->is_mounted && !m->is_left &&
		ld_mounter_unmount(&m->mounter, m->dir, true, &e) < 0)
		log_warn("%s", e.text);
	ld_driver_stop(&m->driven);
	ld_prefetch_stop(m->prefetch);
	ld_fetch_destroy(m->fetch);
	if (m->has_image)
		ld_image_fini(&m->image);
	ld_work_stop(&m->work);
	close_fd(&m->epoll_fd);
	close_fd(&m->signal_fd);
	ld_control_destroy(m->control);
	ld_mounter_stop(&m->mounter);
}

/* The daemon's whole life. What it returns has been said already. */
static int run(struct mount *m, struct err *e)
{
	int ret;

	ret = start(m, e);
	if (ret == 0) {
		log_info("'%s' is mounted at '%s'", m->image.name, m->dir);
		log_echo(false, LOG_LEVEL_ERROR);
		/* who waits for "ready" shall find no process then */
		if (m->is_left)
			finish(m);
		ld_daemon_ready(&m->daemon);
		if (m->is_left)
			return 0;
		serve(m);
	} else {
		log_echo(false, LOG_LEVEL_ERROR);
		if (!m->cli->foreground || m->cli->log)
			log_error("%s", e->text);
	}
	finish(m);
	if (ret < 0 && !m->cli->foreground) {
		ld_daemon_fail(&m->daemon, e);
		e->text[0] = '\0';
	}
	return ret;
}

int ld_cmd_mount(struct ld_cli *c, struct err *e)
{
	struct mount m = {.cli = c,
		.daemon.report_fd = -1,
		.mounter.fd = -1,
		.signal_fd = -1,
		.epoll_fd = -1};
	int ret;

	ret = ld_ref_parse(c->args[0], &m.ref, e);
	if (ret == 0)
		ret = check_options(c, e);
	if (ret == 0)
		ret = resolve_dir(&m, e);
	if (ret < 0 || c->dry_run)
		return ret;
	if (c->foreground) {
		ld_daemon_stay(&m.daemon);
		return run(&m, e);
	}
	ret = ld_daemon_fork(&m.daemon, e);
	if (ret != 0)
		return ret < 0 ? ret : 0; /* the parent */
	return run(&m, e);
}
