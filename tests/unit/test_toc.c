/* SPDX-License-Identifier: Apache-2.0 */
/* The streaming reader over a TOC's entries, and the values in them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loader/toc.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* ---- values ---- */

static void times_are_read_over_the_whole_calendar(void **state)
{
	static const struct {
		const char *text;
		int64_t sec;
		uint32_t ns;
	} good[] = {
		{"1970-01-01T00:00:00Z", 0, 0},
		{"1960-01-01T00:00:00Z", -315619200, 0},
		{"2200-01-01T00:00:00Z", 7258118400, 0},
		{"2000-02-29T23:59:59Z", 951868799, 0},
		{"1969-12-31T23:59:59.25Z", -1, 250000000},
		{"2020-02-02T02:02:02.123456789Z", 1580608922, 123456789},
		{"2020-02-02T02:02:02.1234567899Z", 1580608922, 123456789},
		{"2020-02-02T02:02:02+01:30", 1580603522, 0},
		{"2020-02-02T02:02:02.5-01:00", 1580612522, 500000000},
		{"9999-12-31T23:59:59Z", 253402300799, 0},
		{"0001-01-01T00:00:00Z", 0, 0},
		{"0001-01-01T00:00:01Z", -62135596799, 0},
	};
	uint32_t ns;
	int64_t sec;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(toc_time_parse(good[i].text,
					 strlen(good[i].text), &sec, &ns),
			0);
		assert_int_equal(sec, good[i].sec);
		assert_int_equal(ns, good[i].ns);
	}
}

static void broken_times_are_refused(void **state)
{
	static const char *const bad[] = {"", "Z", "2020-02-02",
		"2020-02-02T02:02:02", "2020-02-02T02:02:02ZZ",
		"2020-02-30T02:02:02Z", "2100-02-29T02:02:02Z",
		"2020-13-01T02:02:02Z", "2020-00-01T02:02:02Z",
		"2020-01-00T02:02:02Z", "2020-01-01T24:00:00Z",
		"2020-01-01T00:60:00Z", "2020-01-01T00:00:60Z",
		"2020-01-01T00:00:00.Z", "2020-01-01 00:00:00Z",
		"2020-01-01T00:00:00+1:00", "2020-01-01T00:00:00+24:00",
		"-020-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
		"12020-01-01T00:00:00Z", "2020-1-01T00:00:00Z"};
	uint32_t ns;
	int64_t sec;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			toc_time_parse(bad[i], strlen(bad[i]), &sec, &ns),
			-EPROTO);
}

static void names_are_cleaned(void **state)
{
	static const char *const pairs[][2] = {{"a", "a"}, {"./a", "a"},
		{"/a", "a"}, {"a/", "a"}, {"a//b/./c/", "a/b/c"}, {"./", ""},
		{".", ""}, {"/", ""}, {"", ""}, {"...", "..."},
		{"..a/b..", "..a/b.."}};
	static const char *const bad[] = {"..", "../a", "a/../b", "a/.."};
	char longer[300];
	struct buf b;

	buf_init(&b, 0);
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		assert_int_equal(toc_path_clean(pairs[i][0],
					 strlen(pairs[i][0]), &b, NULL),
			0);
		assert_string_equal((char *)b.data, pairs[i][1]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			toc_path_clean(bad[i], strlen(bad[i]), &b, NULL),
			-EPROTO);
	memset(longer, 'x', sizeof(longer));
	assert_int_equal(toc_path_clean(longer, 255, &b, NULL), 0);
	assert_int_equal(toc_path_clean(longer, 256, &b, NULL), -EPROTO);
	buf_fini(&b);
}

/* ---- the reader ---- */

/* Read all; gives the number of entries or the error. */
static int read_all(const char *json, struct err *e)
{
	size_t len = strlen(json);
	char *copy = mem_alloc(len + 1);
	struct toc_reader r;
	struct toc_entry entry;
	int n = 0, err;

	/* Behind the end lies what must not be looked at. */
	assert_non_null(copy);
	memcpy(copy, json, len);
	copy[len] = '}';
	*e = (struct err){0};
	toc_reader_init(&r, copy, len);
	while ((err = toc_reader_next(&r, &entry, e)) == 1)
		n++;
	toc_reader_fini(&r);
	mem_free(copy);
	if (err)
		assert_string_not_equal(e->text, "");
	return err ? err : n;
}

static void entries_are_handed_out_one_by_one(void **state)
{
	static const char json[] =
		" { \"version\" : 1 , \"x\": [{\"entries\": [1]}], \"entries\":"
		"[ {\"name\":\"a\",\"type\":\"dir\"} , "
		"{\"name\":\"b\",\"type\":\"reg\",\"mode\":33261,\"uid\":7,"
		"\"gid\":4294967295,\"size\":5,\"offset\":9,\"endOffset\":20,"
		"\"innerOffset\":3,\"chunkOffset\":1,\"chunkSize\":4,"
		"\"chunkType\":\"zeros\",\"linkName\":null,"
		"\"modtime\":\"2020-02-02T02:02:02.5Z\",\"xattrs\":{}} ] ,"
		"\"tarSplitDigest\":\"}]\\\"\" } \n";
	struct toc_reader r;
	struct toc_entry entry;

	toc_reader_init(&r, json, strlen(json));
	assert_int_equal(toc_reader_next(&r, &entry, NULL), 1);
	assert_string_equal(entry.name, "a");
	assert_int_equal(entry.type, TOC_DIR);
	assert_int_equal(entry.attr.mode, S_IFDIR);
	assert_false(entry.has_offset);
	assert_int_equal(toc_reader_next(&r, &entry, NULL), 1);
	assert_int_equal(entry.attr.mode, S_IFREG | 0755);
	assert_int_equal(entry.attr.uid, 7);
	assert_int_equal(entry.attr.gid, 4294967295);
	assert_int_equal(entry.attr.mtime, 1580608922);
	assert_int_equal(entry.attr.mtime_ns, 500000000);
	assert_int_equal(entry.size, 5);
	assert_true(entry.has_offset);
	assert_int_equal(entry.offset, 9);
	assert_int_equal(entry.end_offset, 20);
	assert_int_equal(entry.inner_offset, 3);
	assert_int_equal(entry.chunk_offset, 1);
	assert_int_equal(entry.chunk_size, 4);
	assert_true(entry.is_zeros);
	assert_non_null(entry.xattrs);
	assert_int_equal(toc_reader_next(&r, &entry, NULL), 0);
	toc_reader_fini(&r);
}

static void a_toc_may_be_empty(void **state)
{
	struct err e;

	assert_int_equal(read_all("{\"entries\":[]}", &e), 0);
	assert_int_equal(read_all("{\"version\":1,\"entries\":null}", &e), 0);
	assert_int_equal(read_all("{}", &e), 0);
}

static void a_broken_text_is_refused(void **state)
{
	static const char *const bad[] = {"", " ", "[]", "{", "{\"a\"}",
		"{\"a\":}", "{\"a\":1,}", "{,}", "{\"entries\":[}",
		"{\"entries\":[{}", "{\"entries\":[{}]", "{\"entries\":[,{}]}",
		"{\"entries\":[{\"type\":\"dir\"},]}",
		"{\"entries\":[{\"type\":\"dir\"}{\"type\":\"dir\"}]}",
		"{\"entries\":[{\"type\":\"dir\"}]}x", "{\"entries\":[]}{}",
		"{\"entries\":[1]}", "{\"entries\":[[]]}", "{\"entries\":{}}",
		"{\"entries\":[],\"entries\":[]}", "{\"entries\":[{\"a]}",
		"{\"entries\":[{\"type\":\"dir\" \"name\":\"a\"}]}",
		"{\"entries\":[{\"type\":\"dir\",\"type\":\"reg\"}]}",
		"{\"entries\":[{\"type\":\"dir\",\"name\":\"\\u0000\"}]}",
		"{\"entries\":[{\"type\":\"dir\",\"name\":\"\xff\"}]}",
		"{\"entries\":[{\"type\":\"dir\",\"name\":1}]}",
		"{\"entries\":[{\"type\":\"dir\",\"mode\":-1}]}",
		"{\"entries\":[{\"type\":\"dir\",\"mode\":1.5}]}",
		"{\"entries\":[{\"type\":\"dir\",\"uid\":4294967296}]}",
		"{\"entries\":[{\"type\":\"dir\",\"size\":"
		"9223372036854775808}]}",
		"{\"entries\":[{\"type\":\"dir\",\"size\":1e400}]}",
		"{\"entries\":[{\"type\":\"char\",\"devMajor\":4096}]}",
		"{\"entries\":[{\"type\":\"char\",\"devMinor\":1048576}]}",
		"{\"entries\":[{\"type\":\"dir\",\"modtime\":\"now\"}]}",
		"{\"entries\":[{\"type\":\"dir\",\"xattrs\":[]}]}",
		"{\"entries\":[{\"type\":\"dir\",\"digest\":\"sha256:0\"}]}",
		"{\"entries\":[{\"type\":\"dir\"}],\"a\":\"}"};
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(read_all(bad[i], &e), -EPROTO);
	assert_int_equal(
		read_all("{\"entries\":[{\"type\":\"dir\",\"name\":\"x\"},"
			 "{\"type\":\"reg\",\"name\":\"f\",\"size\":-1}]}",
			&e),
		-EPROTO);
	assert_string_equal(e.text, "TOC entry 1 'f': 'size' is out of range");
	assert_int_equal(e.kind, ERR_BROKEN);
}

static void what_is_new_is_refused_by_name(void **state)
{
	struct err e;

	assert_int_equal(read_all("{\"version\":2}", &e), -EOPNOTSUPP);
	assert_int_equal(e.kind, ERR_UNSUPPORTED);
	assert_int_equal(read_all("{\"entries\":[],\"version\":\"1\"}", &e),
		-EOPNOTSUPP);
	assert_int_equal(read_all("{\"entries\":[{\"type\":\"door\"}]}", &e),
		-EOPNOTSUPP);
	assert_non_null(strstr(e.text, "'door'"));
	assert_int_equal(read_all("{\"entries\":[{\"type\":\"reg\","
				  "\"chunkType\":\"x\"}]}",
				 &e),
		-EOPNOTSUPP);
}

static void the_limits_of_an_entry_hold(void **state)
{
	struct buf b;
	struct err e;

	buf_init(&b, 0);
	assert_int_equal(buf_printf(&b, "{\"entries\":[{\"a\":"), 0);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(buf_append(&b, "[", 1), 0);
	assert_int_equal(buf_terminate(&b), 0);
	assert_int_equal(read_all((char *)b.data, &e), -E2BIG);

	b.len = 0;
	assert_int_equal(buf_printf(&b, "{\"entries\":[{\"a\":[0"), 0);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(buf_append(&b, ",0", 2), 0);
	assert_int_equal(buf_printf(&b, "]}]}"), 0);
	assert_int_equal(buf_terminate(&b), 0);
	assert_int_equal(read_all((char *)b.data, &e), -E2BIG);

	b.len = 0;
	assert_int_equal(
		buf_printf(&b, "{\"entries\":[{\"type\":\"dir\",\"name\":\""),
		0);
	for (size_t i = 0; i < TOC_MAX_ENTRY_BYTES; i++)
		assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_int_equal(buf_printf(&b, "\"}]}"), 0);
	assert_int_equal(buf_terminate(&b), 0);
	assert_int_equal(read_all((char *)b.data, &e), -E2BIG);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_read_over_the_whole_calendar),
		cmocka_unit_test(broken_times_are_refused),
		cmocka_unit_test(names_are_cleaned),
		cmocka_unit_test(entries_are_handed_out_one_by_one),
		cmocka_unit_test(a_toc_may_be_empty),
		cmocka_unit_test(a_broken_text_is_refused),
		cmocka_unit_test(what_is_new_is_refused_by_name),
		cmocka_unit_test(the_limits_of_an_entry_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
