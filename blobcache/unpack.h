/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking a blob from its first byte to its last, noting on the way where it
 * can be entered again: that makes the groups of its map.
 *
 * The device of such a blob is what it unpacks to. gzip: deflate blocks, with
 * the window before them (the idea of zlib's examples/zran.c); zstd: frames;
 * not packed: anywhere. What can be entered nowhere within BC_MAX_GROUP_LEN
 * becomes BC_CODEC_STREAM groups. PURE: no I/O; memory grows by a window per
 * span of output only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/map.h"
#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

enum bc_packing { BC_PACKING_NONE, BC_PACKING_GZIP, BC_PACKING_ZSTD };

/*
 * Least output between two places of entry, as layers are read. Measured by
 * tests/bench/bench_zran.c.
 */
#define BC_UNPACK_SPAN (2u << 20)
/* Most bytes of a chunk: what is verified on its own. */
#define BC_UNPACK_MAX_CHUNK (4u << 20)

struct bc_unpack;

/* By the first bytes; fewer than 4 are not packed. */
enum bc_packing bc_packing_of(const uint8_t *p, size_t n);

/* span: BC_UNPACK_SPAN, unless that is to be measured. -ENOMEM. */
int bc_unpack_create(
	enum bc_packing packing, uint64_t span, struct bc_unpack **ret);
/* NULL is fine. */
void bc_unpack_destroy(struct bc_unpack *u);

/* in moves over what was read, out over what was written. */
struct bc_unpack_io {
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_len; /* room */
};

/*
 * Go on until the input is used up, the output is full, or a group has ended.
 * *ret_new_group: what is written from now on begins a new one, and must begin
 * a new chunk (bc_unpack_add_chunk). -EPROTO, -EOPNOTSUPP (a window of more
 * than 128 MiB), -E2BIG, -ENOMEM.
 */
int bc_unpack_step(struct bc_unpack *u, struct bc_unpack_io *io,
	bool *ret_new_group, struct err *e);
/* The input has ended. -EPROTO: in the middle of something. */
int bc_unpack_finish(struct bc_unpack *u, struct err *e);

/*
 * The next len bytes of the output, within one group and at most
 * BC_UNPACK_MAX_CHUNK, have this digest. May be called from another thread
 * than bc_unpack_step. -E2BIG, -ENOMEM.
 */
int bc_unpack_add_chunk(
	struct bc_unpack *u, uint64_t len, const struct digest *d);
/*
 * After bc_unpack_finish and the last chunk: the file of the map. Empty if
 * there was no output. As bc_map_finish.
 */
int bc_unpack_map(struct bc_unpack *u, struct buf *out, struct err *e);
/* Can every group be fetched alone? After bc_unpack_map. */
bool bc_unpack_is_random(const struct bc_unpack *u);
uint64_t bc_unpack_output(const struct bc_unpack *u);
