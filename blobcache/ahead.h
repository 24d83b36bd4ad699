/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to fetch ahead of readers, and how far. PURE: numbers in, numbers out;
 * the caller keeps the state of a blob and locks it.
 *
 * A stream is reads that go on where the one before ended, about: readers of
 * many small files jump a little, and requests overtake each other. Its window
 * grows as long as it is followed. Reads that follow nothing make all windows
 * smaller. A blob of which much is read without gaps is read whole by somebody:
 * then it is fetched in bulk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BC_AHEAD_STREAMS 16
#define BC_AHEAD_SLACK (256u << 10) /* a jump that is none */
#define BC_AHEAD_MIN_WINDOW (256u << 10)
#define BC_AHEAD_MAX_WINDOW (8u << 20)

struct bc_ahead_stream {
	uint64_t next;   /* where its last read ended */
	uint64_t asked;  /* up to here all was asked for */
	uint32_t window; /* bytes; 0: it has not begun to be one */
	uint32_t reads;  /* that followed */
	uint64_t used;   /* when; 0: free */
};

/* All zero: nothing was read yet. */
struct bc_ahead {
	struct bc_ahead_stream streams[BC_AHEAD_STREAMS];
	uint64_t clock;
	unsigned chaos; /* reads of late that followed nothing, up to a limit */
};

/*
 * Device range [off, off + len) is read. True: it is time to ask for [*ret_off,
 * *ret_end), which counts as asked for from now on. may_ask: there is room for
 * more on its way; what is not asked now is later, if nobody was there before.
 */
bool bc_ahead_note(struct bc_ahead *a, uint64_t off, uint64_t len, bool may_ask,
	uint64_t *ret_off, uint64_t *ret_end);

/* ---- bulk ---- */

#define BC_BULK_PART (4u << 20) /* bytes of the blob that are judged as one */
#define BC_BULK_MAX_PARTS (1u << 20)

struct bc_bulk {
	uint32_t *touched; /* owned by the caller: bytes of each part */
	uint32_t parts;
	uint32_t dense; /* parts that were read nearly without gaps */
	uint64_t total; /* bytes that were touched */
	bool is_on;
};

/*
 * A group of len bytes at off of the blob was read for the first time. True:
 * from now on the blob is to be fetched in bulk; once.
 */
bool bc_bulk_note(struct bc_bulk *b, uint64_t off, uint32_t len);
