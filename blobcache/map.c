/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading maps. A map file is read into memory whole, because a mapping of it
 * would turn a read error of the disk into SIGBUS, and zeros in its place would
 * be taken for holes; it is hashed whole on open anyway.
 */
#include "blobcache/map.h"

#include <errno.h>
#include <string.h>

#include "blobcache/map_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

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

static bool group_ctx_is_ok(const struct bc_map *m, const struct bc_group *g)
{
	if (!range_fits(g->ctx_off, g->ctx_len, m->ctx_len))
		return false;
	if (g->codec != BC_CODEC_DEFLATE)
		return g->ctx_len == 0;
	return map_ctx_is_ok(m->ctx + g->ctx_off, g->ctx_len);
}

static bool group_is_ok(const struct bc_map *m, uint32_t i)
{
	static const uint8_t zeros[sizeof(m->groups->pad)];
	const struct bc_group *g = &m->groups[i];
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
	if (i > 0 && g->src_off < m->groups[i - 1].src_off)
		return false;
	return memcmp(g->pad, zeros, sizeof(zeros)) == 0 &&
	       group_ctx_is_ok(m, g);
}

static bool chunk_is_ok(const struct bc_map *m, uint32_t i)
{
	static const uint8_t zeros[sizeof(m->chunks->pad)];
	const struct bc_chunk *c = &m->chunks[i];
	const struct bc_group *g;

	if (c->len == 0 || c->len > BC_MAX_CHUNK_LEN ||
		!range_fits(c->dev_off, c->len, m->device_size))
		return false;
	if (i > 0 &&
		c->dev_off < m->chunks[i - 1].dev_off + m->chunks[i - 1].len)
		return false;
	if (c->group >= m->group_count)
		return false;
	g = &m->groups[c->group];
	if (i < g->first_chunk || i - g->first_chunk >= g->chunk_count)
		return false;
	return range_fits(c->group_off, c->len, g->dec_len) &&
	       (c->algo == DIGEST_SHA256 || c->algo == DIGEST_BLAKE3) &&
	       memcmp(c->pad, zeros, sizeof(zeros)) == 0;
}

/*
 * Every chunk lies in the range that its group claims and the claims add up to
 * all chunks: so each group claims its own chunks and no other.
 */
static int check_records(const struct bc_map *m, struct err *e)
{
	uint64_t claimed = 0;
	uint32_t i;

	for (i = 0; i < m->group_count; i++) {
		if (!group_is_ok(m, i))
			return err_set(
				e, -EPROTO, "group %u of the map is broken", i);
		claimed += m->groups[i].chunk_count;
	}
	for (i = 0; i < m->chunk_count; i++)
		if (!chunk_is_ok(m, i))
			return err_set(
				e, -EPROTO, "chunk %u of the map is broken", i);
	if (claimed != m->chunk_count)
		return err_set(e, -EPROTO,
			"the map's groups do not share out its chunks");
	return 0;
}

/* Fills ret with pointers into bytes; takes nothing. */
static int parse(
	const uint8_t *bytes, size_t len, struct bc_map *ret, struct err *e)
{
	const struct map_header *h = (const void *)bytes;
	struct bc_map m = {0};
	int r;

	if (len < sizeof(*h))
		return err_set(e, -EPROTO, "the map ends in its header");
	if (len > MAP_MAX_BYTES)
		return err_set(e, -E2BIG, "the map is larger than %u bytes",
			MAP_MAX_BYTES);
	r = check_header(h, len, e);
	if (r < 0)
		return r;
	m.groups = (const void *)(bytes + sizeof(*h));
	m.chunks = (const void *)(m.groups + h->group_count);
	m.ctx = (const void *)(m.chunks + h->chunk_count);
	m.group_count = h->group_count;
	m.chunk_count = h->chunk_count;
	m.ctx_len = h->ctx_len;
	m.device_size = h->device_size;
	m.source_size = h->source_size;
	m.base = bytes;
	m.base_len = len;
	r = check_records(&m, e);
	if (r < 0)
		return r;
	*ret = m;
	return 0;
}

int bc_map_from_bytes(
	uint8_t *bytes, size_t len, struct bc_map *ret, struct err *e)
{
	struct digest sum;
	struct bc_map m;
	int r;

	r = parse(bytes, len, &m, e);
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

int bc_map_open(int dirfd, const char *path, const struct digest *want,
	struct bc_map *ret, struct err *e)
{
	struct digest id;
	struct bc_map m;
	struct buf b;
	int r;

	buf_init(&b, MAP_MAX_BYTES);
	r = buf_read_file(&b, dirfd, path);
	if (r < 0) {
		r = err_sys(e, r, "cannot read the map '%s'", path);
		goto fail;
	}
	if (!want) {
		r = bc_map_from_bytes(b.data, b.len, ret, e);
		if (r < 0)
			goto fail_named;
		return 0;
	}
	r = digest_of(DIGEST_SHA256, b.data, b.len, &id);
	if (r == 0 && !digest_is_equal(&id, want))
		r = -EBADMSG;
	if (r < 0) {
		r = err_set(
			e, r, "the map '%s' does not have its digest", path);
		goto fail;
	}
	r = parse(b.data, b.len, &m, e);
	if (r < 0)
		goto fail_named;
	m.id = id;
	*ret = m;
	return 0;

fail_named:
	(void)err_wrap(e, "'%s'", path);
fail:
	buf_fini(&b);
	return r;
}

void bc_map_close(struct bc_map *m)
{
	mem_free((void *)m->base);
	*m = (struct bc_map){0};
}

bool bc_map_has_stream(const struct bc_map *m)
{
	uint32_t i;

	for (i = 0; i < m->group_count; i++)
		if (m->groups[i].codec == BC_CODEC_STREAM)
			return true;
	return false;
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
