/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what a user names to something that can be mounted: resolve, read each
 * layer's format, write the layer indexes, merge, open the blobs.
 *
 * What is in the cache is used first: a second preparation of the same image
 * parses nothing, and with a digest it asks nothing of the network.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blobcache/blob.h"
#include "blobcache/net.h"
#include "blobcache/record.h"
#include "blobcache/store.h"
#include "loader/index.h"
#include "loader/layer.h"
#include "runtime/base/buf.h"
#include "runtime/base/err.h"
#include "runtime/runtime.h"

struct ld_origin;
struct ld_ref;
struct ld_progress;

struct ld_image_options {
	const char *name;         /* as the user gave it */
	const struct ld_ref *ref; /* the name, taken apart; NULL: not yet */
	const char *platform;     /* "linux/amd64"; NULL: this machine */
	const char *authfile, *cert_dir;
	bool plain_http;
	const char *blobs;   /* bundle: directory or URL; NULL: beside it */
	uint32_t offline_ms; /* bc_registry_options */
	struct ld_progress *progress; /* of layers read whole; NULL: untold */
};

/* One data blob as status and inspect show it. */
struct ld_image_blob {
	struct digest digest;
	enum ld_format format;
	bool lazy;
	char *why;     /* owned */
	uint64_t size; /* compressed, as the manifest says; 0: not known */
	struct bc_blob *blob; /* owned; NULL after ld_image_inspect */
	/* private */
	bool is_own; /* of a bundle: the bootstrap lies in it */
	struct digest map_id;
	uint64_t *wanted; /* owned; ld_image_find_wanted; NULL: all chunks */
	uint64_t source_size; /* of the stored blob; 0: not known */
	char *url; /* owned; where it is if its origin does not have it, or NULL
	            */
};

struct ld_image_layer {
	struct digest digest;
	char *media_type; /* owned; NULL: not known */
	enum ld_format format;
	bool lazy;
	char *why;                                 /* owned */
	uint64_t size, size_uncompressed, entries; /* UINT64_MAX: not known */
};

struct ld_image {
	char *name;           /* canonical */
	struct digest digest; /* platform's manifest, or bundle's bootstrap */
	char *platform;       /* owned; NULL for bundles */
	struct ld_image_layer *layers;
	size_t layer_count;
	struct ld_index index;       /* mount: the image index */
	struct ld_image_blob *blobs; /* by device slot */
	size_t blob_count;
	uint64_t entries, bytes_total, bytes_compressed;
	struct bc_record wish; /* what it wants to be prefetched, in order */
	/* private */
	struct ld_origin *origin; /* NULL: a bundle */
	bool has_wanted;
	/* Of the record that goes if its maps turn out wrong; NULL: they are
	 * proven. */
	struct bc_store *claims;
	struct bc_store *kept_in; /* the index has a file there; NULL: it has
	                             none */
	bool is_inline;           /* bundle: the bootstrap lies in a blob */
	struct buf index_bytes;   /* of index, where the cache took no file */
};

/*
 * Everything a mount needs. rt has been started. Kinds of error as in the
 * design's exit codes. BLOCKING.
 */
int ld_image_prepare(const struct ld_image_options *o, struct rt *rt,
	struct bc_net *net, struct bc_store *store, struct ld_image *ret,
	struct err *e);
/* Layers and formats only; no index, no blobs. BLOCKING. */
int ld_image_inspect(const struct ld_image_options *o, struct rt *rt,
	struct bc_net *net, struct bc_store *store, struct ld_image *ret,
	struct err *e);
/*
 * Find out which chunks of each blob the tree shows: what an upper layer hides
 * is never read, and the image is complete without it. Walks the whole index,
 * once; later calls do nothing. -EPROTO, -ENOMEM.
 */
int ld_image_find_wanted(struct ld_image *i);
/*
 * The bytes of each blob that the tree shows, by slot, for an image whose blobs
 * are all in the cache as a whole: found out once and kept beside the image,
 * so that the next mount need not walk the index. ret has blob_count places.
 * As ld_image_find_wanted. BLOCKING.
 */
int ld_image_shown_bytes(
	struct ld_image *i, struct bc_store *store, uint64_t *ret);
#define LD_IMAGE_REL_LEN 320
/*
 * Where in the cache directory the index lies, into ret (LD_IMAGE_REL_LEN
 * bytes). False: it is in memory alone.
 */
bool ld_image_index_path(const struct ld_image *i, char *ret);
/* Closes the blobs; rt still runs, the store is open. BLOCKING. */
void ld_image_fini(struct ld_image *i);
