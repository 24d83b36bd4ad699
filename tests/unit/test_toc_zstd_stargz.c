/* SPDX-License-Identifier: Apache-2.0 */
/* zstd:chunked TOCs of stargz' converter: no endOffset, eStargz' members. */
#include <errno.h>
#include <stdint.h>

#include "tests/lib/toc_make.h"

static int load(const char *json, struct ld_layer *ret, struct err *e)
{
	const struct ld_layer_desc d = {.digest = {.algo = DIGEST_SHA256},
		.size = 6000,
		.toc_off = 5000};

	*e = (struct err){0};
	return ld_toc_parse_zstd_chunked(
		(const uint8_t *)json, strlen(json), &d, ret, e);
}

#define FILE_AT(size, off, inner, digest) \
	",\"size\":" #size ",\"offset\":" #off ",\"innerOffset\":" #inner \
	",\"chunkDigest\":\"" digest "\""
#define CHUNK(off, inner, file_off, digest) \
	",\"offset\":" #off ",\"innerOffset\":" #inner \
	",\"chunkOffset\":" #file_off ",\"chunkDigest\":\"" digest "\""
#define END(off) ",\"endOffset\":" #off

static void a_frame_goes_on_to_the_next_or_to_the_toc(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "b", FILE_AT(20, 1300, 0, DIGEST_2)),
			  ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			  ENTRY("reg", "c", FILE_AT(30, 4900, 0, DIGEST_3))),
		&l);
	assert_int_equal(l.format, LD_FORMAT_ZSTD_CHUNKED);
	open_map(&l, &m);
	assert_int_equal(m.chunk_count, 3);
	assert_chunk(&m, 0, 0, 10, 100, 1200, 0, 0x11);
	assert_chunk(&m, 1, 4096, 20, 1300, 3600, 0, 0x22);
	assert_chunk(&m, 2, 8192, 30, 4900, 100, 0, 0x33);
	assert_int_equal(m.groups[0].codec, BC_CODEC_ZSTD_PART);
	assert_int_equal(m.groups[0].dec_len, 10);
	bc_map_close(&m);
	ld_layer_fini(&l);
}

static void chunks_and_files_may_share_a_frame(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "a",
			      FILE_AT(3000, 100, 0,
				      DIGEST_1) ",\"chunkSize\":1000"),
			  ENTRY("chunk", "a",
				  CHUNK(100, 1000, 1000,
					  DIGEST_2) ",\"chunkSize\":1000"),
			  ENTRY("chunk", "a", CHUNK(900, 0, 2000, DIGEST_3)),
			  ENTRY("reg", "b", FILE_AT(7, 900, 1536, DIGEST_1))),
		&l);
	open_map(&l, &m);
	assert_int_equal(m.group_count, 2);
	assert_chunk(&m, 0, 0, 1000, 100, 800, 0, 0x11);
	assert_chunk(&m, 1, 1000, 1000, 100, 800, 1000, 0x22);
	assert_chunk(&m, 2, 2000, 1000, 900, 4100, 0, 0x33);
	assert_chunk(&m, 3, 4096, 7, 900, 4100, 1536, 0x11);
	bc_map_close(&m);
	ld_layer_fini(&l);
}

static void a_range_is_no_longer_than_its_chunks_can_need(void **state)
{
	static const char *const json =
		TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)));
	const struct ld_layer_desc d = {.digest = {.algo = DIGEST_SHA256},
		.size = 9000000000,
		.toc_off = 8999999999};
	struct ld_layer l;
	struct err e = {0};
	struct bc_map m;

	assert_int_equal(ld_toc_parse_zstd_chunked((const uint8_t *)json,
				 strlen(json), &d, &l, &e),
		0);
	open_map(&l, &m);
	assert_chunk(&m, 0, 0, 10, 100, 4107, 0, 0x11);
	bc_map_close(&m);
	ld_layer_fini(&l);
}

static void files_that_say_their_end_keep_it_among_others(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1) END(150)),
			  ENTRY("reg", "b", FILE_AT(20, 200, 0, DIGEST_2)),
			  ENTRY("reg", "c",
				  FILE_AT(30, 400, 0, DIGEST_3) END(450))),
		&l);
	open_map(&l, &m);
	assert_chunk(&m, 0, 0, 10, 100, 50, 0, 0x11);
	assert_chunk(&m, 1, 4096, 20, 200, 200, 0, 0x22);
	assert_chunk(&m, 2, 8192, 30, 400, 50, 0, 0x33);
	assert_int_equal(m.groups[0].codec, BC_CODEC_ZSTD_PART);
	bc_map_close(&m);
	ld_layer_fini(&l);
}

static void landmarks_are_hidden_unless_storage_wrote_them(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", ".no.prefetch.landmark",
			      FILE_AT(1, 50, 0, DIGEST_2)),
			  ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			  ENTRY("reg", ".prefetch.landmark",
				  FILE_AT(1, 400, 0, DIGEST_2) END(420)),
			  ENTRY("reg", "stargz.index.json", "")),
		&l);
	assert_null(find(&l, ".no.prefetch.landmark"));
	assert_non_null(find(&l, "stargz.index.json"));
	assert_non_null(find(&l, ".prefetch.landmark"));
	assert_int_equal(l.entries, 3);
	open_map(&l, &m);
	assert_chunk(&m, 0, 0, 10, 100, 300, 0, 0x11);
	bc_map_close(&m);
	ld_layer_fini(&l);
}

static void hostile_places_are_refused(void **state)
{
	must_fail(TOC(ENTRY("reg", "a", FILE_AT(10, 5000, 0, DIGEST_1))),
		-EPROTO, "outside the blob");
	must_fail(TOC(ENTRY("reg", "a", ",\"size\":3")), -EPROTO,
		"outside the blob");
	must_fail(TOC(ENTRY("reg", "a",
			  FILE_AT(10, 100, 9223372036854775807, DIGEST_1))),
		-E2BIG, "128 MiB");
	must_fail(TOC(ENTRY("reg", "a", FILE_AT(134217729, 100, 0, DIGEST_1))),
		-E2BIG, "128 MiB");
	must_fail(TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			  ENTRY("reg", "b", FILE_AT(10, 100, 9, DIGEST_1))),
		-EPROTO, "overlap in the blob");
	/* one says that it reaches into the other */
	must_fail(TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1) END(300)),
			  ENTRY("reg", "b", FILE_AT(10, 200, 0, DIGEST_1))),
		-EPROTO, "overlap in the blob");
	must_fail(TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1) END(300)),
			  ENTRY("reg", "b", FILE_AT(10, 100, 20, DIGEST_1))),
		-EPROTO, "overlap in the blob");
}

static void no_failed_allocation_is_lost(void **state)
{
	static const char json[] =
		TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			ENTRY("reg", "b", FILE_AT(10, 500, 0, DIGEST_1)));

	try_every_failed_allocation(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_goes_on_to_the_next_or_to_the_toc),
		cmocka_unit_test(chunks_and_files_may_share_a_frame),
		cmocka_unit_test(a_range_is_no_longer_than_its_chunks_can_need),
		cmocka_unit_test(files_that_say_their_end_keep_it_among_others),
		cmocka_unit_test(
			landmarks_are_hidden_unless_storage_wrote_them),
		cmocka_unit_test(hostile_places_are_refused),
		cmocka_unit_test(no_failed_allocation_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
