/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to an open cache file: bits are asked for, set and cleared, data
 * is written beside other threads and processes, made durable, and sealed.
 *
 * The lock on `ready` keeps writers (shared) apart from whoever takes something
 * away or seals (exclusive). flock belongs to an open file, which all threads
 * of a process share, so within the process a count does the same.
 */
#include <errno.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "blobcache/guard.h"
#include "blobcache/store.h"
#include "blobcache/store_int.h"
#include "runtime/base/cleanup.h"

/* ---- bits ---- */

static bool is_usable(const struct bc_cachefile *c)
{
	return c->data.fd >= 0 && !bc_guard_is_broken(c->guard);
}

static bool is_distrusted(
	const struct bc_cachefile *c, uint32_t first, uint32_t count)
{
	uint32_t i;

	for (i = first; i < first + count; i++)
		if (atomic_load(&c->distrusted[i / 64]) & 1ull << i % 64)
			return true;
	return false;
}

bool bc_cachefile_is_ready(
	const struct bc_cachefile *c, uint32_t first, uint32_t count)
{
	if (!is_usable(c))
		return false;
	if (!bc_ready_test(c->durable_only ? c->bits.durable : c->bits.ready,
		    first, count))
		return false;
	if (c->distrusted && is_distrusted(c, first, count))
		return false;
	return !bc_guard_is_broken(c->guard);
}

uint64_t bc_cachefile_generation(const struct bc_cachefile *c)
{
	return is_usable(c) ? bc_ready_generation(&c->bits) : 0;
}

void bc_cachefile_touch(struct bc_cachefile *c, uint32_t first, uint32_t count)
{
	struct timespec now;

	if (!is_usable(c) || c->read_only)
		return;
	(void)clock_gettime(CLOCK_REALTIME_COARSE, &now); /* cannot fail */
	bc_ready_touch(&c->bits, first, count, (uint32_t)now.tv_sec);
}

void bc_cachefile_clear_ready(struct bc_cachefile *c, uint32_t chunk)
{
	struct stat st;

	if (!is_usable(c))
		return;
	if (c->distrusted) {
		atomic_fetch_or(&c->distrusted[chunk / 64], 1ull << chunk % 64);
		return;
	}
	/*
	 * A file that was cut short has lost more than this chunk, and the next
	 * write behind its end would make the rest look like zeros.
	 */
	if (fstat(c->data.fd, &st) < 0 ||
		(uint64_t)st.st_size != c->map->device_size)
		bc_ready_clear(&c->bits, 0, c->map->chunk_count);
	else
		bc_ready_clear(&c->bits, chunk, 1);
}

uint64_t bc_cachefile_ready_bytes(const struct bc_cachefile *c)
{
	uint64_t sum = 0;
	uint32_t i;

	if (bc_cachefile_is_ready(c, 0, c->map->chunk_count))
		return c->map->bytes;
	for (i = 0; i < c->map->chunk_count; i++)
		if (bc_cachefile_is_ready(c, i, 1))
			sum += bc_map_chunk(c->map, i).len;
	return sum;
}

/* ---- writing ---- */

/*
 * A data file that was cut short has lost chunks, and a write behind its end
 * makes them look like zeros. Clears all bits and mends the length. 0: it was
 * whole; 1: it was not; or -errno.
 */
static int check_size(struct bc_cachefile *c)
{
	struct stat st;

	if (fstat(c->data.fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size == c->map->device_size)
		return 0;
	bc_ready_clear(&c->bits, 0, c->map->chunk_count);
	if (ftruncate(c->data.fd, (off_t)c->map->device_size) < 0)
		return -errno;
	return 1;
}

int bc_cachefile_set_ready(
	struct bc_cachefile *c, uint32_t first, uint32_t count)
{
	uint32_t i;

	if (!is_usable(c) || c->read_only || check_size(c) != 0)
		return -EIO;
	bc_cachefile_touch(c, first, count);
	for (i = first; i < first + count; i++)
		bc_ready_set(&c->bits, i);
	return 0;
}

int bc_cachefile_store_begin(struct bc_cachefile *c)
{
	int r = 0;

	if (!is_usable(c) || c->read_only)
		return -EROFS;
	(void)pthread_mutex_lock(&c->lock); /* a plain mutex cannot fail */
	if (c->is_locked)
		r = -EAGAIN;
	else if (c->stores == 0 && flock(c->ready_fd, LOCK_SH | LOCK_NB) < 0)
		r = -errno;
	else
		c->stores++;
	(void)pthread_mutex_unlock(&c->lock);
	if (r < 0)
		return r;
	if (bc_ready_is_sealed(&c->bits))
		r = -EROFS;
	else
		r = check_size(c);
	if (r < 0)
		bc_cachefile_store_end(c);
	return r < 0 ? r : 0;
}

void bc_cachefile_store_end(struct bc_cachefile *c)
{
	(void)pthread_mutex_lock(&c->lock);
	if (--c->stores == 0)
		(void)flock(c->ready_fd, LOCK_UN); /* held, so it works */
	(void)pthread_mutex_unlock(&c->lock);
}

/*
 * Bits that were ready before the fdatasync become durable after it, unless
 * something was evicted meanwhile: then the next round does it.
 */
int bc_cachefile_sync(struct bc_cachefile *c)
{
	CLEANUP_FREE uint64_t *snapshot = NULL;
	uint64_t generation;
	int r;

	if (!is_usable(c) || c->read_only)
		return 0;
	snapshot = mem_calloc(c->bits.words, sizeof(*snapshot));
	if (!snapshot)
		return -ENOMEM;
	generation = bc_ready_generation(&c->bits);
	bc_ready_snapshot(&c->bits, snapshot);
	if (fdatasync(c->data.fd) < 0) {
		r = -errno;
		bc_ready_clear_not_durable(&c->bits);
		return r;
	}
	r = bc_cachefile_store_begin(c);
	if (r == -EROFS)
		return 0;
	if (r < 0)
		return r;
	if (bc_ready_generation(&c->bits) == generation)
		bc_ready_set_durable(&c->bits, snapshot);
	else
		r = -EAGAIN;
	bc_cachefile_store_end(c);
	return r;
}

/* ---- alone with it ---- */

int cachefile_lock(struct bc_cachefile *c)
{
	int r = 0;

	if (!is_usable(c) || c->read_only)
		return -EROFS;
	(void)pthread_mutex_lock(&c->lock); /* a plain mutex cannot fail */
	if (c->is_locked || c->stores > 0)
		r = -EAGAIN;
	else if (flock(c->ready_fd, LOCK_EX | LOCK_NB) < 0)
		r = -errno;
	else
		c->is_locked = true;
	(void)pthread_mutex_unlock(&c->lock);
	return r;
}

void cachefile_unlock(struct bc_cachefile *c)
{
	(void)pthread_mutex_lock(&c->lock);
	c->is_locked = false;
	(void)flock(c->ready_fd, LOCK_UN); /* held, so it works */
	(void)pthread_mutex_unlock(&c->lock);
}

static bool is_whole(const struct bc_cachefile *c)
{
	struct stat st;

	return fstat(c->data.fd, &st) == 0 &&
	       (uint64_t)st.st_size == c->map->device_size &&
	       bc_cachefile_is_ready(c, 0, c->map->chunk_count);
}

/*
 * Each step is on the disk before the next one counts: the data, its durable
 * bits, the flag.
 */
static int seal_under_lock(struct bc_cachefile *c)
{
	CLEANUP_FREE uint64_t *snapshot = NULL;
	int r;

	if (!is_whole(c))
		return -ENODATA;
	if (bc_ready_is_sealed(&c->bits))
		return 0;
	snapshot = mem_calloc(c->bits.words, sizeof(*snapshot));
	if (!snapshot)
		return -ENOMEM;
	bc_ready_snapshot(&c->bits, snapshot);
	if (fdatasync(c->data.fd) < 0) {
		r = -errno;
		bc_ready_clear_not_durable(&c->bits);
		return r;
	}
	bc_ready_set_durable(&c->bits, snapshot);
	if (fsync(c->ready_fd) < 0)
		return -errno;
	/* Somebody's read may have failed meanwhile. */
	if (!is_whole(c))
		return -ENODATA;
	bc_ready_seal(&c->bits);
	return fsync(c->ready_fd) < 0 ? -errno : 0;
}

int bc_cachefile_seal(struct bc_cachefile *c)
{
	int r;

	if (is_usable(c) && bc_ready_is_sealed(&c->bits))
		return is_whole(c) ? 0 : -ENODATA;
	r = cachefile_lock(c);
	if (r < 0)
		return r;
	r = seal_under_lock(c);
	cachefile_unlock(c);
	return r;
}

bool bc_cachefile_is_sealed(const struct bc_cachefile *c)
{
	return is_usable(c) && bc_ready_is_sealed(&c->bits) && is_whole(c);
}
