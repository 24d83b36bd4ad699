/* SPDX-License-Identifier: Apache-2.0 */
/* Retry policy; see retry.h. */
#include "blobcache/retry.h"

#include <errno.h>

#include "runtime/base/util.h"

static enum bc_verdict judge_failure(int result)
{
	switch (result) {
	case -ECONNREFUSED:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -ENETDOWN:
	case -EADDRNOTAVAIL:
	case -ETIMEDOUT:
		return BC_FAIL_REACH;
	case -ETIME:
	case -ECONNRESET:
		return BC_FAIL_BROKE;
	case -EPROTONOSUPPORT:
		return BC_FAIL_TLS;
	case -EKEYREJECTED:
		return BC_FAIL_TRUST;
	case -ENOMEM:
	case -ECANCELED:
		return BC_FAIL_HERE;
	default:
		return BC_FAIL_PROTO;
	}
}

enum bc_verdict bc_retry_judge(int result, long status)
{
	if (result < 0)
		return judge_failure(result);
	switch (status) {
	case 301:
	case 302:
	case 303:
	case 307:
	case 308:
		return BC_ANSWER_REDIRECT;
	case 400:
	case 410:
		return BC_ANSWER_GONE;
	case 401:
		return BC_ANSWER_UNAUTHORIZED;
	case 403:
		return BC_ANSWER_FORBIDDEN;
	case 404:
		return BC_ANSWER_MISSING;
	case 408:
		return BC_ANSWER_FAULT;
	case 416:
		return BC_ANSWER_BAD_RANGE;
	case 429:
	case 502:
	case 503:
	case 504:
		return BC_ANSWER_BUSY;
	default:
		break;
	}
	if (status >= 200 && status <= 299)
		return BC_ANSWER_OK;
	return status >= 500 && status <= 599 ? BC_ANSWER_FAULT : BC_ANSWER_ODD;
}

bool bc_verdict_is_transient(enum bc_verdict v)
{
	return v == BC_ANSWER_BUSY || v == BC_ANSWER_FAULT ||
	       v == BC_FAIL_REACH || v == BC_FAIL_BROKE || v == BC_FAIL_TLS;
}

uint64_t bc_retry_delay_ms(
	unsigned attempt, uint64_t retry_after_ms, uint32_t random)
{
	uint64_t range = BC_RETRY_CAP_MS;

	if (attempt > 0 && attempt < 7)
		range = min_u64((uint64_t)BC_RETRY_BASE_MS << (attempt - 1),
			BC_RETRY_CAP_MS);
	/* Never 0: a loop without any wait helps nobody. */
	return max_u64(1 + random % range, retry_after_ms);
}

bool bc_retry_may(enum bc_verdict v, uint64_t elapsed_ms, uint64_t delay_ms,
	uint32_t offline_ms)
{
	uint64_t limit = offline_ms;

	if (!bc_verdict_is_transient(v))
		return false;
	/*
	 * A server that was reached is not a dead network. What it says of
	 * itself (500) is no reason to keep a reader waiting for ever.
	 */
	if (v == BC_ANSWER_FAULT)
		limit = min_u64(limit, BC_RETRY_FAULT_MS);
	else if (offline_ms == UINT32_MAX)
		return true;
	if (v != BC_FAIL_REACH && v != BC_FAIL_TLS)
		limit = max_u64(limit, BC_RETRY_FLOOR_MS);
	return elapsed_ms + delay_ms <= limit && limit > 0;
}
