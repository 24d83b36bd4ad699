/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking bytes away from one cache file.
 *
 * The lock on its directory keeps openers out, so what is not open stays so.
 * Then under the exclusive lock of `ready`: clear bits, move the generation,
 * sync `ready`, punch. Readers that saw the bits before look at the generation
 * after they have read, and it has moved before the first byte went; after a
 * power cut no durable bit stands over a hole.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobcache/evict_int.h"
#include "blobcache/store_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"

#define ST_BLOCK 512 /* what st_blocks counts */
#define LOCK_TRIES 20
#define LOCK_WAIT_MS 5

/* One file at work. */
struct victim {
	struct bc_cachefile c;
	struct bc_map map;
	bool in_use;
};

static uint64_t allocated(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		st.st_blocks < 0)
		return 0;
	return (uint64_t)st.st_blocks * ST_BLOCK;
}

/*
 * A write lease is given only when nobody else has the file open, in no process
 * and not for a mount of the kernel's. Where there are no leases everything is
 * in use.
 */
static bool is_in_use(int dir)
{
	CLEANUP_FD int fd = -1;

	fd = openat(
		dir, "data", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno != ENOENT && errno != ELOOP;
	/* Who opens it meanwhile makes a signal: one that is ignored. */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0 ||
		fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		return true;
	return fcntl(fd, F_SETLEASE, F_UNLCK) < 0;
}

static int unlink_both(int dir, uint64_t *ret_freed)
{
	uint64_t bytes = allocated(dir, "data") + allocated(dir, "ready");
	int r = cachefile_unlink(dir);

	if (r == 0)
		*ret_freed = bytes;
	return r;
}

/* ---- runs ---- */

static void run_chunks(const struct victim *v, uint32_t run,
	uint32_t *ret_first, uint32_t *ret_end)
{
	uint32_t len = bc_ready_run_len(v->map.chunk_count);

	*ret_first = run * len;
	*ret_end = (uint32_t)min_u64(
		v->map.chunk_count, ((uint64_t)run + 1) * len);
}

/* Bytes that nobody can fetch again while the image is mounted. */
static bool run_is_held(const struct victim *v, uint32_t run)
{
	uint32_t first, end;

	if (!v->in_use)
		return false;
	run_chunks(v, run, &first, &end);
	for (; first < end && v->map.has_stream; first++) {
		uint32_t group = bc_map_chunk(&v->map, first).group;

		if (bc_map_group(&v->map, group).codec == BC_CODEC_STREAM)
			return true;
	}
	return false;
}

/*
 * Punch the bytes of chunks [first, end), and what nobody owns around them: a
 * block is freed only as a whole.
 */
static int punch(const struct victim *v, uint32_t first, uint32_t end)
{
	uint64_t from = 0, to = v->map.device_size;
	struct bc_chunk c;

	if (first > 0) {
		c = bc_map_chunk(&v->map, first - 1);
		from = c.dev_off + c.len;
	}
	if (end < v->map.chunk_count)
		to = bc_map_chunk(&v->map, end).dev_off;
	if (bc_map_is_lost(&v->map) || from > to)
		return -EIO; /* it may be anybody's */
	if (from == to)
		return 0;
	if (fallocate(v->c.data.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)from, (off_t)(to - from)) < 0)
		return -errno;
	return 0;
}

static int punch_runs(const struct victim *v, const uint32_t *runs, size_t n)
{
	uint32_t first, end, next_end;
	size_t i;
	int r = 0;

	for (i = 0; i < n && r == 0;) {
		if (run_is_held(v, runs[i])) {
			i++;
			continue;
		}
		run_chunks(v, runs[i], &first, &end);
		for (i++; i < n && runs[i] == runs[i - 1] + 1 &&
			  !run_is_held(v, runs[i]);
			i++) {
			run_chunks(v, runs[i], &(uint32_t){0}, &next_end);
			end = next_end;
		}
		r = punch(v, first, end);
	}
	return r;
}

static int take_runs(struct victim *v, const uint32_t *runs, size_t n)
{
	uint32_t first, end;
	size_t i;

	for (i = 0; i < n; i++) {
		if (runs[i] >= bc_ready_run_count(v->map.chunk_count))
			return -EPROTO; /* another file than was looked at */
		if (run_is_held(v, runs[i]))
			continue;
		run_chunks(v, runs[i], &first, &end);
		bc_ready_clear(&v->c.bits, first, end - first);
	}
	if (fsync(v->c.ready_fd) < 0)
		return -errno;
	return punch_runs(v, runs, n);
}

/* Somebody may be storing; that does not last. */
static int lock_alone(struct bc_cachefile *c)
{
	int r, i;

	for (i = 0; i < LOCK_TRIES; i++) {
		r = cachefile_lock(c);
		if (r != -EAGAIN)
			return r;
		(void)poll(NULL, 0, LOCK_WAIT_MS); /* only to wait */
	}
	return -EAGAIN;
}

static int evict_runs(struct victim *v, int dir, const uint32_t *runs, size_t n,
	uint64_t *ret_freed)
{
	uint64_t before = allocated(dir, "data"), after;
	int r;

	if (bc_ready_is_sealed(&v->c.bits))
		return 0;
	r = lock_alone(&v->c);
	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	/* Sealed, as long as the lock was not ours? */
	if (!bc_ready_is_sealed(&v->c.bits))
		r = take_runs(v, runs, n);
	cachefile_unlock(&v->c);
	after = allocated(dir, "data");
	*ret_freed = before > after ? before - after : 0;
	return r;
}

static int evict_open(struct bc_store *s, int dir, bool in_use,
	const uint32_t *runs, size_t n, uint64_t *ret_freed)
{
	struct victim v = {.in_use = in_use};
	int r;

	r = bc_map_open(dir, "map", NULL, &v.map, NULL);
	if (r < 0)
		return r;
	r = cachefile_open_dir(s, dir, &v.map, &v.c);
	if (r == 0) {
		r = evict_runs(&v, dir, runs, n, ret_freed);
		bc_cachefile_close(&v.c);
	}
	bc_map_close(&v.map);
	return r;
}

int cachefile_evict(struct bc_store *s, const char *path, const uint32_t *runs,
	size_t count, bool everything, uint64_t *ret_freed)
{
	CLEANUP_FD int dir = -1;
	bool in_use;
	int r;

	*ret_freed = 0;
	dir = openat(s->dirfd, path,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || flock(dir, LOCK_EX) < 0)
		return errno == ENOENT ? 0 : -errno;
	in_use = is_in_use(dir);
	if (everything && !in_use)
		return unlink_both(dir, ret_freed);
	if (count == 0)
		return 0;
	r = evict_open(s, dir, in_use, runs, count, ret_freed);
	/* Without its map, or torn: of no use to anybody who opens it. */
	if (!in_use && (r == -ENOENT || r == -EPROTO || r == -EBADMSG))
		return unlink_both(dir, ret_freed);
	return r == -ENOENT ? 0 : r;
}
