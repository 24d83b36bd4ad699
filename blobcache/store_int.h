/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the cache directory share: store.c, spool.c, part.c,
 * cachefile.c and those behind it, evict.c. BLOCKING, unless it says otherwise.
 */
#pragma once

#include <stdatomic.h>

#include "blobcache/budget.h"
#include "blobcache/readybits.h"
#include "blobcache/spare.h"
#include "blobcache/store.h"

#define STORE_MAX_REL 512    /* bytes of a path below the cache directory */
#define STORE_FREE_PERCENT 5 /* nothing is cached below this */

struct bc_store {
	char *path; /* owned */
	int dirfd;
	bool read_only;
	uint8_t boot_id[BC_BOOT_ID_LEN];
	atomic_uint_least64_t full_checked_ms;
	atomic_bool full;
	/* bytes of the disk; evict.c */
	atomic_uint_least64_t limit; /* UINT64_MAX: none */
	atomic_uint_least64_t measured, stored, stored_then;
	atomic_uint_least64_t looked_ms, next_look_ms, warned_ms;
	atomic_bool is_evicting; /* a job of ours is at it */
	struct bc_budget budget; /* memory of everything on its way */
	struct bc_budget places; /* for ranges that somebody waits for */
	struct bc_spare spare;
};

/*
 * Make the directories above the last component of rel (mode 0700). rel is
 * checked: relative, no empty, "." or ".." component. 0, -EINVAL or -errno.
 */
int store_make_parents(int dirfd, const char *rel);
/*
 * Write a whole file below s, visible only when complete and synced.
 * 0 or -errno.
 */
int store_put(struct bc_store *s, const char *rel, const void *p, size_t n);
/* Also after room was made where that was due. BLOCKING. */
bool store_has_no_room(struct bc_store *s);
/*
 * A new file below tmp/, locked so that no sweep takes it: "tmp/<id>". 0 or
 * -errno.
 */
int store_tmp_create(const struct bc_store *s, char name[32], int *ret_fd);
/*
 * Remove streams and puts that nobody holds any more: their process died.
 * Beginnings of blobs wait for another try, until they are so old.
 */
void store_sweep_tmp(int dirfd, uint32_t max_age_s);
/* cachefile.c; see bc_spool_adopt. name is below s; its contents are fd's. */
int store_adopt(struct bc_store *s, const char *name, int fd,
	const struct digest *blob, const struct bc_map *map);

/*
 * Alone with the file: no store is on its way, in no process, and none begins
 * (exclusive lock). 0, -EROFS (not ours to change) or -EAGAIN. Does not wait.
 * ANY_THREAD.
 */
int cachefile_lock(struct bc_cachefile *c);
/* By who locked it. ANY_THREAD. */
void cachefile_unlock(struct bc_cachefile *c);
/* At its limit: nothing more is cached (evict.c). ANY_THREAD. */
bool store_is_over(const struct bc_store *s);
/*
 * Remove data and ready from the directory dir, whose lock the caller holds:
 * the bits first and for good, they must never be seen beside new data. Fine if
 * they are not there. 0 or -errno. BLOCKING.
 */
int cachefile_unlink(int dir);
/*
 * The cache file in the directory dir as it is: nothing is made or mended. The
 * lock on dir is held from then on. 0, -ENOENT, -EPROTO, -errno; to be closed
 * by bc_cachefile_close on success. BLOCKING.
 */
int cachefile_open_dir(struct bc_store *s, int dir, const struct bc_map *map,
	struct bc_cachefile *ret);
/*
 * c was written by another boot, whose page cache may have died with it: chunks
 * that were not durable are read back, and those that are wrong are no longer
 * ready (verify.c). -ENOMEM: nothing was decided. The caller holds the lock on
 * the directory, and nobody has opened the file in this boot. BLOCKING.
 */
int cachefile_trust_again(struct bc_cachefile *c);
