/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two halves of the RAFS v6 reader share: rafs.c (superblocks, blob
 * and chunk tables) and rafs_tree.c (inodes, directories, file contents).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "loader/rafs.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

#define RAFS_BLOCK_SIZE 4096
#define RAFS_MAX_BLOBS 254
#define RAFS_MAX_CHUNK_SIZE (16u << 20)
#define RAFS_MAX_CHUNKS (1u << 24) /* of one blob */

/* One entry of the chunk table, found again by (blob, index). */
struct rafs_chunk {
	uint32_t blob, index;
	const uint8_t *at; /* its 80 bytes in the bootstrap */
};

struct rafs_blob_info {
	uint32_t compressor; /* 0 none, 1 lz4_block, 2 gzip, 3 zstd */
	enum digest_algo digest_algo;
	uint64_t compressed_size, device_size;
};

/* A bootstrap being read; everything points into p[0, len). */
struct rafs_boot {
	const uint8_t *p;
	size_t len;
	uint64_t flags; /* of the extended superblock */
	uint32_t chunk_size;
	uint32_t root_nid;
	uint64_t meta_off; /* of nid 0 */
	uint32_t blob_count;
	struct rafs_blob_info *blobs; /* owned */
	struct rafs_chunk *chunks;    /* owned, sorted by blob and index */
	size_t chunk_count;
};

/* NULL if the table has no such chunk. */
const struct rafs_chunk *rafs_chunk_find(
	const struct rafs_boot *b, uint32_t blob, uint32_t index);

/*
 * Build the tree from the root inode on. Every chunk that a file names must be
 * in the chunk table. -EPROTO, -E2BIG, -ENOMEM.
 */
int rafs_tree_build(
	const struct rafs_boot *b, struct ld_rafs *r, struct err *e);
