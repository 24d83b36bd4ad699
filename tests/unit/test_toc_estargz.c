/* SPDX-License-Identifier: Apache-2.0 */
/* eStargz TOCs: members, packing, landmarks. */
#include "tests/lib/toc_make.h"

static int load_from(const char *json, uint64_t size, uint64_t toc_off,
	struct ld_layer *ret, struct err *e)
{
	const struct ld_layer_desc d = {
		.digest = {.algo = DIGEST_SHA256}, .size = size};

	*e = (struct err){0};
	return ld_toc_parse_estargz(
		(const uint8_t *)json, strlen(json), toc_off, &d, ret, e);
}

static int load(const char *json, struct ld_layer *ret, struct err *e)
{
	return load_from(json, BLOB_SIZE, TOC_AT, ret, e);
}

static void a_group_ends_where_the_next_member_begins(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "b", FILE_AT(20, 300, 0, DIGEST_2)),
			  ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			  ENTRY("reg", "dead", FILE_AT(5, 250, 0, DIGEST_3)),
			  ENTRY("dir", "dead", "")),
		&l);
	assert_int_equal(l.format, LD_FORMAT_ESTARGZ);
	assert_one_extent(must_find(&l, "a"), 10, 0);
	assert_one_extent(must_find(&l, "b"), 20, 4096);
	open_map(&l, &m);
	assert_int_equal(m.chunk_count, 2);
	/* the file that was replaced still has a member there */
	assert_chunk(&m, 0, 0, 10, 100, 150, 0, 0x11);
	assert_chunk(&m, 1, 4096, 20, 300, 4118, 0, 0x22);
	assert_int_equal(m.groups[0].codec, BC_CODEC_GZIP);
	drop(&l, &m);
}

static void a_group_is_no_longer_than_its_chunks_can_need(void **state)
{
	static const char *const json =
		TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			ENTRY("reg", "b", FILE_AT(20, 900000000, 0, DIGEST_2)));
	struct ld_layer l;
	struct err e = {0};
	struct bc_map m;

	assert_int_equal(load_from(json, 1000000000, 999999999, &l, &e), 0);
	open_map(&l, &m);
	assert_chunk(&m, 0, 0, 10, 100, 4107, 0, 0x11);
	assert_chunk(&m, 1, 4096, 20, 900000000, 4118, 0, 0x22);
	drop(&l, &m);
}

static void files_packed_into_a_member_share_its_group(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_map(TOC(ENTRY("reg", "b", FILE_AT(20, 100, 1024, DIGEST_2)),
			 ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			 ENTRY("reg", "c",
				 FILE_AT(3000, 100, 2048,
					 DIGEST_1) ",\"chunkSize\":1000"),
			 ENTRY("chunk", "c",
				 CHUNK_AT(100, 3048, 1000,
					 DIGEST_2) ",\"chunkSize\":1000"),
			 ENTRY("chunk", "c", CHUNK_AT(900, 0, 2000, DIGEST_3)),
			 ENTRY("reg", "d", FILE_AT(7, 900, 1536, DIGEST_1))),
		&l, &m);
	assert_int_equal(m.group_count, 2);
	assert_int_equal(m.chunk_count, 6);
	assert_chunk(&m, 0, 0, 10, 100, 800, 0, 0x11);
	assert_chunk(&m, 1, 4096, 20, 100, 800, 1024, 0x22);
	assert_chunk(&m, 2, 8192, 1000, 100, 800, 2048, 0x11);
	assert_chunk(&m, 3, 9192, 1000, 100, 800, 3048, 0x22);
	assert_chunk(&m, 4, 10192, 1000, 900, 5100, 0, 0x33);
	assert_chunk(&m, 5, 12288, 7, 900, 5100, 1536, 0x11);
	assert_int_equal(m.groups[0].dec_len, 4048);
	assert_int_equal(m.groups[1].dec_len, 1543);
	drop(&l, &m);
}

static void landmarks_are_hidden_but_begin_a_member(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			  ENTRY("reg", "./.prefetch.landmark",
				  FILE_AT(1, 400, 0, DIGEST_2)),
			  ENTRY("reg", ".no.prefetch.landmark",
				  FILE_AT(1, 500, 0, DIGEST_2)),
			  ENTRY("reg", "d/.prefetch.landmark", "")),
		&l);
	assert_null(find(&l, ".prefetch.landmark"));
	assert_null(find(&l, ".no.prefetch.landmark"));
	assert_non_null(find(&l, "d/.prefetch.landmark"));
	assert_int_equal(l.entries, 2);
	assert_int_equal(l.prefetch_end, 400);
	open_map(&l, &m);
	assert_int_equal(m.chunk_count, 1);
	assert_chunk(&m, 0, 0, 10, 100, 300, 0, 0x11);
	drop(&l, &m);
}

static void the_whole_digest_covers_an_unchunked_file(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_map(TOC(ENTRY("reg", "a",
			 ",\"size\":9,\"offset\":80,\"digest\":\"" DIGEST_3
			 "\"")),
		&l, &m);
	assert_chunk(&m, 0, 0, 9, 80, 4106, 0, 0x33);
	drop(&l, &m);
	must_fail(TOC(ENTRY("reg", "a",
			  ",\"size\":9,\"offset\":80,\"chunkSize\":5,"
			  "\"digest\":\"" DIGEST_3 "\"")),
		-EOPNOTSUPP, "no digest covers");
}

/* The footer is not covered by any digest: it may refuse, but not shape. */
static void where_the_footer_puts_the_toc_does_not_matter(void **state)
{
	static const uint64_t places[] = {101, 1000, 4999, 5990};
	static const char *const json =
		TOC(ENTRY("reg", "a", FILE_AT(500, 40, 0, DIGEST_1)),
			ENTRY("reg", "b", FILE_AT(3000, 100, 0, DIGEST_2)));
	struct ld_layer l, other;
	struct err e;

	must_load(json, &l);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		assert_int_equal(
			load_from(json, BLOB_SIZE, places[i], &other, &e), 0);
		assert_int_equal(other.map.len, l.map.len);
		assert_memory_equal(other.map.data, l.map.data, l.map.len);
		ld_layer_fini(&other);
	}
	ld_layer_fini(&l);
}

static void hostile_places_are_refused(void **state)
{
	false_places_are_refused();
	must_fail(TOC(ENTRY("reg", "a", FILE_AT(10, 100, 134217720, DIGEST_1))),
		-E2BIG, "128 MiB");
	/* back and forth between members */
	must_fail(TOC(ENTRY("reg", "a",
			      FILE_AT(10, 100, 0, DIGEST_1) ",\"chunkSize\":5"),
			  ENTRY("chunk", "a", CHUNK_AT(300, 0, 5, DIGEST_1)),
			  ENTRY("reg", "b", FILE_AT(10, 100, 50, DIGEST_1))),
		-EPROTO, "overlap in the blob");
	must_fail(TOC(ENTRY("reg", "a",
			      FILE_AT(10, 300, 0, DIGEST_1) ",\"chunkSize\":5"),
			  ENTRY("chunk", "a", CHUNK_AT(100, 0, 5, DIGEST_1))),
		-EPROTO, "overlap in the blob");
}

static void no_failed_allocation_is_lost(void **state)
{
	static const char json[] =
		TOC(ENTRY("reg", "a", FILE_AT(10, 100, 0, DIGEST_1)),
			ENTRY("reg", ".prefetch.landmark",
				FILE_AT(1, 400, 0, DIGEST_2)),
			ENTRY("reg", "b", FILE_AT(10, 500, 0, DIGEST_1)));

	try_every_failed_allocation(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_group_ends_where_the_next_member_begins),
		cmocka_unit_test(a_group_is_no_longer_than_its_chunks_can_need),
		cmocka_unit_test(files_packed_into_a_member_share_its_group),
		cmocka_unit_test(landmarks_are_hidden_but_begin_a_member),
		cmocka_unit_test(the_whole_digest_covers_an_unchunked_file),
		cmocka_unit_test(where_the_footer_puts_the_toc_does_not_matter),
		cmocka_unit_test(hostile_places_are_refused),
		cmocka_unit_test(no_failed_allocation_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
