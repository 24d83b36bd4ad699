/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole blob through blobcache/unpack.h, and its groups judged one by one.
 * For tests and fuzz targets: no cmocka in here.
 */
#pragma once

#include <string.h>

#include "blobcache/decode.h"
#include "blobcache/unpack.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

struct unpack_run {
	struct bc_unpack *u;
	struct buf out;  /* what it unpacks to */
	size_t chunk_at; /* where the open chunk begins */
	struct err e;
};

static inline int unpack_end_chunk(struct unpack_run *r)
{
	struct digest d;
	int ret = 0;
	size_t n;

	while (ret == 0 && r->chunk_at < r->out.len) {
		n = (size_t)min_u64(
			r->out.len - r->chunk_at, BC_UNPACK_MAX_CHUNK);
		ret = digest_of(
			DIGEST_SHA256, r->out.data + r->chunk_at, n, &d);
		if (ret == 0)
			ret = bc_unpack_add_chunk(r->u, n, &d);
		r->chunk_at += n;
	}
	return ret;
}

static inline int unpack_feed(
	struct unpack_run *r, const uint8_t *p, size_t n, size_t room)
{
	struct bc_unpack_io io = {.in = p, .in_len = n};
	bool is_new, is_full;
	int ret;

	do {
		ret = buf_reserve(&r->out, room);
		if (ret < 0)
			return ret;
		io.out = r->out.data + r->out.len;
		io.out_len = room;
		ret = bc_unpack_step(r->u, &io, &is_new, &r->e);
		if (ret < 0)
			return ret;
		r->out.len += room - io.out_len;
		is_full = io.out_len == 0;
		if (is_new)
			ret = unpack_end_chunk(r);
	} while (ret == 0 && (io.in_len > 0 || is_full || is_new));
	return ret;
}

/*
 * Unpack n bytes given in pieces of that size, with room bytes for the output
 * at a time and not more than limit of it (0: any). The map's bytes go to map.
 * The caller ends both with unpack_fini and buf_fini, after an error too.
 */
static inline int unpack_all(struct unpack_run *r, const uint8_t *p, size_t n,
	size_t piece, size_t room, uint64_t span, uint64_t limit,
	struct buf *map)
{
	size_t at, len;
	int ret;

	*r = (struct unpack_run){0};
	buf_init(&r->out, limit);
	buf_init(map, 0);
	ret = bc_unpack_create(bc_packing_of(p, n), span, &r->u);
	for (at = 0; ret == 0 && at < n; at += len) {
		len = (size_t)min_u64(piece, n - at);
		ret = unpack_feed(r, p + at, len, room);
	}
	if (ret == 0)
		ret = bc_unpack_finish(r->u, &r->e);
	if (ret == 0)
		ret = unpack_end_chunk(r);
	if (ret == 0)
		ret = bc_unpack_map(r->u, map, &r->e);
	return ret;
}

static inline void unpack_fini(struct unpack_run *r)
{
	bc_unpack_destroy(r->u);
	buf_fini(&r->out);
}

/* Does the group, decoded from its range alone, have what plain has there? */
static inline bool unpack_group_is(const struct bc_map *m,
	const struct bc_group *g, const uint8_t *blob, const uint8_t *plain)
{
	const struct bc_chunk *c = &m->chunks[g->first_chunk];
	uint8_t *dec = mem_alloc(g->dec_len);
	struct digest d = {.algo = DIGEST_SHA256};
	bool good;
	uint32_t i;

	good = dec &&
	       bc_decode(g->codec, blob + g->src_off, g->src_len,
		       m->ctx + g->ctx_off, g->ctx_len, dec, g->dec_len) == 0 &&
	       memcmp(dec, plain + c->dev_off, g->dec_len) == 0;
	for (i = 0; good && i < g->chunk_count; i++) {
		memcpy(d.bytes, c[i].digest, 32);
		good = digest_check(&d, dec + c[i].group_off, c[i].len) == 0;
	}
	mem_free(dec);
	return good;
}
