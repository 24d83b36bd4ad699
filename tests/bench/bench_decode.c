/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What decoding and verifying cost: MB of decoded bytes per second of one
 * thread's CPU time, for groups of several sizes.
 *
 *   bench_decode ROUNDS
 *
 * Prints "decode.WHAT_SIZE VALUE". Each round does all; what is compared takes
 * turns. "gzip" is bc_decode() on a member of its own, "gzip_more" on a member
 * that goes on behind the group, as eStargz' writers make them.
 */
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>
#include <zstd.h>

#include "blobcache/decode.h"
#include "runtime/base/digest.h"
#include "runtime/base/util.h"

#define MAX_SIZE (4u << 20)
#define MORE 1024 /* padding and the next file's header */
#define WORK (8u << 20)

static const struct {
	const char *name;
	size_t size;
} sizes[] = {{"4k", 4u << 10}, {"64k", 64u << 10}, {"1m", 1u << 20},
	{"4m", 4u << 20}};

static uint8_t plain[MAX_SIZE + MORE], out[MAX_SIZE + MORE];
static uint8_t packed[2 * MAX_SIZE];
static struct libdeflate_decompressor *deflate_d;
static ZSTD_DCtx *zstd_d;

static void need(bool good, const char *what)
{
	if (good)
		return;
	(void)fprintf(stderr, "bench_decode: %s\n", what);
	exit(1);
}

/* Text of a small vocabulary with noise between: about 2.5 to 1. */
static void make_plain(void)
{
	uint64_t x = 88172645463325252u;
	size_t at = 0, len;
	char words[512][8];

	for (size_t i = 0; i < sizeof(words); i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		words[i / 8][i % 8] = (char)('a' + x % 24);
	}
	while (at < sizeof(plain)) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		len = 3 + x % 6;
		if (len > sizeof(plain) - at)
			len = sizeof(plain) - at;
		if (x >> 40 & 15)
			memcpy(plain + at, words[x >> 20 & 511], len);
		else
			memcpy(plain + at, &x, len);
		at += len;
	}
}

static size_t pack_gzip(size_t n)
{
	z_stream z = {.next_in = plain,
		.avail_in = (unsigned)n,
		.next_out = packed,
		.avail_out = sizeof(packed)};

	need(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) ==
				Z_OK &&
			deflate(&z, Z_FINISH) == Z_STREAM_END,
		"deflate");
	(void)deflateEnd(&z);
	return sizeof(packed) - z.avail_out;
}

static size_t pack_zstd(size_t n)
{
	size_t r = ZSTD_compress(packed, sizeof(packed), plain, n, 3);

	need(!ZSTD_isError(r), "zstd");
	return r;
}

static void run_zlib(size_t len, size_t n)
{
	z_stream z = {.next_in = packed, .avail_in = (unsigned)len};

	z.next_out = out;
	z.avail_out = (unsigned)n;
	need(inflateInit2(&z, 31) == Z_OK &&
			inflate(&z, Z_FINISH) == Z_STREAM_END &&
			z.avail_out == 0,
		"inflate");
	(void)inflateEnd(&z);
}

static void run_libdeflate(size_t len, size_t n)
{
	need(libdeflate_gzip_decompress(deflate_d, packed, len, out, n, NULL) ==
			LIBDEFLATE_SUCCESS,
		"libdeflate");
}

static void run_gzip(size_t len, size_t n)
{
	need(bc_decode(BC_CODEC_GZIP, packed, len, NULL, 0, out, n) == 0,
		"gzip");
}

static void run_zstd_new(size_t len, size_t n)
{
	need(ZSTD_decompress(out, n, packed, len) == n, "zstd");
}

static void run_zstd_reused(size_t len, size_t n)
{
	need(ZSTD_decompressDCtx(zstd_d, out, n, packed, len) == n, "zstd");
}

static void run_zstd(size_t len, size_t n)
{
	need(bc_decode(BC_CODEC_ZSTD, packed, len, NULL, 0, out, n) == 0,
		"zstd");
}

static void run_sha256(size_t len, size_t n)
{
	struct digest d;

	need(digest_of(DIGEST_SHA256, plain, n, &d) == 0, "sha256");
}

static void run_blake3(size_t len, size_t n)
{
	struct digest d;

	need(digest_of(DIGEST_BLAKE3, plain, n, &d) == 0, "blake3");
}

static const struct {
	const char *name;
	void (*run)(size_t len, size_t n);
	size_t (*pack)(size_t n); /* NULL: no input but the plain bytes */
	size_t more;              /* decoded bytes behind the group */
} kinds[] = {
	{"zlib", run_zlib, pack_gzip, 0},
	{"libdeflate", run_libdeflate, pack_gzip, 0},
	{"gzip", run_gzip, pack_gzip, 0},
	{"gzip_more", run_gzip, pack_gzip, MORE},
	{"zstd_new", run_zstd_new, pack_zstd, 0},
	{"zstd_reused", run_zstd_reused, pack_zstd, 0},
	{"zstd", run_zstd, pack_zstd, 0},
	{"sha256", run_sha256, NULL, 0},
	{"blake3", run_blake3, NULL, 0},
};

static double cpu_seconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void measure(size_t kind, size_t size)
{
	size_t n = sizes[size].size, len = 0, times = WORK / n;
	double start;

	if (kinds[kind].pack)
		len = kinds[kind].pack(n + kinds[kind].more);
	kinds[kind].run(len, n);
	start = cpu_seconds();
	for (size_t i = 0; i < times; i++)
		kinds[kind].run(len, n);
	(void)printf("decode.%s_%s %.1f\n", kinds[kind].name, sizes[size].name,
		(double)(times * n) / 1e6 / (cpu_seconds() - start));
}

int main(int argc, char **argv)
{
	long rounds = argc == 2 ? strtol(argv[1], NULL, 10) : 0;

	if (rounds <= 0) {
		(void)fprintf(stderr, "usage: bench_decode ROUNDS\n");
		return 2;
	}
	make_plain();
	deflate_d = libdeflate_alloc_decompressor();
	zstd_d = ZSTD_createDCtx();
	need(deflate_d && zstd_d, "memory");
	while (rounds-- > 0)
		for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
			for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
				measure(k, s);
	libdeflate_free_decompressor(deflate_d);
	(void)ZSTD_freeDCtx(zstd_d);
	return 0;
}
