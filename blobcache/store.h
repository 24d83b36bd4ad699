/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache directory: who may use it, where things lie in it, and the cache
 * file of one blob and map with its ready bits.
 *
 * Layout and rules: blobcache/README.md. Names on disk are made here only.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blobcache/map.h"
#include "blobcache/readybits.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"
#include "runtime/file.h"

struct bc_store;

/*
 * Open or make the directory (with parents). Refused if it belongs to someone
 * else or others may write to it. path NULL: the default place. A read-only
 * directory is opened with read_only set in the store. The default place is
 * $SLUICE_CACHE, else $XDG_CACHE_HOME/sluice, else /var/cache/sluice for root
 * and
 * ~/.cache/sluice for others. INIT_ONLY.
 */
int bc_store_open(const char *path, struct bc_store **ret, struct err *e);
/* All its cache files are closed. NULL is fine. INIT_ONLY. */
void bc_store_close(struct bc_store *s);
const char *bc_store_path(const struct bc_store *s);
int bc_store_dirfd(const struct bc_store *s);
bool bc_store_is_read_only(const struct bc_store *s);

/*
 * Small immutable files ("layers/sha256/<hex>/index"): written under tmp/,
 * synced, renamed; parents are made. rel has no "..". BLOCKING.
 */
int bc_store_put(struct bc_store *s, const char *rel, const void *p, size_t n,
	struct err *e);
/* -ENOENT if it is not there. BLOCKING. */
int bc_store_get(
	struct bc_store *s, const char *rel, struct buf *out, struct err *e);

/*
 * Remove a file, or a directory with all that is in it; fine if it is not
 * there. Who has them open keeps them. -EINVAL, -EROFS, -errno. BLOCKING.
 */
int bc_store_remove(struct bc_store *s, const char *rel, struct err *e);

/*
 * The map of a blob, as a cache file keeps it: opened by its id, or kept before
 * any cache file is. What was read whole in this boot and has not changed since
 * is not read again (mark.h). 0, -ENOENT, -EBADMSG, -EPROTO, -EIO, -errno.
 * BLOCKING.
 */
int bc_store_map_open(struct bc_store *s, const struct digest *blob,
	const struct digest *map_id, struct bc_map *ret, struct err *e);
int bc_store_map_put(struct bc_store *s, const struct digest *blob,
	const struct bc_map *map);
/*
 * A large map that is in memory becomes its file in the cache, where that is
 * there: its memory is free. Nobody reads it meanwhile. BLOCKING.
 */
void bc_store_map_settle(
	struct bc_store *s, const struct digest *blob, struct bc_map *map);
/* Who opens the map next reads it whole, if it was lost. BLOCKING. */
void bc_store_map_doubt(struct bc_store *s, const struct digest *blob,
	const struct bc_map *map);

/* ---- whole streams, before they are anything ---- */

/* A file below tmp/ that becomes a cache file when it is whole. */
struct bc_spool {
	struct bc_store *store; /* NULL: there is none */
	int fd;
	char name[32];
};

/* 0, -EROFS, -ENOSPC (bc_store_is_full) or -errno. ANY_THREAD. */
int bc_spool_open(struct bc_store *s, struct bc_spool *ret);
/* At off. -ENOSPC also when the file system is nearly full. BLOCKING. */
int bc_spool_write(struct bc_spool *sp, const void *p, size_t n, uint64_t off);
/*
 * All of map's chunks are in it, verified: it becomes the cache file of blob
 * and map, in the place of one that is there, with all ready bits set. They
 * become durable later, as others do. On failure nothing is there but the
 * spool. 0 or -errno. BLOCKING.
 */
int bc_spool_adopt(struct bc_spool *sp, const struct digest *blob,
	const struct bc_map *map);
/* Gone, unless it was adopted. Fine for none. */
void bc_spool_close(struct bc_spool *sp);

/*
 * Are all chunks that only come with the whole blob (BC_CODEC_STREAM) in the
 * cache? True if map has none. BLOCKING.
 */
bool bc_store_has_stream(struct bc_store *s, const struct digest *blob,
	const struct bc_map *map);

/* ---- one cache file ---- */

struct bc_cachefile {
	struct rt_file data;      /* -1: nothing is cached (read-only, full) */
	const struct bc_map *map; /* borrowed */
	bool read_only;           /* as it was found at open */
	/* private */
	struct bc_store *store;
	int ready_fd;
	void *ready; /* mmapped header and bitmaps */
	size_t ready_len;
	int guard; /* of that mapping */
	struct bc_ready bits;
	bool durable_only; /* read-only, and written by another boot */
	_Atomic uint64_t *distrusted; /* owned; read-only: bits cleared here */
	pthread_mutex_t lock;         /* guards the next two */
	unsigned stores;              /* stores on their way */
	bool is_locked;               /* we hold the exclusive lock */
};

/*
 * blobs/<algo>/<hex>/<map id>/ with its data file truncated to the device's
 * size and its ready file; the map is stored there if it is not yet. Files that
 * do not fit are made anew. What the disk refuses costs caching only: then
 * data.fd is -1 and this is logged. *ret must not move. -EINVAL (a digest is
 * none), -errno of a lock. INIT_ONLY.
 */
int bc_cachefile_open(struct bc_store *s, const struct digest *blob,
	const struct bc_map *map, struct bc_cachefile *ret, struct err *e);
/* No store is on its way. INIT_ONLY. */
void bc_cachefile_close(struct bc_cachefile *c);

/* All of chunks [first, first + count) ready? ANY_THREAD. */
bool bc_cachefile_is_ready(
	const struct bc_cachefile *c, uint32_t first, uint32_t count);
/* Changes when anything was evicted: take before the bit test, compare after
 * the read. ANY_THREAD. */
uint64_t bc_cachefile_generation(const struct bc_cachefile *c);
/* These chunks are being used: they are evicted last. Cheap. ANY_THREAD. */
void bc_cachefile_touch(struct bc_cachefile *c, uint32_t first, uint32_t count);
/*
 * The bytes of these chunks are in the data file. 0, or -EIO: the file was cut
 * short meanwhile, so that no bit of it counts. Between store_begin and
 * store_end. ANY_THREAD.
 */
int bc_cachefile_set_ready(
	struct bc_cachefile *c, uint32_t first, uint32_t count);
/*
 * It turned out not to hold what it should; a data file that was cut short
 * loses all its bits. The generation moves. ANY_THREAD.
 */
void bc_cachefile_clear_ready(struct bc_cachefile *c, uint32_t chunk);
/*
 * Hold off eviction around write and set_ready (shared lock). 0, -EROFS
 * (sealed, read-only, or nothing is cached), -EAGAIN (somebody evicts or seals)
 * or -errno: then nothing is written. ANY_THREAD.
 */
int bc_cachefile_store_begin(struct bc_cachefile *c);
void bc_cachefile_store_end(struct bc_cachefile *c);
/* Bytes of ready chunks. Walks the bitmap. ANY_THREAD. */
uint64_t bc_cachefile_ready_bytes(const struct bc_cachefile *c);
/*
 * fdatasync, then the durable bits. -EAGAIN: something was evicted meanwhile,
 * try later. Another error: what was not durable is no longer ready. BLOCKING.
 */
int bc_cachefile_sync(struct bc_cachefile *c);
/*
 * Seal it, for the kernel to read by itself: from now on, in every process and
 * after every boot, these bytes are neither written nor punched nor cut; the
 * file is only ever unlinked as a whole, and who has it open keeps it. Done
 * only when every chunk is ready, which means verified, and after an fdatasync;
 * what of another boot was not durable was read back at open, so nothing is
 * trusted that may not have reached the disk. Bytes outside every chunk were
 * never written. 0 (also if it was sealed before), -ENODATA (something is
 * missing), -EAGAIN (somebody writes or evicts, try later), -EROFS (nothing is
 * cached, or the cache is read-only), -ENOMEM or -errno of the disk.
 * A sealed file that loses a chunk (its disk fails) is no longer sealed for
 * anybody who asks, and is replaced by a new one at the next open. BLOCKING.
 */
int bc_cachefile_seal(struct bc_cachefile *c);
/* Sealed, by whomever, and whole. ANY_THREAD. */
bool bc_cachefile_is_sealed(const struct bc_cachefile *c);
/* Less than 5 % free on the file system, or over the limit. ANY_THREAD. */
bool bc_store_is_full(struct bc_store *s);
