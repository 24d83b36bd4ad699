/* SPDX-License-Identifier: Apache-2.0 */
/* What the tar_*.c files share. PURE. */
#pragma once

#include <stdbool.h>

#include "loader/tar.h"
#include "runtime/base/buf.h"

/* A header block: where its fields begin and how long they are. */
enum {
	TAR_NAME = 0,
	TAR_NAME_LEN = 100,
	TAR_MODE = 100,
	TAR_UID = 108,
	TAR_GID = 116,
	TAR_ID_LEN = 8,
	TAR_SIZE = 124,
	TAR_MTIME = 136,
	TAR_NUM_LEN = 12,
	TAR_SUM = 148,
	TAR_TYPE = 156,
	TAR_LINK = 157,
	TAR_MAGIC = 257,
	TAR_MAJOR = 329,
	TAR_MINOR = 337,
	TAR_PREFIX = 345,
	TAR_PREFIX_LEN = 155,
	TAR_STAR_PREFIX_LEN = 131,
	TAR_STAR_TRAILER = 508,
	/* old GNU sparse files */
	TAR_GNU_SPARSE = 386,
	TAR_GNU_SPARSE_COUNT = 4,
	TAR_GNU_EXTENDED = 482,
	TAR_GNU_REALSIZE = 483,
	TAR_GNU_EXT_COUNT = 21,
	TAR_GNU_EXT_EXTENDED = 504,
	TAR_GNU_PIECE_LEN = 24,
};

/* Text inside one of the parser's buffers. */
struct tar_text {
	const char *p;
	size_t len;
};

/* What an extended header says; texts point into the parser's pax buffer. */
struct tar_pax {
	bool has_size, has_mtime, has_uid, has_gid;
	struct tar_text path, link; /* p NULL: not said */
	uint64_t size, uid, gid;
	int64_t mtime;
	uint32_t mtime_ns;
	/* GNU.sparse.* */
	bool is_sparse, has_real_size, is_map_in_data, has_open_piece;
	uint64_t major, minor, real_size, open_off;
	struct tar_text sparse_name;
};

enum tar_state {
	TAR_HEADER,     /* a block of 512 bytes */
	TAR_META,       /* the contents of an extended header or long name */
	TAR_SPARSE_EXT, /* a further block of an old GNU sparse map */
	TAR_SPARSE_MAP, /* the map in front of a PAX 1.0 sparse file's data */
	TAR_SKIP,       /* file data, or what does not matter */
	TAR_PADDING,    /* up to the next block */
	TAR_END,        /* two blocks of zeros were seen */
};

struct ld_tar {
	ld_tar_entry_fn *fn;
	void *arg;
	enum tar_state state;
	uint64_t pos; /* bytes fed */
	unsigned zero_blocks;
	uint8_t block[LD_TAR_BLOCK];
	size_t block_len;
	/* the header at hand: block is used again for sparse maps */
	uint8_t header[LD_TAR_BLOCK];
	uint64_t left;     /* bytes of the state's contents still to come */
	unsigned padding;  /* behind them */
	bool zeros_wanted; /* in the padding: it is shown as a hole */
	struct buf *meta;  /* where TAR_META's contents go; NULL: nowhere */
	struct buf pax, long_name, long_link; /* of the entry to come */
	bool has_pax, has_name, has_link;
	struct tar_pax x;
	struct ld_tar_xattr *xattrs;
	size_t xattr_count, xattr_cap;
	/* the entry at hand */
	struct ld_tar_entry entry;
	struct buf name; /* where prefix and name are put together */
	struct ld_tar_piece *pieces;
	size_t piece_count, piece_cap;
	uint64_t stored; /* bytes of a sparse file in the stream */
	struct buf map;  /* of a PAX 1.0 sparse file: what was not read yet */
	bool has_map_count;
	uint64_t map_count; /* pieces it will have */
};

/* "at N of the tar: ..." in front of e; gives code back. */
int tar_broken(struct ld_tar *t, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Text of at most 200 bytes for messages: use with "%.*s". */
int tar_shown(size_t len);

/* ---- tar_header.c ---- */

/* A number field: octal, or base-256. -EPROTO. */
int tar_number(const uint8_t *p, size_t n, int64_t *ret);
/* Decimal, all of it, nothing else. -EPROTO. */
int tar_decimal(const char *p, size_t n, uint64_t *ret);
bool tar_is_zero(const uint8_t *p, size_t n);
bool tar_sum_is_right(const uint8_t *block);
/*
 * Everything of the entry that header, long names and t->x say, but for pieces:
 * t->entry. *ret_size is what the stream holds of it.
 */
int tar_header_read(struct ld_tar *t, uint64_t *ret_size, struct err *e);

/* ---- tar_pax.c ---- */

/* Read the records of t->pax into t->x, t->xattrs and t->pieces. */
int tar_pax_read(struct ld_tar *t, struct err *e);

/* ---- tar_sparse.c ---- */

/* One more piece of t->pieces; its place comes later. -EPROTO, -E2BIG, -ENOMEM.
 */
int tar_sparse_add(struct ld_tar *t, uint64_t off, uint64_t len, struct err *e);
/* Pairs of an old GNU map; stops at the first empty one. */
int tar_sparse_gnu(
	struct ld_tar *t, const uint8_t *p, unsigned count, struct err *e);
/*
 * Parse what t->map has of a PAX 1.0 map. 1: it is whole; 0: another block is
 * needed.
 */
int tar_sparse_map(struct ld_tar *t, struct err *e);
/*
 * The map is known and the data begins at the stream's position: check it, give
 * every piece its place.
 */
int tar_sparse_place(struct ld_tar *t, struct err *e);
