/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAFS v5 and v6 bootstraps (Nydus 2.x) as a source format: one tree and one
 * map per blob. For v6 the device offsets stay RAFS' own (uncompressed offsets
 * of the blob); for v5 every chunk begins on a block of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/layer.h"
#include "loader/tree.h"
#include "runtime/base/buf.h"
#include "runtime/base/err.h"

struct ld_rafs_blob {
	struct digest digest;     /* sha256: the blob id is its hex */
	uint64_t compressed_size; /* of the data part; 0: not known */
	bool is_layer; /* ZRAN: an original tar.gz of compressed_size bytes */
	bool is_own;   /* the bootstrap lies in it, whatever the digest is */
	struct buf map;
};

struct ld_rafs {
	enum ld_format format;
	struct ld_tree *tree; /* owned; its blob slots are blobs[] */
	struct ld_rafs_blob *blobs;
	size_t blob_count;
	uint64_t entries, size_uncompressed;
	/* What it wants to be prefetched, in order: of files, file_off unused
	 */
	struct ld_extent *wish; /* owned */
	size_t wish_count, wish_cap;
	/*
	 * Nothing covers where the maps find batch chunks, or those of a ZRAN
	 * bootstrap that was not merged; what they hold their digests do.
	 */
	bool has_claims;
};

/* Frees what it owns; leaves it empty. */
void ld_rafs_fini(struct ld_rafs *r);

/*
 * What the bytes are (first 8 KiB suffice): LD_FORMAT_RAFS_V5, _V6, NYDUS_V3 or
 * UNKNOWN. PURE.
 */
enum ld_format ld_rafs_recognise(const uint8_t *p, size_t len);

/*
 * Bytes of blobs, for images whose chunks the bootstrap alone cannot place:
 * batch chunks (the table in the blob) and ZRAN (a blob of tables). Appends
 * [off, off + len) of the blob to ret, len 0: all of it; ret's limit holds. A
 * digest of algo NONE stands for the blob that the bootstrap was found in.
 * 0 or an error with its sentence.
 */
struct ld_rafs_reader {
	int (*read)(void *arg, const struct digest *blob, uint64_t off,
		uint64_t len, struct buf *ret, struct err *e);
	void *arg;
	bool is_inline; /* the bootstrap was found in a blob */
};

/*
 * Parse a bootstrap. Nydus v3, tarfs, external data: ERR_UNSUPPORTED by name;
 * encrypted: ERR_UNSUPPORTED, the sentence says encrypted. Batch and ZRAN
 * images need a reader, else they are ERR_UNSUPPORTED too. A bootstrap that
 * lies inside a blob (inline) is passed as its own bytes. PURE but for the
 * reader.
 */
int ld_rafs_parse(const uint8_t *boot, size_t len,
	const struct ld_rafs_reader *reader, struct ld_rafs *ret,
	struct err *e);

/*
 * The bootstrap that lies inside a blob (built with --blob-inline-meta), found
 * by the blob's TOC or by the headers behind its parts, decoded; checked
 * against the TOC's digest where there is one. -ENOENT if the blob holds none.
 * BLOCKING.
 */
int ld_rafs_read_inline(
	struct rt *rt, struct bc_source *blob, struct buf *out, struct err *e);
