/* SPDX-License-Identifier: Apache-2.0 */
/* So many bytes per second; see pace.h. */
#include "blobcache/pace.h"

#include "runtime/base/util.h"

#define MAX_RATE (UINT64_C(1) << 50)
#define MAX_BYTES (INT64_C(1) << 60)

void bc_pace_init(struct bc_pace *p, uint64_t rate, uint64_t now_ms)
{
	p->rate = min_u64(rate, MAX_RATE);
	p->credit = (int64_t)p->rate;
	p->at_ms = now_ms;
}

static void earn(struct bc_pace *p, uint64_t now_ms)
{
	uint64_t ms = now_ms > p->at_ms ? now_ms - p->at_ms : 0;
	int64_t most = (int64_t)p->rate;

	/* a debt may be older than a second */
	while (ms > 0 && p->credit < most) {
		uint64_t step = min_u64(ms, 1000);

		p->credit += (int64_t)(p->rate * step / 1000);
		ms -= step;
		p->at_ms += step;
	}
	p->at_ms = now_ms;
	if (p->credit > most)
		p->credit = most;
}

/* What is too little to earn a byte waits until it is enough. */
static void note_time(struct bc_pace *p, uint64_t now_ms)
{
	if (now_ms > p->at_ms && p->rate * (now_ms - p->at_ms) >= 1000)
		earn(p, now_ms);
}

uint64_t bc_pace_take(struct bc_pace *p, uint64_t bytes, uint64_t now_ms)
{
	int64_t need;

	if (p->rate == 0)
		return 0;
	note_time(p, now_ms);
	bytes = min_u64(bytes, MAX_BYTES);
	need = (int64_t)min_u64(bytes, p->rate);
	if (p->credit >= need) {
		p->credit -= (int64_t)bytes;
		return 0;
	}
	return (uint64_t)(need - p->credit) * 1000 / p->rate + 1;
}

void bc_pace_owe(struct bc_pace *p, uint64_t bytes, uint64_t now_ms)
{
	if (p->rate == 0)
		return;
	note_time(p, now_ms);
	p->credit -= (int64_t)min_u64(bytes, MAX_BYTES);
}
