/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Footers of layer blobs with a table of contents: where the TOC lies. Pure
 * parsers over the last bytes of a blob. What a footer says is a hint: the
 * TOC's digest, which hangs on the manifest, decides.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* Enough of a blob's end for every variant. */
#define LD_TOC_FOOTER_BYTES 72
/* A longer TOC, compressed or not, is refused before memory is taken. */
#define LD_TOC_MAX_BYTES (150u << 20)

/* The compressed TOC is the len bytes of the blob at off. */
struct ld_toc_place {
	uint64_t off, len;
	uint64_t raw_len;  /* decompressed; 0: the footer does not say */
	unsigned footer;   /* bytes of the footer that was found */
	bool is_elsewhere; /* eStargz: the TOC is in another image */
};

/*
 * eStargz and stargz (stargz-snapshotter, docs/estargz.md): an empty gzip
 * member of 51, 47 (legacy) or 46 (external TOC) bytes. tail is the last n
 * bytes of a blob of blob_size bytes. -ENOENT (no such footer), -EPROTO (it
 * points outside the blob), -E2BIG. PURE.
 */
int ld_toc_footer_estargz(const uint8_t *tail, size_t n, uint64_t blob_size,
	struct ld_toc_place *ret, struct err *e);
/*
 * zstd:chunked (containers/storage): a skippable zstd frame with a payload of
 * 64, 56 or 40 bytes. Errors as above; an unknown TOC type is -EOPNOTSUPP.
 * PURE.
 */
int ld_toc_footer_zstd(const uint8_t *tail, size_t n, uint64_t blob_size,
	struct ld_toc_place *ret, struct err *e);
/*
 * Is the place inside a blob of blob_size bytes (0: not known) and small
 * enough? 0, -EPROTO, -E2BIG. PURE.
 */
int ld_toc_place_check(
	const struct ld_toc_place *p, uint64_t blob_size, struct err *e);
