/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of groups in the order in which they are wanted: the order of first
 * touches that a mount recorded, or what an image itself asks to prefetch.
 *
 * A blob is named by its digest and its map's id. With both equal a group's
 * number means the same on every machine; a list that was made for another
 * image, or by another version, names nothing that is there, and does no harm.
 * blobcache/README.md has the file format byte by byte; the file is hostile.
 * ONE_THREAD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

#define BC_RECORD_MAX_BLOBS 4096u
#define BC_RECORD_MAX_ENTRIES 65536u
/* Bytes of a file that holds as many of both as there may be. */
#define BC_RECORD_MAX_FILE \
	(64 + 104 * (size_t)BC_RECORD_MAX_BLOBS + \
		12 * (size_t)BC_RECORD_MAX_ENTRIES)

struct bc_record_blob {
	struct digest digest, map_id; /* map_id is sha256 */
};

/* Groups [group, group + count) of a blob. */
struct bc_record_entry {
	uint32_t blob; /* index of blobs */
	uint32_t group, count;
};

/* All zero is an empty one. */
struct bc_record {
	struct bc_record_blob *blobs; /* owned */
	size_t blob_count, blob_cap;
	struct bc_record_entry *entries; /* owned; in the order of the wish */
	size_t entry_count, entry_cap;
};

/* Empty again. */
void bc_record_fini(struct bc_record *r);
/* The number of that blob, a new one if it is not there. -E2BIG, -ENOMEM. */
int bc_record_add_blob(struct bc_record *r, const struct digest *digest,
	const struct digest *map_id, uint32_t *ret);
/*
 * Groups that are wanted next; continues one of the last entries where it can.
 * blob is in r, count > 0 and group + count does not wrap. -E2BIG, -ENOMEM.
 */
int bc_record_add(
	struct bc_record *r, uint32_t blob, uint32_t group, uint32_t count);
/*
 * Append what add has and r has not: entries whose groups r names already are
 * left out. What does not fit any more is left out, too. -ENOMEM: r holds a
 * part of it.
 */
int bc_record_merge(struct bc_record *r, const struct bc_record *add);

/* How many groups its entries name, those named twice counted twice. */
uint64_t bc_record_groups(const struct bc_record *r);

/* Append the file to out. Deterministic. -ENOMEM, -E2BIG (of out). */
int bc_record_write(const struct bc_record *r, struct buf *out);
/*
 * Of a file's bytes. Whether its groups exist is for who has the maps to say.
 * -EPROTO (no such file, a version that is not known, contents), -EBADMSG (its
 * checksum), -ENOMEM.
 */
int bc_record_parse(
	const uint8_t *p, size_t len, struct bc_record *ret, struct err *e);
