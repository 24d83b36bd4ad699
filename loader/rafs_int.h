/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the RAFS reader share: superblocks, blob and chunk tables
 * (rafs.c, rafs_ci.c), inodes, directories and contents (rafs_tree.c,
 * rafs_v5.c), maps (rafs_map.c). ONE_THREAD.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "blobcache/map.h"
#include "loader/rafs.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

#define RAFS_BLOCK_SIZE 4096
#define RAFS_MAX_BLOBS 254
#define RAFS_MAX_CHUNK_SIZE (16u << 20)
#define RAFS_MAX_CHUNKS (1u << 24) /* of one blob */
#define RAFS_MAX_CI (512u << 20)   /* bytes of all blobs' tables, decoded */
#define RAFS_CHUNK_LEN 80          /* a record of the chunk table */

/* Features of a blob. */
enum {
	RAFS_BLOB_HAS_BOOT = 0x2,
	RAFS_BLOB_ZRAN = 0x8,
	RAFS_BLOB_SEPARATE = 0x10,
	RAFS_BLOB_TARFS = 0x40,
	RAFS_BLOB_BATCH = 0x80,
	RAFS_BLOB_ENCRYPTED = 0x100,
	RAFS_BLOB_EXTERNAL = 0x800,
	RAFS_BLOB_INCOMPATIBLE = 0xf000,
	RAFS_BLOB_CAP_TOC = 0x40000000,
};

/* Flags of an entry of a blob's own chunk table. */
enum {
	RAFS_CI_ZRAN = 2,
	RAFS_CI_BATCH = 4,
	RAFS_CI_ENCRYPTED = 8,
};

/* Flags of a chunk's record. */
enum {
	RAFS_CHUNK_COMPRESSED = 1,
	RAFS_CHUNK_HOLE = 2,
	RAFS_CHUNK_ENCRYPTED = 4,
};

/* One entry of the chunk table, found again by (blob, index). */
struct rafs_chunk {
	uint32_t blob, index;
	const uint8_t *at; /* its RAFS_CHUNK_LEN bytes */
};

/* A blob's own chunk table ("compression information", version 2). */
struct rafs_ci {
	uint8_t *raw; /* owned; NULL: none was loaded */
	uint32_t chunk_count, context_count;
	const uint8_t *contexts, *dicts; /* in raw */
	size_t dict_len, dicts_used;
	struct ZSTD_CCtx_s *packer; /* owned; of dictionaries; NULL: unused */
	uint8_t *digests;           /* owned; one per chunk, or NULL */
	uint32_t *groups, *lens; /* owned (one piece); by context, in the map */
};

struct rafs_ci_entry {
	uint32_t flags, len;
	uint64_t dev_off, src_off;
	uint32_t context, context_off;
};

struct rafs_blob_info {
	uint32_t compressor; /* 0 none, 1 lz4_block, 2 gzip, 3 zstd */
	enum digest_algo digest_algo;
	uint64_t compressed_size, device_size;
	uint32_t features, chunk_count;
	const uint8_t *at; /* its entry in the blob table */
	struct rafs_ci ci;
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
	uint8_t *added;      /* owned: records that the chunk table lacks */
	const uint8_t *wish; /* the prefetch table: numbers of 4 bytes */
	size_t wish_count;
	const struct ld_rafs_reader *reader; /* may be NULL */
	uint64_t ci_budget; /* bytes that further tables may have */
};

/* NULL if the table has no such chunk. */
const struct rafs_chunk *rafs_chunk_find(
	const struct rafs_boot *b, uint32_t blob, uint32_t index);

/*
 * Load the blob's own chunk table. id is the blob's. -EPROTO, -EBADMSG, -E2BIG,
 * -ENOMEM, or as the reader. BLOCKING.
 */
int rafs_ci_load(struct rafs_boot *b, const struct digest *id, uint32_t blob,
	struct err *e);
/* Does no digest of the bootstrap cover the blob's table? */
bool rafs_ci_is_claim(const struct rafs_blob_info *info);
void rafs_ci_fini(struct rafs_ci *ci);
/* index < chunk_count. */
void rafs_ci_read(
	const struct rafs_ci *ci, uint32_t index, struct rafs_ci_entry *ret);
/*
 * The group of a batch or ZRAN chunk, made when it is asked for first; codec is
 * that of the blob. -EPROTO, -E2BIG, -ENOMEM.
 */
int rafs_ci_add_group(struct rafs_ci *ci, const struct rafs_ci_entry *c,
	enum bc_codec codec, struct bc_map_builder *m, uint32_t *ret_group,
	struct err *e);

/* A whole v5 bootstrap; b->p and len are set. As ld_rafs_parse. */
int rafs_v5_parse(const struct rafs_boot *b, struct ld_rafs *r, struct err *e);

/* A chunk as a v5 file uses it. */
struct rafs_v5_ref {
	struct ld_inode *file;
	const uint8_t *at; /* its RAFS_CHUNK_LEN bytes, checked */
	uint32_t chunk;    /* private to the layout */
};

/* What all blobs of a v5 image have in common. */
struct rafs_v5_codec {
	uint32_t compressor; /* as rafs_codec */
	enum digest_algo algo;
};

/*
 * Give each distinct chunk a place on its blob's device; blob slots, maps and
 * the files' extents (refs in the order of the files). -EPROTO, -E2BIG,
 * -EOPNOTSUPP, -ENOMEM.
 */
int rafs_v5_lay_out(struct ld_rafs *r, const struct rafs_v5_codec *codec,
	struct rafs_v5_ref *refs, size_t count, struct err *e);

/* The maps of all blobs of a v6 image. -EPROTO, -E2BIG, -EOPNOTSUPP, -ENOMEM.
 */
int rafs_maps_build(struct rafs_boot *b, struct ld_rafs *r, struct err *e);

/* What v5 and v6 share. A blob id of 64 hex digits. -EPROTO. */
int rafs_blob_id(const uint8_t *at, struct digest *ret);
int rafs_refuse(struct err *e, const char *what);
int rafs_broken(struct err *e, const char *what);
/* Is it of a type that has neither contents nor a target? */
static inline bool rafs_is_special(uint32_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) ||
	       S_ISSOCK(mode);
}
/* Set it, or leave it out: names that mean something to us or to no file system
 * that we write. */
int rafs_set_xattr(struct ld_tree *t, struct ld_inode *i, const char *name,
	size_t name_len, const void *value, size_t value_len, struct err *e);
/* The codec of a compressed chunk: 0 none, 1 lz4_block, 2 gzip, 3 zstd. */
int rafs_codec(uint32_t compressor, bool is_compressed, enum bc_codec *ret,
	struct err *e);

/*
 * rafs_wish.c: i, or all that lies below it, is to be prefetched next; each
 * inode once. What is too much is left out. -ENOMEM.
 */
int rafs_wish_add(struct ld_rafs *r, struct ld_inode *i);

/*
 * Build the tree from the root inode on. Every chunk that a file names must be
 * in the chunk table. -EPROTO, -E2BIG, -ENOMEM.
 */
int rafs_tree_build(
	const struct rafs_boot *b, struct ld_rafs *r, struct err *e);
