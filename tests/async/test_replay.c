/* SPDX-License-Identifier: Apache-2.0 */
/* loader/prefetch: what a mount learns, and what the next one does with it. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "blobcache/net.h"
#include "loader/fetch.h"
#include "loader/prefetch.h"
#include "runtime/base/mem.h"
#include "tests/async/engines.h"
#include "tests/lib/blob_fixture.h"

#define LAYOUT "oci/edge-zstdchunked"
#define BUNDLE "rafs/v6-prefetch/bootstrap"

/* A cache, and an image as a mount has it. */
struct bench {
	struct rt *rt;
	struct bc_net *net;
	struct bc_store *store;
	struct ld_image image;
	struct ld_prefetch *prefetch;
	char dir[64];
};

static void bench_start(struct bench *b, struct rt *rt)
{
	struct bc_net_options o = {0};
	char cache[96];
	struct err e = {0};

	*b = (struct bench){.rt = rt};
	(void)snprintf(b->dir, sizeof(b->dir), "/tmp/sluice-replay-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	(void)snprintf(cache, sizeof(cache), "%s/cache", b->dir);
	assert_int_equal(bc_store_open(cache, &b->store, &e), 0);
	assert_int_equal(bc_net_create(&o, &b->net, &e), 0);
}

static void shell(const struct bench *b, const char *command)
{
	char cmd[300];

	(void)snprintf(cmd, sizeof(cmd), "cd '%s' && %s", b->dir, command);
	assert_int_equal(system(cmd), 0);
}

static void bench_stop(struct bench *b)
{
	bc_net_destroy(b->net);
	bc_store_close(b->store);
	shell(b, "rm -rf cache record");
	assert_int_equal(rmdir(b->dir), 0);
}

/* The part of a mount that this is about; o's rt, store, image are set here. */
static int mount_with(struct bench *b, const char *name,
	struct ld_prefetch_options o, struct err *e)
{
	const char *root = getenv("SLUICE_SOURCE_ROOT");
	struct ld_image_options io = {
		.platform = "linux/amd64", .offline_ms = UINT32_MAX};
	char *path;

	*e = (struct err){0};
	path = mem_printf("%s%s/tests/samples/%s",
		strncmp(name, "oci", 3) == 0 ? "oci:" : "", root ? root : ".",
		name);
	assert_non_null(path);
	io.name = path;
	if (ld_image_prepare(&io, b->rt, b->net, b->store, &b->image, e) < 0)
		fail_msg("%s", e->text);
	mem_free(path);
	o.rt = b->rt;
	o.store = b->store;
	o.image = &b->image;
	return ld_prefetch_start(&o, &b->prefetch, e);
}

static void mount_well(
	struct bench *b, const char *name, struct ld_prefetch_options o)
{
	struct err e;

	if (mount_with(b, name, o, &e) < 0)
		fail_msg("%s", e.text);
}

static void unmount(struct bench *b)
{
	ld_prefetch_stop(b->prefetch);
	b->prefetch = NULL;
	ld_image_fini(&b->image);
}

static uint64_t cached(struct bench *b)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < b->image.blob_count; i++)
		n += bc_blob_cached_bytes(b->image.blobs[i].blob);
	return n;
}

/* One byte in the middle of the first blob. */
static void read_one(struct bench *b)
{
	struct bc_blob *blob = b->image.blobs[0].blob;
	const struct bc_map *m = bc_blob_map(blob);
	uint8_t byte;

	assert_int_equal(
		read_at(b->rt, blob, m->chunks[m->chunk_count / 2].dev_off,
			&byte, 1),
		0);
}

/* The cache knows the image and has none of its bytes. */
static void forget_data(struct bench *b)
{
	shell(b, "find cache/blobs -name ready -delete -o -name data -delete");
}

static void learn(struct rt *rt)
{
	const struct ld_prefetch_options none = {.what = LD_PREFETCH_NONE};
	const struct ld_prefetch_options recorded = {0};
	struct bench b;
	uint32_t group;

	bench_start(&b, rt);
	mount_well(&b, LAYOUT, none);
	read_one(&b);
	group = bc_blob_map(b.image.blobs[0].blob)
	                ->chunks[bc_blob_map(b.image.blobs[0].blob)
					 ->chunk_count /
				 2]
	                .group;
	unmount(&b);
	shell(&b, "test -s cache/images/*/*/record");
	forget_data(&b);
	mount_well(&b, LAYOUT, none);
	assert_int_equal(cached(&b), 0);
	unmount(&b);
	mount_well(&b, LAYOUT, recorded);
	while (!bc_blob_has_group(b.image.blobs[0].blob, group))
		sched_yield();
	unmount(&b);
	bench_stop(&b);
}

static void what_was_read_comes_by_itself_the_next_time(void **state)
{
	on_engines(2, learn);
}

static void by_file(struct rt *rt)
{
	struct ld_prefetch_options o = {.what = LD_PREFETCH_NONE};
	char path[96];
	struct bench b;
	struct stat st;

	bench_start(&b, rt);
	(void)snprintf(path, sizeof(path), "%s/record", b.dir);
	o.record = path;
	mount_well(&b, LAYOUT, o);
	read_one(&b);
	unmount(&b);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 64);
	shell(&b, "rm -rf cache/images cache/blobs cache/layers");
	o = (struct ld_prefetch_options){.from = path};
	mount_well(&b, LAYOUT, o);
	while (cached(&b) == 0)
		sched_yield();
	unmount(&b);
	/* another image's */
	mount_well(&b, BUNDLE, o);
	assert_int_equal(cached(&b), 0);
	unmount(&b);
	bench_stop(&b);
}

static void a_record_serves_as_a_file_and_only_its_image(void **state)
{
	on_engines(1, by_file);
}

static void files(struct rt *rt)
{
	struct ld_prefetch_options o = {0};
	struct bench b;
	struct err e;

	bench_start(&b, rt);
	o.from = "/nowhere/record";
	assert_int_equal(mount_with(&b, LAYOUT, o, &e), -ENOENT);
	ld_image_fini(&b.image);
	o.from = "/proc/self/exe";
	assert_true(mount_with(&b, LAYOUT, o, &e) < 0);
	ld_image_fini(&b.image);
	o = (struct ld_prefetch_options){.record = "/nowhere/record"};
	assert_int_equal(mount_with(&b, LAYOUT, o, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nowhere/record"));
	ld_image_fini(&b.image);
	bench_stop(&b);
}

static void files_that_were_named_must_be_good(void **state)
{
	on_engines(1, files);
}

static void junk(struct rt *rt)
{
	static const char *const how[] = {"truncate -s 0", "truncate -s 63",
		"truncate -s 4M",
		"dd if=/dev/urandom bs=100 count=1 status="
		"none of="};
	const struct ld_prefetch_options o = {0};
	char cmd[200];
	struct bench b;
	size_t i;

	bench_start(&b, rt);
	mount_well(&b, LAYOUT, o);
	read_one(&b);
	unmount(&b);
	for (i = 0; i < ARRAY_LEN(how); i++) {
		(void)snprintf(cmd, sizeof(cmd),
			"for f in cache/images/*/*/record; do %s%s$f; done",
			how[i], strstr(how[i], "of=") ? "" : " ");
		shell(&b, cmd);
		forget_data(&b);
		mount_well(&b, LAYOUT, o);
		read_one(&b);
		unmount(&b);
		shell(&b, "head -c 8 cache/images/*/*/record | "
			  "grep -q SLUICREC");
	}
	bench_stop(&b);
}

static void a_broken_record_in_the_cache_is_made_anew(void **state)
{
	on_engines(1, junk);
}

static void wish(struct rt *rt)
{
	const struct ld_prefetch_options o = {.what = LD_PREFETCH_LIST};
	struct bench b;
	uint64_t n;
	int i;

	bench_start(&b, rt);
	for (i = 0; i < 2; i++) { /* of the bootstrap, of the cache */
		mount_well(&b, BUNDLE, o);
		assert_true(b.image.wish.entry_count > 0);
		n = bc_record_groups(&b.image.wish);
		assert_true(
			n < bc_blob_map(b.image.blobs[0].blob)->group_count);
		while (!bc_blob_has_group(
			b.image.blobs[0].blob, b.image.wish.entries[0].group))
			sched_yield();
		unmount(&b);
		forget_data(&b);
	}
	bench_stop(&b);
}

static void a_prefetch_table_is_honoured(void **state)
{
	on_engines(1, wish);
}

static void everything(struct rt *rt)
{
	const struct ld_prefetch_options o = {.what = LD_PREFETCH_ALL};
	struct bench b;
	uint64_t have, want;
	size_t i;

	bench_start(&b, rt);
	mount_well(&b, LAYOUT, o);
	for (i = 0; i < b.image.blob_count; i++)
		do {
			sched_yield();
			bc_blob_wanted_bytes(b.image.blobs[i].blob,
				b.image.blobs[i].wanted, &want, &have);
		} while (have < want);
	unmount(&b);
	/* and given up in the middle of it */
	forget_data(&b);
	mount_well(&b, LAYOUT, o);
	unmount(&b);
	bench_stop(&b);
}

static void all_is_all_and_can_be_given_up(void **state)
{
	on_engines(2, everything);
}

/* ---- fetching behind a mount ---- */

static void fetched(struct rt *rt)
{
	const struct ld_prefetch_options none = {.what = LD_PREFETCH_NONE};
	const char *word;
	struct ld_fetch *f;
	struct err e = {0};
	struct bench b;
	struct buf out;

	bench_start(&b, rt);
	mount_well(&b, LAYOUT, none);
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(ld_fetch_create(rt, &b.image, &f, &e), 0);
		for (word = "fetch";; word = "fetching") {
			buf_init(&out, 1000);
			assert_true(ld_fetch_answer(f, word, &out));
			assert_int_equal(buf_terminate(&out), 0);
			assert_null(strstr((char *)out.data, "failed"));
			if (strstr((char *)out.data, "\"done\""))
				break;
			buf_fini(&out);
		}
		buf_fini(&out);
		ld_fetch_destroy(f); /* it may still be saying so */
	}
	unmount(&b);
	bench_stop(&b);
}

static void a_fetch_that_has_just_ended_can_be_taken_away(void **state)
{
	on_engines(2, fetched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_read_comes_by_itself_the_next_time),
		cmocka_unit_test(a_record_serves_as_a_file_and_only_its_image),
		cmocka_unit_test(files_that_were_named_must_be_good),
		cmocka_unit_test(a_broken_record_in_the_cache_is_made_anew),
		cmocka_unit_test(a_prefetch_table_is_honoured),
		cmocka_unit_test(all_is_all_and_can_be_given_up),
		cmocka_unit_test(a_fetch_that_has_just_ended_can_be_taken_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
