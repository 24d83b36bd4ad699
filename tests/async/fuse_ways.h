/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests over a real FUSE mount that run on each way into the kernel: on
 * every engine over /dev/fuse, and over io_uring where this kernel has that.
 * The kernel's setting is switched on for the time of the test; a lock on its
 * file keeps others, who do the same, from putting it back meanwhile.
 */
#pragma once

#include <sys/file.h>

#include "tests/async/fuse_world.h"

#define URING_SETTING "/sys/module/fuse/parameters/enable_uring"

/* False: this kernel has no such setting. The file stays locked. */
static inline bool uring_switch_on(void)
{
	int fd = open(URING_SETTING, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(pread(fd, &uring_before, 1, 0), 1);
	assert_int_equal(pwrite(fd, "Y", 1, 0), 1);
	uring_setting = fd;
	return true;
}

/* Call body on a runtime and a plan as the program would make them. */
static inline void on_uring_transport(unsigned n, void (*body)(struct rt *rt))
{
	static struct ld_transport_plan plan;
	struct err e = {0};
	struct rt *rt;

	if (!uring_switch_on()) {
		print_message("not run over io_uring: no " URING_SETTING "\n");
		return;
	}
	if (ld_transport_decide(
		    LD_TRANSPORT_URING, RT_BACKEND_URING, n, &plan, &e) < 0) {
		uring_switch_back();
		fail_msg("%s", e.text);
	}
	rt = engine_start(
		RT_BACKEND_URING, (struct rt_options){.workers = plan.workers,
					  .pin = true,
					  .queue_depth = 8 * plan.queue_depth});
	if (rt) {
		world_plan = &plan;
		body(rt);
		world_plan = NULL;
		engine_stop(rt);
	}
	uring_switch_back();
}

static inline void on_ways(unsigned n, void (*body)(struct rt *rt))
{
	on_engines(n, body);
	on_uring_transport(n, body);
}
