/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a map says: the check of all records at once, and of each one as it is
 * read. The second is not for show: a large map is a mapping of its file
 * (map_file.c), and zeros in the place of a lost page would be taken for holes.
 */
#include "blobcache/map.h"

#include <errno.h>
#include <string.h>

#include "blobcache/guard.h"
#include "blobcache/map_int.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "store"

int map_checksum(const void *file, size_t len, struct digest *ret)
{
	const uint8_t *p = file;
	struct digest_ctx *c;
	int r;

	r = digest_ctx_create(DIGEST_SHA256, &c);
	if (r < 0)
		return r;
	r = digest_ctx_update(c, p, offsetof(struct map_header, checksum));
	if (r == 0)
		r = digest_ctx_update(c, p + sizeof(struct map_header),
			len - sizeof(struct map_header));
	if (r == 0)
		r = digest_ctx_final(c, ret);
	digest_ctx_destroy(c);
	return r;
}

static int check_header(const struct map_header *h, size_t len, struct err *e)
{
	static const uint8_t zeros[sizeof(h->reserved)];
	uint64_t want;

	if (memcmp(h->magic, MAP_MAGIC, sizeof(h->magic)) != 0)
		return err_set(e, -EPROTO, "the map has no map header");
	if (h->version != MAP_VERSION)
		return err_set(e, -EPROTO,
			"the map has version %u, which is not known",
			h->version);
	if (h->chunk_count > BC_MAX_CHUNKS || h->group_count > h->chunk_count)
		return err_set(e, -EPROTO,
			"the map claims %u groups of %u chunks", h->group_count,
			h->chunk_count);
	want = sizeof(*h) + h->group_count * (uint64_t)sizeof(struct bc_group) +
	       h->chunk_count * (uint64_t)sizeof(struct bc_chunk) + h->ctx_len;
	if (h->file_len != len || want != len)
		return err_set(e, -EPROTO,
			"the map is %zu bytes long, not the %llu it needs", len,
			(unsigned long long)want);
	if (h->device_size % 512 != 0)
		return err_set(e, -EPROTO,
			"the map's device size %llu is not whole blocks",
			(unsigned long long)h->device_size);
	if (memcmp(h->reserved, zeros, sizeof(zeros)) != 0)
		return err_set(e, -EPROTO, "the map's reserved bytes are used");
	return 0;
}

/*
 * A record by itself, in a copy: between two looks at a mapping its file may
 * change.
 */
static bool group_ctx_is_ok(const struct bc_map *m, const struct bc_group *g)
{
	if (!range_fits(g->ctx_off, g->ctx_len, m->ctx_len))
		return false;
	if (g->codec != BC_CODEC_DEFLATE)
		return g->ctx_len == 0;
	return map_ctx_is_ok(m->ctx + g->ctx_off, g->ctx_len);
}

static bool group_is_ok(const struct bc_map *m, const struct bc_group *g)
{
	static const uint8_t zeros[sizeof(g->pad)];
	uint64_t limit = m->source_size ? m->source_size : UINT64_MAX;

	if (g->src_len == 0 || g->src_len > BC_MAX_GROUP_LEN ||
		g->dec_len == 0 || g->dec_len > BC_MAX_GROUP_LEN)
		return false;
	if (!range_fits(g->src_off, g->src_len, limit))
		return false;
	if (g->chunk_count == 0 ||
		!range_fits(g->first_chunk, g->chunk_count, m->chunk_count))
		return false;
	if (g->codec >= BC_CODEC_COUNT ||
		(g->codec == BC_CODEC_NONE && g->dec_len != g->src_len))
		return false;
	return memcmp(g->pad, zeros, sizeof(zeros)) == 0 &&
	       group_ctx_is_ok(m, g);
}

/* i: its number. */
static bool chunk_is_ok(
	const struct bc_map *m, const struct bc_chunk *c, uint32_t i)
{
	static const uint8_t zeros[sizeof(c->pad)];
	struct bc_group g;

	if (c->len == 0 || c->len > BC_MAX_CHUNK_LEN ||
		!range_fits(c->dev_off, c->len, m->device_size))
		return false;
	if (c->group >= m->group_count)
		return false;
	g = m->groups[c->group];
	if (i < g.first_chunk || i - g.first_chunk >= g.chunk_count)
		return false;
	return range_fits(c->group_off, c->len, g.dec_len) &&
	       (c->algo == DIGEST_SHA256 || c->algo == DIGEST_BLAKE3) &&
	       memcmp(c->pad, zeros, sizeof(zeros)) == 0;
}

static bool groups_are_ok(
	const struct bc_map *m, uint32_t i, bool *ret_has_stream)
{
	const struct bc_group *g = &m->groups[i];

	*ret_has_stream |= g->codec == BC_CODEC_STREAM;
	return group_is_ok(m, g) &&
	       (i == 0 || g->src_off >= m->groups[i - 1].src_off);
}

static bool chunks_are_ok(const struct bc_map *m, uint32_t i)
{
	const struct bc_chunk *c = &m->chunks[i];

	return chunk_is_ok(m, c, i) &&
	       (i == 0 || c->dev_off >= c[-1].dev_off + c[-1].len);
}

/*
 * Every chunk lies in the range that its group claims and the claims add up to
 * all chunks: so each group claims its own chunks and no other.
 */
static int check_records(struct bc_map *m, struct err *e)
{
	uint64_t claimed = 0;
	uint32_t i;

	for (i = 0; i < m->group_count; i++) {
		if (!groups_are_ok(m, i, &m->has_stream))
			return err_set(
				e, -EPROTO, "group %u of the map is broken", i);
		claimed += m->groups[i].chunk_count;
	}
	for (i = 0; i < m->chunk_count; i++) {
		if (!chunks_are_ok(m, i))
			return err_set(
				e, -EPROTO, "chunk %u of the map is broken", i);
		m->bytes += m->chunks[i].len;
	}
	if (claimed != m->chunk_count)
		return err_set(e, -EPROTO,
			"the map's groups do not share out its chunks");
	return 0;
}

int map_parse(const void *bytes, size_t len, const struct map_known *known,
	struct bc_map *ret, struct err *e)
{
	struct map_header copy, *h = &copy;
	struct bc_map m = {0};
	int r;

	if (len < sizeof(*h))
		return err_set(e, -EPROTO, "the map ends in its header");
	memcpy(h, bytes, sizeof(*h));
	if (len > MAP_MAX_BYTES)
		return err_set(e, -E2BIG, "the map is larger than %u bytes",
			MAP_MAX_BYTES);
	r = check_header(h, len, e);
	if (r < 0)
		return r;
	m.groups = (const void *)((const uint8_t *)bytes + sizeof(*h));
	m.chunks = (const void *)(m.groups + h->group_count);
	m.ctx = (const void *)(m.chunks + h->chunk_count);
	m.group_count = h->group_count;
	m.chunk_count = h->chunk_count;
	m.ctx_len = h->ctx_len;
	m.device_size = h->device_size;
	m.source_size = h->source_size;
	m.base = bytes;
	m.base_len = len;
	if (known) {
		m.bytes = known->bytes;
		m.has_stream = known->has_stream;
	} else {
		r = check_records(&m, e);
	}
	if (r == 0)
		*ret = m;
	return r;
}

int bc_map_from_bytes(
	uint8_t *bytes, size_t len, struct bc_map *ret, struct err *e)
{
	struct digest sum;
	struct bc_map m;
	int r;

	r = map_parse(bytes, len, NULL, &m, e);
	if (r < 0)
		return r;
	r = map_checksum(bytes, len, &sum);
	if (r == 0 && memcmp(sum.bytes,
			      ((const struct map_header *)(const void *)bytes)
				      ->checksum,
			      32) != 0)
		r = -EBADMSG;
	if (r == 0)
		r = digest_of(DIGEST_SHA256, bytes, len, &m.id);
	if (r < 0)
		return err_set(e, r, "the map's checksum is wrong");
	*ret = m;
	return 0;
}

bool bc_map_is_lost(const struct bc_map *m)
{
	return m->file &&
	       (atomic_load_explicit(&m->file->is_lost, memory_order_relaxed) ||
		       bc_guard_is_broken(m->file->guard));
}

void bc_map_set_lost(const struct bc_map *m)
{
	/* one in memory was checked whole and stays as it is */
	if (m->file && !atomic_exchange(&m->file->is_lost, true))
		log_warn("a map in the cache is no longer what it was, "
			 "answering with I/O errors until the image is "
			 "mounted again");
}

struct bc_chunk bc_map_chunk(const struct bc_map *m, uint32_t i)
{
	struct bc_chunk c;

	memcpy(&c, &m->chunks[i], sizeof(c));
	if (chunk_is_ok(m, &c, i))
		return c;
	bc_map_set_lost(m);
	return (struct bc_chunk){0};
}

struct bc_group bc_map_group(const struct bc_map *m, uint32_t i)
{
	struct bc_group g;

	memcpy(&g, &m->groups[i], sizeof(g));
	if (group_is_ok(m, &g))
		return g;
	bc_map_set_lost(m);
	return (struct bc_group){0};
}

uint8_t *bc_map_ctx(const struct bc_map *m, const struct bc_group *g)
{
	uint8_t *p = g->ctx_len ? mem_alloc(g->ctx_len) : NULL;

	if (p)
		memcpy(p, m->ctx + g->ctx_off, g->ctx_len);
	return p;
}

uint32_t bc_map_find(const struct bc_map *m, uint64_t off)
{
	uint32_t lo = 0, hi = m->chunk_count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (m->chunks[mid].dev_off + m->chunks[mid].len > off)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}
