/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of libzstd, liblz4, zlib and libdeflate that are used, each of
 * which calls the library's own once that is there. A mount whose data is in
 * the cache decodes nothing, and to load them from a cold disk takes it a
 * quarter of its time. What has no context loads its library; a context is
 * proof that it is loaded. One that cannot be is as if it had no memory.
 */
/* Nobody else is to find these: not even the libraries themselves. */
#define HIDDEN __attribute__((visibility("hidden")))
#define ZSTDLIB_VISIBILITY HIDDEN
#define ZSTDERRORLIB_VISIBILITY HIDDEN
#define LZ4LIB_VISIBILITY HIDDEN

#include <libdeflate.h>
#include <lz4.h>
#include <pthread.h>
#include <stddef.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "runtime/base/late_lib.h"
#include "runtime/base/util.h"

#define MEMBER(name) __typeof__(name) *name;
#define ENTRY(name) {#name, offsetof(struct functions, name)},

#define FUNCTIONS(F) ZSTD(F) LZ4(F) ZLIB(F) DEFLATE(F)

#define ZSTD(F) \
	F(ZSTD_DCtx_reset) \
	F(ZSTD_DCtx_setParameter) \
	F(ZSTD_compressCCtx) \
	F(ZSTD_createCCtx) \
	F(ZSTD_createDCtx) \
	F(ZSTD_createDStream) \
	F(ZSTD_decompress) \
	F(ZSTD_decompressDCtx) \
	F(ZSTD_decompressStream) \
	F(ZSTD_freeCCtx) \
	F(ZSTD_freeDCtx) \
	F(ZSTD_freeDStream) \
	F(ZSTD_getErrorCode) \
	F(ZSTD_getErrorName) \
	F(ZSTD_getFrameContentSize) \
	F(ZSTD_isError) \
	F(ZSTD_sizeof_DStream)

#define LZ4(F) F(LZ4_decompress_safe)

#define ZLIB(F) \
	F(inflate) \
	F(inflateEnd) \
	F(inflateGetDictionary) \
	F(inflateInit2_) \
	F(inflatePrime) \
	F(inflateReset) \
	F(inflateReset2) \
	F(inflateSetDictionary)

#define DEFLATE(F) \
	F(libdeflate_alloc_decompressor) \
	F(libdeflate_free_decompressor) \
	F(libdeflate_gzip_decompress)

/* Each library fills its part, once; then it is only read. */
static struct functions {
	FUNCTIONS(MEMBER)
} lib;

#define LIBRARY(list, label, name, dir) \
	static const struct late_entry entries_##label[] = {list(ENTRY)}; \
	static struct late_lib late_##label = { \
		.topic = "lib" #label, \
		.soname = name, \
		.path = dir "/" name, \
		.entries = entries_##label, \
		.entry_count = ARRAY_LEN(entries_##label), \
	}; \
	static pthread_once_t once_##label = PTHREAD_ONCE_INIT; \
	static void load_##label(void) \
	{ \
		(void)late_lib_load(&late_##label, &lib); /* it tells */ \
	} \
	static bool has_##label(void) \
	{ \
		(void)pthread_once(&once_##label, load_##label); \
		return late_##label.is_loaded; \
	}

LIBRARY(ZSTD, zstd, "libzstd.so.1", LIBZSTD_DIR)
LIBRARY(LZ4, lz4, "liblz4.so.1", LIBLZ4_DIR)
LIBRARY(ZLIB, z, "libz.so.1", LIBZLIB_DIR)
LIBRARY(DEFLATE, deflate, "libdeflate.so.0", LIBDEFLATE_DIR)

/* ---- zstd ---- */

ZSTD_DCtx *ZSTD_createDCtx(void)
{
	return has_zstd() ? lib.ZSTD_createDCtx() : NULL;
}

size_t ZSTD_freeDCtx(ZSTD_DCtx *d)
{
	return d ? lib.ZSTD_freeDCtx(d) : 0;
}

size_t ZSTD_decompressDCtx(
	ZSTD_DCtx *d, void *dst, size_t cap, const void *src, size_t n)
{
	return lib.ZSTD_decompressDCtx(d, dst, cap, src, n);
}

size_t ZSTD_DCtx_reset(ZSTD_DCtx *d, ZSTD_ResetDirective what)
{
	return lib.ZSTD_DCtx_reset(d, what);
}

size_t ZSTD_DCtx_setParameter(ZSTD_DCtx *d, ZSTD_dParameter p, int value)
{
	return lib.ZSTD_DCtx_setParameter(d, p, value);
}

ZSTD_DStream *ZSTD_createDStream(void)
{
	return has_zstd() ? lib.ZSTD_createDStream() : NULL;
}

size_t ZSTD_freeDStream(ZSTD_DStream *d)
{
	return d ? lib.ZSTD_freeDStream(d) : 0;
}

size_t ZSTD_sizeof_DStream(const ZSTD_DStream *d)
{
	return d ? lib.ZSTD_sizeof_DStream(d) : 0;
}

size_t ZSTD_decompressStream(
	ZSTD_DStream *d, ZSTD_outBuffer *out, ZSTD_inBuffer *in)
{
	return lib.ZSTD_decompressStream(d, out, in);
}

size_t ZSTD_decompress(void *dst, size_t cap, const void *src, size_t n)
{
	if (!has_zstd())
		return (size_t)-ZSTD_error_memory_allocation;
	return lib.ZSTD_decompress(dst, cap, src, n);
}

unsigned long long ZSTD_getFrameContentSize(const void *src, size_t n)
{
	if (!has_zstd())
		return ZSTD_CONTENTSIZE_ERROR;
	return lib.ZSTD_getFrameContentSize(src, n);
}

ZSTD_CCtx *ZSTD_createCCtx(void)
{
	return has_zstd() ? lib.ZSTD_createCCtx() : NULL;
}

size_t ZSTD_freeCCtx(ZSTD_CCtx *c)
{
	return c ? lib.ZSTD_freeCCtx(c) : 0;
}

size_t ZSTD_compressCCtx(ZSTD_CCtx *c, void *dst, size_t cap, const void *src,
	size_t n, int level)
{
	return lib.ZSTD_compressCCtx(c, dst, cap, src, n, level);
}

/* Without the library every result is one of the errors above. */
unsigned ZSTD_isError(size_t code)
{
	return !has_zstd() || lib.ZSTD_isError(code);
}

ZSTD_ErrorCode ZSTD_getErrorCode(size_t code)
{
	return has_zstd() ? lib.ZSTD_getErrorCode(code)
	                  : ZSTD_error_memory_allocation;
}

const char *ZSTD_getErrorName(size_t code)
{
	return has_zstd() ? lib.ZSTD_getErrorName(code) : late_zstd.why;
}

/* ---- lz4 ---- */

int LZ4_decompress_safe(const char *src, char *dst, int n, int cap)
{
	return has_lz4() ? lib.LZ4_decompress_safe(src, dst, n, cap) : -1;
}

/* ---- zlib ---- */

int inflateInit2_(z_streamp z, int window, const char *version, int size)
{
	return has_z() ? lib.inflateInit2_(z, window, version, size)
	               : Z_MEM_ERROR;
}

int inflate(z_streamp z, int flush)
{
	return lib.inflate(z, flush);
}

int inflateEnd(z_streamp z)
{
	return has_z() ? lib.inflateEnd(z) : Z_STREAM_ERROR;
}

int inflateReset(z_streamp z)
{
	return lib.inflateReset(z);
}

int inflateReset2(z_streamp z, int window)
{
	return lib.inflateReset2(z, window);
}

int inflatePrime(z_streamp z, int bits, int value)
{
	return lib.inflatePrime(z, bits, value);
}

int inflateSetDictionary(z_streamp z, const Bytef *p, uInt n)
{
	return lib.inflateSetDictionary(z, p, n);
}

int inflateGetDictionary(z_streamp z, Bytef *p, uInt *n)
{
	return lib.inflateGetDictionary(z, p, n);
}

/* ---- libdeflate ---- */

struct libdeflate_decompressor *libdeflate_alloc_decompressor(void)
{
	return has_deflate() ? lib.libdeflate_alloc_decompressor() : NULL;
}

void libdeflate_free_decompressor(struct libdeflate_decompressor *d)
{
	if (d)
		lib.libdeflate_free_decompressor(d);
}

enum libdeflate_result libdeflate_gzip_decompress(
	struct libdeflate_decompressor *d, const void *src, size_t n, void *dst,
	size_t cap, size_t *ret)
{
	return lib.libdeflate_gzip_decompress(d, src, n, dst, cap, ret);
}
