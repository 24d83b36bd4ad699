/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks of hashed files (blobcache/mark.h), and maps that are mappings of their
 * files: what is believed, and what happens when the file changes all the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/mark.h"
#include "blobcache/store_int.h"
#include "tests/lib/blob_fixture.h"

#define REL "images/x"
#define SEEN REL ".seen"
#define LEN (300u << 10)
#define CHUNKS 8000u /* a map of more than BC_MARK_MIN_LEN */

struct world {
	char dir[64];
	struct bc_store *store;
	uint8_t *bytes;
	struct digest digest;
};

static void world_init(struct world *w)
{
	struct err e = {0};
	uint32_t i;

	*w = (struct world){0};
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/bc-test-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	if (bc_store_open(w->dir, &w->store, &e) < 0)
		fail_msg("%s", e.text);
	w->bytes = mem_alloc(LEN);
	assert_non_null(w->bytes);
	for (i = 0; i < LEN; i++)
		w->bytes[i] = (uint8_t)(i * 7919 >> 5);
	assert_int_equal(
		digest_of(DIGEST_SHA256, w->bytes, LEN, &w->digest), 0);
	assert_int_equal(bc_store_put(w->store, REL, w->bytes, LEN, NULL), 0);
}

static void world_fini(struct world *w)
{
	char cmd[128];

	bc_store_close(w->store);
	mem_free(w->bytes);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	assert_int_equal(system(cmd), 0);
}

static int world_open(const struct world *w, const char *rel, int flags)
{
	int fd = openat(bc_store_dirfd(w->store), rel, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void put_mark(const struct world *w)
{
	const struct bc_mark_note note = {17, 4};
	int fd = world_open(w, REL, O_RDONLY);

	bc_mark_put(w->store, REL, fd, NULL, &w->digest, &note);
	(void)close(fd);
}

static bool is_marked(const struct world *w, const struct digest *d)
{
	int fd = world_open(w, REL, O_RDONLY);
	struct bc_mark_note note = {0};
	struct bc_mark_look look;
	bool r;

	assert_int_equal(bc_mark_look(fd, &look), 0);
	r = bc_mark_is_there(w->store, REL, &look, d, &note);
	(void)close(fd);
	if (r)
		assert_true(note.a == 17 && note.b == 4);
	return r;
}

static void write_at(const struct world *w, const char *rel, off_t at,
	const void *p, size_t n)
{
	int fd = world_open(w, rel, O_WRONLY);

	assert_int_equal(pwrite(fd, p, n, at), n);
	(void)close(fd);
}

/* Until a change gets another ctime, and what changed counts as settled. */
static void let_time_pass(void)
{
	const struct timespec t = {.tv_nsec = 40000000};

	(void)nanosleep(&t, NULL);
}

static void a_marked_file_need_not_be_read_again(void **state)
{
	struct world w;

	world_init(&w);
	assert_false(is_marked(&w, &w.digest));
	put_mark(&w);
	assert_true(is_marked(&w, &w.digest));
	bc_mark_remove(w.store, REL);
	assert_false(is_marked(&w, &w.digest));
	world_fini(&w);
}

static void whatever_changes_the_file_ends_its_mark(void **state)
{
	struct digest other;
	struct world w;
	uint8_t bit;
	int fd;

	world_init(&w);
	other = w.digest;
	other.bytes[5] ^= 1;
	put_mark(&w);
	assert_false(is_marked(&w, &other));
	let_time_pass();

	/* a bit, and the time set back as far as its owner can */
	{
		struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
		struct stat st;

		fd = world_open(&w, REL, O_RDWR);
		assert_int_equal(fstat(fd, &st), 0);
		times[1] = st.st_mtim;
		bit = w.bytes[1000] ^ 1;
		assert_int_equal(pwrite(fd, &bit, 1, 1000), 1);
		assert_int_equal(futimens(fd, times), 0);
		(void)close(fd);
	}
	assert_false(is_marked(&w, &w.digest));

	/* the same bytes in another file */
	assert_int_equal(bc_store_put(w.store, REL, w.bytes, LEN, NULL), 0);
	put_mark(&w);
	assert_true(is_marked(&w, &w.digest));
	assert_int_equal(bc_store_put(w.store, REL, w.bytes, LEN, NULL), 0);
	assert_false(is_marked(&w, &w.digest));

	/* shorter */
	put_mark(&w);
	let_time_pass();
	fd = world_open(&w, REL, O_RDWR);
	assert_int_equal(ftruncate(fd, LEN - 1), 0);
	(void)close(fd);
	assert_false(is_marked(&w, &w.digest));
	world_fini(&w);
}

static void a_mark_of_another_boot_is_none(void **state)
{
	struct world w;

	world_init(&w);
	put_mark(&w);
	w.store->boot_id[3] ^= 1;
	assert_false(is_marked(&w, &w.digest));
	w.store->boot_id[3] ^= 1;
	assert_true(is_marked(&w, &w.digest));
	world_fini(&w);
}

static void a_mark_that_is_torn_or_forged_is_none(void **state)
{
	static const uint8_t junk[4096];
	struct stat st;
	struct world w;
	uint8_t b;
	int fd;
	off_t i;

	world_init(&w);
	put_mark(&w);
	fd = world_open(&w, SEEN, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	for (i = 0; i < st.st_size; i++) {
		assert_int_equal(pread(fd, &b, 1, i), 1);
		b ^= 0x10;
		assert_int_equal(pwrite(fd, &b, 1, i), 1);
		assert_false(is_marked(&w, &w.digest));
		b ^= 0x10;
		assert_int_equal(pwrite(fd, &b, 1, i), 1);
	}
	assert_true(is_marked(&w, &w.digest));
	assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
	assert_false(is_marked(&w, &w.digest));
	assert_int_equal(pwrite(fd, junk, sizeof(junk), 0), sizeof(junk));
	assert_false(is_marked(&w, &w.digest));
	(void)close(fd);
	/* something else in its place blocks nobody */
	assert_int_equal(unlinkat(w.store->dirfd, SEEN, 0), 0);
	assert_int_equal(mkfifoat(w.store->dirfd, SEEN, 0600), 0);
	assert_false(is_marked(&w, &w.digest));
	put_mark(&w);
	assert_true(is_marked(&w, &w.digest));
	world_fini(&w);
}

static void what_changed_just_now_is_not_marked(void **state)
{
	struct bc_mark_look look;
	struct world w;
	int fd;

	world_init(&w);
	let_time_pass();
	fd = world_open(&w, REL, O_RDWR);
	assert_int_equal(bc_mark_look(fd, &look), 0);
	assert_true(look.is_settled);
	/* changed while it was hashed */
	assert_int_equal(pwrite(fd, w.bytes, 1, 0), 1);
	bc_mark_put(w.store, REL, fd, &look, &w.digest, NULL);
	assert_int_equal(faccessat(w.store->dirfd, SEEN, F_OK, 0), -1);
	/* changed so lately that the next change may look the same */
	look.is_settled = false;
	assert_int_equal(fstat(fd, &look.st), 0);
	bc_mark_put(w.store, REL, fd, &look, &w.digest, NULL);
	assert_int_equal(faccessat(w.store->dirfd, SEEN, F_OK, 0), -1);
	let_time_pass();
	assert_int_equal(bc_mark_look(fd, &look), 0);
	bc_mark_put(w.store, REL, fd, &look, &w.digest, NULL);
	assert_int_equal(faccessat(w.store->dirfd, SEEN, F_OK, 0), 0);
	(void)close(fd);
	world_fini(&w);
}

static void small_files_and_read_only_caches_get_none(void **state)
{
	struct world w;

	world_init(&w);
	w.store->read_only = true;
	put_mark(&w);
	assert_false(is_marked(&w, &w.digest));
	w.store->read_only = false;
	assert_int_equal(
		bc_store_put(w.store, REL, w.bytes, BC_MARK_MIN_LEN - 1, NULL),
		0);
	put_mark(&w);
	assert_false(is_marked(&w, &w.digest));
	world_fini(&w);
}

/* ---- small files ---- */

#define SMALL 700u

/* 0, and the right bytes, or what bc_mark_get says. */
static int get_small(struct world *w, const struct digest *d)
{
	struct buf b;
	int r;

	buf_init(&b, LEN);
	r = bc_mark_get(w->store, REL, d, &b);
	if (r == 0) {
		assert_int_equal(b.len, SMALL);
		assert_memory_equal(b.data, w->bytes, SMALL);
	} else {
		assert_int_equal(b.len, 0);
	}
	buf_fini(&b);
	return r;
}

static bool has_mark(const struct world *w)
{
	return faccessat(w->store->dirfd, SEEN, F_OK, 0) == 0;
}

static void small_world_init(struct world *w)
{
	world_init(w);
	assert_int_equal(
		digest_of(DIGEST_SHA256, w->bytes, SMALL, &w->digest), 0);
	assert_int_equal(bc_store_put(w->store, REL, w->bytes, SMALL, NULL), 0);
}

static void a_small_file_is_marked_by_who_reads_it(void **state)
{
	struct digest other;
	struct world w;

	small_world_init(&w);
	assert_int_equal(get_small(&w, &w.digest), 0);
	assert_false(has_mark(&w)); /* it is too young */
	let_time_pass();
	assert_int_equal(get_small(&w, &w.digest), 0);
	assert_true(has_mark(&w));
	assert_int_equal(get_small(&w, &w.digest), 0);
	other = w.digest;
	other.bytes[3] ^= 4;
	assert_int_equal(get_small(&w, &other), -EBADMSG);
	assert_int_equal(unlinkat(w.store->dirfd, REL, 0), 0);
	assert_int_equal(get_small(&w, &w.digest), -ENOENT);
	world_fini(&w);
}

static void a_small_file_that_changed_is_not_believed(void **state)
{
	struct world w;
	uint8_t bit;

	small_world_init(&w);
	let_time_pass();
	assert_int_equal(get_small(&w, &w.digest), 0);
	assert_true(has_mark(&w));
	bit = w.bytes[9] ^ 1;
	write_at(&w, REL, 9, &bit, 1);
	assert_int_equal(get_small(&w, &w.digest), -EBADMSG);
	/* as it was again, which only a hash can tell */
	write_at(&w, REL, 9, &w.bytes[9], 1);
	let_time_pass();
	assert_int_equal(get_small(&w, &w.digest), 0);
	world_fini(&w);
}

/* A mark that fits the file, of other bytes: what a bad disk may give. */
static void a_small_file_is_compared_though_it_has_a_mark(void **state)
{
	struct bc_mark_look look;
	struct digest wrong;
	struct world w;
	int fd;

	small_world_init(&w);
	wrong = w.digest;
	wrong.bytes[0] ^= 1;
	let_time_pass();
	/* a mark of a large file, with no sum of this one */
	assert_int_equal(bc_store_put(w.store, REL, w.bytes, LEN, NULL), 0);
	let_time_pass();
	fd = world_open(&w, REL, O_RDONLY);
	assert_int_equal(bc_mark_look(fd, &look), 0);
	bc_mark_put(w.store, REL, fd, &look, &wrong, NULL);
	(void)close(fd);
	assert_true(has_mark(&w));
	assert_int_equal(get_small(&w, &wrong), -EBADMSG);
	world_fini(&w);
}

/* ---- maps ---- */

static const struct digest blob = {.algo = DIGEST_SHA256, .bytes = {1}};

static struct bc_map make_map(void)
{
	struct bc_map_builder *b;
	struct digest d;
	struct bc_map m;
	struct buf out;
	uint32_t i, g;

	buf_init(&out, 0);
	assert_int_equal(bc_map_builder_create(&b), 0);
	for (i = 0; i < CHUNKS; i++) {
		assert_int_equal(
			digest_of(DIGEST_SHA256, &i, sizeof(i), &d), 0);
		assert_int_equal(bc_map_add_group(b, i * 100, 100, 4000,
					 BC_CODEC_ZSTD, NULL, 0, &g),
			0);
		assert_int_equal(
			bc_map_add_chunk(b, g, i * 4096, 4000, 0, &d), 0);
	}
	assert_int_equal(
		bc_map_finish(b, CHUNKS * 4096, CHUNKS * 100, &out, NULL), 0);
	bc_map_builder_destroy(b);
	assert_int_equal(bc_map_from_bytes(out.data, out.len, &m, NULL), 0);
	assert_true(m.base_len > BC_MARK_MIN_LEN);
	return m;
}

static void map_rel(const struct bc_map *m, char ret[400])
{
	char b[2 * DIGEST_MAX_BYTES + 1], h[2 * DIGEST_MAX_BYTES + 1];

	(void)snprintf(ret, 400, "blobs/sha256/%s/%s/map", digest_hex(&blob, b),
		digest_hex(&m->id, h));
}

static void a_large_map_becomes_its_file(void **state)
{
	struct bc_map m = make_map(), again;
	struct digest id = m.id;
	struct world w;
	uint32_t i;

	world_init(&w);
	bc_store_map_settle(w.store, &blob, &m);
	assert_null(m.file); /* there is none yet */
	assert_int_equal(bc_store_map_put(w.store, &blob, &m), 0);
	bc_store_map_settle(w.store, &blob, &m);
	assert_non_null(m.file);
	assert_int_equal(
		bc_store_map_open(w.store, &blob, &id, &again, NULL), 0);
	for (i = 0; i < CHUNKS; i++) {
		assert_int_equal(bc_map_chunk(&m, i).dev_off, i * 4096);
		assert_int_equal(bc_map_group(&again, i).src_off, i * 100);
	}
	assert_int_equal(m.bytes, CHUNKS * UINT64_C(4000));
	assert_int_equal(again.bytes, m.bytes);
	assert_false(again.has_stream || bc_map_is_lost(&m));
	assert_true(digest_is_equal(&again.id, &id));
	bc_map_close(&again);
	bc_map_close(&m);
	world_fini(&w);
}

static void a_flipped_bit_of_a_map_is_found(void **state)
{
	struct bc_map m = make_map(), again;
	struct digest id = m.id;
	char rel[400], seen[410];
	struct world w;
	uint8_t bit;
	int fd;

	world_init(&w);
	map_rel(&m, rel);
	(void)snprintf(seen, sizeof(seen), "%s.seen", rel);
	assert_int_equal(bc_store_map_put(w.store, &blob, &m), 0);
	let_time_pass();
	bit = ((const uint8_t *)m.base)[5000] ^ 4;
	write_at(&w, rel, 5000, &bit, 1);
	assert_int_equal(
		bc_store_map_open(w.store, &blob, &id, &again, NULL), -EBADMSG);
	/* also where no mark says anything, or another boot's does */
	bit ^= 4;
	write_at(&w, rel, 5000, &bit, 1);
	let_time_pass();
	w.store->boot_id[0] ^= 1;
	assert_int_equal(
		bc_store_map_open(w.store, &blob, &id, &again, NULL), 0);
	bc_map_close(&again);
	fd = openat(w.store->dirfd, seen, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0); /* marked by who hashed it */
	(void)close(fd);
	bc_map_close(&m);
	world_fini(&w);
}

/* What hides from every mark: other bytes under an open mapping. */
static void records_that_change_later_are_seen_by_their_reader(void **state)
{
	static const uint8_t junk[64] = {[0] = 0xff, [7] = 0xff, [12] = 0xff};
	struct bc_map m = make_map();
	struct bc_chunk c;
	struct bc_group g;
	char rel[400];
	struct world w;
	size_t at;

	world_init(&w);
	map_rel(&m, rel);
	assert_int_equal(bc_store_map_put(w.store, &blob, &m), 0);
	bc_store_map_settle(w.store, &blob, &m);
	assert_non_null(m.file);
	at = (size_t)((const uint8_t *)&m.chunks[77] - (const uint8_t *)m.base);
	write_at(&w, rel, (off_t)at, junk, sizeof(struct bc_chunk));
	assert_int_equal(bc_map_chunk(&m, 76).len, 4000);
	assert_false(bc_map_is_lost(&m));
	c = bc_map_chunk(&m, 77);
	assert_int_equal(c.len, 0);
	assert_true(bc_map_is_lost(&m));
	g = bc_map_group(&m, 77);
	assert_int_equal(g.src_len, 100);
	bc_store_map_doubt(w.store, &blob, &m);
	(void)snprintf(rel + strlen(rel), 6, ".seen");
	assert_int_equal(faccessat(w.store->dirfd, rel, F_OK, 0), -1);
	bc_map_close(&m);
	world_fini(&w);
}

static void a_map_that_is_cut_short_ends_nobody(void **state)
{
	struct bc_map m = make_map();
	char rel[400];
	struct world w;
	uint32_t i;
	int fd;

	world_init(&w);
	map_rel(&m, rel);
	assert_int_equal(bc_store_map_put(w.store, &blob, &m), 0);
	bc_store_map_settle(w.store, &blob, &m);
	fd = world_open(&w, rel, O_RDWR);
	assert_int_equal(ftruncate(fd, 8192), 0);
	(void)close(fd);
	for (i = 0; i < CHUNKS; i++)
		(void)bc_map_chunk(&m, i);
	assert_true(bc_map_find(&m, 123456) <= CHUNKS);
	assert_true(bc_map_is_lost(&m));
	bc_map_close(&m);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_marked_file_need_not_be_read_again),
		cmocka_unit_test(whatever_changes_the_file_ends_its_mark),
		cmocka_unit_test(a_mark_of_another_boot_is_none),
		cmocka_unit_test(a_mark_that_is_torn_or_forged_is_none),
		cmocka_unit_test(what_changed_just_now_is_not_marked),
		cmocka_unit_test(small_files_and_read_only_caches_get_none),
		cmocka_unit_test(a_small_file_is_marked_by_who_reads_it),
		cmocka_unit_test(a_small_file_that_changed_is_not_believed),
		cmocka_unit_test(a_small_file_is_compared_though_it_has_a_mark),
		cmocka_unit_test(a_large_map_becomes_its_file),
		cmocka_unit_test(a_flipped_bit_of_a_map_is_found),
		cmocka_unit_test(
			records_that_change_later_are_seen_by_their_reader),
		cmocka_unit_test(a_map_that_is_cut_short_ends_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
