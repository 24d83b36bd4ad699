/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contents of a `ready` file, version 1: header, ready bitmap, durable
 * bitmap (blobcache/README.md, byte by byte). Works on memory that other
 * threads and processes change at the same time: bits are set and cleared by
 * atomic operations on 64-bit words, nothing else is ever written but the
 * generation, the boot id, the flag that it is sealed, and the times of use.
 * ANY_THREAD, but bc_ready_format before anybody else has the memory.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/map.h"

#define BC_BOOT_ID_LEN 16

struct bc_ready_header;

struct bc_ready {
	struct bc_ready_header *h;         /* borrowed, as the bitmaps */
	_Atomic uint64_t *ready, *durable; /* read-only files: only read */
	uint32_t chunk_count;
	size_t words;
};

/* Bytes of the file for so many chunks, a multiple of 4096. */
size_t bc_ready_len(uint32_t chunk_count);
/* Make an empty one for map in len zeroed bytes at mem. */
void bc_ready_format(void *mem, const struct bc_map *map,
	const uint8_t boot_id[BC_BOOT_ID_LEN]);
/* Use len bytes at mem. -EPROTO: not a ready file of version 1 for map. */
int bc_ready_attach(
	void *mem, size_t len, const struct bc_map *map, struct bc_ready *ret);

/*
 * The same for a copy whose map is not at hand, only to be read: -EPROTO if it
 * is none of map_id.
 */
int bc_ready_peek(void *mem, size_t len, const struct digest *map_id,
	struct bc_ready *ret);

/* The boot that set its plain bits is this one. */
bool bc_ready_is_boot(
	const struct bc_ready *r, const uint8_t boot_id[BC_BOOT_ID_LEN]);
/* Another boot wrote this: only durable bits count from now on. One caller at
 * a time. */
void bc_ready_new_boot(
	struct bc_ready *r, const uint8_t boot_id[BC_BOOT_ID_LEN]);
/* As that, when what is not durable was looked at. */
void bc_ready_set_boot(
	struct bc_ready *r, const uint8_t boot_id[BC_BOOT_ID_LEN]);
/* Given to the kernel once: never written or punched any more. */
bool bc_ready_is_sealed(const struct bc_ready *r);
/* From now on it is. By the holder of the exclusive lock. */
void bc_ready_seal(struct bc_ready *r);
/* Moves when a bit is cleared. */
uint64_t bc_ready_generation(const struct bc_ready *r);

/* All bits of [first, first + count) set in bits? count may be 0. */
bool bc_ready_test(
	const _Atomic uint64_t *bits, uint32_t first, uint32_t count);
/* The chunk's bytes are in the data file. */
void bc_ready_set(struct bc_ready *r, uint32_t chunk);
/* Ready and durable bit; the generation moves. */
void bc_ready_clear(struct bc_ready *r, uint32_t first, uint32_t count);
/* Drop every ready bit that is not durable; the generation moves. */
void bc_ready_clear_not_durable(struct bc_ready *r);

/*
 * When it was used. The chunks are shared out in order among at most
 * BC_READY_RUNS runs of equal length; each has the second of its last use.
 */
#define BC_READY_RUNS 1000
/* Chunks of a run, at least 1, and how many runs that makes. PURE. */
uint32_t bc_ready_run_len(uint32_t chunk_count);
uint32_t bc_ready_run_count(uint32_t chunk_count);
/* These chunks are used now (seconds since 1970). Writes once a second. */
void bc_ready_touch(
	struct bc_ready *r, uint32_t first, uint32_t count, uint32_t now);
/* 0: never, or before there were stamps. */
uint32_t bc_ready_stamp(const struct bc_ready *r, uint32_t run);

/* r->words words of the ready bitmap as they are now. */
void bc_ready_snapshot(const struct bc_ready *r, uint64_t *ret);
/* What was ready at the snapshot and still is becomes durable. */
void bc_ready_set_durable(struct bc_ready *r, const uint64_t *snapshot);
