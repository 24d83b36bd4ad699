/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning of a blob that is read whole, as it came from its source: kept
 * while the blob is on its way, so that the next try goes on where this one was
 * ended, however it was.
 *
 * The file lies below tmp/ under a name made of the blob's digest, locked by
 * who writes it. Nothing vouches for what it has: its bytes go through the same
 * digests as those of the network.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/store.h"
#include "runtime/base/digest.h"

/* After this long without a try it is swept away. */
#define BC_PART_MAX_AGE_S (7 * 24 * 3600)

struct bc_part {
	struct bc_store *store; /* NULL: nothing is kept */
	int fd;
	uint64_t len; /* bytes of the beginning that it has */
	char name[160];
};

/*
 * What earlier tries have of blob, whose size that is, or an empty one. -EBUSY
 * (another process is reading that blob), -EROFS, -ENOSPC (nor can room be
 * made), -EINVAL (the digest is none) or -errno: then *ret is none. ANY_THREAD.
 */
int bc_part_open(struct bc_store *s, const struct digest *blob, uint64_t size,
	struct bc_part *ret);
/*
 * The next n bytes. What the disk refuses costs the keeping only: then it is
 * given up. Fine for none. BLOCKING.
 */
void bc_part_add(struct bc_part *p, const void *data, size_t n);
/* n bytes at off, all below len: 0, or -EIO. BLOCKING. */
int bc_part_read(const struct bc_part *p, void *to, size_t n, uint64_t off);
/* For the next try. Fine for none. BLOCKING. */
void bc_part_keep(struct bc_part *p);
/* It is of no use any more. Fine for none. BLOCKING. */
void bc_part_drop(struct bc_part *p);

/*
 * Is the file of that name below tmp/ one of these, and not older than that?
 * BLOCKING.
 */
bool bc_part_is_young(int tmp_fd, const char *name, uint32_t max_age_s);
