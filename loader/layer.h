/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One layer on its way from its source format to a layer index and a map.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blobcache/map.h"
#include "blobcache/source.h"
#include "blobcache/store.h"
#include "loader/tree.h"
#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

/* Of devices that are laid out by us; tars have 9. */
#define LD_BLOCK_BITS 12

enum ld_format {
	LD_FORMAT_UNKNOWN,
	LD_FORMAT_TAR,
	LD_FORMAT_TAR_GZIP,
	LD_FORMAT_TAR_ZSTD,
	LD_FORMAT_ESTARGZ,
	LD_FORMAT_ZSTD_CHUNKED,
	LD_FORMAT_RAFS_V5,
	LD_FORMAT_RAFS_V6,
	LD_FORMAT_NYDUS_V3,
};

/* "zstd:chunked", "estargz", "tar+gzip", "rafs-v6", ... */
const char *ld_format_name(enum ld_format f);

/* What the manifest says of a layer. */
struct ld_layer_desc {
	struct digest digest, diff_id; /* diff_id.algo NONE: not known */
	uint64_t size;
	char *media_type;    /* owned */
	struct digest toc;   /* algo NONE: no annotation, no trusted TOC */
	bool toc_is_estargz; /* which annotation toc came from */
	uint64_t toc_off, toc_len, toc_raw_len; /* zstd:chunked position; 0s */
	struct digest toc_of; /* algo NONE, or the layer whose TOC this is */
	bool is_bootstrap;    /* a tar with a Nydus image's bootstrap */
	/* owned; where a layer is that registries may not hand out, or NULL */
	char *url;
};

/* What a format makes of it. */
struct ld_layer {
	enum ld_format format;
	struct ld_tree *tree; /* owned; whiteouts inside; blob slot 0 is it */
	/* owned; bytes of the map file. A layer without data has an empty map
	 * and no blob slot. */
	struct buf map;
	unsigned block_bits;   /* the index that is made of it needs */
	bool lazy;             /* parts of it can be fetched alone */
	const char *why;       /* static, as ld_layer_recognise */
	struct digest diff_id; /* of a stream; algo NONE: not computed */
	uint64_t prefetch_end; /* groups that begin before it in the blob are
	                          wanted first; 0: none */
	struct bc_spool spool; /* owned; the whole device, verified; or none */
	uint64_t entries;
	uint64_t size_uncompressed; /* sum of file sizes */
};

/* Frees what the layer owns; leaves it empty. */
void ld_layer_fini(struct ld_layer *l);

/*
 * What the layer is, from media type and annotations alone, and whether it can
 * be loaded lazily; *ret_why is a static sentence ("the TOC digest is in the
 * manifest", "no TOC digest in the manifest: ..."). PURE.
 */
enum ld_format ld_layer_recognise(
	const struct ld_layer_desc *d, bool *ret_lazy, const char **ret_why);

/* A tar, packed or not, without a TOC that can be trusted. */
bool ld_layer_is_plain(enum ld_format f);

/*
 * eStargz layers may have their TOC in another image: appends the layer of that
 * image that holds the TOC of the layer d. What it gives is not believed.
 */
struct ld_toc_finder {
	int (*find)(void *arg, const struct digest *d, struct buf *ret,
		struct err *e);
	void *arg;
};

/*
 * Fetch the layer's TOC from src, or where finder has it (NULL: nowhere),
 * verify it against d->toc, build tree and map. ERR_UNSUPPORTED for formats
 * that are not read yet, by name. BLOCKING.
 */
int ld_layer_load(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, const struct ld_toc_finder *finder,
	struct ld_layer *ret, struct err *e);

/* ---- the parsers behind it; PURE: bytes of a verified TOC in ---- */

/* Plain JSON of a zstd:chunked TOC (containers/storage). */
int ld_toc_parse_zstd_chunked(const uint8_t *toc, size_t len,
	const struct ld_layer_desc *d, struct ld_layer *ret, struct err *e);
/* Plain JSON of stargz.index.json; toc_off ends the last member. */
int ld_toc_parse_estargz(const uint8_t *toc, size_t len, uint64_t toc_off,
	const struct ld_layer_desc *d, struct ld_layer *ret, struct err *e);
