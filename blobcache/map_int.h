/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map file, version 1; blobcache/README.md shows it byte by byte. Shared by
 * the reader (map.c, map_file.c) and the builder (map_build.c) only.
 *
 * All numbers are little endian, and struct bc_group and struct bc_chunk are
 * the records of the file themselves.
 */
#pragma once

#include <assert.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "blobcache/map.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	"map records are used as they lie in the file");
static_assert(sizeof(struct bc_group) == 40, "record of the file");
static_assert(sizeof(struct bc_chunk) == 56, "record of the file");

#define MAP_MAGIC "SLUICMAP"
#define MAP_VERSION 1
#define MAP_MAX_BYTES (1u << 30) /* of a whole map file */
#define MAP_MAX_CTX (2 + 32768)  /* of one group */

struct map_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t group_count;
	uint32_t chunk_count;
	uint32_t ctx_len;
	uint64_t device_size;
	uint64_t source_size;
	uint64_t file_len;
	uint8_t reserved[16]; /* zero */
	uint8_t checksum[32]; /* sha256 of what is before and behind it */
};

static_assert(sizeof(struct map_header) == 96, "header of the file");

/* The shape of a BC_CODEC_DEFLATE group's context. */
static inline bool map_ctx_is_ok(const uint8_t *ctx, size_t len)
{
	return len >= 2 && len <= MAP_MAX_CTX &&
	       ctx[0] <= (BC_DEFLATE_BITS | BC_DEFLATE_ZSTD);
}

/* sha256 over the file without its checksum field. 0 or -errno. */
int map_checksum(const void *file, size_t len, struct digest *ret);

/* What a check of the whole map has found out. */
struct map_known {
	uint64_t bytes;
	bool has_stream;
};

struct bc_map_file {
	int guard; /* of the mapping */
	atomic_bool is_lost;
	dev_t dev;
	ino_t ino;
};

/*
 * Point ret into the file's bytes, which are taken by nobody, and check all of
 * them; but with known the header only. -EPROTO, -E2BIG.
 */
int map_parse(const void *bytes, size_t len, const struct map_known *known,
	struct bc_map *ret, struct err *e);
/*
 * The open file fd as a map: mmapped if it is large, else a copy. known: what
 * has the digest *want was checked before, and is not read now. Otherwise as
 * bc_map_open; name is for the person.
 */
int map_open_fd(int fd, const char *name, const struct digest *want,
	const struct map_known *known, struct bc_map *ret, struct err *e);
/* Is m a mapping of that very file? */
bool map_is_of(const struct bc_map *m, const struct stat *st);
