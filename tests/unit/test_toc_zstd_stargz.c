/* SPDX-License-Identifier: Apache-2.0 */
/* zstd:chunked TOCs of stargz' converter: no endOffset, eStargz' members. */
#include "tests/lib/toc_make.h"

static int load(const char *json, struct ld_layer *ret, struct err *e)
{
	return load_zstd_chunked(json, BLOB_SIZE, TOC_AT, ret, e);
}

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
	drop(&l, &m);
}

static void chunks_and_files_may_share_a_frame(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_map(TOC(ENTRY("reg", "a",
			     FILE_AT(3000, 100, 0,
				     DIGEST_1) ",\"chunkSize\":1000"),
			 ENTRY("chunk", "a",
				 CHUNK_AT(100, 1000, 1000,
					 DIGEST_2) ",\"chunkSize\":1000"),
			 ENTRY("chunk", "a", CHUNK_AT(900, 0, 2000, DIGEST_3)),
			 ENTRY("reg", "b", FILE_AT(7, 900, 1536, DIGEST_1))),
		&l, &m);
	assert_int_equal(m.group_count, 2);
	assert_chunk(&m, 0, 0, 1000, 100, 800, 0, 0x11);
	assert_chunk(&m, 1, 1000, 1000, 100, 800, 1000, 0x22);
	assert_chunk(&m, 2, 2000, 1000, 900, 4100, 0, 0x33);
	assert_chunk(&m, 3, 4096, 7, 900, 4100, 1536, 0x11);
	drop(&l, &m);
}

static void a_range_is_no_longer_than_its_chunks_can_need(void **state)
{
	static const char *const json =
		TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)));
	struct ld_layer l;
	struct err e;
	struct bc_map m;

	assert_int_equal(
		load_zstd_chunked(json, 9000000000, 8999999999, &l, &e), 0);
	open_map(&l, &m);
	assert_chunk(&m, 0, 0, 10, 100, 4107, 0, 0x11);
	drop(&l, &m);
}

static void files_that_say_their_end_keep_it_among_others(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_map(TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1) END(150)),
			 ENTRY("reg", "b", FILE_AT(20, 200, 0, DIGEST_2)),
			 ENTRY("reg", "c",
				 FILE_AT(30, 400, 0, DIGEST_3) END(450))),
		&l, &m);
	assert_chunk(&m, 0, 0, 10, 100, 50, 0, 0x11);
	assert_chunk(&m, 1, 4096, 20, 200, 200, 0, 0x22);
	assert_chunk(&m, 2, 8192, 30, 400, 50, 0, 0x33);
	assert_int_equal(m.groups[0].codec, BC_CODEC_ZSTD_PART);
	drop(&l, &m);
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
	drop(&l, &m);
}

static void hostile_places_are_refused(void **state)
{
	false_places_are_refused();
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
