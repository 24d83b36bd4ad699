/* SPDX-License-Identifier: Apache-2.0 */
/* blobcache/map: building, reading back, and maps that lie. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/map.h"
#include "blobcache/map_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

static const struct digest *some_digest(uint8_t fill)
{
	static struct digest d;

	d = (struct digest){.algo = DIGEST_SHA256};
	memset(d.bytes, fill, 32);
	return &d;
}

/* Three groups: two chunks, one chunk, one chunk. */
static void build(struct buf *out)
{
	struct bc_map_builder *b;
	uint32_t g[3];
	struct err e = {0};

	buf_init(out, 0);
	assert_int_equal(bc_map_builder_create(&b), 0);
	assert_int_equal(bc_map_add_group(b, 5000, 300, 0, BC_CODEC_ZSTD, NULL,
				 0, &g[1]),
		0);
	assert_int_equal(
		bc_map_add_group(b, 100, 50, 0, BC_CODEC_GZIP, NULL, 0, &g[0]),
		0);
	assert_int_equal(bc_map_add_group(b, 6000, 10, 0, BC_CODEC_DEFLATE,
				 "\3\xe0window", 8, &g[2]),
		0);
	assert_int_equal(
		bc_map_add_chunk(b, g[1], 8192, 4000, 0, some_digest(3)), 0);
	assert_int_equal(
		bc_map_add_chunk(b, g[0], 4096, 100, 512, some_digest(2)), 0);
	assert_int_equal(
		bc_map_add_chunk(b, g[0], 0, 10, 0, some_digest(1)), 0);
	assert_int_equal(
		bc_map_add_chunk(b, g[2], 20480, 1, 7, some_digest(4)), 0);
	/* Said twice. */
	assert_int_equal(
		bc_map_add_chunk(b, g[2], 20480, 1, 7, some_digest(4)), 0);
	assert_int_equal(bc_map_finish(b, 20481, 6010, out, &e), 0);
	bc_map_builder_destroy(b);
}

static void a_built_map_reads_back_sorted(void **state)
{
	struct err e = {0};
	struct bc_map m;
	struct buf b;

	build(&b);
	assert_int_equal(bc_map_from_bytes(b.data, b.len, &m, &e), 0);
	assert_int_equal(m.group_count, 3);
	assert_int_equal(m.chunk_count, 4);
	assert_int_equal(m.device_size, 24576);
	assert_int_equal(m.groups[0].src_off, 100);
	assert_int_equal(m.groups[0].chunk_count, 2);
	assert_int_equal(m.groups[0].dec_len, 612);
	assert_int_equal(m.chunks[1].dev_off, 4096);
	assert_int_equal(m.chunks[1].group, 0);
	assert_int_equal(m.chunks[3].group, 2);
	assert_int_equal(m.groups[2].ctx_len, 8);
	assert_memory_equal(m.ctx + m.groups[2].ctx_off, "\3\xe0win", 5);
	bc_map_close(&m);
}

static void find_gives_the_first_chunk_that_ends_behind(void **state)
{
	struct bc_map m;
	struct buf b;

	build(&b);
	assert_int_equal(bc_map_from_bytes(b.data, b.len, &m, NULL), 0);
	assert_int_equal(bc_map_find(&m, 0), 0);
	assert_int_equal(bc_map_find(&m, 9), 0);
	assert_int_equal(bc_map_find(&m, 10), 1);
	assert_int_equal(bc_map_find(&m, 4195), 1);
	assert_int_equal(bc_map_find(&m, 4196), 2);
	assert_int_equal(bc_map_find(&m, 20480), 3);
	assert_int_equal(bc_map_find(&m, 20481), 4);
	assert_int_equal(bc_map_find(&m, UINT64_MAX), 4);
	bc_map_close(&m);
}

static void the_order_of_adding_does_not_matter(void **state)
{
	struct bc_map_builder *b;
	struct buf one, two;
	uint32_t g, h;
	int i;

	for (i = 0; i < 2; i++) {
		struct buf *out = i ? &two : &one;

		buf_init(out, 0);
		assert_int_equal(bc_map_builder_create(&b), 0);
		assert_int_equal(bc_map_add_group(b, i ? 10 : 0, 10, 0,
					 BC_CODEC_ZSTD, NULL, 0, &g),
			0);
		assert_int_equal(bc_map_add_group(b, i ? 0 : 10, 10, 0,
					 BC_CODEC_ZSTD, NULL, 0, &h),
			0);
		if (i) {
			uint32_t swap = g;

			g = h;
			h = swap;
			assert_int_equal(
				bc_map_add_chunk(b, h, 9, 9, 0, some_digest(1)),
				0);
		}
		assert_int_equal(
			bc_map_add_chunk(b, g, 0, 9, 0, some_digest(2)), 0);
		if (!i)
			assert_int_equal(
				bc_map_add_chunk(b, h, 9, 9, 0, some_digest(1)),
				0);
		assert_int_equal(bc_map_finish(b, 18, 0, out, NULL), 0);
		bc_map_builder_destroy(b);
	}
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.data, two.data, one.len);
	buf_fini(&one);
	buf_fini(&two);
}

static void a_range_said_twice_is_one_group(void **state)
{
	struct bc_map_builder *b;
	uint32_t g, h, i;

	assert_int_equal(bc_map_builder_create(&b), 0);
	for (i = 0; i < 1000; i++) {
		assert_int_equal(bc_map_add_group(b, i * 8, 8, 8, BC_CODEC_GZIP,
					 NULL, 0, &g),
			0);
		assert_int_equal(g, i);
	}
	for (i = 0; i < 1000; i++) {
		assert_int_equal(bc_map_add_group(b, i * 8, 8, 16,
					 BC_CODEC_GZIP, NULL, 0, &h),
			0);
		assert_int_equal(h, i);
	}
	assert_int_equal(
		bc_map_add_group(b, 0, 8, 8, BC_CODEC_ZSTD, NULL, 0, &h), 0);
	assert_int_equal(h, 1000);
	bc_map_builder_destroy(b);
}

static int finish_with(uint64_t off1, uint64_t len1, uint64_t off2,
	uint64_t device_size, uint64_t source_size)
{
	struct bc_map_builder *b;
	struct buf out;
	uint32_t g;
	int r;

	buf_init(&out, 0);
	assert_int_equal(bc_map_builder_create(&b), 0);
	assert_int_equal(
		bc_map_add_group(b, 10, 90, 0, BC_CODEC_ZSTD, NULL, 0, &g), 0);
	assert_int_equal(
		bc_map_add_chunk(b, g, off1, len1, 0, some_digest(1)), 0);
	assert_int_equal(
		bc_map_add_chunk(b, g, off2, 10, 0, some_digest(1)), 0);
	r = bc_map_finish(b, device_size, source_size, &out, NULL);
	bc_map_builder_destroy(b);
	buf_fini(&out);
	return r;
}

static void finish_refuses_what_cannot_be(void **state)
{
	assert_int_equal(finish_with(0, 100, 100, 110, 100), 0);
	assert_int_equal(finish_with(0, 101, 100, 110, 100), -EPROTO);
	assert_int_equal(finish_with(0, 100, 4090, 110, 100), -EPROTO);
	assert_int_equal(finish_with(0, 100, 100, 110, 99), -EPROTO);
	assert_int_equal(finish_with(0, 100, 100, UINT64_MAX, 0), -E2BIG);
}

static void finish_refuses_groups_whose_chunks_are_strewn(void **state)
{
	struct bc_map_builder *b;
	struct err e = {0};
	struct buf out;
	uint32_t g, h;

	buf_init(&out, 0);
	assert_int_equal(bc_map_builder_create(&b), 0);
	assert_int_equal(
		bc_map_add_group(b, 0, 9, 0, BC_CODEC_ZSTD, NULL, 0, &g), 0);
	assert_int_equal(
		bc_map_add_group(b, 9, 9, 0, BC_CODEC_ZSTD, NULL, 0, &h), 0);
	assert_int_equal(bc_map_add_chunk(b, g, 0, 1, 0, some_digest(1)), 0);
	assert_int_equal(bc_map_add_chunk(b, h, 1, 1, 0, some_digest(1)), 0);
	assert_int_equal(bc_map_add_chunk(b, g, 2, 1, 0, some_digest(1)), 0);
	assert_int_equal(bc_map_finish(b, 9, 0, &out, &e), -EPROTO);
	assert_non_null(strstr(e.text, "neighbours"));
	bc_map_builder_destroy(b);
	buf_fini(&out);
}

static void adding_refuses_limits_and_nonsense(void **state)
{
	struct digest sha512 = {.algo = DIGEST_SHA512};
	struct bc_map_builder *b;
	uint32_t g;

	assert_int_equal(bc_map_builder_create(&b), 0);
#define GROUP(off, len, dec, codec, ctx, n) \
	bc_map_add_group(b, off, len, dec, codec, ctx, n, &g)
	assert_int_equal(GROUP(0, 0, 1, BC_CODEC_ZSTD, NULL, 0), -EPROTO);
	assert_int_equal(
		GROUP(UINT64_MAX, 1, 1, BC_CODEC_ZSTD, NULL, 0), -EPROTO);
	assert_int_equal(GROUP(0, BC_MAX_GROUP_LEN + 1, 1, 1, NULL, 0), -E2BIG);
	assert_int_equal(GROUP(0, 1, BC_MAX_GROUP_LEN + 1, 1, NULL, 0), -E2BIG);
	assert_int_equal(GROUP(0, 1, 2, BC_CODEC_NONE, NULL, 0), -EPROTO);
	assert_int_equal(GROUP(0, 1, 2, BC_CODEC_ZSTD, "\0\0", 2), -EPROTO);
	assert_int_equal(GROUP(0, 1, 2, BC_CODEC_DEFLATE, "\0", 1), -EPROTO);
	assert_int_equal(GROUP(0, 1, 2, BC_CODEC_DEFLATE, "\20\0", 2), -EPROTO);
	assert_int_equal(GROUP(0, 1, 2, 77, NULL, 0), -EPROTO);
	assert_int_equal(GROUP(0, 9, 0, BC_CODEC_NONE, NULL, 0), 0);
#undef GROUP
	assert_int_equal(
		bc_map_add_chunk(b, 7, 0, 1, 0, some_digest(1)), -EPROTO);
	assert_int_equal(
		bc_map_add_chunk(b, g, 0, 10, 0, some_digest(1)), -EPROTO);
	assert_int_equal(
		bc_map_add_chunk(b, g, 0, 0, 0, some_digest(1)), -EPROTO);
	assert_int_equal(bc_map_add_chunk(b, g, 0, BC_MAX_CHUNK_LEN + 1, 0,
				 some_digest(1)),
		-E2BIG);
	assert_int_equal(
		bc_map_add_chunk(b, g, UINT64_MAX, 2, 0, some_digest(1)),
		-EPROTO);
	assert_int_equal(bc_map_add_chunk(b, g, 0, 1, 0, &sha512), -EOPNOTSUPP);
	bc_map_builder_destroy(b);
}

/* The checksum made right again, so that what is behind it is looked at. */
static int open_changed(struct buf *b, size_t at, uint8_t value, size_t len)
{
	uint8_t *copy = mem_alloc(len);
	struct digest sum;
	struct bc_map m;
	int r;

	assert_non_null(copy);
	memcpy(copy, b->data, min_u64(len, b->len));
	if (at < len)
		copy[at] = value;
	if (len >= sizeof(struct map_header)) {
		assert_int_equal(map_checksum(copy, len, &sum), 0);
		memcpy(copy + offsetof(struct map_header, checksum), sum.bytes,
			32);
	}
	r = bc_map_from_bytes(copy, len, &m, NULL);
	if (r == 0)
		bc_map_close(&m);
	else
		mem_free(copy);
	return r;
}

static void maps_that_lie_are_refused(void **state)
{
	const size_t groups = sizeof(struct map_header);
	const size_t chunks = groups + 3 * sizeof(struct bc_group);
	const size_t ctx = chunks + 4 * sizeof(struct bc_chunk);
#define G(i, f) (groups + (i)*40 + offsetof(struct bc_group, f))
#define C(i, f) (chunks + (i)*56 + offsetof(struct bc_chunk, f))
	const struct {
		size_t at;
		uint8_t value;
	} lies[] = {
		{0, 'X'},
		{8, 2},
		{12, 9},
		{16, 5},
		{19, 0xff},
		{20, 9},
		{24, 1},
		{25, 1},
		{32, 1},
		{40, 1},
		{48, 1},
		{55, 1},
		{G(0, src_off) + 7, 0xff},
		{G(0, src_len) + 3, 0xff},
		{G(0, src_len), 0},
		{G(2, src_off), 0xff},
		{G(0, dec_len) + 3, 0xff},
		{G(0, dec_len) + 1, 0},
		{G(0, first_chunk), 1},
		{G(0, first_chunk) + 3, 0xff},
		{G(0, chunk_count), 0},
		{G(0, chunk_count), 1},
		{G(0, chunk_count), 3},
		{G(0, chunk_count) + 3, 0xff},
		{G(0, ctx_len), 2},
		{G(2, ctx_len), 9},
		{G(2, ctx_len), 1},
		{G(2, ctx_off) + 3, 0xff},
		{G(0, codec), 9},
		{G(0, codec), 0},
		{G(0, codec), 4},
		{G(0, pad), 1},
		{G(2, src_off) + 1, 0},
		{C(1, dev_off) + 1, 0},
		{C(3, dev_off) + 7, 0xff},
		{C(3, len) + 3, 1},
		{C(3, len), 0},
		{C(0, group), 1},
		{C(0, group) + 3, 0xff},
		{C(0, group_off) + 3, 0xff},
		{C(0, group_off) + 1, 3},
		{C(0, algo), 0},
		{C(0, algo), 3},
		{C(0, algo), 9},
		{C(0, pad), 1},
		{ctx, 16},
	};
#undef G
#undef C
	struct buf b;
	size_t i;

	build(&b);
	assert_int_equal(open_changed(&b, SIZE_MAX, 0, b.len), 0);
	for (i = 0; i < ARRAY_LEN(lies); i++)
		if (open_changed(&b, lies[i].at, lies[i].value, b.len) !=
			-EPROTO)
			fail_msg("lie %zu at %zu was believed", i, lies[i].at);
	for (i = 1; i < b.len; i++)
		assert_int_equal(open_changed(&b, SIZE_MAX, 0, i), -EPROTO);
	buf_fini(&b);
}

static void a_flipped_bit_breaks_the_checksum(void **state)
{
	struct bc_map m;
	struct buf b;

	build(&b);
	b.data[b.len - 1] ^= 1; /* in a window: only the checksum can tell */
	assert_int_equal(bc_map_from_bytes(b.data, b.len, &m, NULL), -EBADMSG);
	buf_fini(&b);
}

static void building_survives_any_failing_allocation(void **state)
{
	struct bc_map_builder *b;
	unsigned long n;
	struct buf out;
	uint32_t i, g;
	int r;

	for (n = 1;; n++) {
		buf_init(&out, 0);
		(void)mem_fail_nth(n, 0);
		r = bc_map_builder_create(&b);
		for (i = 0; r == 0 && i < 200; i++) {
			r = bc_map_add_group(
				b, i, 1, 1, BC_CODEC_ZSTD, NULL, 0, &g);
			if (r == 0)
				r = bc_map_add_chunk(
					b, g, i, 1, 0, some_digest(1));
			if (r < 0)
				break;
		}
		if (r == 0)
			r = bc_map_finish(b, 200, 0, &out, NULL);
		if (n > 1)
			bc_map_builder_destroy(b);
		buf_fini(&out);
		if (mem_fail_nth(0, 0) < n)
			break;
		assert_int_equal(r, -ENOMEM);
	}
	assert_int_equal(r, 0);
	assert_true(n > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_built_map_reads_back_sorted),
		cmocka_unit_test(find_gives_the_first_chunk_that_ends_behind),
		cmocka_unit_test(the_order_of_adding_does_not_matter),
		cmocka_unit_test(a_range_said_twice_is_one_group),
		cmocka_unit_test(finish_refuses_what_cannot_be),
		cmocka_unit_test(finish_refuses_groups_whose_chunks_are_strewn),
		cmocka_unit_test(adding_refuses_limits_and_nonsense),
		cmocka_unit_test(maps_that_lie_are_refused),
		cmocka_unit_test(a_flipped_bit_breaks_the_checksum),
		cmocka_unit_test(building_survives_any_failing_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
