/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of the TOC formats: TOCs written by hand, and what came out. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/map.h"
#include "loader/layer.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* Three digests. */
#define HEX16(x) x x x x x x x x x x x x x x x x
#define DIGEST_1 "sha256:" HEX16("1111")
#define DIGEST_2 "sha256:" HEX16("2222")
#define DIGEST_3 "sha256:" HEX16("3333")

#define NO_ENTRIES "{\"version\":1,\"entries\":[]}"
#define TOC_1(a) "{\"version\":1,\"entries\":[" a "]}"
#define TOC_2(a, b) TOC_1(a "," b)
#define TOC_3(a, b, c) TOC_1(a "," b "," c)
#define TOC_4(a, b, c, d) TOC_2(a "," b, c "," d)
#define TOC_5(a, b, c, d, e) TOC_3(a "," b, c "," d, e)
#define TOC_6(a, b, c, d, e, f) TOC_3(a "," b, c "," d, e "," f)
#define TOC_7(a, b, c, d, e, f, g) TOC_4(a "," b, c "," d, e "," f, g)
#define TOC_PICK(a, b, c, d, e, f, g, name, ...) name
/* A TOC of one to seven entries. */
#define TOC(...) \
	TOC_PICK(__VA_ARGS__, TOC_7, TOC_6, TOC_5, TOC_4, TOC_3, TOC_2, TOC_1, \
		0) \
	(__VA_ARGS__)
#define ENTRY(type, name, rest) \
	"{\"type\":\"" type "\",\"name\":\"" name "\"" rest "}"
/* Data as stargz' converter writes it, of a file and of its later chunks. */
#define FILE_AT(size, off, inner, digest) \
	",\"size\":" #size ",\"offset\":" #off ",\"innerOffset\":" #inner \
	",\"chunkDigest\":\"" digest "\""
#define CHUNK_AT(off, inner, file_off, digest) \
	",\"offset\":" #off ",\"innerOffset\":" #inner \
	",\"chunkOffset\":" #file_off ",\"chunkDigest\":\"" digest "\""

/* The tests' blob has 6000 bytes; its TOC begins at 5000. */
enum { BLOB_SIZE = 6000, TOC_AT = 5000 };

/* Each test has its own, for its format, of that blob. */
static int load(const char *json, struct ld_layer *ret, struct err *e);

static inline int load_zstd_chunked(const char *json, uint64_t size,
	uint64_t toc_off, struct ld_layer *ret, struct err *e)
{
	const struct ld_layer_desc d = {.digest = {.algo = DIGEST_SHA256},
		.size = size,
		.toc_off = toc_off};

	*e = (struct err){0};
	return ld_toc_parse_zstd_chunked(
		(const uint8_t *)json, strlen(json), &d, ret, e);
}

static inline void must_load(const char *json, struct ld_layer *ret)
{
	struct err e;

	if (load(json, ret, &e))
		fail_msg("%s", e.text);
}

static inline void must_fail(const char *json, int code, const char *says)
{
	struct ld_layer l;
	struct err e;
	int r = load(json, &l, &e);

	if (r == 0)
		fail_msg("loaded: %s", json);
	if (r != code || !strstr(e.text, says))
		fail_msg("%d '%s' for %s", r, e.text, json);
}

/* Data outside of the blob, of its limits, or that is twice another thing. */
static inline void false_places_are_refused(void)
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
}

/* How each allocation that fails ends; the last load works. */
static inline void try_every_failed_allocation(const char *json)
{
	struct ld_layer l;
	struct err e;
	int r = -ENOMEM;

	for (unsigned long n = 1; r; n++) {
		(void)mem_fail_nth(n, 0);
		r = load(json, &l, &e);
		(void)mem_fail_nth(0, 0);
		if (r)
			assert_int_equal(r, -ENOMEM);
		assert_in_range(n, 1, 10000);
	}
	ld_layer_fini(&l);
}

static inline struct ld_inode *find(struct ld_layer *l, const char *path)
{
	return ld_tree_find(l->tree, path, strlen(path));
}

static inline struct ld_inode *must_find(struct ld_layer *l, const char *path)
{
	struct ld_inode *i = find(l, path);

	assert_non_null(i);
	return i;
}

/* Takes the map's bytes out of l. */
static inline void open_map(struct ld_layer *l, struct bc_map *ret)
{
	struct err e = {0};

	if (bc_map_from_bytes(l->map.data, l->map.len, ret, &e))
		fail_msg("%s", e.text);
	buf_init(&l->map, 0);
}

static inline void must_map(
	const char *json, struct ld_layer *ret, struct bc_map *ret_map)
{
	must_load(json, ret);
	open_map(ret, ret_map);
}

static inline void drop(struct ld_layer *l, struct bc_map *m)
{
	bc_map_close(m);
	ld_layer_fini(l);
}

static inline void assert_empty_map(struct ld_layer *l)
{
	struct bc_map m;

	open_map(l, &m);
	assert_int_equal(m.chunk_count, 0);
	assert_int_equal(m.device_size, 0);
	bc_map_close(&m);
}

static inline void assert_chunk(const struct bc_map *m, uint32_t i,
	uint64_t dev_off, uint32_t len, uint64_t src_off, uint32_t src_len,
	uint32_t inner, uint8_t digest)
{
	const struct bc_chunk *c = &m->chunks[i];
	const struct bc_group *g;

	assert_in_range(i, 0, m->chunk_count - 1);
	g = &m->groups[c->group];
	assert_int_equal(c->dev_off, dev_off);
	assert_int_equal(c->len, len);
	assert_int_equal(g->src_off, src_off);
	assert_int_equal(g->src_len, src_len);
	assert_int_equal(c->group_off, inner);
	assert_int_equal(c->digest[0], digest);
}

static inline void assert_one_extent(
	const struct ld_inode *i, uint64_t size, uint64_t dev_off)
{
	assert_int_equal(i->size, size);
	assert_int_equal(i->extent_count, 1);
	assert_int_equal(i->extents[0].file_off, 0);
	assert_int_equal(i->extents[0].len, size);
	assert_int_equal(i->extents[0].dev_off, dev_off);
	assert_int_equal(i->extents[0].slot, 0);
}
