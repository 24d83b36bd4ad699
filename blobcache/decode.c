/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoders. Output goes into a buffer of exactly the wanted size, so codecs do
 * not allocate what their input asks for (a zstd frame may declare a window of
 * many MiB; one-shot decoding needs none). The one that does is a part of a
 * frame: its window has a limit, and a large one is not kept.
 */
#include "blobcache/decode.h"

#include <errno.h>
#include <libdeflate.h>
#include <lz4.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "blobcache/map.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define GZIP_TRAILER 8
#define GZIP_LEAST 18          /* bytes of an empty member */
#define GZIP_BEHIND (64 << 10) /* decoded in vain at most, to be faster */
#define WINDOW_RAW (-15)
#define WINDOW_AUTO 47 /* gzip or zlib header, largest window */
#define MAX_ZSTD_WINDOW_LOG 27
/* What zstd needs for a window of 8 MiB, which most writers declare. */
#define MAX_ZSTD_STREAM_KEPT (12u << 20)

/* This thread's contexts, made at first use. */
struct decoder {
	ZSTD_DCtx *zstd;
	ZSTD_DStream *zstd_part; /* has a window */
	struct libdeflate_decompressor *deflate;
	z_stream inflate;
	bool has_inflate;
	uint8_t window[BC_DEFLATE_WINDOW]; /* unpacked from a context */
};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

static void decoder_destroy(void *p)
{
	struct decoder *d = p;

	if (!d)
		return;
	(void)ZSTD_freeDCtx(d->zstd); /* cannot fail */
	(void)ZSTD_freeDStream(d->zstd_part);
	libdeflate_free_decompressor(d->deflate);
	if (d->has_inflate)
		(void)inflateEnd(&d->inflate); /* a valid stream */
	mem_free(d);
}

static void key_make(void)
{
	has_key = pthread_key_create(&key, decoder_destroy) == 0;
}

static struct decoder *decoder_get(void)
{
	struct decoder *d;

	(void)pthread_once(&key_once, key_make); /* cannot fail */
	if (!has_key)
		return NULL;
	d = pthread_getspecific(key);
	if (d)
		return d;
	d = mem_zalloc(sizeof(*d));
	if (d && pthread_setspecific(key, d) != 0) {
		mem_free(d);
		d = NULL;
	}
	return d;
}

void bc_decode_thread_fini(void)
{
	(void)pthread_once(&key_once, key_make);
	if (!has_key)
		return;
	decoder_destroy(pthread_getspecific(key));
	(void)pthread_setspecific(key, NULL); /* NULL needs no memory */
}

static int decode_zstd(
	const uint8_t *src, size_t src_len, uint8_t *dst, size_t dec_len)
{
	struct decoder *d = decoder_get();
	size_t n;

	if (d && !d->zstd)
		d->zstd = ZSTD_createDCtx();
	if (!d || !d->zstd)
		return -ENOMEM;
	n = ZSTD_decompressDCtx(d->zstd, dst, dec_len, src, src_len);
	return !ZSTD_isError(n) && n == dec_len ? 0 : -EPROTO;
}

static int zstd_part_begin(struct decoder *d)
{
	size_t n;

	if (!d->zstd_part)
		d->zstd_part = ZSTD_createDStream();
	if (!d->zstd_part)
		return -ENOMEM;
	n = ZSTD_DCtx_reset(d->zstd_part, ZSTD_reset_session_only);
	if (!ZSTD_isError(n))
		n = ZSTD_DCtx_setParameter(
			d->zstd_part, ZSTD_d_windowLogMax, MAX_ZSTD_WINDOW_LOG);
	return ZSTD_isError(n) ? -EPROTO : 0;
}

/* Until dst is full: frames may go on, and what follows is not looked at. */
static int decode_zstd_part(
	const uint8_t *src, size_t src_len, uint8_t *dst, size_t dec_len)
{
	ZSTD_inBuffer in = {.src = src, .size = src_len};
	ZSTD_outBuffer out = {.dst = dst, .size = dec_len};
	struct decoder *d = decoder_get();
	size_t n, before, taken;
	int r;

	r = d ? zstd_part_begin(d) : -ENOMEM;
	while (r == 0 && out.pos < out.size) {
		before = out.pos;
		taken = in.pos;
		n = ZSTD_decompressStream(d->zstd_part, &out, &in);
		if (ZSTD_isError(n))
			r = ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation
			            ? -ENOMEM
			            : -EPROTO;
		else if (out.pos == before && in.pos == taken)
			r = -EPROTO; /* it ends too early */
	}
	if (d && ZSTD_sizeof_DStream(d->zstd_part) > MAX_ZSTD_STREAM_KEPT) {
		(void)ZSTD_freeDStream(d->zstd_part);
		d->zstd_part = NULL;
	}
	return r;
}

static int decode_lz4(
	const uint8_t *src, size_t src_len, uint8_t *dst, size_t dec_len)
{
	int n;

	if (src_len > LZ4_MAX_INPUT_SIZE || dec_len > LZ4_MAX_INPUT_SIZE)
		return -EPROTO;
	n = LZ4_decompress_safe(
		(const char *)src, (char *)dst, (int)src_len, (int)dec_len);
	return n >= 0 && (size_t)n == dec_len ? 0 : -EPROTO;
}

static void *z_alloc(void *opaque, unsigned n, unsigned size)
{
	return mem_calloc(n, size);
}

static void z_free(void *opaque, void *p)
{
	mem_free(p);
}

/* A fresh stream for a header kind; the memory is used again. */
static int inflate_begin(int window, z_stream **ret)
{
	struct decoder *d = decoder_get();
	int r;

	if (!d)
		return -ENOMEM;
	if (!d->has_inflate) {
		d->inflate = (z_stream){.zalloc = z_alloc, .zfree = z_free};
		if (inflateInit2(&d->inflate, WINDOW_AUTO) != Z_OK)
			return -ENOMEM;
		d->has_inflate = true;
	}
	r = inflateReset2(&d->inflate, window);
	if (r != Z_OK)
		return r == Z_MEM_ERROR ? -ENOMEM : -EPROTO;
	*ret = &d->inflate;
	return 0;
}

/*
 * A stream has ended before all output is there. Go on with the member behind
 * it; a raw stream leaves the trailer of its member to us.
 */
static int inflate_next_member(z_stream *z, bool is_raw)
{
	if (is_raw) {
		if (z->avail_in < GZIP_TRAILER)
			return -EPROTO;
		z->next_in += GZIP_TRAILER;
		z->avail_in -= GZIP_TRAILER;
	}
	if (z->avail_in == 0)
		return -EPROTO;
	return inflateReset2(z, WINDOW_AUTO) == Z_OK ? 0 : -EPROTO;
}

/*
 * Inflate until dst is full. What follows is not looked at: the rest of a
 * member may be other files, so neither its end nor its checksum counts.
 */
static int inflate_run(z_stream *z, bool is_raw, const uint8_t *src,
	size_t src_len, uint8_t *dst, size_t dec_len)
{
	int r = 0, zr;

	if (src_len > UINT32_MAX || dec_len > UINT32_MAX)
		return -EPROTO;
	z->next_in = (uint8_t *)src; /* zlib only reads it */
	z->avail_in = (unsigned)src_len;
	z->next_out = dst;
	z->avail_out = (unsigned)dec_len;
	while (r == 0 && z->avail_out > 0) {
		zr = inflate(z, Z_SYNC_FLUSH);
		if (z->avail_out == 0)
			break;
		if (zr == Z_STREAM_END) {
			r = inflate_next_member(z, is_raw);
			is_raw = false;
		} else if (zr == Z_MEM_ERROR) {
			r = -ENOMEM;
		} else if (zr != Z_OK || z->avail_in == 0) {
			r = -EPROTO;
		}
	}
	z->next_in = NULL;
	z->next_out = NULL;
	return r;
}

/* One whole member of size bytes; false where it is not that. */
static bool decode_member(struct decoder *d, const uint8_t *src, size_t src_len,
	uint8_t *dst, size_t size)
{
	size_t n;

	if (!d->deflate)
		d->deflate = libdeflate_alloc_decompressor();
	return d->deflate &&
	       libdeflate_gzip_decompress(d->deflate, src, src_len, dst, size,
		       &n) == LIBDEFLATE_SUCCESS &&
	       n == size;
}

/*
 * libdeflate is two to three times as fast as zlib, but knows whole members
 * only. Input that looks like one (the size at its end says so) is tried: as
 * long as the group, or longer by what eStargz' writers put behind a file.
 */
static bool decode_gzip_fast(struct decoder *d, const uint8_t *src,
	size_t src_len, uint8_t *dst, size_t dec_len)
{
	uint8_t *whole;
	size_t size;
	bool good;

	if (src_len < GZIP_LEAST)
		return false;
	size = le32_at(src + src_len - 4);
	if (size == dec_len)
		return decode_member(d, src, src_len, dst, size);
	if (size < dec_len || size - dec_len > GZIP_BEHIND)
		return false;
	whole = mem_alloc(size);
	if (!whole)
		return false;
	good = decode_member(d, src, src_len, whole, size);
	if (good && dec_len)
		memcpy(dst, whole, dec_len);
	mem_free(whole);
	return good;
}

/* zlib judges whatever the fast way does not take. */
static int decode_gzip(
	const uint8_t *src, size_t src_len, uint8_t *dst, size_t dec_len)
{
	struct decoder *d = decoder_get();
	z_stream *z;
	int r;

	if (!d)
		return -ENOMEM;
	if (decode_gzip_fast(d, src, src_len, dst, dec_len))
		return 0;
	r = inflate_begin(WINDOW_AUTO, &z);
	return r < 0 ? r : inflate_run(z, false, src, src_len, dst, dec_len);
}

/* The window of a context (map.h), unpacked if need be. */
static int deflate_window(const uint8_t *ctx, size_t ctx_len,
	const uint8_t **ret, size_t *ret_len)
{
	struct decoder *d;
	size_t n;

	*ret = ctx + 2;
	*ret_len = ctx_len - 2;
	if (!(ctx[0] & BC_DEFLATE_ZSTD))
		return ctx_len - 2 > BC_DEFLATE_WINDOW ? -EPROTO : 0;
	d = decoder_get();
	if (d && !d->zstd)
		d->zstd = ZSTD_createDCtx();
	if (!d || !d->zstd)
		return -ENOMEM;
	n = ZSTD_decompressDCtx(
		d->zstd, d->window, sizeof(d->window), ctx + 2, ctx_len - 2);
	if (ZSTD_isError(n))
		return -EPROTO;
	*ret = d->window;
	*ret_len = n;
	return 0;
}

static int decode_deflate(const uint8_t *src, size_t src_len,
	const uint8_t *ctx, size_t ctx_len, uint8_t *dst, size_t dec_len)
{
	unsigned bits = ctx_len < 2 ? 0 : ctx[0] & BC_DEFLATE_BITS;
	const uint8_t *window;
	size_t window_len;
	z_stream *z;
	int r;

	if (ctx_len < 2 || ctx[0] > (BC_DEFLATE_BITS | BC_DEFLATE_ZSTD))
		return -EPROTO;
	r = deflate_window(ctx, ctx_len, &window, &window_len);
	if (r == 0)
		r = inflate_begin(WINDOW_RAW, &z);
	if (r < 0)
		return r;
	if (bits && inflatePrime(z, (int)bits, ctx[1] >> (8 - bits)) != Z_OK)
		return -EPROTO;
	if (window_len > 0) {
		r = inflateSetDictionary(z, window, (unsigned)window_len);
		if (r != Z_OK)
			return r == Z_MEM_ERROR ? -ENOMEM : -EPROTO;
	}
	return inflate_run(z, true, src, src_len, dst, dec_len);
}

int bc_decode(enum bc_codec codec, const void *src, size_t src_len,
	const void *ctx, size_t ctx_len, void *dst, size_t dec_len)
{
	switch (codec) {
	case BC_CODEC_NONE:
		if (src_len != dec_len)
			return -EPROTO;
		if (dec_len)
			memcpy(dst, src, dec_len);
		return 0;
	case BC_CODEC_ZSTD:
		return decode_zstd(src, src_len, dst, dec_len);
	case BC_CODEC_ZSTD_PART:
		return decode_zstd_part(src, src_len, dst, dec_len);
	case BC_CODEC_LZ4_BLOCK:
		return decode_lz4(src, src_len, dst, dec_len);
	case BC_CODEC_GZIP:
		return decode_gzip(src, src_len, dst, dec_len);
	case BC_CODEC_DEFLATE:
		return decode_deflate(src, src_len, ctx, ctx_len, dst, dec_len);
	default:
		return -EOPNOTSUPP;
	}
}
