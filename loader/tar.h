/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading tar streams: bytes in, entries out.
 *
 * Knows ustar, the old Unix format, GNU's (long names and links, base-256
 * numbers, sparse files) and PAX (POSIX.1-2001 pax interchange format; extended
 * attributes as SCHILY.xattr.*; GNU.sparse 0.0, 0.1 and 1.0). Global PAX
 * headers are read over, as container engines do. PURE: no I/O; memory is
 * bounded by the limits below, whatever the stream says.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "loader/tree.h"
#include "runtime/base/err.h"

#define LD_TAR_BLOCK 512
#define LD_TAR_MAX_PAX (1u << 20)        /* bytes of one extended header */
#define LD_TAR_MAX_LONG_NAME (64u << 10) /* bytes of a GNU long name */
#define LD_TAR_MAX_PIECES (1u << 18)     /* of one sparse file */
/* Chunks of an index that all holes of a tar may need, on top of one for each
 * block of it: an entry of 1 KiB must not stand for GiBs of index. */
#define LD_TAR_MAX_HOLE_CHUNKS (1u << 22)
/* Blocks of 512 bytes have 32-bit numbers in an index. */
#define LD_TAR_MAX_SIZE ((uint64_t)UINT32_MAX * LD_TAR_BLOCK)

struct ld_tar;

enum ld_tar_type {
	LD_TAR_FILE,
	LD_TAR_LINK, /* a hard link */
	LD_TAR_SYMLINK,
	LD_TAR_DIR,
	LD_TAR_NODE, /* device or fifo; attr.mode says which */
};

/* len bytes of a file from file_off on lie at tar_off of the stream. */
struct ld_tar_piece {
	uint64_t file_off, len, tar_off;
};

struct ld_tar_xattr {
	const char *name;
	size_t name_len;
	const uint8_t *value;
	size_t value_len;
};

/* All of it is the parser's and lives until the callback returns. */
struct ld_tar_entry {
	enum ld_tar_type type;
	const char *path; /* as written, not NUL-terminated, no NUL inside */
	size_t path_len;
	const char *link; /* target of either kind of link */
	size_t link_len;
	struct ld_attr attr;
	uint64_t size; /* of a file, holes counted */
	/*
	 * A file's data: sorted, not overlapping; what is in no piece is a
	 * hole. Both offsets of a piece are multiples of LD_TAR_BLOCK, and so
	 * is the end of every piece that does not end the file.
	 */
	const struct ld_tar_piece *pieces;
	size_t piece_count;
	const struct ld_tar_xattr *xattrs; /* in the order of the stream */
	size_t xattr_count;
};

/* Not 0: the parser stops and gives it back. */
typedef int ld_tar_entry_fn(
	void *arg, const struct ld_tar_entry *entry, struct err *e);

/* -ENOMEM. */
int ld_tar_create(ld_tar_entry_fn *fn, void *arg, struct ld_tar **ret);
/* NULL is fine. */
void ld_tar_destroy(struct ld_tar *t);
/*
 * The next n bytes of the stream. -EPROTO (names the place), -EOPNOTSUPP (a
 * type, or a sparse file whose pieces are not on blocks; named), -E2BIG (the
 * limits above), -ENOMEM, or what the callback said. After an error the parser
 * can only be destroyed.
 */
int ld_tar_feed(struct ld_tar *t, const uint8_t *p, size_t n, struct err *e);
/* The stream has ended. -EPROTO: in the middle of something. */
int ld_tar_finish(struct ld_tar *t, struct err *e);
