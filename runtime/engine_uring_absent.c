/* SPDX-License-Identifier: Apache-2.0 */
/* In place of the uring engine in a build without liburing. */
#include <errno.h>

#include "runtime/engine.h"

static int absent_create(struct rt_worker *w, struct err *e)
{
	return err_set(e, -EOPNOTSUPP, "this build has no io_uring");
}

const struct rt_engine_ops rt_engine_uring = {.create = absent_create};

int rt_uring_probe(unsigned depth, const char *dir, struct rt_uring_trial *ret,
	struct err *e)
{
	return err_set(e, -EOPNOTSUPP, "this build has no io_uring");
}
