/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building maps: groups and chunks are collected in any order, then sorted,
 * checked and written. The result depends on what was added, not on the order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/map.h"
#include "blobcache/map_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define NO_GROUP UINT32_MAX

struct bc_map_builder {
	struct bc_group *groups; /* owned */
	size_t group_count, group_cap;
	struct bc_chunk *chunks; /* owned; group numbers as handed out */
	size_t chunk_count, chunk_cap;
	uint32_t *slots; /* owned; open addressing over groups, NO_GROUP free */
	size_t slot_count; /* a power of two, 0 at first */
	struct buf ctx;
};

int bc_map_builder_create(struct bc_map_builder **ret)
{
	struct bc_map_builder *b = mem_zalloc(sizeof(*b));

	if (!b)
		return -ENOMEM;
	buf_init(&b->ctx, MAP_MAX_BYTES);
	*ret = b;
	return 0;
}

void bc_map_builder_destroy(struct bc_map_builder *b)
{
	if (!b)
		return;
	mem_free(b->groups);
	mem_free(b->chunks);
	mem_free(b->slots);
	buf_fini(&b->ctx);
	mem_free(b);
}

static uint64_t group_hash(uint64_t src_off, uint64_t src_len, uint8_t codec)
{
	uint64_t h = src_off * 0x9e3779b97f4a7c15u;

	h ^= (src_len << 8 | codec) * 0xc2b2ae3d27d4eb4fu;
	return h ^ h >> 29;
}

static size_t slot_of(const struct bc_map_builder *b, uint64_t src_off,
	uint64_t src_len, uint8_t codec)
{
	size_t i = group_hash(src_off, src_len, codec) & (b->slot_count - 1);

	while (b->slots[i] != NO_GROUP) {
		const struct bc_group *g = &b->groups[b->slots[i]];

		if (g->src_off == src_off && g->src_len == src_len &&
			g->codec == codec)
			break;
		i = (i + 1) & (b->slot_count - 1);
	}
	return i;
}

/* Keeps the table at most half full. */
static int slots_grow(struct bc_map_builder *b)
{
	size_t i, old_count = b->slot_count;
	uint32_t *slots, *old = b->slots;

	if (b->group_count * 2 < b->slot_count)
		return 0;
	b->slot_count = old_count ? old_count * 2 : 64;
	slots = mem_calloc(b->slot_count, sizeof(*slots));
	if (!slots) {
		b->slot_count = old_count;
		return -ENOMEM;
	}
	memset(slots, 0xff, b->slot_count * sizeof(*slots));
	b->slots = slots;
	for (i = 0; i < b->group_count; i++) {
		const struct bc_group *g = &b->groups[i];

		slots[slot_of(b, g->src_off, g->src_len, g->codec)] =
			(uint32_t)i;
	}
	mem_free(old);
	return 0;
}

static int check_group(uint64_t src_off, uint64_t src_len, uint64_t dec_len,
	enum bc_codec codec, const uint8_t *ctx, size_t ctx_len)
{
	uint64_t end;

	if (src_len > BC_MAX_GROUP_LEN || dec_len > BC_MAX_GROUP_LEN)
		return -E2BIG;
	if (src_len == 0 || add_overflows(src_off, src_len, &end))
		return -EPROTO;
	if ((unsigned)codec >= BC_CODEC_COUNT ||
		(codec == BC_CODEC_NONE && dec_len > src_len))
		return -EPROTO;
	if (codec != BC_CODEC_DEFLATE)
		return ctx_len == 0 ? 0 : -EPROTO;
	return map_ctx_is_ok(ctx, ctx_len) ? 0 : -EPROTO;
}

static int group_append(struct bc_map_builder *b, const struct bc_group *g)
{
	int r;

	r = mem_grow((void **)&b->groups, &b->group_cap, b->group_count + 1,
		BC_MAX_CHUNKS, sizeof(*b->groups));
	if (r == 0)
		r = slots_grow(b);
	if (r < 0)
		return r;
	b->slots[slot_of(b, g->src_off, g->src_len, g->codec)] =
		(uint32_t)b->group_count;
	b->groups[b->group_count++] = *g;
	return 0;
}

int bc_map_add_group(struct bc_map_builder *b, uint64_t src_off,
	uint64_t src_len, uint64_t dec_len, enum bc_codec codec,
	const void *ctx, size_t ctx_len, uint32_t *ret_group)
{
	struct bc_group g = {0};
	size_t at;
	int r;

	r = check_group(src_off, src_len, dec_len, codec, ctx, ctx_len);
	if (r < 0)
		return r;
	if (codec == BC_CODEC_NONE)
		dec_len = src_len;
	if (b->slot_count) {
		at = slot_of(b, src_off, src_len, (uint8_t)codec);
		if (b->slots[at] != NO_GROUP) {
			struct bc_group *old = &b->groups[b->slots[at]];

			old->dec_len = (uint32_t)max_u64(old->dec_len, dec_len);
			*ret_group = b->slots[at];
			return 0;
		}
	}
	g.src_off = src_off;
	g.src_len = (uint32_t)src_len;
	g.dec_len = (uint32_t)dec_len;
	g.codec = (uint8_t)codec;
	g.ctx_off = (uint32_t)b->ctx.len;
	g.ctx_len = (uint32_t)ctx_len;
	r = buf_append(&b->ctx, ctx, ctx_len);
	if (r < 0)
		return r;
	r = group_append(b, &g);
	if (r < 0) {
		b->ctx.len -= ctx_len;
		return r;
	}
	*ret_group = (uint32_t)(b->group_count - 1);
	return 0;
}

int bc_map_add_chunk(struct bc_map_builder *b, uint32_t group, uint64_t dev_off,
	uint64_t len, uint64_t group_off, const struct digest *digest)
{
	struct bc_chunk c = {0};
	struct bc_group *g;
	uint64_t end;
	int r;

	if (group >= b->group_count)
		return -EPROTO;
	g = &b->groups[group];
	if (len > BC_MAX_CHUNK_LEN || add_overflows(group_off, len, &end) ||
		end > BC_MAX_GROUP_LEN)
		return -E2BIG;
	if (len == 0 || add_overflows(dev_off, len, &end) ||
		(g->codec == BC_CODEC_NONE && group_off + len > g->dec_len))
		return -EPROTO;
	if (digest->algo != DIGEST_SHA256 && digest->algo != DIGEST_BLAKE3)
		return -EOPNOTSUPP;
	r = mem_grow((void **)&b->chunks, &b->chunk_cap, b->chunk_count + 1,
		BC_MAX_CHUNKS, sizeof(*b->chunks));
	if (r < 0)
		return r;
	g->dec_len = (uint32_t)max_u64(g->dec_len, group_off + len);
	c.dev_off = dev_off;
	c.len = (uint32_t)len;
	c.group = group;
	c.group_off = (uint32_t)group_off;
	c.algo = (uint8_t)digest->algo;
	memcpy(c.digest, digest->bytes, sizeof(c.digest));
	b->chunks[b->chunk_count++] = c;
	return 0;
}

/* ---- finish ---- */

static int cmp_u64(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int cmp_groups(const void *a, const void *b, void *arg)
{
	const struct bc_group *groups = arg;
	const struct bc_group *x = &groups[*(const uint32_t *)a];
	const struct bc_group *y = &groups[*(const uint32_t *)b];
	int r;

	r = cmp_u64(x->src_off, y->src_off);
	if (r == 0)
		r = cmp_u64(x->src_len, y->src_len);
	return r ? r : cmp_u64(x->codec, y->codec);
}

static int cmp_chunks(const void *a, const void *b)
{
	const struct bc_chunk *x = a, *y = b;
	int r;

	r = cmp_u64(x->dev_off, y->dev_off);
	if (r == 0)
		r = cmp_u64(x->len, y->len);
	if (r == 0)
		r = cmp_u64(x->group, y->group);
	return r ? r : memcmp(x, y, sizeof(*x));
}

/* Sorted chunks without repetitions. */
static size_t chunks_unique(struct bc_chunk *chunks, size_t n)
{
	size_t i, kept = 0;

	for (i = 0; i < n; i++)
		if (kept == 0 || memcmp(&chunks[kept - 1], &chunks[i],
					 sizeof(*chunks)) != 0)
			chunks[kept++] = chunks[i];
	return kept;
}

static int chunks_check(
	const struct bc_map_builder *b, uint64_t device_size, struct err *e)
{
	const struct bc_chunk *c;
	uint64_t end = 0;
	size_t i;

	for (i = 0; i < b->chunk_count; i++) {
		c = &b->chunks[i];
		if (c->dev_off < end)
			return err_set(e, -EPROTO,
				"two chunks overlap at device offset %llu",
				(unsigned long long)c->dev_off);
		end = c->dev_off + c->len;
		if (end > device_size)
			return err_set(e, -EPROTO,
				"the chunk at device offset %llu goes beyond "
				"the device's %llu bytes",
				(unsigned long long)c->dev_off,
				(unsigned long long)device_size);
	}
	return 0;
}

static int groups_check(
	const struct bc_map_builder *b, uint64_t source_size, struct err *e)
{
	const struct bc_group *g;
	size_t i;

	for (i = 0; source_size && i < b->group_count; i++) {
		g = &b->groups[i];
		if (!range_fits(g->src_off, g->src_len, source_size))
			return err_set(e, -EPROTO,
				"the blob's bytes at %llu lie behind its end, "
				"%llu",
				(unsigned long long)g->src_off,
				(unsigned long long)source_size);
	}
	return 0;
}

/* Fills first_chunk and chunk_count; a group's chunks must be neighbours. */
static int groups_claim(struct bc_map_builder *b, struct err *e)
{
	struct bc_group *g;
	size_t i;

	for (i = 0; i < b->group_count; i++)
		b->groups[i].chunk_count = 0;
	for (i = 0; i < b->chunk_count; i++) {
		g = &b->groups[b->chunks[i].group];
		if (g->chunk_count == 0)
			g->first_chunk = (uint32_t)i;
		else if (b->chunks[i - 1].group != b->chunks[i].group)
			return err_set(e, -EPROTO,
				"the chunks of the blob's bytes at %llu are "
				"not neighbours",
				(unsigned long long)g->src_off);
		g->chunk_count++;
	}
	return 0;
}

/* order: the groups that have chunks, sorted. Returns how many. */
static size_t groups_order(const struct bc_map_builder *b, uint32_t *order)
{
	size_t i, n = 0;

	for (i = 0; i < b->group_count; i++)
		if (b->groups[i].chunk_count)
			order[n++] = (uint32_t)i;
	qsort_r(order, n, sizeof(*order), cmp_groups, b->groups);
	return n;
}

static int write_groups(const struct bc_map_builder *b, const uint32_t *order,
	uint32_t *place, size_t n, struct buf *out)
{
	uint32_t ctx_off = 0;
	struct bc_group g;
	size_t i;
	int r;

	for (i = 0; i < n; i++) {
		g = b->groups[order[i]];
		place[order[i]] = (uint32_t)i;
		g.ctx_off = g.ctx_len ? ctx_off : 0;
		ctx_off += g.ctx_len;
		r = buf_append(out, &g, sizeof(g));
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_body(const struct bc_map_builder *b, const uint32_t *order,
	uint32_t *place, size_t n, struct buf *out)
{
	const struct bc_group *g;
	struct bc_chunk c;
	size_t i;
	int r;

	r = write_groups(b, order, place, n, out);
	for (i = 0; r == 0 && i < b->chunk_count; i++) {
		c = b->chunks[i];
		c.group = place[c.group];
		r = buf_append(out, &c, sizeof(c));
	}
	for (i = 0; r == 0 && i < n; i++) {
		g = &b->groups[order[i]];
		if (g->ctx_len)
			r = buf_append(
				out, b->ctx.data + g->ctx_off, g->ctx_len);
	}
	return r;
}

static int write_file(const struct bc_map_builder *b, const uint32_t *order,
	uint32_t *place, size_t n, struct map_header *h, struct buf *out)
{
	size_t start = out->len;
	struct digest sum;
	uint8_t *at;
	int r;

	r = buf_append(out, h, sizeof(*h));
	if (r == 0)
		r = write_body(b, order, place, n, out);
	if (r < 0)
		return r;
	at = out->data + start;
	h->file_len = out->len - start;
	h->group_count = (uint32_t)n;
	h->chunk_count = (uint32_t)b->chunk_count;
	h->ctx_len = (uint32_t)(h->file_len - sizeof(*h) -
				n * sizeof(struct bc_group) -
				b->chunk_count * sizeof(struct bc_chunk));
	memcpy(at, h, sizeof(*h));
	r = map_checksum(at, h->file_len, &sum);
	if (r == 0)
		memcpy(at + offsetof(struct map_header, checksum), sum.bytes,
			sizeof(h->checksum));
	return r;
}

int bc_map_finish(struct bc_map_builder *b, uint64_t device_size,
	uint64_t source_size, struct buf *out, struct err *e)
{
	struct map_header h = {.version = MAP_VERSION};
	size_t n, start = out->len;
	uint32_t *order;
	int r;

	if (device_size > UINT64_MAX - 4095)
		return err_set(e, -E2BIG, "the device is too large");
	h.device_size = round_up(device_size, 4096);
	h.source_size = source_size;
	memcpy(h.magic, MAP_MAGIC, sizeof(h.magic));
	if (b->chunk_count) /* qsort wants an array even for nothing */
		qsort(b->chunks, b->chunk_count, sizeof(*b->chunks),
			cmp_chunks);
	b->chunk_count = chunks_unique(b->chunks, b->chunk_count);
	r = chunks_check(b, h.device_size, e);
	if (r == 0)
		r = groups_check(b, source_size, e);
	if (r == 0)
		r = groups_claim(b, e);
	if (r < 0)
		return r;
	order = mem_calloc(b->group_count, 2 * sizeof(*order));
	if (!order)
		return err_set(e, -ENOMEM, "not enough memory for a map");
	n = groups_order(b, order);
	r = write_file(b, order, order + b->group_count, n, &h, out);
	mem_free(order);
	if (r == 0 && out->len - start > MAP_MAX_BYTES)
		r = -E2BIG;
	if (r < 0) {
		out->len = start;
		return err_sys(e, r, "cannot build the map");
	}
	return 0;
}
