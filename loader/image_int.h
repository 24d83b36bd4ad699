/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the image_*.c files share. BLOCKING, on the thread that prepares the
 * image; what a layer needs also on those of image_layers.c.
 */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "blobcache/net.h"
#include "blobcache/store.h"
#include "loader/image.h"
#include "loader/imageref.h"
#include "loader/index.h"
#include "loader/manifest.h"
#include "loader/origin.h"

/* Most bytes of an index or a layer index. */
#define IMAGE_MAX_INDEX (UINT64_C(1) << 31)
#define IMAGE_MAX_RECORD (16u << 20)
#define IMAGE_REL_LEN LD_IMAGE_REL_LEN

/* The image's config on its way (image_config.c). */
struct image_config {
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t over;
	bool is_over; /* or was never begun */
	int result;
	struct err err;
};

/* One preparation, from name to image. */
struct image_job {
	const struct ld_image_options *o; /* borrowed, as the next three */
	struct rt *rt;
	struct bc_net *net;
	struct bc_store *store;
	struct ld_ref ref;
	char platform[100];
	bool is_moved; /* the tag names another digest than last time */
	/* What came with the tag; empty: nothing, or it was taken. */
	struct buf tagged; /* owned */
	struct digest tagged_digest;
	char tagged_type[LD_MEDIA_TYPE_LEN];
	struct image_config config;
	struct ld_manifest manifest; /* owned; empty for bundles */
	struct ld_image *image;      /* being filled */
	pthread_mutex_t toc_lock;    /* guards tocs */
	struct ld_manifest tocs; /* owned; of the TOC image; empty: not read */
};

/* ---- the name (image_name.c) ---- */

/*
 * The manifest of this platform that the reference leads to, and its digest;
 * what a tag named is remembered. BLOCKING.
 */
int image_find_manifest(struct image_job *j, struct err *e);

/* ---- the config (image_config.c) ---- */

/* For a zeroed c: nothing is begun, nobody waits. -errno. */
int image_config_init(struct image_config *c);
/*
 * Apply the config to the job's manifest, now or once it has come: until
 * image_config_wait nobody else looks at DiffIDs. BLOCKING.
 */
int image_config_begin(struct image_job *j, struct err *e);
/* 0: it was applied, or never begun. ANY_THREAD, BLOCKING. */
int image_config_wait(struct image_job *j, struct err *e);
/* Waits for the thread. BLOCKING. */
void image_config_fini(struct image_config *c);

/* A layer blob that was loaded: its index, its map. */
struct image_layer {
	const struct ld_layer_desc *desc; /* in the manifest */
	struct ld_index index;
	struct buf index_bytes; /* what index reads */
	struct bc_map map;      /* base NULL: none, or taken */
	enum ld_format format;
	bool is_absent; /* it would have to be read whole, and was not */
	bool lazy;
	char *why; /* owned; NULL: as the manifest alone tells */
	uint64_t entries, size_uncompressed;
	uint64_t prefetch_end; /* as in struct ld_layer */
};

/*
 * Load the distinct blobs among the manifest's layers, from the cache or from
 * their source, several at a time; ret->by_layer[i] is for manifest layer i and
 * points into ret->list. only_lazy passes over layers that cannot be read (NULL
 * in by_layer; else an error that names the format) and over those that would
 * have to be read whole (is_absent; else that is done).
 */
struct image_layers {
	struct image_layer *list; /* owned */
	size_t count;
	struct image_layer **by_layer; /* owned; layer_count of them */
};

/*
 * Every distinct layer of j, from the cache or from its source; only_lazy
 * leaves out what cannot be loaded lazily. BLOCKING.
 */
int image_layers_load(struct image_job *j, bool only_lazy,
	struct image_layers *ret, struct err *e);
void image_layers_fini(struct image_layers *l);

/*
 * Ranges of a layer: from the image's origin; where that does not have it, from
 * url (NULL: none), without credentials.
 */
int image_layer_source(struct image_job *j, const struct digest *d,
	uint64_t size, const char *url, struct bc_source **ret, struct err *e);

/* Merge the layers and write the image index. */
int image_layers_merge(const struct image_layers *l,
	const struct ld_manifest *m, struct buf *ret_index, struct err *e);

/* ---- eStargz' TOC images (image_toc.c) ---- */

/* As the find of ld_toc_finder; arg is the job. From any thread. BLOCKING. */
int image_toc_find(
	void *arg, const struct digest *d, struct buf *ret, struct err *e);

/* ---- the list of the image's layers (image_list.c) ---- */

/* What the manifest alone says of them. -ENOMEM. */
int image_list_layers(struct image_job *j, struct err *e);
/* What reading them adds. -ENOMEM. */
int image_describe_layers(
	struct image_job *j, const struct image_layers *l, struct err *e);
/* The compressed bytes of the distinct ones. */
uint64_t image_sum_layers(const struct ld_image *i);

/* ---- the record of a prepared image in the cache (image_record.c) ---- */

/* "images/<algo>/<hex>/<name>" into ret (IMAGE_REL_LEN bytes). */
void image_rel(const struct digest *d, const char *name, char *ret);
enum ld_format image_format_of_name(const char *name);
/*
 * Put the index and the record into the cache and open the index. What the disk
 * refuses costs caching only: then the index stays in memory. index_bytes is
 * taken.
 */
int image_record_save(
	struct image_job *j, struct buf *index_bytes, struct err *e);
/*
 * Fill the image from the record of its digest, with one map per blob
 * (*ret_maps, owned). -ENOENT if there is none that is whole: then nothing is
 * filled and it is to be made anew. Also -ENOMEM.
 */
int image_record_load(struct image_job *j, struct bc_map **ret_maps);
/* The record of image d, owned; NULL: these n bytes are none. PURE. */
json_t *image_record_parse(const char *p, size_t n, const struct digest *d);
/*
 * What it says of blobs and layers, into an empty i; what is there after an
 * error is i's as well. -EPROTO, -ENOMEM. PURE.
 */
int image_record_lists(const json_t *o, struct ld_image *i);

/* ---- what the image itself wants to be prefetched (image_wish.c) ---- */

struct ld_rafs;

/*
 * Of a blob, whose digest and map id are known, what begins before end at its
 * source. What does not fit is left out. -ENOMEM.
 */
int image_wish_add_front(struct ld_image *i, const struct ld_image_blob *b,
	const struct bc_map *m, uint64_t end);
/* What a bootstrap lists; there is one map for each of the blobs. -ENOMEM. */
int image_wish_add_rafs(
	struct ld_image *i, const struct ld_rafs *r, const struct bc_map *maps);
/* Beside the image's record. Failing costs a later mount the wish. */
void image_wish_save(struct image_job *j);
void image_wish_load(struct image_job *j);

/* Open the image's blobs; maps are taken (also on failure, one by one). */
typedef int image_source_fn(struct image_job *j, struct ld_image_blob *b,
	struct bc_source **ret, struct err *e);
int image_blobs_open(struct image_job *j, struct bc_map *maps,
	image_source_fn *source, struct err *e);
/* Close what has a base, free the list. NULL is fine. */
void image_maps_fini(struct bc_map *maps, size_t count);

/*
 * Empty but for name, digest, platform and origin. Blobs are closed; what they
 * have seen counts (image_claims_judge).
 */
void image_clear(struct ld_image *i);

/* ---- maps that nothing proves (image_claims.c) ---- */

/* Stands for the place that j's blobs come from. -ENOMEM or as OpenSSL. */
int image_claims_place(const struct image_job *j, struct digest *ret);
/*
 * Remove the record of an image with i->claims if chunks of its blobs were
 * wrong. The blobs are still open.
 */
void image_claims_judge(const struct ld_image *i);

/* ---- RAFS (image_rafs.c) ---- */

/* Most bytes of a bootstrap. */
#define IMAGE_MAX_BOOTSTRAP (1u << 30)

/*
 * As the read of ld_rafs_reader, from a blob whose size is known. BLOCKING.
 */
int image_rafs_read(struct image_job *j, struct bc_source *s, uint64_t off,
	uint64_t len, struct buf *ret, struct err *e);
/* The image's layers are the blobs. */
int image_rafs_list(
	struct image_job *j, const struct ld_rafs *r, struct err *e);
/* The image's blobs, one map for each, and the index's bytes. */
int image_rafs_take(struct image_job *j, struct ld_rafs *r,
	struct buf *ret_index, struct bc_map **ret_maps, struct err *e);
/* With the sizes of the blobs that are known now; index is taken. */
int image_rafs_save(struct image_job *j, struct buf *index, struct err *e);

/* ---- Nydus images in registries (image_nydus.c) ---- */

/* The layer with the bootstrap; NULL: this is no Nydus image. */
const struct ld_layer_desc *image_nydus_bootstrap(const struct image_job *j);
/* Index, blobs and record of the image; one map per blob. BLOCKING. */
int image_nydus_build(
	struct image_job *j, struct bc_map **ret_maps, struct err *e);
int image_nydus_inspect(struct image_job *j, struct err *e);

/* ---- bundles (image_bundle.c) ---- */

/* The halves of ld_image_prepare and ld_image_inspect for bundles. BLOCKING. */
int image_bundle_prepare(struct image_job *j, struct err *e);
int image_bundle_inspect(struct image_job *j, struct err *e);
