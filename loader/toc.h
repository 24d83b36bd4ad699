/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the TOC formats: reading the JSON of a table of contents one entry
 * at a time, so that memory is bounded per entry however long the TOC is.
 *
 * A small scanner finds where each entry ends; the JSON library then reads that
 * slice alone. eStargz and zstd:chunked have the same entries but for a few
 * fields; what the fields mean together is the formats' business. PURE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "loader/tree.h"
#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

/* Limits of one entry. */
#define TOC_MAX_ENTRY_BYTES (1u << 20)
#define TOC_MAX_ENTRY_MARKS (1u << 14) /* commas and colons: values in it */
#define TOC_MAX_DEPTH 16

enum toc_type {
	TOC_REG,
	TOC_DIR,
	TOC_SYMLINK,
	TOC_HARDLINK,
	TOC_CHAR,
	TOC_BLOCK,
	TOC_FIFO,
	TOC_CHUNK,
};

/* One entry; strings belong to the reader and live until the next one. */
struct toc_entry {
	enum toc_type type;
	const char *name; /* as written; NUL-terminated, no NUL inside */
	size_t name_len;
	const char *link; /* "" if absent */
	size_t link_len;
	struct ld_attr attr; /* mode has type and permission bits */
	json_t *xattrs;      /* borrowed; NULL: none */
	uint64_t size;
	struct digest digest, chunk_digest; /* algo NONE: absent */
	bool has_offset, is_zeros;
	uint64_t offset, end_offset, inner_offset;
	uint64_t chunk_offset, chunk_size; /* size 0: to the file's end */
};

struct toc_reader {
	const char *p, *end;
	json_t *entry;  /* owned: what the last toc_entry points into */
	uint64_t count; /* entries handed out */
	bool in_entries, had_entries, is_first;
};

/* Over memory that stays the caller's. No allocation. */
void toc_reader_init(struct toc_reader *r, const void *json, size_t len);
void toc_reader_fini(struct toc_reader *r);
/*
 * The next entry. 1: *ret is set; 0: the TOC has ended and was whole; -EPROTO
 * (no JSON, a wrong type, a number out of range), -E2BIG (limits above),
 * -EOPNOTSUPP (version, type), -ENOMEM.
 */
int toc_reader_next(struct toc_reader *r, struct toc_entry *ret, struct err *e);

/*
 * "a/./b//c/" and "/a/b/c" become "a/b/c", "./" becomes "". ".." and names of
 * more than LD_MAX_NAME bytes are -EPROTO. out is replaced, NUL-terminated.
 */
int toc_path_clean(
	const char *path, size_t len, struct buf *out, struct err *e);

/* ---- toc_value.c ---- */

/*
 * RFC 3339 with an optional fraction (cut to nanoseconds) and offset. The year
 * 1's first second, which stands for "absent", gives 0. -EPROTO.
 */
int toc_time_parse(const char *s, size_t n, int64_t *ret_sec, uint32_t *ret_ns);
/*
 * Is this the digest of len zeros? 1, 0, or as digest_of. Takes as long as
 * hashing them.
 */
int toc_digest_is_of_zeros(const struct digest *d, uint64_t len);
