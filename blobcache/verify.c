/* SPDX-License-Identifier: Apache-2.0 */
/* Reading cache files back; see verify.h. */
#include "blobcache/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "blobcache/store_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"
#include "runtime/base/whole.h"

#define PIECE (1u << 20) /* bytes read at once */
#define TRIES 3          /* while something is evicted under us */

/* 0, -EBADMSG (also what cannot be read), -ENOMEM. */
static int hash_chunk(const struct bc_cachefile *c, const struct bc_chunk *k,
	uint8_t *piece, struct digest *ret)
{
	struct digest_ctx *h = NULL;
	uint32_t at, n;
	int r;

	r = digest_ctx_create(k->algo, &h);
	for (at = 0; r == 0 && at < k->len; at += n) {
		n = (uint32_t)min_u64(PIECE, k->len - at);
		if (whole_pread(c->data.fd, piece, n, k->dev_off + at) < 0)
			r = -EBADMSG;
		else
			r = digest_ctx_update(h, piece, n);
	}
	if (r == 0)
		r = digest_ctx_final(h, ret);
	digest_ctx_destroy(h);
	return r;
}

/*
 * 0, -EBADMSG, -ENOENT (it is not there), -EAGAIN (it went meanwhile), -EIO
 * (nobody can tell: the map is lost).
 */
static int check_chunk(struct bc_cachefile *c, uint32_t i, uint8_t *piece)
{
	const struct bc_chunk k = bc_map_chunk(c->map, i);
	uint64_t generation = bc_cachefile_generation(c);
	struct digest d;
	int r;

	if (!bc_cachefile_is_ready(c, i, 1))
		return -ENOENT;
	if (bc_map_is_lost(c->map))
		return -EIO;
	r = hash_chunk(c, &k, piece, &d);
	if (r == 0 && memcmp(d.bytes, k.digest, sizeof(k.digest)) != 0)
		r = -EBADMSG;
	if (r == -EBADMSG && bc_cachefile_generation(c) != generation)
		r = -EAGAIN;
	return r;
}

static int check_all(struct bc_cachefile *c, struct bc_verified *v)
{
	CLEANUP_FREE uint8_t *piece = mem_alloc(PIECE);
	uint32_t i, len;
	int r = 0, tries;

	if (!piece)
		return -ENOMEM;
	for (i = 0; i < c->map->chunk_count; i++) {
		len = bc_map_chunk(c->map, i).len;
		r = -EAGAIN;
		for (tries = 0; r == -EAGAIN && tries < TRIES; tries++)
			r = check_chunk(c, i, piece);
		if (r == 0) {
			v->bytes += len;
		} else if (r == -EBADMSG) {
			bc_cachefile_clear_ready(c, i);
			v->bad_bytes += len;
			v->bad_chunks++;
		} else if (r != -ENOENT && r != -EAGAIN) {
			return r;
		}
	}
	return 0;
}

static int verify_dir(struct bc_store *s, int dir,
	const struct bc_inventory_blob *b, struct bc_verified *v)
{
	struct bc_cachefile c;
	struct bc_map map;
	int r;

	r = bc_map_open(dir, "map", &b->map_id, &map, NULL);
	if (r < 0)
		return r;
	r = cachefile_open_dir(s, dir, &map, &c);
	if (r == 0) {
		/* open is enough to keep it whole */
		(void)flock(dir, LOCK_UN);
		r = check_all(&c, v);
		bc_cachefile_close(&c);
	}
	bc_map_close(&map);
	return r;
}

int cachefile_trust_again(struct bc_cachefile *c)
{
	CLEANUP_FREE uint64_t *snapshot =
		mem_calloc(c->bits.words, sizeof(*snapshot));
	CLEANUP_FREE uint8_t *piece = mem_alloc(PIECE);
	uint32_t i;
	int r;

	if (!snapshot || !piece)
		return -ENOMEM;
	for (i = 0; i < c->map->chunk_count; i++) {
		if (!bc_ready_test(c->bits.ready, i, 1) ||
			bc_ready_test(c->bits.durable, i, 1))
			continue;
		r = check_chunk(c, i, piece);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			bc_ready_clear(&c->bits, i, 1);
	}
	/* read back after a boot, they were on the disk */
	bc_ready_snapshot(&c->bits, snapshot);
	bc_ready_set_durable(&c->bits, snapshot);
	bc_ready_set_boot(&c->bits, c->store->boot_id);
	return 0;
}

int bc_store_verify(struct bc_store *s, const struct bc_inventory_blob *b,
	struct bc_verified *ret, struct err *e)
{
	struct bc_verified v = {0};
	CLEANUP_FD int dir = -1;
	int r = 0;

	dir = openat(s->dirfd, b->dir,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 && errno != ENOENT)
		return err_sys(
			e, -errno, "cannot open '%s/%s'", s->path, b->dir);
	if (dir >= 0)
		r = verify_dir(s, dir, b, &v);
	if (r == -ENOENT && faccessat(s->dirfd, b->dir, F_OK, 0) == 0)
		r = -EPROTO;
	if (r == -EPROTO || r == -EBADMSG || r == -ELOOP) {
		v.is_torn = true;
		r = 0;
	}
	if (r < 0 && r != -ENOENT)
		return err_sys(e, r, "cannot verify '%s/%s'", s->path, b->dir);
	*ret = v;
	return 0;
}
