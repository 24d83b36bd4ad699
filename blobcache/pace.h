/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A limit on bytes per second: what may be taken grows with time, up to one
 * second's worth; what is larger goes when a whole second's worth is there, and
 * is paid for afterwards. PURE: the caller says what time it is.
 */
#pragma once

#include <stdint.h>

struct bc_pace {
	uint64_t rate; /* bytes per second; 0: no limit */
	int64_t credit;
	uint64_t at_ms;
};

/* From now on, with a full second's credit. */
void bc_pace_init(struct bc_pace *p, uint64_t rate, uint64_t now_ms);
/* 0: bytes were taken. Else nothing was: ask again in so many ms. */
uint64_t bc_pace_take(struct bc_pace *p, uint64_t bytes, uint64_t now_ms);
/* Bytes are taken whatever there is; who takes next waits until it is paid. */
void bc_pace_owe(struct bc_pace *p, uint64_t bytes, uint64_t now_ms);
