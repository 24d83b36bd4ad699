/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an image comes from: a registry or an OCI layout on disk. Both have the
 * same shape: a reference leads to a digest, a digest to bytes. BLOCKING.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blobcache/net.h"
#include "blobcache/source.h"
#include "loader/image.h"
#include "loader/imageref.h"
#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

#define LD_MEDIA_TYPE_LEN 128

struct ld_origin;

/* All BLOCKING. Kinds of error as in the design's exit codes. */
struct ld_origin_ops {
	/*
	 * The digest that the reference has now. ERR_FAILED with -EHOSTUNREACH
	 * when nobody could be asked.
	 */
	int (*resolve)(struct ld_origin *o, struct digest *ret, struct err *e);
	/*
	 * As resolve, with what has that digest: the reference's manifest or
	 * index, or that of its tag with suffix behind it ("": the reference
	 * itself, which may have no tag).
	 */
	int (*tagged)(struct ld_origin *o, const char *suffix, struct buf *out,
		char ret_type[LD_MEDIA_TYPE_LEN], struct digest *ret,
		struct err *e);
	/* A manifest or an index, verified; its type, "" if it is not said. */
	int (*manifest)(struct ld_origin *o, const struct digest *d,
		struct buf *out, char ret_type[LD_MEDIA_TYPE_LEN],
		struct err *e);
	/* A small blob, verified. */
	int (*blob)(struct ld_origin *o, const struct digest *d, uint64_t size,
		struct buf *out, struct err *e);
	/*
	 * Ranges of a blob, size 0: not known; asks for nothing yet. The origin
	 * outlives it.
	 */
	int (*source)(struct ld_origin *o, const struct digest *d,
		uint64_t size, struct bc_source **ret, struct err *e);
	/* All its sources are destroyed. */
	void (*destroy)(struct ld_origin *o);
};

/* First member of every origin's structure. */
struct ld_origin {
	const struct ld_origin_ops *ops;
	bool is_local; /* resolving costs nothing and cannot be offline */
};

/* By r's kind, which is no bundle. Copies what it needs of r and o. */
int ld_origin_open(const struct ld_ref *r, const struct ld_image_options *o,
	struct bc_net *net, struct ld_origin **ret, struct err *e);
/* NULL is fine. */
void ld_origin_close(struct ld_origin *o);

/* ---- for ld_origin_open ---- */

/* A directory in the image spec's layout (image-layout.md). */
int ld_origin_open_layout(
	const struct ld_ref *r, struct ld_origin **ret, struct err *e);
