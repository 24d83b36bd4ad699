/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making room: what was not used for longest leaves the cache, by the runs of
 * chunks that a ready file stamps (bc_ready_touch). Pinned blobs stay. Bytes go
 * by punching holes, also under readers in any process: they see the generation
 * move and read again. A file that nobody has open goes as a whole when all of
 * it is to go; a sealed file only ever so.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/inventory.h"
#include "blobcache/store.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

/* What is to go. Zero it, fill the public part. */
struct bc_evict {
	uint64_t want;   /* bytes of the disk; UINT64_MAX: all there are */
	uint32_t before; /* only what was last used before; 0: anything */
	/* Only these blobs; borrowed. NULL: any. */
	const struct digest *only;
	size_t only_count;
	bool even_pinned;
	bool is_patient; /* wait for another process that evicts */
	/* out */
	uint64_t freed;
};

/*
 * 0: done, as far as there was something (see freed); -EROFS, -ENOMEM, -errno.
 * -EBUSY: another process is at it, and w is not patient. What is being written
 * at this moment is left alone. BLOCKING.
 */
int bc_store_evict(struct bc_store *s, struct bc_evict *w, struct err *e);

/*
 * Remove the beginnings of blobs that were kept for another try (part.h) and
 * saw none for so long. BLOCKING.
 */
void bc_store_drop_parts(struct bc_store *s, uint32_t age_s);

/*
 * The most bytes of the disk that the whole cache directory may take;
 * UINT64_MAX: no limit, as at first. Measures what is there. Each process keeps
 * to its own limit. BLOCKING.
 */
int bc_store_set_limit(struct bc_store *s, uint64_t bytes, struct err *e);
/* That limit. ANY_THREAD. */
uint64_t bc_store_limit(const struct bc_store *s);
/*
 * Look how much is there, and evict if it is nearly too much, or little is free
 * on the file system. True: there is room now. BLOCKING.
 */
bool bc_store_make_room(struct bc_store *s);
/* bytes were written to the cache by this process. ANY_THREAD. */
void bc_store_note(struct bc_store *s, uint64_t bytes);
/* Time for bc_store_make_room? Cheap. ANY_THREAD. */
bool bc_store_wants_room(struct bc_store *s);
