/* SPDX-License-Identifier: Apache-2.0 */
/* Which driver, and what is the same for both; see driver.h. */
#include "loader/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "loader/readahead.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "driver"
#define LOOK_AGAIN_MS 1000

static int mount_fuse(
	const struct ld_driver_options *o, struct ld_driven *ret, struct err *e)
{
	struct ld_session_options s = o->session;
	int rc;

	rc = ld_mounter_mount(o->mounter, &o->mount, &s.fuse_fd, e);
	if (rc < 0)
		return rc;
	ret->name = "fuse";
	ret->is_mounted = true;
	return ld_session_start(&s, &ret->session, e);
}

static void say(struct ld_driven *d, const char *reason)
{
	(void)snprintf(d->reason, sizeof(d->reason), "%s", reason);
}

static int mount_by_driver(
	const struct ld_driver_options *o, struct ld_driven *ret, struct err *e)
{
	struct err why = {0};
	int rc;

	*ret = (struct ld_driven){0};
	if (o->want == LD_DRIVER_FUSE) {
		say(ret, "asked for");
		return mount_fuse(o, ret, e);
	}
	/*
	 * Its run file goes with the container: were it killed, nobody could
	 * tell that mount from a foreign one.
	 */
	if (o->want == LD_DRIVER_AUTO && getpid() == 1)
		rc = err_set_kind(&why, ERR_UNSUPPORTED, -EOPNOTSUPP,
			"as a container's first process, which may leave a "
			"dead mount behind that only FUSE can tell");
	else
		rc = ld_driver_erofs_mount(o, ret, &why);
	if (rc == 0) {
		say(ret, o->want == LD_DRIVER_EROFS
				 ? "asked for"
				 : "the kernel can mount the index");
		return 0;
	}
	if (o->want == LD_DRIVER_EROFS) {
		if (e)
			*e = why;
		return rc;
	}
	log_info("not by the driver 'erofs': %s", why.text);
	say(ret, why.text);
	return mount_fuse(o, ret, e);
}

int ld_driver_mount(
	const struct ld_driver_options *o, struct ld_driven *ret, struct err *e)
{
	int rc = mount_by_driver(o, ret, e);

	/* that of an EROFS the mounter has widened */
	if (rc == 0 && ret->session && !ret->id.id)
		ld_readahead_widen(o->mount.dir, o->session.image);
	return rc;
}

static bool is_gone(const struct ld_driven *d)
{
	return ld_mountinfo_has(NULL, d->id.dev_major, d->id.dev_minor) == 0;
}

/*
 * Unmounting an EROFS waits for the reads that are under way, also for those
 * whose readers were killed: with the network gone, for ever.
 */
static void free_unmount(const struct ld_driven *d, struct bc_net *net)
{
	struct bc_net_stats s;

	bc_net_stats(net, &s);
	if (s.offline)
		ld_session_cancel(d->session);
}

int ld_driver_wait(const struct ld_driven *d, struct bc_net *net, int fd)
{
	struct pollfd p[3] = {
		{.fd = d->session ? ld_session_ended_fd(d->session) : -1,
			.events = POLLIN},
		{.fd = fd, .events = POLLIN},
		{.fd = -1, .events = POLLPRI},
	};
	int rc = -1, again;

	if (!d->id.id)
		return ld_session_wait(d->session, fd);
	p[2].fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	while (rc < 0) {
		again = p[2].fd < 0 ? LOOK_AGAIN_MS : -1;
		if (is_gone(d) && !d->session) {
			rc = 0;
			break;
		}
		if (is_gone(d)) {
			free_unmount(d, net);
			again = LOOK_AGAIN_MS;
		}
		if (poll(p, 3, again) <= 0)
			continue; /* EINTR, or time to look again */
		if (p[0].revents)
			rc = 0;
		else if (p[1].revents)
			rc = 1;
	}
	if (p[2].fd >= 0)
		(void)close(p[2].fd); /* only read */
	return rc;
}

void ld_driver_stop(struct ld_driven *d)
{
	if (!d->session)
		return;
	ld_session_stop(d->session);
	ld_session_destroy(d->session);
	d->session = NULL;
}
