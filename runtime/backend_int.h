/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine, and why. */
#pragma once

#include <stdbool.h>

#include "runtime/base/err.h"

struct rt;

/* Set rt->backend and rt->reason from rt->opt. INIT_ONLY. */
int rt_backend_choose(struct rt *rt, struct err *e);
/*
 * A ring could not be made after all (why says it). True: the runtime goes on
 * with threads; false: it was told to use uring, or has threads already.
 */
bool rt_backend_give_up_uring(struct rt *rt, const struct err *why);
