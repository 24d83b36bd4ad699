/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map of a blob: which compressed range (group) holds which bytes (chunks)
 * at which device offsets, and how each chunk is verified.
 *
 * Immutable once built; stored in a file whose sha256 is the map id; a large
 * one is mmapped, a small one, or one that has no file, is held in memory.
 * Bytes of the device that no chunk covers are zeros. The file is untrusted:
 * each record is checked on its way out, because what was read once may not be
 * what the disk gives the next time.
 * blobcache/README.md has the file format byte by byte.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

/* How a group's compressed bytes become its chunks. Stored: do not renumber. */
enum bc_codec {
	BC_CODEC_NONE = 0,
	BC_CODEC_ZSTD = 1,      /* one or more whole frames */
	BC_CODEC_LZ4_BLOCK = 2, /* one raw lz4 block */
	BC_CODEC_GZIP = 3,      /* starts at a member; ends once dec_len is out,
	                           the range may hold more */
	BC_CODEC_DEFLATE = 4,   /* starts inside a deflate stream: the context
	                           says bit position and window */
	BC_CODEC_STREAM = 5,    /* nothing: what is not in the cache comes only
	                           with the whole blob, read from its start */
	BC_CODEC_ZSTD_PART = 6, /* starts at a frame; ends once dec_len is out,
	                           the range may hold more */
	BC_CODEC_COUNT,
};

/*
 * The context of BC_CODEC_DEFLATE: byte 0 how many bits (0 to 7) of the byte
 * before the group still belong to the stream, plus BC_DEFLATE_ZSTD; byte 1
 * that byte (its high bits count); then up to 32 KiB of output before this
 * point, with BC_DEFLATE_ZSTD as one zstd frame.
 */
#define BC_DEFLATE_BITS 0x07
#define BC_DEFLATE_ZSTD 0x08
#define BC_DEFLATE_WINDOW 32768u
#define BC_DEFLATE_MAX_CTX (2 + BC_DEFLATE_WINDOW)

struct ZSTD_CCtx_s;

/*
 * Write such a context to ret (BC_DEFLATE_MAX_CTX bytes of room) and give its
 * length back. The stream goes on with the bits high bits of the byte last; its
 * window of len bytes, at most BC_DEFLATE_WINDOW, is packed where that helps.
 */
size_t bc_deflate_ctx(struct ZSTD_CCtx_s *packer, unsigned bits, uint8_t last,
	const void *window, size_t len, uint8_t *ret);

#define BC_MAX_CHUNK_LEN (128u << 20)
#define BC_MAX_GROUP_LEN (128u << 20) /* decoded or compressed */
#define BC_MAX_CHUNKS (1u << 26)

/* Unit of fetch, decode and single-flight. */
struct bc_group {
	uint64_t src_off; /* in the blob as it is stored at its source */
	uint32_t src_len;
	uint32_t dec_len;     /* decoded bytes that chunks may refer to */
	uint32_t first_chunk; /* its chunks are neighbours in the table */
	uint32_t chunk_count;
	uint32_t ctx_off; /* in the map's context bytes */
	uint32_t ctx_len;
	uint8_t codec; /* enum bc_codec */
	uint8_t pad[7];
};

/* Unit of verification and of the ready bit. */
struct bc_chunk {
	uint64_t dev_off;
	uint32_t len; /* > 0 */
	uint32_t group;
	uint32_t group_off; /* in the group's decoded bytes */
	uint8_t algo;       /* enum digest_algo; never DIGEST_NONE */
	uint8_t pad[3];
	uint8_t digest[32]; /* of the len decoded bytes */
};

struct bc_map_file;

struct bc_map {
	/*
	 * The records as they lie in the file, by src_off and by dev_off, not
	 * overlapping. What is a file may change under the eyes of the reader:
	 * bc_map_group and bc_map_chunk give copies that can be used.
	 */
	const struct bc_group *groups;
	const struct bc_chunk *chunks;
	const uint8_t *ctx;
	uint32_t group_count, chunk_count;
	uint32_t ctx_len;
	uint64_t device_size; /* bytes of the device, a multiple of 4096 or 512
	                       */
	uint64_t
		source_size; /* bytes of the blob at its source; 0: not known */
	uint64_t bytes;      /* of all chunks */
	bool has_stream;     /* some group is BC_CODEC_STREAM: it needs the
	                        whole blob */
	struct digest id;    /* sha256 of the file */
	const void *base;    /* owned: the bytes of the file */
	size_t base_len;
	struct bc_map_file *file; /* owned; base is its mapping; NULL: memory */
};

/*
 * Open a stored map and check it whole. Its sha256 must be *want (unless NULL).
 * -ENOENT, -EBADMSG (digest, checksum), -EPROTO (contents), -EIO (cut short
 * meanwhile), -errno. bc_store_map_open is cheaper.
 */
int bc_map_open(int dirfd, const char *path, const struct digest *want,
	struct bc_map *ret, struct err *e);
/* The same over memory, which the map takes (mem_free) on success. */
int bc_map_from_bytes(
	uint8_t *bytes, size_t len, struct bc_map *ret, struct err *e);
void bc_map_close(struct bc_map *m);

/*
 * Chunk or group i, less than their count: all bounds above hold for the copy,
 * and what it names is in the map; whether it fits its neighbours, or a copy
 * that was taken before, the caller has to see. If the file no longer holds
 * such a record the map is lost, and the copy is all zeros. ANY_THREAD.
 */
struct bc_chunk bc_map_chunk(const struct bc_map *m, uint32_t i);
struct bc_group bc_map_group(const struct bc_map *m, uint32_t i);
/*
 * A copy of g's context, g->ctx_len bytes, to be freed; NULL: out of memory, or
 * there is none. ANY_THREAD.
 */
uint8_t *bc_map_ctx(const struct bc_map *m, const struct bc_group *g);
/*
 * The file was cut short, its disk fails or gives back something else: for
 * ever. Ask *after* reading, before what came of it is believed or written.
 * ANY_THREAD.
 */
bool bc_map_is_lost(const struct bc_map *m);
/*
 * Whether a page of a mapped file that is not in memory is read alone, as for
 * the few of a start, or with all around it, as is usual. ANY_THREAD.
 */
void bc_map_read_alone(const struct bc_map *m, bool is_alone);
/* Somebody saw records that contradict each other: it is lost. ANY_THREAD. */
void bc_map_set_lost(const struct bc_map *m);

/*
 * Index of the first chunk that ends behind off; chunk_count if there is none.
 * Of a map that is lost: any up to chunk_count.
 */
uint32_t bc_map_find(const struct bc_map *m, uint64_t off);

/* ---- building ---- */

struct bc_map_builder;

/* 0 or -ENOMEM. The caller owns it; NULL is fine to destroy. */
int bc_map_builder_create(struct bc_map_builder **ret);
/* Before or after bc_map_finish. NULL is fine. */
void bc_map_builder_destroy(struct bc_map_builder *b);

/*
 * Add a group; chunks name it by *ret_group. Ranges may repeat those of an
 * earlier group (same src_off, src_len, codec): then that one is given back.
 * -E2BIG (a limit above), -EPROTO (range), -ENOMEM.
 */
int bc_map_add_group(struct bc_map_builder *b, uint64_t src_off,
	uint64_t src_len, uint64_t dec_len, enum bc_codec codec,
	const void *ctx, size_t ctx_len, uint32_t *ret_group);
/*
 * Add a chunk of that group. The same chunk twice (all fields equal) counts
 * once; one that overlaps another makes bc_map_finish fail. dec_len of the
 * group grows to hold it. digest: sha256 or blake3, else -EOPNOTSUPP.
 * -E2BIG (a limit above), -EPROTO, -ENOMEM.
 */
int bc_map_add_chunk(struct bc_map_builder *b, uint32_t group, uint64_t dev_off,
	uint64_t len, uint64_t group_off, const struct digest *digest);
/*
 * Sort, check and append the file's bytes to out (give its data to
 * bc_map_from_bytes). Deterministic. Groups without chunks are left out.
 * device_size is rounded up to 4096. source_size 0 if not known, else every
 * group must lie inside.
 * -EPROTO (overlap, chunks of a group that are no neighbours, outside the
 * device), -E2BIG, -ENOMEM.
 */
int bc_map_finish(struct bc_map_builder *b, uint64_t device_size,
	uint64_t source_size, struct buf *out, struct err *e);
