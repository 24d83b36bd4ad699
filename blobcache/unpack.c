/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking with places of entry; see unpack.h. */
#include "blobcache/unpack.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define GZIP_ONLY 31       /* window bits: largest window, gzip header */
#define ZSTD_MAX_WINDOW 27 /* log2 */
#define MAX_CTX_BYTES (768u << 20)
/* Between two marks inside what has no place of entry. */
#define MARK_SPAN (64u << 20)

/* A place of entry, or (BC_CODEC_STREAM) a mark between two of them. */
struct point {
	uint64_t src_off, out_off;
	uint32_t ctx_off, ctx_len;
	uint8_t codec;
};

struct chunk {
	uint64_t len;
	struct digest digest;
};

/* No frame's header is longer (RFC 8878, 3.1.1.1). */
#define ZSTD_HEAD 18

enum gzip_state { GZIP_BETWEEN, GZIP_MEMBER, GZIP_PADDING };

struct bc_unpack {
	enum bc_packing packing;
	uint64_t span;             /* least output between two of them */
	uint64_t src_off, out_off; /* how far */
	uint64_t entry_off;        /* output at the last place of entry */
	struct point *points;      /* owned */
	size_t point_count, point_cap;
	struct buf ctx;
	bool is_random;
	/* gzip */
	z_stream z;
	bool has_z;
	enum gzip_state gzip;
	uint8_t last_byte; /* of the input so far */
	uint64_t members;
	ZSTD_CCtx *packer; /* of windows */
	/* zstd */
	ZSTD_DCtx *zstd;
	bool in_frame;
	uint64_t frame_off; /* output before the frame */
	uint8_t head[ZSTD_HEAD];
	size_t head_len;
	/* the other thread's */
	struct chunk *chunks; /* owned */
	size_t chunk_count, chunk_cap;
};

enum bc_packing bc_packing_of(const uint8_t *p, size_t n)
{
	if (n >= 4 && p[0] == 0x1f && p[1] == 0x8b)
		return BC_PACKING_GZIP;
	/* a frame, or a skippable one */
	if (n >= 4 && p[1] == 0xb5 && p[2] == 0x2f && p[3] == 0xfd &&
		p[0] == 0x28)
		return BC_PACKING_ZSTD;
	if (n >= 4 && (p[0] & 0xf0) == 0x50 && p[1] == 0x2a && p[2] == 0x4d &&
		p[3] == 0x18)
		return BC_PACKING_ZSTD;
	return BC_PACKING_NONE;
}

/* ---- making ---- */

static void *z_alloc(void *opaque, unsigned n, unsigned size)
{
	return mem_calloc(n, size);
}

static void z_free(void *opaque, void *p)
{
	mem_free(p);
}

static int gzip_init(struct bc_unpack *u)
{
	u->z = (z_stream){.zalloc = z_alloc, .zfree = z_free};
	u->packer = ZSTD_createCCtx();
	if (!u->packer || inflateInit2(&u->z, GZIP_ONLY) != Z_OK)
		return -ENOMEM;
	u->has_z = true;
	return 0;
}

static int zstd_init(struct bc_unpack *u)
{
	u->zstd = ZSTD_createDCtx();
	if (!u->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(
				u->zstd, ZSTD_d_windowLogMax, ZSTD_MAX_WINDOW)))
		return -ENOMEM;
	return 0;
}

int bc_unpack_create(
	enum bc_packing packing, uint64_t span, struct bc_unpack **ret)
{
	struct bc_unpack *u = mem_zalloc(sizeof(*u));
	int r = 0;

	if (!u)
		return -ENOMEM;
	u->packing = packing;
	u->span = span;
	u->is_random = true;
	buf_init(&u->ctx, MAX_CTX_BYTES);
	if (packing == BC_PACKING_GZIP)
		r = gzip_init(u);
	else if (packing == BC_PACKING_ZSTD)
		r = zstd_init(u);
	if (r < 0) {
		bc_unpack_destroy(u);
		return r;
	}
	*ret = u;
	return 0;
}

void bc_unpack_destroy(struct bc_unpack *u)
{
	if (!u)
		return;
	if (u->has_z)
		(void)inflateEnd(&u->z); /* a valid stream */
	(void)ZSTD_freeCCtx(u->packer);  /* cannot fail */
	(void)ZSTD_freeDCtx(u->zstd);
	buf_fini(&u->ctx);
	mem_free(u->points);
	mem_free(u->chunks);
	mem_free(u);
}

uint64_t bc_unpack_output(const struct bc_unpack *u)
{
	return u->out_off;
}

/* ---- places of entry ---- */

static int add_point(struct bc_unpack *u, enum bc_codec codec, const void *ctx,
	size_t ctx_len, struct err *e)
{
	void *points = u->points;
	int r;

	r = mem_grow(&points, &u->point_cap, u->point_count + 1, BC_MAX_CHUNKS,
		sizeof(*u->points));
	if (r == 0) {
		u->points = points;
		u->points[u->point_count] = (struct point){
			.src_off = u->src_off,
			.out_off = u->out_off,
			.ctx_off = (uint32_t)u->ctx.len,
			.ctx_len = (uint32_t)ctx_len,
			.codec = (uint8_t)codec,
		};
		r = buf_append(&u->ctx, ctx, ctx_len);
	}
	if (r < 0)
		return err_set(e, r, "no room for the places of entry");
	u->point_count++;
	if (codec != BC_CODEC_STREAM)
		u->entry_off = u->out_off;
	return 0;
}

/* Is a place of entry wanted here? */
static bool is_entry_due(const struct bc_unpack *u)
{
	return u->point_count == 0 || u->out_off - u->entry_off >= u->span;
}

/* Long without a place of entry: mark how far the input is. */
static int mark(struct bc_unpack *u, bool *ret_new, struct err *e)
{
	const struct point *last;

	if (u->point_count == 0)
		return 0;
	last = &u->points[u->point_count - 1];
	if ((u->out_off - last->out_off < MARK_SPAN &&
		    u->src_off - last->src_off < MARK_SPAN) ||
		u->src_off == last->src_off || u->out_off == last->out_off)
		return 0;
	*ret_new = true;
	return add_point(u, BC_CODEC_STREAM, NULL, 0, e);
}

/* ---- gzip ---- */

/* The window behind us, and the bits of the last byte that are still to come.
 */
static int add_deflate_point(struct bc_unpack *u, struct err *e)
{
	unsigned bits = (unsigned)u->z.data_type & BC_DEFLATE_BITS;
	uint8_t window[BC_DEFLATE_WINDOW], ctx[BC_DEFLATE_MAX_CTX];
	unsigned len = sizeof(window);
	size_t n;

	if (inflateGetDictionary(&u->z, window, &len) != Z_OK)
		return err_set(e, -EPROTO, "zlib has no window");
	n = bc_deflate_ctx(u->packer, bits, u->last_byte, window, len, ctx);
	return add_point(u, BC_CODEC_DEFLATE, ctx, n, e);
}

static int gzip_error(const struct bc_unpack *u, int zr, struct err *e)
{
	if (zr == Z_MEM_ERROR)
		return err_set(e, -ENOMEM, "out of memory");
	return err_set(e, -EPROTO,
		"the gzip stream is broken before byte %llu: %s",
		(unsigned long long)u->src_off,
		u->z.msg ? u->z.msg : "no sense");
}

/* So many bytes were taken and given. */
static void move_on(
	struct bc_unpack *u, struct bc_unpack_io *io, size_t in, size_t out)
{
	io->in += in;
	io->in_len -= in;
	io->out += out;
	io->out_len -= out;
	u->src_off += in;
	u->out_off += out;
}

/* One call of inflate; the counters move. */
static int inflate_some(struct bc_unpack *u, struct bc_unpack_io *io)
{
	size_t in, out;
	int zr;

	u->z.next_in = (uint8_t *)(uintptr_t)io->in; /* zlib only reads it */
	u->z.avail_in = (unsigned)min_u64(io->in_len, UINT32_MAX);
	u->z.next_out = io->out;
	u->z.avail_out = (unsigned)min_u64(io->out_len, UINT32_MAX);
	zr = inflate(&u->z, Z_BLOCK);
	in = (size_t)(u->z.next_in - io->in);
	out = (size_t)(u->z.next_out - io->out);
	if (in > 0)
		u->last_byte = io->in[in - 1];
	move_on(u, io, in, out);
	u->z.next_in = NULL;
	u->z.next_out = NULL;
	return zr;
}

/* A member may follow, or zeros to the end, as tapes have them. */
static int gzip_between(
	struct bc_unpack *u, const struct bc_unpack_io *io, struct err *e)
{
	if (u->members > 0 && io->in[0] == 0) {
		u->gzip = GZIP_PADDING;
		return 0;
	}
	u->gzip = GZIP_MEMBER;
	if (inflateReset(&u->z) != Z_OK)
		return gzip_error(u, Z_DATA_ERROR, e);
	return 0;
}

static int gzip_padding(
	struct bc_unpack *u, struct bc_unpack_io *io, struct err *e)
{
	for (; io->in_len > 0; io->in++, io->in_len--, u->src_off++)
		if (*io->in != 0)
			return err_set(e, -EPROTO,
				"other bytes follow the gzip stream at %llu",
				(unsigned long long)u->src_off);
	return 0;
}

/* Between two deflate blocks, and the one before was not the last. */
static bool is_at_block(const struct bc_unpack *u)
{
	return u->z.data_type & 128 && !(u->z.data_type & 64);
}

static int gzip_step(struct bc_unpack *u, struct bc_unpack_io *io,
	bool *ret_new, struct err *e)
{
	int zr, r = 0;

	if (u->gzip == GZIP_BETWEEN && io->in_len > 0)
		r = gzip_between(u, io, e);
	if (r == 0 && u->gzip == GZIP_PADDING)
		return gzip_padding(u, io, e);
	if (r < 0 || u->gzip != GZIP_MEMBER)
		return r;
	zr = inflate_some(u, io);
	if (zr == Z_STREAM_END) {
		u->gzip = GZIP_BETWEEN;
		u->members++;
		return 0;
	}
	if (zr != Z_OK && zr != Z_BUF_ERROR)
		return gzip_error(u, zr, e);
	if (is_at_block(u) && is_entry_due(u)) {
		*ret_new = true;
		return add_deflate_point(u, e);
	}
	return mark(u, ret_new, e);
}

/* ---- zstd ---- */

static void keep_head(struct bc_unpack *u, const uint8_t *p, size_t n)
{
	n = (size_t)min_u64(n, ZSTD_HEAD - u->head_len);
	memcpy(u->head + u->head_len, p, n);
	u->head_len += n;
}

/* zstd compares the two only when it sees all of a frame at once. */
static int zstd_check_size(const struct bc_unpack *u, struct err *e)
{
	uint64_t size = ZSTD_getFrameContentSize(u->head, u->head_len);

	if (size == ZSTD_CONTENTSIZE_UNKNOWN ||
		size == u->out_off - u->frame_off)
		return 0;
	return err_set(e, -EPROTO,
		"the zstd stream is broken before byte %llu: a frame has not "
		"the size that its header says",
		(unsigned long long)u->src_off);
}

static int zstd_step(struct bc_unpack *u, struct bc_unpack_io *io,
	bool *ret_new, struct err *e)
{
	const uint8_t *src = io->in;
	ZSTD_inBuffer in = {.src = io->in, .size = io->in_len};
	ZSTD_outBuffer out = {.dst = io->out, .size = io->out_len};
	size_t n;

	if (!u->in_frame && io->in_len == 0)
		return 0;
	if (!u->in_frame) {
		u->in_frame = true;
		u->frame_off = u->out_off;
		u->head_len = 0;
		if (is_entry_due(u)) {
			*ret_new = true;
			return add_point(u, BC_CODEC_ZSTD, NULL, 0, e);
		}
	}
	n = ZSTD_decompressStream(u->zstd, &out, &in);
	keep_head(u, src, in.pos);
	move_on(u, io, in.pos, out.pos);
	if (ZSTD_isError(n))
		return err_set(e,
			ZSTD_getErrorCode(n) ==
					ZSTD_error_frameParameter_windowTooLarge
				? -EOPNOTSUPP
				: -EPROTO,
			"the zstd stream is broken before byte %llu: %s",
			(unsigned long long)u->src_off, ZSTD_getErrorName(n));
	if (n == 0) {
		u->in_frame = false;
		return zstd_check_size(u, e);
	}
	return mark(u, ret_new, e);
}

/* ---- not packed ---- */

static int copy_step(struct bc_unpack *u, struct bc_unpack_io *io,
	bool *ret_new, struct err *e)
{
	uint64_t room = u->span - (u->out_off - u->entry_off);
	size_t n;

	if (io->in_len > 0 && is_entry_due(u)) {
		*ret_new = true;
		return add_point(u, BC_CODEC_NONE, NULL, 0, e);
	}
	n = (size_t)min_u64(min_u64(io->in_len, io->out_len), room);
	memcpy(io->out, io->in, n);
	move_on(u, io, n, n);
	return 0;
}

/* ---- any ---- */

int bc_unpack_step(struct bc_unpack *u, struct bc_unpack_io *io,
	bool *ret_new_group, struct err *e)
{
	uint64_t src, out;
	int r = 0;

	*ret_new_group = false;
	while (r == 0 && !*ret_new_group) {
		src = u->src_off;
		out = u->out_off;
		if (u->packing == BC_PACKING_GZIP)
			r = gzip_step(u, io, ret_new_group, e);
		else if (u->packing == BC_PACKING_ZSTD)
			r = zstd_step(u, io, ret_new_group, e);
		else
			r = copy_step(u, io, ret_new_group, e);
		if (u->src_off == src && u->out_off == out)
			break;
		if (io->out_len == 0)
			break;
	}
	return r;
}

int bc_unpack_finish(struct bc_unpack *u, struct err *e)
{
	bool is_whole = true;

	if (u->packing == BC_PACKING_GZIP)
		is_whole = u->members > 0 && u->gzip != GZIP_MEMBER;
	else if (u->packing == BC_PACKING_ZSTD)
		is_whole = !u->in_frame;
	if (is_whole)
		return 0;
	return err_set(e, -EPROTO, "the stream is cut short at byte %llu",
		(unsigned long long)u->src_off);
}

/* ---- the map ---- */

int bc_unpack_add_chunk(
	struct bc_unpack *u, uint64_t len, const struct digest *d)
{
	void *chunks = u->chunks;
	int r;

	r = mem_grow(&chunks, &u->chunk_cap, u->chunk_count + 1, BC_MAX_CHUNKS,
		sizeof(*u->chunks));
	if (r < 0)
		return r;
	u->chunks = chunks;
	u->chunks[u->chunk_count++] = (struct chunk){.len = len, .digest = *d};
	return 0;
}

/*
 * Marks matter only where the place of entry before them is of no use because
 * the next one is too far away: then all of them up to there are groups.
 */
static void settle_points(struct bc_unpack *u)
{
	struct point *p = u->points, *from;
	size_t i = 0, n = 0, next;
	uint64_t src_end, out_end;
	bool is_far;

	while (i < u->point_count) {
		from = &p[i];
		for (next = i + 1; next < u->point_count &&
				   p[next].codec == BC_CODEC_STREAM;
			next++)
			;
		src_end = next < u->point_count ? p[next].src_off : u->src_off;
		out_end = next < u->point_count ? p[next].out_off : u->out_off;
		is_far = src_end - from->src_off > BC_MAX_GROUP_LEN ||
		         out_end - from->out_off > BC_MAX_GROUP_LEN;
		if (is_far) {
			from->codec = BC_CODEC_STREAM;
			from->ctx_len = 0;
			u->is_random = false;
		}
		p[n++] = *from;
		for (i++; i < next; i++)
			if (is_far)
				p[n++] = p[i];
	}
	u->point_count = n;
}

/* The chunks of the group at *at that begin before its end. */
static int add_group(struct bc_unpack *u, struct bc_map_builder *b, size_t i,
	size_t *at, uint64_t *at_off)
{
	const struct point *p = &u->points[i];
	bool is_last = i + 1 == u->point_count;
	uint64_t src_end = is_last ? u->src_off : p[1].src_off;
	uint64_t out_end = is_last ? u->out_off : p[1].out_off;
	const struct chunk *c;
	uint32_t group;
	int r;

	if (out_end == p->out_off)
		return 0;
	r = bc_map_add_group(b, p->src_off, src_end - p->src_off,
		out_end - p->out_off, p->codec,
		p->ctx_len ? u->ctx.data + p->ctx_off : NULL, p->ctx_len,
		&group);
	while (r == 0 && *at < u->chunk_count && *at_off < out_end) {
		c = &u->chunks[(*at)++];
		r = bc_map_add_chunk(b, group, *at_off, c->len,
			*at_off - p->out_off, &c->digest);
		*at_off += c->len;
	}
	return r == 0 && *at_off != out_end ? -EINVAL : r;
}

int bc_unpack_map(struct bc_unpack *u, struct buf *out, struct err *e)
{
	struct bc_map_builder *b;
	uint64_t at_off = 0;
	size_t i, at = 0;
	int r;

	settle_points(u);
	if (u->out_off == 0)
		return 0;
	r = bc_map_builder_create(&b);
	if (r < 0)
		return err_set(e, r, "out of memory");
	for (i = 0; i < u->point_count && r == 0; i++)
		r = add_group(u, b, i, &at, &at_off);
	if (r < 0)
		(void)err_set(e, r, "the layer has no place in a map");
	else
		r = bc_map_finish(b, u->out_off, u->src_off, out, e);
	bc_map_builder_destroy(b);
	return r;
}

bool bc_unpack_is_random(const struct bc_unpack *u)
{
	return u->is_random;
}
