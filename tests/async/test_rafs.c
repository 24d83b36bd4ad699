/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAFS bootstraps by nydus-image: every chunk of every blob is where the map
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
#include "tests/lib/hostile.h"

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
				m->ctx + group->ctx_off, group->ctx_len, raw,
				group->dec_len),
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

/* Bytes of the blobs of one bundle, as they are or with one byte changed. */
struct bundle {
	const char *name;
	struct digest changed; /* the blob; algo NONE: none */
	uint64_t at;           /* its byte, from the end */
	unsigned reads;
};

static int read_blob(void *arg, const struct digest *d, uint64_t off,
	uint64_t len, struct buf *ret, struct err *e)
{
	struct bundle *u = arg;
	char rel[256], hex[65];
	struct buf b;
	int r = 0;

	(void)snprintf(rel, sizeof(rel), "rafs/%s/blobs/%s", u->name,
		digest_hex(d, hex));
	read_sample(rel, &b);
	u->reads++;
	if (digest_is_equal(d, &u->changed))
		b.data[b.len - 1 - u->at] ^= 1;
	if (len == 0)
		len = b.len - off;
	if (off > b.len || len > b.len - off)
		r = err_set(e, -EPROTO, "beyond the blob");
	else
		assert_int_equal(buf_append(ret, b.data + off, len), 0);
	buf_fini(&b);
	return r;
}

static void check_bundle(const char *name)
{
	struct bundle u = {.name = name};
	const struct ld_rafs_reader reader = {.read = read_blob, .arg = &u};
	char rel[256], hex[65];
	struct buf boot, blob;
	struct ld_rafs r;
	struct bc_map m;
	struct err e = {0};
	size_t i;

	(void)snprintf(rel, sizeof(rel), "rafs/%s/bootstrap", name);
	read_sample(rel, &boot);
	if (ld_rafs_parse(boot.data, boot.len, &reader, &r, &e) < 0)
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
		"v6-dict", "v6-merged", "v6-batch", "v6-zran1", "v6-zran",
		"v5-zstd", "v5-lz4-aligned"};
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
		/* these two for want of a reader */
		{"rafs/v6-batch/bootstrap", "batch"},
		{"rafs/v6-zran1/bootstrap", "ZRAN"},
		{"v3/nodata/bootstrap", "v3"},
	};
	struct ld_rafs r;
	struct buf boot;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		read_sample(refused[i].rel, &boot);
		assert_int_equal(
			ld_rafs_parse(boot.data, boot.len, NULL, &r, &e),
			-EOPNOTSUPP);
		assert_int_equal(e.kind, ERR_UNSUPPORTED);
		if (!strstr(e.text, refused[i].word))
			fail_msg("%s: %s", refused[i].rel, e.text);
		buf_fini(&boot);
	}
}

/* ---- hostile inputs (tests/lib/rafs_hostile.py) ---- */

static int read_behind(void *arg, const struct digest *d, uint64_t off,
	uint64_t len, struct buf *ret, struct err *e)
{
	const struct buf *b = arg;

	if (len == 0 && off <= b->len)
		len = b->len - off;
	if (off > b->len || len > b->len - off)
		return err_set(e, -EPROTO, "beyond the blob");
	return buf_append(ret, b->data + off, len);
}

static int parse_hostile(const char *name, struct buf *file, struct err *e)
{
	struct buf blob = {0};
	const struct ld_rafs_reader reader = {
		.read = read_behind, .arg = &blob};
	struct digest sum;
	struct ld_rafs r;
	size_t len;
	int ret;

	if (file->len < 8 || memcmp(file->data, "BLOB", 4) != 0) {
		ret = ld_rafs_parse(file->data, file->len, NULL, &r, e);
	} else {
		len = le32_at(file->data + 4);
		blob.data = file->data + 8 + len;
		blob.len = file->len - 8 - len;
		assert_int_equal(
			digest_of(DIGEST_SHA256, blob.data, blob.len, &sum), 0);
		if (!strstr(name, "EBADMSG") &&
			!strstr(name, "tables-beside-bootstrap"))
			memcpy(file->data + 8 + 4096 + 168, sum.bytes, 32);
		ret = ld_rafs_parse(file->data + 8, len, &reader, &r, e);
	}
	if (ret == 0)
		ld_rafs_fini(&r);
	return ret;
}

static void try_hostile(void *arg, const char *name, struct buf *file)
{
	struct err e = {0};
	int r = parse_hostile(name, file, &e);

	hostile_judge(name, r, e.text);
}

static void hostile_bootstraps_end_as_their_names_say(void **state)
{
	hostile_each("rafs", 105, try_hostile, NULL);
}

static const uint8_t *blob_entry(const struct buf *boot, size_t i)
{
	return boot->data + le64_at(boot->data + 1152 + 8) + i * 256;
}

/*
 * Every byte of a blob of tables counts: of what the builder hashed, and of the
 * array of digests, which it left out and the TOC covers.
 */
static void a_changed_blob_of_tables_is_refused(void **state)
{
	static const char *const names[] = {"v6-zran1", "v6-zran"};
	struct bundle u = {0};
	const struct ld_rafs_reader reader = {.read = read_blob, .arg = &u};
	struct ld_rafs r;
	struct buf boot;
	struct err e;
	size_t i, step;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		u.name = names[i];
		(void)snprintf(
			e.text, sizeof(e.text), "rafs/%s/bootstrap", names[i]);
		read_sample(e.text, &boot);
		u.changed.algo = DIGEST_SHA256;
		memcpy(u.changed.bytes, blob_entry(&boot, 0) + 168, 32);
		step = i == 0 ? 9973 : 1499;
		for (u.at = 0; u.at < 41000; u.at += step)
			assert_int_equal(ld_rafs_parse(boot.data, boot.len,
						 &reader, &r, &e),
				-EBADMSG);
		buf_fini(&boot);
	}
}

/* Nothing covers a batch table: it may only disagree, or say it elsewhere. */
static void a_changed_batch_table_is_no_worse_than_broken(void **state)
{
	struct bundle u = {.name = "v6-batch"};
	const struct ld_rafs_reader reader = {.read = read_blob, .arg = &u};
	unsigned broken = 0, runs = 0;
	struct ld_rafs r;
	struct buf boot;
	struct err e;
	int ret;

	read_sample("rafs/v6-batch/bootstrap", &boot);
	(void)snprintf(e.text, sizeof(e.text), "sha256:%.64s",
		(const char *)blob_entry(&boot, 0));
	assert_int_equal(digest_parse(e.text, strlen(e.text), &u.changed), 0);
	for (u.at = 0; u.at < 4096 + 1281; u.at += 67) {
		ret = ld_rafs_parse(boot.data, boot.len, &reader, &r, &e);
		assert_true(ret == 0 || ret == -EPROTO || ret == -EOPNOTSUPP);
		broken += ret < 0;
		runs++;
		if (ret == 0)
			ld_rafs_fini(&r);
	}
	assert_true(broken > 0 && broken < runs);
	buf_fini(&boot);
}

static void only_what_needs_its_blobs_reads_them(void **state)
{
	struct bundle u = {.name = "v6-dict"};
	const struct ld_rafs_reader reader = {.read = read_blob, .arg = &u};
	struct ld_rafs r;
	struct buf boot;
	struct err e;

	read_sample("rafs/v6-dict/bootstrap", &boot);
	assert_int_equal(
		ld_rafs_parse(boot.data, boot.len, &reader, &r, &e), 0);
	ld_rafs_fini(&r);
	assert_int_equal(u.reads, 0);
	buf_fini(&boot);
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
			ld_rafs_parse(boot.data, len, NULL, &r, &e), -EPROTO);
	buf_fini(&boot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_chunk_is_where_the_map_says),
		cmocka_unit_test(what_is_not_read_is_refused_by_name),
		cmocka_unit_test(a_changed_blob_of_tables_is_refused),
		cmocka_unit_test(a_changed_batch_table_is_no_worse_than_broken),
		cmocka_unit_test(only_what_needs_its_blobs_reads_them),
		cmocka_unit_test(hostile_bootstraps_end_as_their_names_say),
		cmocka_unit_test(a_cut_bootstrap_is_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
