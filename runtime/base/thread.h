/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which thread may call a function, written at its prototype, or once in the
 * head of a header for all that says nothing else.
 *
 * The words are documentation that can be searched for; the run-time side is
 * rt_worker_assert(), which callbacks call first.
 */
#pragma once

#define ON_WORKER  /* the worker that owns the object, inside its loop */
#define ANY_THREAD /* from everywhere */
#define INIT_ONLY  /* one thread: before start or after stop */
#define IN_JOB     /* a job thread; touches the job's own data only */
#define ON_NET     /* the net thread */
#define BLOCKING   /* may sleep for long: never on a worker or the net thread */
#define ONE_THREAD /* any, but for one object no two at a time */
#define PURE       /* of its arguments alone: any thread, no I/O, no clock */
