/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking with places of entry: every group of the map, decoded on its own
 * from its range of the blob, gives the bytes that the whole stream had there.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/lib/unpack_run.h"

#define PLAIN_LEN ((size_t)11 << 20)

/* Bytes that pack to about half and refer far back. */
static uint8_t *make_plain(size_t len)
{
	uint8_t *p = mem_alloc(len);
	uint32_t x = 12345;
	size_t i;

	assert_non_null(p);
	for (i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		p[i] = (x >> 30) && i > 30000 ? p[i - 29000]
		                              : (uint8_t)(x >> 24);
	}
	return p;
}

/* A gzip member of n bytes with this name in its header ("": none). */
static void add_member(struct buf *out, const uint8_t *p, size_t n,
	const char *name, int level)
{
	gz_header head = {.name = (Bytef *)(uintptr_t)name,
		.extra = (Bytef *)(uintptr_t)name,
		.extra_len = (unsigned)strlen(name)};
	z_stream z = {0};

	assert_int_equal(
		deflateInit2(&z, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY),
		Z_OK);
	if (name[0])
		assert_int_equal(deflateSetHeader(&z, &head), Z_OK);
	assert_int_equal(buf_reserve(out, deflateBound(&z, n) + 100), 0);
	z.next_in = (uint8_t *)(uintptr_t)p;
	z.avail_in = (unsigned)n;
	z.next_out = out->data + out->len;
	z.avail_out = (unsigned)(out->cap - out->len);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->len = (size_t)(z.next_out - out->data);
	assert_int_equal(deflateEnd(&z), Z_OK);
}

static void add_frame(struct buf *out, const uint8_t *p, size_t n)
{
	size_t len;

	assert_int_equal(buf_reserve(out, ZSTD_compressBound(n)), 0);
	len = ZSTD_compress(out->data + out->len, out->cap - out->len, p, n, 1);
	assert_false(ZSTD_isError(len));
	out->len += len;
}

static int unpack(const struct buf *blob, size_t piece, size_t room,
	struct unpack_run *r, struct buf *map)
{
	return unpack_all(
		r, blob->data, blob->len, piece, room, BC_UNPACK_SPAN, 0, map);
}

/* Returns how many groups begin inside a byte. */
static unsigned check(const struct buf *blob, size_t piece, size_t room,
	const uint8_t *plain, size_t len, uint32_t least_groups)
{
	unsigned odd_bits = 0;
	uint64_t sum = 0;
	struct unpack_run r;
	struct bc_map m;
	struct buf map;
	uint32_t i;

	if (unpack(blob, piece, room, &r, &map) < 0)
		fail_msg("%s", r.e.text);
	assert_int_equal(r.out.len, len);
	assert_memory_equal(r.out.data, plain, len);
	assert_true(bc_unpack_is_random(r.u));
	assert_int_equal(bc_map_from_bytes(map.data, map.len, &m, &r.e), 0);
	assert_true(m.group_count >= least_groups);
	for (i = 0; i < m.group_count; i++) {
		assert_true(
			unpack_group_is(&m, &m.groups[i], blob->data, plain));
		sum += m.groups[i].dec_len;
		if (m.groups[i].codec == BC_CODEC_DEFLATE &&
			m.ctx[m.groups[i].ctx_off] & BC_DEFLATE_BITS)
			odd_bits++;
	}
	assert_int_equal(sum, len);
	bc_map_close(&m);
	unpack_fini(&r);
	return odd_bits;
}

static void every_span_of_gzip_decodes_alone(void **state)
{
	uint8_t *plain = make_plain(PLAIN_LEN);
	unsigned odd_bits;
	struct buf blob;

	buf_init(&blob, 0);
	add_member(&blob, plain, PLAIN_LEN, "", 6);
	odd_bits = check(&blob, 1u << 20, 1u << 20, plain, PLAIN_LEN, 4);
	/* most blocks end inside a byte */
	assert_true(odd_bits > 0);
	assert_int_equal(
		check(&blob, 4099, 65537, plain, PLAIN_LEN, 4), odd_bits);
	buf_fini(&blob);
	mem_free(plain);
}

static void stored_blocks_and_many_members_decode_alone(void **state)
{
	uint8_t *plain = make_plain(PLAIN_LEN);
	size_t at, n, step = 900001;
	struct buf blob;
	int level = 0;

	buf_init(&blob, 0);
	for (at = 0; at < PLAIN_LEN; at += n, level = (level + 3) % 10) {
		n = (size_t)min_u64(step, PLAIN_LEN - at);
		add_member(&blob, plain + at, n, at ? "name.tar" : "", level);
		/* an empty one between them */
		add_member(&blob, plain, 0, "empty", 6);
	}
	assert_int_equal(buf_append_zeros(&blob, 1000), 0);
	(void)check(&blob, 1u << 20, 1u << 20, plain, PLAIN_LEN, 4);
	(void)check(&blob, 997, 70001, plain, PLAIN_LEN, 4);
	buf_fini(&blob);
	mem_free(plain);
}

static void frames_decode_alone(void **state)
{
	static const uint8_t skip[] = {
		0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7};
	uint8_t *plain = make_plain(PLAIN_LEN);
	size_t at, n;
	struct buf blob;

	buf_init(&blob, 0);
	assert_int_equal(buf_append(&blob, skip, sizeof(skip)), 0);
	for (at = 0; at < PLAIN_LEN; at += n) {
		n = (size_t)min_u64(700001, PLAIN_LEN - at);
		add_frame(&blob, plain + at, n);
		assert_int_equal(buf_append(&blob, skip, sizeof(skip)), 0);
	}
	(void)check(&blob, 1u << 20, 1u << 20, plain, PLAIN_LEN, 3);
	(void)check(&blob, 991, 70001, plain, PLAIN_LEN, 3);
	buf_fini(&blob);
	mem_free(plain);
}

static void what_is_not_packed_is_cut_into_ranges(void **state)
{
	uint8_t *plain = make_plain(PLAIN_LEN);
	struct buf blob;

	buf_init(&blob, 0);
	assert_int_equal(buf_append(&blob, plain, PLAIN_LEN), 0);
	(void)check(&blob, 1u << 20, 1u << 20, plain, PLAIN_LEN, 5);
	buf_fini(&blob);
	mem_free(plain);
}

static void one_huge_frame_is_a_stream(void **state)
{
	size_t len = ((size_t)BC_MAX_GROUP_LEN) + 5000000;
	uint8_t *plain = mem_zalloc(len);
	struct bc_map m;
	struct buf blob, map;
	struct unpack_run r;
	uint32_t i;

	assert_non_null(plain);
	buf_init(&blob, 0);
	add_frame(&blob, plain, len);
	assert_int_equal(unpack(&blob, 1u << 20, 1u << 20, &r, &map), 0);
	assert_false(bc_unpack_is_random(r.u));
	assert_int_equal(bc_map_from_bytes(map.data, map.len, &m, &r.e), 0);
	assert_true(m.has_stream);
	for (i = 0; i < m.group_count; i++)
		assert_int_equal(m.groups[i].codec, BC_CODEC_STREAM);
	bc_map_close(&m);
	unpack_fini(&r);
	buf_fini(&blob);
	mem_free(plain);
}

static void expect_broken(const struct buf *blob)
{
	struct buf map;
	struct unpack_run r;

	assert_int_equal(unpack(blob, 1000, 65536, &r, &map), -EPROTO);
	assert_true(strlen(r.e.text) > 10);
	buf_fini(&map);
	unpack_fini(&r);
}

static void broken_streams_are_told(void **state)
{
	uint8_t *plain = make_plain(100000);
	struct buf gz, zst;

	buf_init(&gz, 0);
	buf_init(&zst, 0);
	add_member(&gz, plain, 100000, "", 6);
	add_frame(&zst, plain, 100000);
	gz.len -= 9; /* cut short */
	expect_broken(&gz);
	gz.len += 9;
	gz.data[gz.len - 6] ^= 1; /* CRC */
	expect_broken(&gz);
	gz.data[gz.len - 6] ^= 1;
	gz.data[gz.len - 1] ^= 1; /* length */
	expect_broken(&gz);
	gz.data[gz.len - 1] ^= 1;
	assert_int_equal(buf_append(&gz, "\0\0junk", 6), 0);
	expect_broken(&gz);
	zst.len -= 3;
	expect_broken(&zst);
	zst.len += 3;
	assert_int_equal(buf_append(&zst, "junk!", 5), 0);
	expect_broken(&zst);
	buf_fini(&gz);
	buf_fini(&zst);
	mem_free(plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_span_of_gzip_decodes_alone),
		cmocka_unit_test(stored_blocks_and_many_members_decode_alone),
		cmocka_unit_test(frames_decode_alone),
		cmocka_unit_test(what_is_not_packed_is_cut_into_ranges),
		cmocka_unit_test(one_huge_frame_is_a_stream),
		cmocka_unit_test(broken_streams_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
