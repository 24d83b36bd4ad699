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
#define LOOK_AGAIN_MS 1000 /* where changes of mounts are not told */

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

	if (rc == 0 && ret->session)
		ld_readahead_widen(o->mount.dir, o->session.image);
	return rc;
}

/* Nobody tells of this one's end but the list of all mounts. */
static int wait_for_mounts(const struct ld_driven *d, int fd)
{
	struct pollfd p[2] = {
		{.fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC),
			.events = POLLPRI},
		{.fd = fd, .events = POLLIN},
	};
	int rc = -1;

	while (rc < 0) {
		if (ld_mountinfo_has(NULL, d->id.dev_major, d->id.dev_minor) ==
			0)
			rc = 0;
		else if (poll(p, 2, p[0].fd < 0 ? LOOK_AGAIN_MS : -1) > 0 &&
			 p[1].revents)
			rc = 1;
	}
	if (p[0].fd >= 0)
		(void)close(p[0].fd); /* only read */
	return rc;
}

int ld_driver_wait(const struct ld_driven *d, int fd)
{
	if (d->session)
		return ld_session_wait(d->session, fd);
	return wait_for_mounts(d, fd);
}

void ld_driver_stop(struct ld_driven *d)
{
	if (!d->session)
		return;
	ld_session_stop(d->session);
	ld_session_destroy(d->session);
	d->session = NULL;
}
