/* SPDX-License-Identifier: Apache-2.0 */
/* zstd:chunked TOCs, and what both TOC formats have in common. */
#include <stdio.h>
#include <sys/stat.h>

#include "loader/index.h"
#include "loader/merge.h"
#include "tests/lib/toc_make.h"

static int load(const char *json, struct ld_layer *ret, struct err *e)
{
	return load_zstd_chunked(json, BLOB_SIZE, TOC_AT, ret, e);
}

#define DATA(size, off, end, digest) \
	",\"size\":" #size ",\"offset\":" #off ",\"endOffset\":" #end \
	",\"digest\":\"" digest "\""
#define CHUNK(off, file_off, size, digest) \
	",\"offset\":" #off ",\"chunkOffset\":" #file_off \
	",\"chunkSize\":" #size ",\"chunkDigest\":\"" digest "\""
#define FIRST(size, digest) \
	",\"chunkSize\":" #size ",\"chunkDigest\":\"" digest "\""
#define ZEROS_128_MIB \
	"sha256:" \
	"254bcc3fc4f27172636df4bf32de9f107f620d559b20d760197e452b97453917"
#define ZEROS_64_MIB_1 \
	"sha256:" \
	"91990977345985aaf03af1358f4f989d7eaf985b58529efb72f613c588f6599a"
#define ZEROS ",\"chunkType\":\"zeros\""

/* ---- files and chunks ---- */

static void a_file_of_one_chunk_is_one_group(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "f", DATA(10, 100, 150, DIGEST_1))), &l);
	assert_int_equal(l.format, LD_FORMAT_ZSTD_CHUNKED);
	assert_int_equal(l.entries, 1);
	assert_int_equal(l.size_uncompressed, 10);
	assert_one_extent(must_find(&l, "f"), 10, 0);
	assert_int_equal(ld_tree_blob_count(l.tree), 1);
	assert_int_equal(ld_tree_blob(l.tree, 0)->device_size, 4096);
	open_map(&l, &m);
	assert_int_equal(m.chunk_count, 1);
	assert_int_equal(m.source_size, 6000);
	assert_int_equal(m.device_size, 4096);
	assert_chunk(&m, 0, 0, 10, 100, 50, 0, 0x11);
	assert_int_equal(m.groups[0].codec, BC_CODEC_ZSTD);
	assert_int_equal(m.groups[0].dec_len, 10);
	drop(&l, &m);
}

static void chunks_end_where_the_next_one_begins(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "d/f",
			      DATA(9000, 100, 400, DIGEST_1)
				      FIRST(4000, DIGEST_1)),
			  ENTRY("chunk", "d/f",
				  CHUNK(200, 4000, 1000, DIGEST_2) ZEROS),
			  ENTRY("chunk", "./d/f",
				  CHUNK(250, 5000, 4000, DIGEST_3))),
		&l);
	assert_one_extent(must_find(&l, "d/f"), 9000, 0);
	assert_int_equal(ld_tree_blob(l.tree, 0)->device_size, 12288);
	open_map(&l, &m);
	assert_int_equal(m.chunk_count, 2);
	assert_chunk(&m, 0, 0, 4000, 100, 100, 0, 0x11);
	assert_chunk(&m, 1, 5000, 4000, 250, 150, 0, 0x33);
	drop(&l, &m);
}

static void the_last_chunk_may_leave_its_size_out(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_map(TOC(ENTRY("reg", "f",
			     DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1)),
			 "{\"type\":\"chunk\",\"offset\":200,\"chunkOffset\":"
			 "40,\"chunkDigest\":\"" DIGEST_2 "\"}"),
		&l, &m);
	assert_chunk(&m, 1, 40, 10, 200, 200, 0, 0x22);
	drop(&l, &m);
}

static void files_lie_on_blocks_in_the_order_of_their_source(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "a", DATA(10, 900, 950, DIGEST_1)),
			  ENTRY("reg", "b", DATA(4097, 100, 150, DIGEST_2)),
			  ENTRY("reg", "c", DATA(1, 500, 550, DIGEST_3))),
		&l);
	assert_one_extent(must_find(&l, "b"), 4097, 0);
	assert_one_extent(must_find(&l, "c"), 1, 8192);
	assert_one_extent(must_find(&l, "a"), 10, 12288);
	open_map(&l, &m);
	assert_chunk(&m, 2, 12288, 10, 900, 50, 0, 0x11);
	drop(&l, &m);
}

static void holes_take_no_chunk(void **state)
{
	struct ld_layer l;

	must_load(TOC(ENTRY("reg", "hole",
			  DATA(99999999999, 100, 150, DIGEST_1) ZEROS)),
		&l);
	assert_int_equal(must_find(&l, "hole")->size, 99999999999);
	assert_int_equal(must_find(&l, "hole")->extent_count, 0);
	assert_int_equal(ld_tree_blob_count(l.tree), 0);
	assert_empty_map(&l);
	ld_layer_fini(&l);
}

static void long_zeros_that_are_not_called_so_are_a_hole(void **state)
{
	/* of 128 MiB, and of 64 MiB and one byte, of zeros */
	static const char json[] = TOC(
		ENTRY("reg", "a", DATA(134217728, 100, 150, ZEROS_128_MIB)),
		ENTRY("reg", "b",
			DATA(67108867, 200, 250, DIGEST_1) FIRST(2, DIGEST_2)),
		ENTRY("chunk", "b", CHUNK(240, 2, 67108865, ZEROS_64_MIB_1)));
	struct ld_layer l;
	struct bc_map m;

	must_load(json, &l);
	assert_int_equal(must_find(&l, "a")->extent_count, 0);
	assert_one_extent(must_find(&l, "b"), 67108867, 0);
	open_map(&l, &m);
	assert_int_equal(m.chunk_count, 1);
	drop(&l, &m);
}

static void files_with_the_same_bytes_share_their_place(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "a", DATA(10, 100, 150, DIGEST_1)),
			  ENTRY("reg", "b", DATA(10, 100, 150, DIGEST_1)),
			  ENTRY("reg", "c", DATA(10, 150, 200, DIGEST_1))),
		&l);
	assert_one_extent(must_find(&l, "a"), 10, 0);
	assert_one_extent(must_find(&l, "b"), 10, 0);
	assert_one_extent(must_find(&l, "c"), 10, 4096);
	open_map(&l, &m);
	assert_int_equal(m.chunk_count, 2);
	drop(&l, &m);
}

static void a_layer_without_data_has_no_blob(void **state)
{
	struct ld_layer l;

	must_load(NO_ENTRIES, &l);
	assert_int_equal(l.entries, 0);
	ld_layer_fini(&l);
	must_load(TOC(ENTRY("dir", "./", ",\"mode\":448"),
			  ENTRY("reg", "empty", ",\"offset\":99999")),
		&l);
	assert_int_equal(ld_tree_root(l.tree)->attr.mode, S_IFDIR | 0700);
	assert_int_equal(l.entries, 2);
	assert_int_equal(ld_tree_blob_count(l.tree), 0);
	assert_empty_map(&l);
	ld_layer_fini(&l);
}

static void chunks_must_cover_the_file(void **state)
{
	must_fail(TOC(ENTRY("reg", "f",
			  DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1))),
		-EPROTO, "do not reach its end");
	must_fail(TOC(ENTRY("reg", "f",
			  DATA(50, 100, 400, DIGEST_1) FIRST(51, DIGEST_1))),
		-EPROTO, "overlaps another or leaves a gap");
	must_fail(TOC(ENTRY("reg", "f",
			      DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1)),
			  ENTRY("chunk", "f", CHUNK(200, 39, 11, DIGEST_2))),
		-EPROTO, "overlaps another or leaves a gap");
	must_fail(TOC(ENTRY("reg", "f",
			      DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1)),
			  ENTRY("chunk", "f", CHUNK(200, 41, 9, DIGEST_2))),
		-EPROTO, "overlaps another or leaves a gap");
	must_fail(TOC(ENTRY("reg", "f", DATA(50, 100, 400, DIGEST_1)),
			  ENTRY("chunk", "f", CHUNK(200, 50, 1, DIGEST_2))),
		-EPROTO, "overlaps another or leaves a gap");
	must_fail(TOC(ENTRY("reg", "f",
			  DATA(50, 100, 400, DIGEST_1) ",\"chunkOffset\":1")),
		-EPROTO, "overlaps another or leaves a gap");
}

static void chunks_must_lie_in_the_data_of_the_blob(void **state)
{
	must_fail(TOC(ENTRY("reg", "f", DATA(50, 4999, 5001, DIGEST_1))),
		-EPROTO, "outside the blob");
	must_fail(TOC(ENTRY("reg", "f", DATA(50, 100, 100, DIGEST_1))), -EPROTO,
		"outside the blob");
	must_fail(TOC(ENTRY("reg", "f",
			  DATA(50, 9223372036854775807, 100, DIGEST_1))),
		-EPROTO, "outside the blob");
	must_fail(TOC(ENTRY("reg", "f",
			      DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1)),
			  ENTRY("chunk", "f", CHUNK(400, 40, 10, DIGEST_2))),
		-EPROTO, "does not follow");
	must_fail(TOC(ENTRY("reg", "f",
			      DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1)),
			  ENTRY("chunk", "f", CHUNK(100, 40, 10, DIGEST_2))),
		-EPROTO, "does not follow");
	must_fail(TOC(ENTRY("reg", "a", DATA(50, 100, 400, DIGEST_1)),
			  ENTRY("reg", "b", DATA(50, 399, 500, DIGEST_1))),
		-EPROTO, "overlap in the blob");
	must_fail(TOC(ENTRY("reg", "a", DATA(50, 100, 400, DIGEST_1)),
			  ENTRY("reg", "b", DATA(51, 100, 400, DIGEST_1))),
		-EPROTO, "overlap in the blob");
}

static void every_chunk_needs_a_digest_that_covers_it(void **state)
{
	must_fail(TOC(ENTRY("reg", "f",
			  ",\"size\":5,\"offset\":100,\"endOffset\":200")),
		-EOPNOTSUPP, "no digest covers the chunk of 'f'");
	must_fail(TOC(ENTRY("reg", "f",
			      DATA(50, 100, 400, DIGEST_1) ",\"chunkSize\":40"),
			  ENTRY("chunk", "f", CHUNK(200, 40, 10, DIGEST_2))),
		-EOPNOTSUPP, "no digest covers");
	must_fail(TOC(ENTRY("reg", "f",
			      DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1)),
			  ENTRY("chunk", "f",
				  ",\"offset\":200,\"chunkOffset\":40")),
		-EOPNOTSUPP, "no digest covers the chunk of 'f' at 40");
	must_fail(
		TOC(ENTRY("reg", "f",
			DATA(50, 100, 400,
				DIGEST_1) ",\"chunkDigest\":\"" DIGEST_2 "\"")),
		-EPROTO, "two different digests");
	must_fail(TOC(ENTRY("reg", "f",
			  DATA(50, 100, 400, "sha512:" HEX16("11111111")))),
		-EOPNOTSUPP, "sha512");
}

static void what_cannot_be_held_is_refused(void **state)
{
	must_fail(TOC(ENTRY("reg", "f", DATA(134217729, 100, 400, DIGEST_1))),
		-E2BIG, "longer than 128 MiB");
	must_fail(TOC(ENTRY("reg", "f",
			  DATA(9223372036854775807, 100, 400, DIGEST_1) ZEROS)),
		-E2BIG, "16 TiB");
}

static void chunks_belong_to_the_file_before_them(void **state)
{
	must_fail(TOC(ENTRY("chunk", "f", CHUNK(200, 40, 10, DIGEST_2))),
		-EPROTO, "follows no file");
	must_fail(TOC(ENTRY("reg", "f",
			      DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1)),
			  ENTRY("chunk", "g", CHUNK(200, 40, 10, DIGEST_2))),
		-EPROTO, "follows another file");
	must_fail(TOC(ENTRY("reg", "f", DATA(50, 100, 400, DIGEST_1)),
			  ENTRY("dir", "g", ""),
			  ENTRY("chunk", "f", CHUNK(200, 40, 10, DIGEST_2))),
		-EPROTO, "follows no file");
}

/* ---- names ---- */

static void of_two_entries_the_later_one_wins(void **state)
{
	struct ld_layer l;
	struct bc_map m;

	must_load(TOC(ENTRY("reg", "f", DATA(10, 100, 150, DIGEST_1)),
			  ENTRY("reg", "./f", DATA(20, 200, 250, DIGEST_2)),
			  ENTRY("reg", "d/x", DATA(10, 300, 350, DIGEST_3)),
			  ENTRY("symlink", "d", ",\"linkName\":\"f\""),
			  ENTRY("symlink", "e", ",\"linkName\":\"f\""),
			  ENTRY("dir", "e/", "")),
		&l);
	assert_one_extent(must_find(&l, "f"), 20, 0);
	assert_true(S_ISLNK(must_find(&l, "d")->attr.mode));
	assert_null(find(&l, "d/x"));
	assert_true(S_ISDIR(must_find(&l, "e")->attr.mode));
	open_map(&l, &m);
	assert_int_equal(m.chunk_count, 1);
	assert_chunk(&m, 0, 0, 20, 200, 50, 0, 0x22);
	drop(&l, &m);
}

static void names_may_not_leave_the_root(void **state)
{
	must_fail(TOC(ENTRY("dir", "../x", "")), -EPROTO, "'..'");
	must_fail(TOC(ENTRY("dir", "a/../../x", "")), -EPROTO, "'..'");
	must_fail(TOC(ENTRY("hardlink", "a", ",\"linkName\":\"../x\"")),
		-EPROTO, "'..'");
	must_fail(TOC(ENTRY("reg", "/", "")), -EPROTO, "root");
	must_fail(TOC(ENTRY("dir", "a\\u0000b", "")), -EPROTO, "");
}

static void whiteouts_are_no_entries(void **state)
{
	struct ld_layer l;

	must_load(
		TOC(ENTRY("dir", "d", ""), ENTRY("reg", "d/.wh..wh..opq", ""),
			ENTRY("reg", ".wh.gone", ""),
			ENTRY("reg", ".wh.data",
				DATA(9, 100, 200, DIGEST_1) FIRST(5, DIGEST_1)),
			ENTRY("chunk", ".wh.data", CHUNK(150, 5, 4, DIGEST_2))),
		&l);
	assert_int_equal(l.entries, 1);
	assert_true(must_find(&l, "d")->opaque);
	assert_true(ld_inode_is_whiteout(must_find(&l, "gone")));
	assert_true(ld_inode_is_whiteout(must_find(&l, "data")));
	assert_null(find(&l, ".wh.gone"));
	assert_empty_map(&l);
	ld_layer_fini(&l);
	must_fail(TOC(ENTRY("reg", ".wh.", "")), -EPROTO, "");
}

/* ---- hard links ---- */

static const char *link_target(const struct ld_inode *i)
{
	const struct ld_xattr *x = ld_tree_xattr(i, LD_XATTR_LINK);
	static char copy[100];

	assert_non_null(x);
	assert_in_range(x->value_len, 1, sizeof(copy) - 1);
	memcpy(copy, x->value, x->value_len);
	copy[x->value_len] = '\0';
	return copy;
}

#define LINK(name, to) ENTRY("hardlink", name, ",\"linkName\":\"" to "\"")

static void hard_links_are_one_inode(void **state)
{
	struct ld_layer l;
	struct ld_inode *f;

	must_load(TOC(LINK("d/c", "d/b"), LINK("d/b", "./a"),
			  ENTRY("reg", "a", DATA(10, 100, 150, DIGEST_1)),
			  LINK("e", "/a/"), LINK("f", "e")),
		&l);
	f = must_find(&l, "a");
	assert_ptr_equal(find(&l, "d/c"), f);
	assert_ptr_equal(find(&l, "d/b"), f);
	assert_ptr_equal(find(&l, "e"), f);
	assert_ptr_equal(find(&l, "f"), f);
	assert_int_equal(f->nlink, 5);
	assert_one_extent(f, 10, 0);
	assert_int_equal(l.entries, 5);
	assert_int_equal(l.size_uncompressed, 10);
	ld_layer_fini(&l);
}

static void a_link_to_a_lower_layer_waits_for_the_merge(void **state)
{
	struct ld_layer l;
	struct ld_inode *i;

	must_load(
		TOC(LINK("d/y", "x"), LINK("x", "./low//er"), LINK("z", "d/y"),
			LINK("gone", "low/er"), ENTRY("dir", "gone", ""),
			ENTRY("reg", ".wh.w", ""), LINK("v", "w")),
		&l);
	i = must_find(&l, "x");
	assert_int_equal(i->attr.mode, S_IFREG);
	assert_int_equal(i->size, 0);
	assert_string_equal(link_target(i), "low/er");
	assert_ptr_equal(find(&l, "d/y"), i);
	assert_ptr_equal(find(&l, "z"), i);
	assert_true(S_ISDIR(must_find(&l, "gone")->attr.mode));
	assert_string_equal(link_target(must_find(&l, "v")), "w");
	ld_layer_fini(&l);
}

/* The layer index of a TOC; *bytes must outlive it. */
static void index_of(const char *json, struct buf *bytes, struct ld_index *ret)
{
	struct ld_layer l;
	struct err e = {0};

	must_load(json, &l);
	buf_init(bytes, 0);
	if (ld_index_write(l.tree, 12, bytes, &e) ||
		ld_index_from_bytes(bytes->data, bytes->len, ret, &e))
		fail_msg("%s", e.text);
	ld_layer_fini(&l);
}

static void the_merge_finds_the_lower_target_of_a_link(void **state)
{
	static const char *const upper[] = {
		TOC(LINK("b", "d/a"), LINK("c", "b")), TOC(LINK("b", "d/x"))};
	struct ld_index x[2];
	const struct ld_index *const list[] = {&x[0], &x[1]};
	struct buf bytes[2];
	struct ld_tree *t;
	struct ld_inode *i;
	struct err e;

	for (size_t k = 0; k < ARRAY_LEN(upper); k++) {
		index_of(TOC(ENTRY("reg", "d/a", ",\"uid\":77")), &bytes[0],
			&x[0]);
		index_of(upper[k], &bytes[1], &x[1]);
		assert_int_equal(ld_tree_create(&t), 0);
		if (k == 0) {
			assert_int_equal(ld_merge(list, 2, t, &e), 0);
			i = ld_tree_find(t, "c", 1);
			assert_non_null(i);
			assert_ptr_equal(ld_tree_find(t, "d/a", 3), i);
			assert_ptr_equal(ld_tree_find(t, "b", 1), i);
			assert_int_equal(i->attr.uid, 77);
			assert_int_equal(i->xattr_count, 0);
		} else {
			assert_int_equal(ld_merge(list, 2, t, &e), -EPROTO);
			assert_non_null(strstr(e.text, "d/x"));
		}
		ld_tree_destroy(t);
		buf_fini(&bytes[0]);
		buf_fini(&bytes[1]);
	}
}

static void broken_links_are_refused(void **state)
{
	must_fail(TOC(LINK("a", "a")), -EPROTO, "itself");
	must_fail(TOC(LINK("a", "/")), -EPROTO, "nowhere");
	must_fail(TOC(ENTRY("hardlink", "a", "")), -EPROTO, "nowhere");
	must_fail(TOC(LINK("a", "b"), LINK("b", "a")), -EPROTO, "circle");
	must_fail(TOC(LINK("a", "b"), LINK("b", "c"), LINK("c", "a")), -EPROTO,
		"circle");
	must_fail(TOC(ENTRY("dir", "d", ""), LINK("a", "d")), -EPROTO,
		"directory");
	must_fail(TOC(LINK("a", "d"), ENTRY("dir", "d", "")), -EPROTO,
		"directory");
}

static void a_long_chain_of_links_takes_no_long_time(void **state)
{
	enum { COUNT = 20000 };
	struct ld_layer l;
	struct buf b;
	char name[20];

	buf_init(&b, 0);
	assert_int_equal(buf_printf(&b, "{\"entries\":["), 0);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(buf_printf(&b,
					 "{\"type\":\"hardlink\",\"name\":\"f%"
					 "u\",\"linkName\":\"f%u\"},",
					 i, i + 1),
			0);
	assert_int_equal(
		buf_printf(&b, "{\"type\":\"reg\",\"name\":\"f%u\"}]}", COUNT),
		0);
	assert_int_equal(buf_terminate(&b), 0);
	must_load((const char *)b.data, &l);
	(void)snprintf(name, sizeof(name), "f%u", COUNT);
	assert_ptr_equal(find(&l, "f0"), find(&l, name));
	assert_int_equal(must_find(&l, name)->nlink, COUNT + 1);
	ld_layer_fini(&l);
	buf_fini(&b);
}

/* ---- attributes ---- */

static void every_type_keeps_its_attributes(void **state)
{
	struct ld_layer l;
	struct ld_inode *i;

	must_load(TOC(ENTRY("char", "c",
			      ",\"mode\":8630,\"devMajor\":4095,\"devMinor\":"
			      "1048575"),
			  ENTRY("block", "b", ",\"mode\":432,\"devMajor\":8"),
			  ENTRY("fifo", "p", ",\"mode\":4516"),
			  ENTRY("symlink", "s",
				  ",\"mode\":511,\"linkName\":\"../x\""),
			  ENTRY("reg", "f",
				  ",\"mode\":36333,\"uid\":4294967294,\"gid\":"
				  "5,\"modtime\":\"1960-01-01T00:00:00.5Z\""),
			  ENTRY("reg", "z",
				  ",\"modtime\":\"0001-01-01T00:00:00Z\"")),
		&l);
	i = must_find(&l, "c");
	assert_int_equal(i->attr.mode, S_IFCHR | 0666);
	assert_int_equal(i->attr.rdev_major, 4095);
	assert_int_equal(i->attr.rdev_minor, 1048575);
	assert_int_equal(must_find(&l, "b")->attr.mode, S_IFBLK | 0660);
	assert_int_equal(must_find(&l, "p")->attr.mode, S_IFIFO | 0644);
	assert_string_equal(must_find(&l, "s")->target, "../x");
	assert_int_equal(must_find(&l, "s")->size, 4);
	i = must_find(&l, "f");
	assert_int_equal(i->attr.mode, S_IFREG | 06755);
	assert_int_equal(i->attr.uid, 4294967294);
	assert_int_equal(i->attr.gid, 5);
	assert_int_equal(i->attr.mtime, -315619200);
	assert_int_equal(i->attr.mtime_ns, 500000000);
	assert_int_equal(must_find(&l, "z")->attr.mtime, 0);
	ld_layer_fini(&l);
	must_fail(TOC(ENTRY("symlink", "s", "")), -EPROTO, "no target");
}

static void xattrs_are_bytes_and_ours_are_not_taken(void **state)
{
	const struct ld_xattr *x;
	struct ld_layer l;
	struct ld_inode *i;

	must_load(TOC(ENTRY("dir", "d",
			  ",\"xattrs\":{\"user.a\":\"AAE=\",\"user.empty\":"
			  "\"\",\"security.capability\":\"AQ==\",\"com.apple."
			  "x\":\"AQ==\",\"trusted.overlay.opaque\":\"eQ==\","
			  "\"user.overlay.opaque\":\"eQ==\",\"trusted.sluice."
			  "link\":\"eQ==\"}")),
		&l);
	i = must_find(&l, "d");
	assert_int_equal(i->xattr_count, 3);
	x = ld_tree_xattr(i, "user.a");
	assert_non_null(x);
	assert_int_equal(x->value_len, 2);
	assert_memory_equal(x->value, "\0\1", 2);
	assert_int_equal(ld_tree_xattr(i, "user.empty")->value_len, 0);
	assert_false(i->opaque);
	ld_layer_fini(&l);
	must_fail(TOC(ENTRY("dir", "d", ",\"xattrs\":{\"user.a\":\"A\"}")),
		-EPROTO, "base64");
	must_fail(TOC(ENTRY("dir", "d", ",\"xattrs\":{\"user.a\":1}")), -EPROTO,
		"no string");
}

/* ---- memory ---- */

static void no_failed_allocation_is_lost(void **state)
{
	static const char json[] = TOC(
		ENTRY("dir", "d", ",\"xattrs\":{\"user.a\":\"AAE=\"}"),
		LINK("d/c", "d/b"), LINK("d/b", "f"),
		ENTRY("reg", "f",
			DATA(50, 100, 400, DIGEST_1) FIRST(40, DIGEST_1)),
		ENTRY("chunk", "f", CHUNK(200, 40, 10, DIGEST_2)),
		ENTRY("reg", "g", DATA(50, 400, 500, DIGEST_1)));

	try_every_failed_allocation(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_of_one_chunk_is_one_group),
		cmocka_unit_test(chunks_end_where_the_next_one_begins),
		cmocka_unit_test(the_last_chunk_may_leave_its_size_out),
		cmocka_unit_test(
			files_lie_on_blocks_in_the_order_of_their_source),
		cmocka_unit_test(holes_take_no_chunk),
		cmocka_unit_test(long_zeros_that_are_not_called_so_are_a_hole),
		cmocka_unit_test(files_with_the_same_bytes_share_their_place),
		cmocka_unit_test(a_layer_without_data_has_no_blob),
		cmocka_unit_test(chunks_must_cover_the_file),
		cmocka_unit_test(chunks_must_lie_in_the_data_of_the_blob),
		cmocka_unit_test(every_chunk_needs_a_digest_that_covers_it),
		cmocka_unit_test(what_cannot_be_held_is_refused),
		cmocka_unit_test(chunks_belong_to_the_file_before_them),
		cmocka_unit_test(of_two_entries_the_later_one_wins),
		cmocka_unit_test(names_may_not_leave_the_root),
		cmocka_unit_test(whiteouts_are_no_entries),
		cmocka_unit_test(hard_links_are_one_inode),
		cmocka_unit_test(a_link_to_a_lower_layer_waits_for_the_merge),
		cmocka_unit_test(the_merge_finds_the_lower_target_of_a_link),
		cmocka_unit_test(broken_links_are_refused),
		cmocka_unit_test(a_long_chain_of_links_takes_no_long_time),
		cmocka_unit_test(every_type_keeps_its_attributes),
		cmocka_unit_test(xattrs_are_bytes_and_ours_are_not_taken),
		cmocka_unit_test(no_failed_allocation_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
