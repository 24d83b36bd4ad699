/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/decode: every codec, right, cut short, too long and broken. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <lz4.h>
#include <zlib.h>
#include <zstd.h>

#include "blobcache/decode.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define PLAIN_LEN 100000

/* Those that decode; the ones behind the first may hold more than wanted. */
static const enum bc_codec codecs[] = {BC_CODEC_NONE, BC_CODEC_ZSTD,
	BC_CODEC_LZ4_BLOCK, BC_CODEC_GZIP, BC_CODEC_DEFLATE,
	BC_CODEC_ZSTD_PART};
#define FIRST_THAT_GOES_ON 3

static uint8_t plain[PLAIN_LEN];
static uint8_t packed[2 * PLAIN_LEN + 1000];
static uint8_t out[2 * PLAIN_LEN];

static void make_plain(void)
{
	uint32_t x = 1;
	size_t i;

	for (i = 0; i < sizeof(plain); i++) {
		x = x * 1664525 + 1013904223;
		plain[i] = (uint8_t)(x >> 24) % 13 + (i / 1000 % 5);
	}
}

static size_t pack_zstd(uint8_t *to, const uint8_t *p, size_t n)
{
	size_t r = ZSTD_compress(to, ZSTD_compressBound(n), p, n, 3);

	assert_false(ZSTD_isError(r));
	return r;
}

static size_t pack_zlib(uint8_t *to, const uint8_t *p, size_t n, int window)
{
	z_stream z = {0};

	assert_int_equal(
		deflateInit2(&z, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY),
		Z_OK);
	z.next_in = (uint8_t *)p;
	z.avail_in = (unsigned)n;
	z.next_out = to;
	z.avail_out = (unsigned)(n + 1000);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(deflateEnd(&z), Z_OK);
	return n + 1000 - z.avail_out;
}

static size_t pack(enum bc_codec codec)
{
	int n;

	switch (codec) {
	case BC_CODEC_ZSTD:
	case BC_CODEC_ZSTD_PART:
		return pack_zstd(packed, plain, PLAIN_LEN);
	case BC_CODEC_GZIP:
		return pack_zlib(packed, plain, PLAIN_LEN, 31);
	case BC_CODEC_DEFLATE:
		return pack_zlib(packed, plain, PLAIN_LEN, -15);
	case BC_CODEC_LZ4_BLOCK:
		n = LZ4_compress_default((const char *)plain, (char *)packed,
			PLAIN_LEN, sizeof(packed));
		assert_true(n > 0);
		return (size_t)n;
	default:
		memcpy(packed, plain, PLAIN_LEN);
		return PLAIN_LEN;
	}
}

static int decode(enum bc_codec codec, size_t n, size_t dec_len)
{
	bool has_ctx = codec == BC_CODEC_DEFLATE;

	memset(out, 0xa5, sizeof(out));
	return bc_decode(codec, packed, n, has_ctx ? "\0\0" : NULL,
		has_ctx ? 2 : 0, out, dec_len);
}

static void every_codec_gives_the_bytes_back(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
		enum bc_codec c = codecs[i];
		size_t n = pack(c);

		assert_int_equal(decode(c, n, PLAIN_LEN), 0);
		assert_memory_equal(out, plain, PLAIN_LEN);
		assert_int_equal(out[PLAIN_LEN], 0xa5);
	}
}

static void input_that_is_cut_is_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
		enum bc_codec c = codecs[i];
		size_t n = pack(c);

		assert_int_equal(decode(c, n / 2, PLAIN_LEN), -EPROTO);
		assert_int_equal(decode(c, 0, PLAIN_LEN), -EPROTO);
		assert_int_equal(decode(c, 1, PLAIN_LEN), -EPROTO);
	}
}

static void input_that_gives_less_than_wanted_is_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
		enum bc_codec c = codecs[i];
		size_t n = pack(c);

		assert_int_equal(decode(c, n, PLAIN_LEN + 1), -EPROTO);
	}
}

static void only_some_codecs_may_give_more_than_wanted(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
		enum bc_codec c = codecs[i];
		size_t n = pack(c);
		int r = decode(c, n, PLAIN_LEN - 1);

		if (i < FIRST_THAT_GOES_ON) {
			assert_int_equal(r, -EPROTO);
		} else {
			assert_int_equal(r, 0);
			assert_memory_equal(out, plain, PLAIN_LEN - 1);
		}
		assert_int_equal(out[PLAIN_LEN - 1], 0xa5);
	}
}

static void garbage_is_refused_or_of_the_right_length(void **state)
{
	uint32_t x = 7;
	int round;
	size_t i, k, n;

	for (k = 1; k < ARRAY_LEN(codecs); k++) {
		enum bc_codec c = codecs[k];

		for (round = 0; round < 300; round++) {
			n = pack(c);
			for (i = 0; i < 3; i++) {
				x = x * 1664525 + 1013904223;
				packed[(x >> 8) % n] ^= (uint8_t)(1 + x % 255);
			}
			(void)decode(c, n, PLAIN_LEN);
			assert_int_equal(out[PLAIN_LEN], 0xa5);
		}
		memset(packed, 0x5a, 1000);
		assert_int_equal(decode(c, 1000, PLAIN_LEN), -EPROTO);
	}
}

static void several_zstd_frames_are_one_input(void **state)
{
	size_t n;

	n = pack_zstd(packed, plain, 1000);
	n += pack_zstd(packed + n, plain + 1000, 500);
	assert_int_equal(decode(BC_CODEC_ZSTD, n, 1500), 0);
	assert_memory_equal(out, plain, 1500);
}

/* A frame of two blocks that declares a window, as streaming writers make
 * them. */
static size_t pack_zstd_window(uint8_t *to, size_t n, int window_log)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_inBuffer in = {.src = plain, .size = n / 2};
	ZSTD_outBuffer o = {.dst = to, .size = PLAIN_LEN};

	assert_non_null(c);
	assert_false(ZSTD_isError(
		ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log)));
	assert_int_equal(ZSTD_compressStream2(c, &o, &in, ZSTD_e_flush), 0);
	in.size = n;
	assert_int_equal(ZSTD_compressStream2(c, &o, &in, ZSTD_e_end), 0);
	(void)ZSTD_freeCCtx(c);
	return o.pos;
}

static void a_part_of_a_zstd_frame_is_read_up_to_what_is_wanted(void **state)
{
	size_t n = pack_zstd_window(packed, PLAIN_LEN, 23);

	memset(packed + n - 20, 0xee, 100); /* its end is not looked at */
	assert_int_equal(decode(BC_CODEC_ZSTD_PART, n + 80, 5000), 0);
	assert_memory_equal(out, plain, 5000);
	assert_int_equal(decode(BC_CODEC_ZSTD, n + 80, 5000), -EPROTO);
	/* on into the next frame, behind one to be skipped */
	n = pack_zstd_window(packed, 1000, 20);
	memcpy(packed + n, "\x50\x2a\x4d\x18\2\0\0\0ab", 10);
	n += 10 + pack_zstd(packed + n + 10, plain + 1000, 500);
	assert_int_equal(decode(BC_CODEC_ZSTD_PART, n, 1400), 0);
	assert_memory_equal(out, plain, 1400);
}

static void a_zstd_window_has_a_limit(void **state)
{
	size_t n = pack_zstd_window(packed, PLAIN_LEN, 27);

	assert_int_equal(decode(BC_CODEC_ZSTD_PART, n, 5000), 0);
	assert_memory_equal(out, plain, 5000);
	n = pack_zstd_window(packed, PLAIN_LEN, 28);
	assert_int_equal(decode(BC_CODEC_ZSTD_PART, n, 5000), -EPROTO);
	/* and the decoder is as good as before */
	n = pack_zstd_window(packed, PLAIN_LEN, 20);
	assert_int_equal(decode(BC_CODEC_ZSTD_PART, n, PLAIN_LEN), 0);
	assert_memory_equal(out, plain, PLAIN_LEN);
}

static void a_gzip_member_may_go_on_behind_what_is_wanted(void **state)
{
	size_t n;

	n = pack(BC_CODEC_GZIP);
	packed[n - 8] ^= 0xff; /* its checksum is not ours to judge */
	memset(packed + n, 0xee, 100);
	assert_int_equal(decode(BC_CODEC_GZIP, n + 100, PLAIN_LEN), 0);
	assert_memory_equal(out, plain, PLAIN_LEN);
	assert_int_equal(decode(BC_CODEC_GZIP, n, 5000), 0);
	assert_memory_equal(out, plain, 5000);
}

static void a_gzip_trailer_may_say_any_size(void **state)
{
	static const uint32_t sizes[] = {0, 1, PLAIN_LEN - 1, PLAIN_LEN,
		PLAIN_LEN + 1, PLAIN_LEN + 60000, PLAIN_LEN + 70000,
		UINT32_MAX};
	size_t n = pack(BC_CODEC_GZIP);

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		put_le32(packed + n - 4, sizes[i]);
		assert_int_equal(decode(BC_CODEC_GZIP, n, PLAIN_LEN), 0);
		assert_memory_equal(out, plain, PLAIN_LEN);
		assert_int_equal(out[PLAIN_LEN], 0xa5);
		assert_int_equal(decode(BC_CODEC_GZIP, n, 70000), 0);
		assert_memory_equal(out, plain, 70000);
		assert_int_equal(out[70000], 0xa5);
	}
}

static void several_gzip_members_are_one_stream(void **state)
{
	size_t n;

	n = pack_zlib(packed, plain, 1000, 31);
	n += pack_zlib(packed + n, plain + 1000, 500, 31);
	assert_int_equal(decode(BC_CODEC_GZIP, n, 1500), 0);
	assert_memory_equal(out, plain, 1500);
}

static void a_zlib_stream_counts_as_gzip(void **state)
{
	size_t n = pack_zlib(packed, plain, 1000, 15);

	assert_int_equal(decode(BC_CODEC_GZIP, n, 1000), 0);
	assert_memory_equal(out, plain, 1000);
}

/* Where inflate stands at a block boundary in the middle of a stream. */
struct checkpoint {
	size_t in, out;
	uint8_t bits;
};

static struct checkpoint find_checkpoint(size_t n, size_t skip, int window)
{
	struct checkpoint c = {0};
	z_stream z = {0};
	int r;

	assert_int_equal(inflateInit2(&z, window), Z_OK);
	z.next_in = packed;
	z.avail_in = (unsigned)n;
	z.next_out = out;
	z.avail_out = sizeof(out);
	do {
		r = inflate(&z, Z_BLOCK);
		assert_true(r == Z_OK || r == Z_STREAM_END);
	} while (z.total_out < skip || !(z.data_type & 128) ||
		 (z.data_type & 64));
	c.in = z.total_in;
	c.out = z.total_out;
	c.bits = z.data_type & 7;
	assert_int_equal(inflateEnd(&z), Z_OK);
	return c;
}

static void deflate_goes_on_from_a_checkpoint(void **state)
{
	static uint8_t ctx[2 + 32768];
	struct checkpoint c;
	size_t n, second, window, want;

	n = pack_zlib(packed, plain, 60000, 31);
	second = pack_zlib(packed + n, plain + 60000, 40000, 31);
	c = find_checkpoint(n, 10000, 31);
	assert_true(c.out < 60000);
	window = min_u64(c.out, 32768);
	ctx[0] = c.bits;
	ctx[1] = c.bits ? packed[c.in - 1] : 0;
	memcpy(ctx + 2, plain + c.out - window, window);
	/* To the end of its member and on into the next one. */
	for (want = 60000 - c.out;; want = PLAIN_LEN - c.out) {
		memset(out, 0, sizeof(out));
		assert_int_equal(
			bc_decode(BC_CODEC_DEFLATE, packed + c.in,
				n + second - c.in, ctx, 2 + window, out, want),
			0);
		assert_memory_equal(out, plain + c.out, want);
		if (want == PLAIN_LEN - c.out)
			break;
	}
	ctx[0] = 8;
	assert_int_equal(bc_decode(BC_CODEC_DEFLATE, packed, n, ctx, 2, out, 9),
		-EPROTO);
	assert_int_equal(bc_decode(BC_CODEC_DEFLATE, packed, n, ctx, 1, out, 9),
		-EPROTO);
}

static void an_unknown_codec_is_refused(void **state)
{
	assert_int_equal(
		bc_decode(99, packed, 9, NULL, 0, out, 9), -EOPNOTSUPP);
}

static void a_failing_allocation_is_reported_and_forgotten(void **state)
{
	unsigned long n;
	size_t len = pack(BC_CODEC_GZIP);
	int r;

	packed[len - 8] ^= 0xff; /* so that all ways are gone */
	for (n = 1;; n++) {
		bc_decode_thread_fini();
		(void)mem_fail_nth(n, 0);
		r = decode(BC_CODEC_GZIP, len, PLAIN_LEN);
		if (mem_fail_nth(0, 0) < n)
			break;
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(decode(BC_CODEC_GZIP, len, PLAIN_LEN), 0);
	}
	assert_int_equal(r, 0);
	assert_true(n > 2);
}

static int setup(void **state)
{
	make_plain();
	return 0;
}

static int teardown(void **state)
{
	bc_decode_thread_fini();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_codec_gives_the_bytes_back),
		cmocka_unit_test(input_that_is_cut_is_refused),
		cmocka_unit_test(input_that_gives_less_than_wanted_is_refused),
		cmocka_unit_test(only_some_codecs_may_give_more_than_wanted),
		cmocka_unit_test(garbage_is_refused_or_of_the_right_length),
		cmocka_unit_test(several_zstd_frames_are_one_input),
		cmocka_unit_test(
			a_part_of_a_zstd_frame_is_read_up_to_what_is_wanted),
		cmocka_unit_test(a_zstd_window_has_a_limit),
		cmocka_unit_test(a_gzip_member_may_go_on_behind_what_is_wanted),
		cmocka_unit_test(a_gzip_trailer_may_say_any_size),
		cmocka_unit_test(several_gzip_members_are_one_stream),
		cmocka_unit_test(a_zlib_stream_counts_as_gzip),
		cmocka_unit_test(deflate_goes_on_from_a_checkpoint),
		cmocka_unit_test(an_unknown_codec_is_refused),
		cmocka_unit_test(
			a_failing_allocation_is_reported_and_forgotten),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
