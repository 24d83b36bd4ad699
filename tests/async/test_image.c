/* SPDX-License-Identifier: Apache-2.0 */
/* Images from layouts and bundles: prepared, kept, damaged, lied about. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "blobcache/net.h"
#include "loader/image.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "tests/async/engines.h"

#define SCRATCH "/tmp/sluice-test-image"

struct bench {
	struct rt *rt;
	struct bc_net *net;
	struct bc_store *store;
	char dir[64], cache[96];
};

static const char *root(void)
{
	const char *s = getenv("SLUICE_SOURCE_ROOT");

	return s ? s : ".";
}

static void bench_start(struct bench *b, struct rt *rt)
{
	struct bc_net_options o = {0};
	struct err e = {0};

	(void)snprintf(b->dir, sizeof(b->dir), SCRATCH "-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	(void)snprintf(b->cache, sizeof(b->cache), "%s/cache", b->dir);
	assert_int_equal(bc_store_open(b->cache, &b->store, &e), 0);
	assert_int_equal(bc_net_create(&o, &b->net, &e), 0);
	b->rt = rt;
}

static void bench_stop(struct bench *b)
{
	char cmd[128];

	bc_net_destroy(b->net);
	bc_store_close(b->store);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf '%s'", b->dir);
	assert_int_equal(system(cmd), 0);
}

static int prepare(
	struct bench *b, const char *name, struct ld_image *i, struct err *e)
{
	struct ld_image_options o = {
		.name = name,
		.platform = "linux/amd64",
		.offline_ms = UINT32_MAX,
	};

	*e = (struct err){0};
	return ld_image_prepare(&o, b->rt, b->net, b->store, i, e);
}

static void prepare_well(struct bench *b, const char *name, struct ld_image *i)
{
	struct err e;

	if (prepare(b, name, i, &e) < 0)
		fail_msg("%s: %s", name, e.text);
}

static char *sample(const char *name)
{
	char *s = mem_printf("oci:%s/tests/samples/oci/%s", root(), name);

	assert_non_null(s);
	return s;
}

/* A file of our own inside the cache, by shell pattern. */
static void damage(struct bench *b, const char *pattern, const char *command)
{
	char cmd[400];

	(void)snprintf(cmd, sizeof(cmd),
		"set -e; cd '%s'; for f in %s; do test -e $f; %s; done",
		b->cache, pattern, command);
	assert_int_equal(system(cmd), 0);
}

/* ---- good images ---- */

static void check_edge(struct ld_image *i, enum ld_format format)
{
	struct ld_inode_view dir, file;
	struct ld_extent ext;
	uint64_t nid, total = 0, cached = 1;
	size_t k;

	assert_int_equal(i->layer_count, 3);
	assert_int_equal(i->blob_count, 3);
	assert_true(i->entries > 3000);
	assert_int_equal(i->index.slot_count, 3);
	for (k = 0; k < 3; k++) {
		assert_int_equal(i->layers[k].format, format);
		assert_true(i->layers[k].lazy);
		assert_true(i->layers[k].entries > 0);
		assert_true(i->layers[k].entries < 10000);
		assert_true(digest_is_equal(
			&i->blobs[k].digest, &i->layers[k].digest));
	}
	assert_int_equal(ld_index_inode(&i->index, i->index.root_nid, &dir), 0);
	assert_int_equal(ld_index_lookup(&i->index, &dir, "bin", 3, &nid), 0);
	assert_int_equal(ld_index_inode(&i->index, nid, &dir), 0);
	assert_int_equal(
		ld_index_lookup(&i->index, &dir, "busybox", 7, &nid), 0);
	assert_int_equal(ld_index_inode(&i->index, nid, &file), 0);
	assert_int_equal(ld_index_extent(&i->index, &file, 0, &ext), 0);
	assert_true(ext.slot < 3);
	assert_int_equal(ld_image_find_wanted(i), 0);
	/* the second layer has a file that the third one hides */
	bc_blob_wanted_bytes(
		i->blobs[1].blob, i->blobs[1].wanted, &total, &cached);
	assert_int_equal(total, 11);
	assert_int_equal(cached, 0);
	bc_blob_wanted_bytes(i->blobs[1].blob, NULL, &total, &cached);
	assert_int_equal(total, 14);
}

static void prepare_twice(struct rt *rt)
{
	static const struct {
		const char *name;
		enum ld_format format;
	} images[] = {
		{"edge-zstdchunked", LD_FORMAT_ZSTD_CHUNKED},
		{"edge-zstdchunked-new", LD_FORMAT_ZSTD_CHUNKED},
		{"edge-estargz", LD_FORMAT_ESTARGZ},
	};
	struct ld_image a, c;
	struct bench b;
	char *name;
	size_t k;

	bench_start(&b, rt);
	for (k = 0; k < ARRAY_LEN(images); k++) {
		name = sample(images[k].name);
		prepare_well(&b, name, &a);
		check_edge(&a, images[k].format);
		prepare_well(&b, name, &c);
		check_edge(&c, images[k].format);
		assert_true(digest_is_equal(&a.digest, &c.digest));
		assert_int_equal(a.bytes_compressed, c.bytes_compressed);
		assert_int_equal(a.entries, c.entries);
		assert_true(digest_is_equal(&bc_blob_map(a.blobs[0].blob)->id,
			&bc_blob_map(c.blobs[0].blob)->id));
		ld_image_fini(&a);
		ld_image_fini(&c);
		mem_free(name);
	}
	bench_stop(&b);
}

static void samples_are_prepared_and_again_from_the_cache(void **state)
{
	on_engines(2, prepare_twice);
}

/* ---- the cache ---- */

static void mend(struct rt *rt)
{
	static const struct {
		const char *pattern, *command;
	} damages[] = {
		{"images/*/*/image.json", "truncate -s 100 $f"},
		{"images/*/*/image.json", "echo '{}' >$f"},
		{"images/*/*/index", "truncate -s 5000 $f"},
		{"images/*/*/index", "printf x | dd of=$f bs=1 seek=20000 "
				     "conv=notrunc status=none"},
		{"images/*/*/manifest", "echo '{}' >$f"},
		{"images/*/*/config", "echo '{}' >$f; rm -f ${f%config}index"},
		{"blobs/*/*/*/map", "truncate -s 64 $f"},
		{"blobs/*/*/*/map", "rm $f"},
		{"layers/*/*/*/index", "truncate -s 0 $f; rm -rf images"},
		{"layers/*/*/*/layer.json", "echo x >$f; rm -rf images"},
		{"blobs", "rm -rf $f"},
	};
	struct ld_image i;
	struct bench b;
	char *name = sample("edge-zstdchunked");
	size_t k;

	bench_start(&b, rt);
	prepare_well(&b, name, &i);
	ld_image_fini(&i);
	for (k = 0; k < ARRAY_LEN(damages); k++) {
		damage(&b, damages[k].pattern, damages[k].command);
		prepare_well(&b, name, &i);
		check_edge(&i, LD_FORMAT_ZSTD_CHUNKED);
		ld_image_fini(&i);
	}
	bench_stop(&b);
	mem_free(name);
}

static void whatever_is_broken_in_the_cache_is_made_anew(void **state)
{
	on_engines(1, mend);
}

/* ---- layouts of our own ---- */

/*
 * A copy of a sample whose manifest went through sed. Its blobs are links to
 * the sample's, its manifest has the digest that it then has.
 */
static char *forge(
	struct bench *b, const char *name, const char *as, const char *sed)
{
	char cmd[2000];

	(void)snprintf(cmd, sizeof(cmd),
		"set -e; src='%s/tests/samples/oci/%s'; dst='%s/%s'; "
		"mkdir -p $dst/blobs/sha256; cp $src/oci-layout $dst; "
		"ln -s $src/blobs/sha256/* $dst/blobs/sha256/; "
		"old=$(grep -o 'sha256:[0-9a-f]*' $src/index.json | head -n1 "
		"| cut -c8-); "
		"sed -e '%s' $src/blobs/sha256/$old >$dst/m; "
		"new=$(sha256sum <$dst/m | cut -c1-64); "
		"rm -f $dst/blobs/sha256/$new; "
		"mv $dst/m $dst/blobs/sha256/$new; "
		"sed \"s/$old/$new/\" $src/index.json >$dst/index.json",
		root(), name, b->dir, as, sed);
	assert_int_equal(system(cmd), 0);
	return mem_printf("oci:%s/%s", b->dir, as);
}

static void believe_no_claim(struct rt *rt)
{
	struct ld_image i;
	struct bench b;
	struct err e;
	char *good = sample("edge-zstdchunked"), *bad;

	bench_start(&b, rt);
	prepare_well(&b, good, &i);
	ld_image_fini(&i);
	/* the same layers, another TOC: the cache must not answer for it */
	bad = forge(&b, "edge-zstdchunked", "other-toc",
		"s/manifest-checksum\": *\"sha256:./manifest-checksum\":"
		"\"sha256:0/");
	assert_int_equal(prepare(&b, bad, &i, &e), -EBADMSG);
	assert_int_equal(e.kind, ERR_BROKEN);
	mem_free(bad);
	/* without a TOC it is a tar, whatever the cache knows of the blob */
	bad = forge(&b, "edge-zstdchunked", "no-toc",
		"s/manifest-checksum/manifest-x/");
	prepare_well(&b, bad, &i);
	assert_int_equal(i.layers[0].format, LD_FORMAT_TAR_ZSTD);
	ld_image_fini(&i);
	mem_free(bad);
	bad = forge(&b, "edge-zstdchunked", "other-size",
		"s/\"size\": *1190/\"size\":1191/");
	assert_int_equal(prepare(&b, bad, &i, &e), -EPROTO);
	mem_free(bad);
	bad = forge(&b, "edge-zstdchunked", "no-layer",
		"s/sha256:cbfe88b0/sha256:00000000/");
	assert_int_equal(prepare(&b, bad, &i, &e), -ENOENT);
	mem_free(bad);
	mem_free(good);
	bench_stop(&b);
}

static void what_a_manifest_claims_is_not_believed(void **state)
{
	on_engines(1, believe_no_claim);
}

static void tell_errors(struct rt *rt)
{
	struct ld_image i;
	struct bench b;
	struct err e;
	char *name;

	bench_start(&b, rt);
	name = mem_printf("oci:%s/nowhere", b.dir);
	assert_int_equal(prepare(&b, name, &i, &e), -ENOENT);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	mem_free(name);
	name = mem_printf("oci:%s/tests/samples/oci/edge-gzip:nosuch", root());
	assert_int_equal(prepare(&b, name, &i, &e), -ENOENT);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	assert_non_null(strstr(e.text, "nosuch"));
	assert_non_null(strstr(e.text, "latest"));
	mem_free(name);
	name = forge(&b, "edge-gzip", "odd-type", "s/tar+gzip/tar+lzma/");
	assert_int_equal(prepare(&b, name, &i, &e), -EOPNOTSUPP);
	assert_int_equal(e.kind, ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "tar+lzma"));
	mem_free(name);
	/* a manifest whose bytes changed */
	name = forge(&b, "edge-zstdchunked", "changed", "");
	damage(&b, "../changed/blobs/sha256/*",
		"test -L $f || printf ' ' >>$f");
	assert_int_equal(prepare(&b, name, &i, &e), -EBADMSG);
	assert_int_equal(e.kind, ERR_BROKEN);
	mem_free(name);
	bench_stop(&b);
}

static void errors_have_the_right_kind(void **state)
{
	on_engines(1, tell_errors);
}

/* ---- inspect ---- */

static void inspect_samples(struct rt *rt)
{
	struct ld_image_options o = {.offline_ms = UINT32_MAX};
	struct ld_image i;
	struct bench b;
	struct err e = {0};
	char *name = sample("edge-zstdchunked");

	bench_start(&b, rt);
	o.name = name;
	assert_int_equal(ld_image_inspect(&o, b.rt, b.net, b.store, &i, &e), 0);
	assert_int_equal(i.layer_count, 3);
	assert_true(i.layers[0].lazy && i.layers[0].entries > 3000);
	assert_true(i.layers[0].size_uncompressed > 96u << 20);
	assert_int_equal(i.blob_count, 0);
	ld_image_fini(&i);
	mem_free(name);
	name = sample("edge-gzip");
	o.name = name;
	assert_int_equal(ld_image_inspect(&o, b.rt, b.net, b.store, &i, &e), 0);
	assert_false(i.layers[0].lazy);
	assert_true(i.layers[0].entries == UINT64_MAX);
	assert_int_equal(i.layers[0].format, LD_FORMAT_TAR_GZIP);
	ld_image_fini(&i);
	mem_free(name);
	bench_stop(&b);
}

static void inspect_says_what_each_layer_is(void **state)
{
	on_engines(1, inspect_samples);
}

/* ---- bundles ---- */

static void prepare_bundle(struct rt *rt)
{
	struct ld_image i;
	struct bench b;
	struct err e;
	char hex[2 * DIGEST_MAX_BYTES + 1];
	char *name, *pinned;

	bench_start(&b, rt);
	name = mem_printf("%s/tests/samples/rafs/v6-zstd/bootstrap", root());
	prepare_well(&b, name, &i);
	assert_int_equal(i.blob_count, 1);
	assert_true(i.entries > 300);
	assert_int_equal(i.blobs[0].format, LD_FORMAT_RAFS_V6);
	pinned = mem_printf("%s#sha256=%s", name, digest_hex(&i.digest, hex));
	ld_image_fini(&i);
	prepare_well(&b, pinned, &i);
	assert_int_equal(i.blob_count, 1);
	ld_image_fini(&i);
	mem_free(pinned);
	pinned = mem_printf("%s#sha256=%064d", name, 0);
	assert_int_equal(prepare(&b, pinned, &i, &e), -EBADMSG);
	mem_free(pinned);
	mem_free(name);
	name = mem_printf("%s/tests/samples/rafs", root());
	assert_true(prepare(&b, name, &i, &e) < 0);
	assert_int_equal(e.kind, ERR_USAGE);
	assert_non_null(strstr(e.text, "is a directory"));
	mem_free(name);
	bench_stop(&b);
}

static void bundles_are_prepared_and_may_be_pinned(void **state)
{
	on_engines(1, prepare_bundle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples_are_prepared_and_again_from_the_cache),
		cmocka_unit_test(whatever_is_broken_in_the_cache_is_made_anew),
		cmocka_unit_test(what_a_manifest_claims_is_not_believed),
		cmocka_unit_test(errors_have_the_right_kind),
		cmocka_unit_test(inspect_says_what_each_layer_is),
		cmocka_unit_test(bundles_are_prepared_and_may_be_pinned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
