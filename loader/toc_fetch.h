/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to layer_load.c: finding, fetching and verifying a layer's TOC.
 */
#pragma once

#include "blobcache/source.h"
#include "loader/layer.h"
#include "runtime/base/err.h"

/*
 * Fetch the TOC of a layer whose descriptor has its digest, verify it, parse
 * it. -EBADMSG (digest), -EPROTO, -EOPNOTSUPP, -E2BIG, -ENOMEM, or as
 * bc_source_read. BLOCKING.
 */
int toc_fetch_zstd(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, struct ld_layer *ret, struct err *e);
int toc_fetch_estargz(struct rt *rt, const struct ld_layer_desc *d,
	struct bc_source *src, const struct ld_toc_finder *finder,
	struct ld_layer *ret, struct err *e);

/*
 * The plain JSON out of an eStargz TOC member: a gzip member with a tar whose
 * first entry is it. *ret is owned by the caller. PURE.
 */
int toc_inflate_estargz(const uint8_t *gz, size_t len, uint8_t **ret,
	size_t *ret_len, struct err *e);
