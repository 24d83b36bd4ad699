/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream on its way into the cache: a file below tmp/ which nobody reads
 * until all of it was verified. A process that ends leaves the file behind; the
 * next one that opens the cache sweeps it away.
 */
#include <errno.h>
#include <unistd.h>

#include "blobcache/evict.h"
#include "blobcache/store.h"
#include "blobcache/store_int.h"
#include "runtime/base/whole.h"

bool store_has_no_room(struct bc_store *s)
{
	return bc_store_wants_room(s) ? !bc_store_make_room(s)
	                              : bc_store_is_full(s);
}

int bc_spool_open(struct bc_store *s, struct bc_spool *ret)
{
	struct bc_spool sp = {.store = s, .fd = -1};
	int r;

	if (s->read_only)
		return -EROFS;
	if (store_has_no_room(s))
		return -ENOSPC;
	r = store_tmp_create(s, sp.name, &sp.fd);
	if (r == 0)
		*ret = sp;
	return r;
}

int bc_spool_write(struct bc_spool *sp, const void *p, size_t n, uint64_t off)
{
	int r;

	if (store_has_no_room(sp->store))
		return -ENOSPC;
	r = whole_pwrite(sp->fd, p, n, off);
	if (r == 0)
		bc_store_note(sp->store, n);
	return r;
}

int bc_spool_adopt(struct bc_spool *sp, const struct digest *blob,
	const struct bc_map *map)
{
	return store_adopt(sp->store, sp->name, sp->fd, blob, map);
}

void bc_spool_close(struct bc_spool *sp)
{
	if (!sp->store)
		return;
	/* adopted, it has another name now */
	(void)unlinkat(sp->store->dirfd, sp->name, 0); /* else the next sweep */
	(void)close(sp->fd); /* synced with the cache file, or not wanted */
	*sp = (struct bc_spool){.fd = -1};
}
