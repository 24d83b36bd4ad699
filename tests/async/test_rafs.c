/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAFS v6 bootstraps by nydus-image: every chunk of every blob is where the map
 * says and has the digest that it says; what is not read is refused by name.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/decode.h"
#include "blobcache/map.h"
#include "loader/rafs.h"
#include "runtime/base/mem.h"

static const char *sample_path(const char *rel)
{
	static char path[4096];
	const char *root = getenv("SLUICE_SOURCE_ROOT");

	assert_non_null(root);
	(void)snprintf(path, sizeof(path), "%s/tests/samples/%s", root, rel);
	return path;
}

static void read_sample(const char *rel, struct buf *b)
{
	buf_init(b, 64u << 20);
	assert_int_equal(buf_read_file(b, AT_FDCWD, sample_path(rel)), 0);
}

static void check_map(const struct bc_map *m, const struct buf *blob)
{
	uint32_t g, c;
	uint8_t *raw;

	for (g = 0; g < m->group_count; g++) {
		const struct bc_group *group = &m->groups[g];

		assert_true(group->src_off + group->src_len <= blob->len);
		raw = mem_alloc(group->dec_len);
		assert_non_null(raw);
		assert_int_equal(
			bc_decode((enum bc_codec)group->codec,
				blob->data + group->src_off, group->src_len,
				NULL, 0, raw, group->dec_len),
			0);
		for (c = 0; c < group->chunk_count; c++) {
			const struct bc_chunk *k =
				&m->chunks[group->first_chunk + c];
			struct digest d = {.algo = (enum digest_algo)k->algo};

			memcpy(d.bytes, k->digest, sizeof(k->digest));
			assert_int_equal(
				digest_check(&d, raw + k->group_off, k->len),
				0);
		}
		mem_free(raw);
	}
}

static void check_bundle(const char *name)
{
	char rel[256], hex[65];
	struct buf boot, blob;
	struct ld_rafs r;
	struct bc_map m;
	struct err e = {0};
	size_t i;

	(void)snprintf(rel, sizeof(rel), "rafs/%s/bootstrap", name);
	read_sample(rel, &boot);
	if (ld_rafs_parse(boot.data, boot.len, &r, &e) < 0)
		fail_msg("%s: %s", name, e.text);
	assert_true(r.blob_count > 0 && r.entries > 300);
	for (i = 0; i < r.blob_count; i++) {
		(void)snprintf(rel, sizeof(rel), "rafs/%s/blobs/%s", name,
			digest_hex(&r.blobs[i].digest, hex));
		read_sample(rel, &blob);
		assert_int_equal(bc_map_from_bytes(r.blobs[i].map.data,
					 r.blobs[i].map.len, &m, &e),
			0);
		r.blobs[i].map.data = NULL; /* the map has taken it */
		r.blobs[i].map.cap = r.blobs[i].map.len = 0;
		assert_true(m.chunk_count > 0);
		check_map(&m, &blob);
		bc_map_close(&m);
		buf_fini(&blob);
	}
	ld_rafs_fini(&r);
	buf_fini(&boot);
}

static void every_chunk_is_where_the_map_says(void **state)
{
	static const char *const names[] = {"v6-zstd", "v6-lz4", "v6-none",
		"v6-zstd-64k", "v6-zstd-sha256", "v6-toc", "v6-prefetch",
		"v6-dict", "v6-merged"};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		check_bundle(names[i]);
}

static void what_is_not_read_is_refused_by_name(void **state)
{
	static const struct {
		const char *rel, *word;
	} refused[] = {
		{"rafs/v6-encrypted/bootstrap", "encrypted"},
		{"rafs/v6-batch/bootstrap", "batch"},
		{"rafs/v6-zran1/bootstrap", "ZRAN"},
		{"rafs/v5-zstd/bootstrap", "v5"},
		{"v3/nodata/bootstrap", "v3"},
	};
	struct ld_rafs r;
	struct buf boot;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		read_sample(refused[i].rel, &boot);
		assert_int_equal(ld_rafs_parse(boot.data, boot.len, &r, &e),
			-EOPNOTSUPP);
		assert_int_equal(e.kind, ERR_UNSUPPORTED);
		if (!strstr(e.text, refused[i].word))
			fail_msg("%s: %s", refused[i].rel, e.text);
		buf_fini(&boot);
	}
}

static void a_cut_bootstrap_is_broken(void **state)
{
	struct ld_rafs r;
	struct buf boot;
	struct err e;
	size_t len;

	read_sample("rafs/v6-zstd/bootstrap", &boot);
	for (len = 0; len < boot.len; len += 4096)
		assert_int_equal(
			ld_rafs_parse(boot.data, len, &r, &e), -EPROTO);
	buf_fini(&boot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_chunk_is_where_the_map_says),
		cmocka_unit_test(what_is_not_read_is_refused_by_name),
		cmocka_unit_test(a_cut_bootstrap_is_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
