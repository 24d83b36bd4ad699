/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to do after an answer or a failure, and how long to wait. PURE: the
 * caller gives time and randomness.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BC_RETRY_BASE_MS 100
#define BC_RETRY_CAP_MS 5000
/* How long servers that answer, but badly, are asked again at least. */
#define BC_RETRY_FLOOR_MS 10000
/* How long a server that reports an error of its own is asked at most. */
#define BC_RETRY_FAULT_MS 60000

enum bc_verdict {
	BC_ANSWER_OK,           /* 2xx */
	BC_ANSWER_REDIRECT,     /* 301, 302, 303, 307, 308 */
	BC_ANSWER_UNAUTHORIZED, /* 401 */
	BC_ANSWER_FORBIDDEN,    /* 403 */
	BC_ANSWER_MISSING,      /* 404 */
	BC_ANSWER_GONE, /* 400, 410: what an expired signed URL gives too */
	BC_ANSWER_BAD_RANGE, /* 416 */
	BC_ANSWER_BUSY,  /* 429, 503; 502, 504: who stands before it waits */
	BC_ANSWER_FAULT, /* 408, other 5xx */
	BC_ANSWER_ODD,   /* any other status */
	BC_FAIL_REACH,   /* no connection */
	BC_FAIL_BROKE,   /* the connection ended or stalled */
	BC_FAIL_TLS,     /* no TLS with that server */
	BC_FAIL_TRUST,   /* its certificate is not trusted */
	BC_FAIL_PROTO,   /* the answer breaks HTTP or our request */
	BC_FAIL_HERE,    /* no memory, cancelled */
};

/* result and status as in struct bc_transfer. */
enum bc_verdict bc_retry_judge(int result, long status);

/* Worth trying the same thing again after a while? */
bool bc_verdict_is_transient(enum bc_verdict v);

/*
 * The wait before try number attempt (1: the first repetition): full jitter
 * over a doubling range, at least retry_after_ms. random: any 32 bits.
 */
uint64_t bc_retry_delay_ms(
	unsigned attempt, uint64_t retry_after_ms, uint32_t random);

/*
 * May we wait delay_ms more, elapsed_ms after the first failure in a row?
 * offline_ms: the policy (UINT32_MAX: for ever).
 */
bool bc_retry_may(enum bc_verdict v, uint64_t elapsed_ms, uint64_t delay_ms,
	uint32_t offline_ms);
