/* SPDX-License-Identifier: Apache-2.0 */
/* What the loop asks of a worker's timers. */
#pragma once

#include <stdint.h>

struct rt_worker;

/* Fire all that were due before now_ns. ON_WORKER. */
void rt_timers_run(struct rt_worker *w, uint64_t now_ns);
/* When the next one is due; UINT64_MAX: none. ON_WORKER. */
uint64_t rt_timers_due(const struct rt_worker *w);
