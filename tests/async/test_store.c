/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobcache/store, cachefile: who may use a cache, files that are torn, other
 * boots, other processes. Full and read-only disks: test_blob_disk.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/lib/cache_fixture.h"

/* Offsets in a ready file, as blobcache/README.md has them. */
#define AT_VERSION 8
#define AT_FLAGS 16
#define AT_BOOT_ID 32
#define AT_MAP_ID 48

/* ---- reading whole files ---- */

static void a_file_is_read_whole_or_refused(void **state)
{
	static const size_t sizes[] = {1, 4096, 65535, 65536, 65537, 300000};
	struct fixture f;
	struct buf b, all;
	char path[128];
	int fd;

	fixture_init(&f);
	buf_init(&all, 0);
	for (uint32_t i = 0; all.len < 300000; i++)
		assert_int_equal(buf_append(&all, &i, sizeof(i)), 0);
	(void)snprintf(path, sizeof(path), "%s/file", f.dir);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, all.data, sizes[i]), sizes[i]);
		(void)close(fd);
		buf_init(&b, sizes[i] + 3);
		assert_int_equal(buf_append(&b, "abc", 3), 0);
		assert_int_equal(buf_read_file(&b, AT_FDCWD, path), 0);
		assert_int_equal(b.len, sizes[i] + 3);
		assert_memory_equal(b.data, "abc", 3);
		assert_memory_equal(b.data + 3, all.data, sizes[i]);
		buf_fini(&b);
		if (sizes[i] == 1)
			continue;
		buf_init(&b, sizes[i] - 1);
		assert_int_equal(buf_read_file(&b, AT_FDCWD, path), -E2BIG);
		buf_fini(&b);
	}
	/* one that says it has no size */
	buf_init(&b, 0);
	assert_int_equal(buf_read_file(&b, AT_FDCWD, "/proc/self/maps"), 0);
	assert_true(b.len > 0);
	buf_fini(&b);
	buf_fini(&all);
	fixture_fini(&f);
}

/* ---- the directory ---- */

static void a_missing_directory_is_made_for_us_alone(void **state)
{
	struct bc_store *s;
	struct fixture f;
	struct stat st;
	char path[128];

	fixture_init(&f);
	(void)snprintf(path, sizeof(path), "%s/a/b/c", f.dir);
	assert_int_equal(bc_store_open(path, &s, NULL), 0);
	assert_string_equal(bc_store_path(s), path);
	assert_int_equal(fstat(bc_store_dirfd(s), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_false(bc_store_is_read_only(s));
	bc_store_close(s);
	fixture_fini(&f);
}

static void others_directories_are_refused(void **state)
{
	struct err e = {0};
	struct bc_store *s;
	struct fixture f;

	fixture_init(&f);
	assert_int_equal(chmod(f.dir, 0770), 0);
	assert_int_equal(bc_store_open(f.dir, &s, &e), -EPERM);
	assert_non_null(strstr(e.text, "chmod go-w"));
	assert_int_equal(chmod(f.dir, 0702), 0);
	assert_int_equal(bc_store_open(f.dir, &s, &e), -EPERM);
	assert_int_equal(chmod(f.dir, 0755), 0);
	assert_int_equal(bc_store_open(f.dir, &s, &e), 0);
	bc_store_close(s);
	if (geteuid() == 0) {
		assert_int_equal(chown(f.dir, 12345, 0), 0);
		assert_int_equal(bc_store_open(f.dir, &s, &e), -EPERM);
		assert_non_null(strstr(e.text, "12345"));
	}
	fixture_fini(&f);
}

static void a_file_in_the_place_of_the_directory_is_an_error(void **state)
{
	struct err e = {0};
	struct bc_store *s;

	assert_int_equal(bc_store_open("/proc/version", &s, &e), -ENOTDIR);
	assert_int_equal(bc_store_open("/proc/version/x", &s, &e), -ENOTDIR);
	assert_true(bc_store_open("/proc/nowhere/x", &s, &e) < 0);
}

static void small_files_are_put_and_got(void **state)
{
	struct fixture f;
	struct buf b;
	static const char *const bad[] = {
		"", "/x", "../x", "a/../b", "a//b", "a/", ".", "a/./b", ".."};
	char longest[600];
	size_t i;

	fixture_init(&f);
	assert_int_equal(bc_store_open(f.dir, &f.store, NULL), 0);
	buf_init(&b, 0);
	assert_int_equal(
		bc_store_get(f.store, "layers/x/y/z", &b, NULL), -ENOENT);
	assert_int_equal(
		bc_store_put(f.store, "layers/x/y/z", "one", 3, NULL), 0);
	assert_int_equal(
		bc_store_put(f.store, "layers/x/y/z", "three", 5, NULL), 0);
	assert_int_equal(bc_store_put(f.store, "top", NULL, 0, NULL), 0);
	assert_int_equal(bc_store_get(f.store, "layers/x/y/z", &b, NULL), 0);
	assert_int_equal(b.len, 5);
	assert_memory_equal(b.data, "three", 5);
	buf_fini(&b);
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(
			bc_store_put(f.store, bad[i], "x", 1, NULL), -EINVAL);
		assert_int_equal(
			bc_store_get(f.store, bad[i], &b, NULL), -EINVAL);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(bc_store_put(f.store, longest, "x", 1, NULL), -EINVAL);
	bc_store_close(f.store);
	fixture_fini(&f);
}

static void only_what_nobody_holds_is_swept_from_tmp(void **state)
{
	struct fixture f;
	struct bc_store *s;
	char held[128], left[128];
	int fd;

	fixture_init(&f);
	assert_int_equal(bc_store_open(f.dir, &s, NULL), 0);
	bc_store_close(s);
	(void)snprintf(held, sizeof(held), "%s/tmp/held", f.dir);
	(void)snprintf(left, sizeof(left), "%s/tmp/left", f.dir);
	fd = open(held, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	(void)close(open(left, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	assert_int_equal(bc_store_open(f.dir, &s, NULL), 0);
	assert_int_equal(access(held, F_OK), 0);
	assert_int_equal(access(left, F_OK), -1);
	(void)close(fd);
	bc_store_close(s);
	assert_int_equal(bc_store_open(f.dir, &s, NULL), 0);
	assert_int_equal(access(held, F_OK), -1);
	bc_store_close(s);
	fixture_fini(&f);
}

/* ---- bits over time ---- */

static void bits_are_there_after_reopening(void **state)
{
	struct cache c;

	cache_init(&c);
	cache_fill(&c, 0);
	cache_fill(&c, 70);
	assert_false(bc_cachefile_is_ready(&c.c, 0, 2));
	cache_close(&c);
	cache_open(&c);
	assert_true(bc_cachefile_is_ready(&c.c, 0, 1));
	assert_true(bc_cachefile_is_ready(&c.c, 70, 1));
	assert_false(bc_cachefile_is_ready(&c.c, 1, 69));
	assert_int_equal(bc_cachefile_ready_bytes(&c.c),
		c.map.chunks[0].len + c.map.chunks[70].len);
	cache_fini(&c);
}

static void after_another_boot_what_was_not_durable_is_read_back(void **state)
{
	const struct bc_chunk *k;
	struct cache c;

	cache_init(&c);
	cache_fill(&c, 3);
	assert_int_equal(bc_cachefile_sync(&c.c), 0);
	cache_fill(&c, 4);
	cache_fill(&c, 5);
	/* with that boot's memory the bytes of 5 went, and those of 6 are rot
	 */
	k = &c.map.chunks[5];
	assert_int_equal(fallocate(c.c.data.fd,
				 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)k->dev_off, k->len),
		0);
	cache_fill(&c, 6);
	poke(&c.f, "data", (off_t)c.map.chunks[6].dev_off, "\377", 1);
	cache_close(&c);
	poke(&c.f, "ready", AT_BOOT_ID, "another boot was", 16);
	cache_open(&c);
	assert_true(bc_cachefile_is_ready(&c.c, 3, 2));
	assert_false(bc_cachefile_is_ready(&c.c, 5, 1));
	assert_false(bc_cachefile_is_ready(&c.c, 6, 1));
	cache_fill(&c, 5);
	/* It is this boot's now; what was read back is durable. */
	cache_close(&c);
	cache_open(&c);
	assert_true(bc_cachefile_is_ready(&c.c, 3, 3));
	assert_true(bc_ready_test(c.c.bits.durable, 3, 2));
	assert_false(bc_ready_test(c.c.bits.durable, 5, 1));
	cache_fini(&c);
}

static void without_memory_only_durable_bits_outlive_a_boot(void **state)
{
	unsigned long n;
	struct cache c;

	for (n = 1; n < 40; n++) {
		cache_init(&c);
		cache_fill(&c, 3);
		assert_int_equal(bc_cachefile_sync(&c.c), 0);
		cache_fill(&c, 4);
		poke(&c.f, "data", (off_t)c.map.chunks[4].dev_off, "\377", 1);
		bc_cachefile_close(&c.c);
		poke(&c.f, "ready", AT_BOOT_ID, "another boot was", 16);
		mem_fail_nth(n, 0);
		(void)bc_cachefile_open(
			c.f.store, &c.f.digest, &c.map, &c.c, NULL);
		mem_fail_nth(0, 0);
		assert_false(bc_cachefile_is_ready(&c.c, 4, 1));
		cache_fini(&c);
	}
}

static void clearing_moves_the_generation_and_is_for_good(void **state)
{
	struct cache c;
	uint64_t g;

	cache_init(&c);
	cache_fill(&c, 5);
	assert_int_equal(bc_cachefile_sync(&c.c), 0);
	g = bc_cachefile_generation(&c.c);
	bc_cachefile_clear_ready(&c.c, 5);
	assert_true(bc_cachefile_generation(&c.c) != g);
	assert_false(bc_cachefile_is_ready(&c.c, 5, 1));
	cache_close(&c);
	poke(&c.f, "ready", AT_BOOT_ID, "another boot was", 16);
	cache_open(&c);
	assert_false(bc_cachefile_is_ready(&c.c, 5, 1));
	cache_fini(&c);
}

static void a_sealed_file_is_never_written(void **state)
{
	struct bc_cachefile other;
	struct cache c;

	cache_init(&c);
	cache_fill_all(&c);
	assert_int_equal(
		bc_cachefile_open(c.f.store, &c.f.digest, &c.map, &other, NULL),
		0);
	assert_false(bc_cachefile_is_sealed(&c.c));
	assert_int_equal(bc_cachefile_seal(&c.c), 0);
	assert_int_equal(bc_cachefile_seal(&c.c), 0);
	/* also for who had it open already */
	assert_true(bc_cachefile_is_sealed(&other));
	assert_int_equal(bc_cachefile_store_begin(&other), -EROFS);
	bc_cachefile_close(&other);
	cache_close(&c);
	poke(&c.f, "ready", AT_BOOT_ID, "another boot was", 16);
	cache_open(&c);
	assert_true(bc_cachefile_is_sealed(&c.c));
	assert_int_equal(bc_cachefile_store_begin(&c.c), -EROFS);
	assert_int_equal(bc_cachefile_sync(&c.c), 0);
	cache_fini(&c);
}

static void only_a_whole_file_that_nobody_writes_is_sealed(void **state)
{
	struct bc_cachefile other;
	struct cache c;

	cache_init(&c);
	cache_fill_all(&c);
	assert_int_equal(
		bc_cachefile_open(c.f.store, &c.f.digest, &c.map, &other, NULL),
		0);
	assert_int_equal(bc_cachefile_store_begin(&other), 0);
	assert_int_equal(bc_cachefile_seal(&c.c), -EAGAIN);
	assert_int_equal(bc_cachefile_seal(&other), -EAGAIN);
	bc_cachefile_store_end(&other);
	bc_cachefile_close(&other);
	bc_cachefile_clear_ready(&c.c, 7);
	assert_int_equal(bc_cachefile_seal(&c.c), -ENODATA);
	cache_fill(&c, 7);
	assert_int_equal(ftruncate(c.c.data.fd, 4096), 0);
	assert_int_equal(bc_cachefile_seal(&c.c), -ENODATA);
	assert_false(bc_cachefile_is_sealed(&c.c));
	/* what of another boot may never have reached the disk */
	cache_close(&c);
	cache_open(&c);
	cache_fill_all(&c);
	poke(&c.f, "data", (off_t)c.map.chunks[9].dev_off, "\377", 1);
	cache_close(&c);
	poke(&c.f, "ready", AT_BOOT_ID, "another boot was", 16);
	cache_open(&c);
	assert_int_equal(bc_cachefile_seal(&c.c), -ENODATA);
	cache_fill_all(&c);
	assert_int_equal(bc_cachefile_seal(&c.c), 0);
	cache_fini(&c);
}

static void a_sealed_file_that_lost_bytes_is_replaced(void **state)
{
	struct bc_cachefile old;
	struct cache c;

	cache_init(&c);
	cache_fill_all(&c);
	assert_int_equal(bc_cachefile_seal(&c.c), 0);
	assert_int_equal(
		bc_cachefile_open(c.f.store, &c.f.digest, &c.map, &old, NULL),
		0);
	bc_cachefile_clear_ready(&c.c, 3);
	assert_false(bc_cachefile_is_sealed(&c.c));
	assert_int_equal(bc_cachefile_seal(&c.c), -ENODATA);
	cache_close(&c);
	cache_open(&c);
	assert_false(bc_cachefile_is_sealed(&c.c));
	assert_int_equal(bc_cachefile_ready_bytes(&c.c), 0);
	cache_fill_all(&c);
	assert_true(bc_cachefile_is_ready(&old, 4, 2));
	assert_false(bc_cachefile_is_ready(&old, 3, 1));
	bc_cachefile_close(&old);
	cache_fini(&c);
}

/* ---- torn and foreign files ---- */

static void expect_made_anew(struct cache *c)
{
	cache_open(c);
	assert_true(c->c.data.fd >= 0);
	assert_false(bc_cachefile_is_ready(&c->c, 0, 1));
	assert_int_equal(bc_cachefile_ready_bytes(&c->c), 0);
	cache_fill(c, 0);
	cache_close(c);
	cache_open(c);
	assert_true(bc_cachefile_is_ready(&c->c, 0, 1));
	cache_close(c);
}

static void torn_and_foreign_ready_files_are_made_anew(void **state)
{
	static const struct {
		off_t at;
		const char *bytes;
		size_t n;
	} changes[] = {{0, "X", 1}, {AT_VERSION, "\2", 1}, {12, "\377", 1},
		{AT_FLAGS, "\2", 1}, {AT_MAP_ID, "\1\2\3", 3}, {80, "\1", 1}};
	struct cache c;
	char path[512];
	size_t i;

	cache_init(&c);
	cache_fill(&c, 0);
	cache_close(&c);
	for (i = 0; i < ARRAY_LEN(changes); i++) {
		poke(&c.f, "ready", changes[i].at, changes[i].bytes,
			changes[i].n);
		expect_made_anew(&c);
	}
	fixture_path(&c.f, "ready", path);
	for (i = 0; i < 12289; i += 4096 - 1) {
		assert_int_equal(truncate(path, (off_t)i), 0);
		expect_made_anew(&c);
	}
	assert_int_equal(truncate(path, 1 << 20), 0);
	expect_made_anew(&c);
	assert_int_equal(unlink(path), 0);
	expect_made_anew(&c);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	expect_made_anew(&c);
	fixture_fini(&c.f);
}

static void a_data_file_of_another_size_is_made_anew(void **state)
{
	struct cache c;
	char path[512];

	cache_init(&c);
	cache_fill(&c, 0);
	cache_close(&c);
	fixture_path(&c.f, "data", path);
	assert_int_equal(truncate(path, 4096), 0);
	expect_made_anew(&c);
	assert_int_equal(truncate(path, 1 << 24), 0);
	expect_made_anew(&c);
	assert_int_equal(unlink(path), 0);
	expect_made_anew(&c);
	fixture_fini(&c.f);
}

static void who_has_replaced_files_open_goes_on_with_them(void **state)
{
	struct cache c;
	struct bc_cachefile other;

	cache_init(&c);
	cache_fill(&c, 1);
	poke(&c.f, "ready", AT_VERSION, "\2", 1);
	assert_int_equal(
		bc_cachefile_open(c.f.store, &c.f.digest, &c.map, &other, NULL),
		0);
	assert_false(bc_cachefile_is_ready(&other, 1, 1));
	assert_true(bc_cachefile_is_ready(&c.c, 1, 1));
	cache_fill(&c, 2);
	assert_false(bc_cachefile_is_ready(&other, 2, 1));
	bc_cachefile_close(&other);
	cache_fini(&c);
}

static void a_stored_map_opens_by_its_id_and_is_mended(void **state)
{
	struct cache c;
	char path[512];
	struct bc_map m;
	struct err e = {0};

	cache_init(&c);
	fixture_path(&c.f, "map", path);
	assert_int_equal(bc_map_open(AT_FDCWD, path, &c.map.id, &m, &e), 0);
	assert_int_equal(m.chunk_count, c.map.chunk_count);
	bc_map_close(&m);
	assert_int_equal(bc_map_open(AT_FDCWD, path, NULL, &m, &e), 0);
	assert_true(digest_is_equal(&m.id, &c.map.id));
	bc_map_close(&m);
	poke(&c.f, "map", 200, "\377\377", 2);
	assert_int_equal(
		bc_map_open(AT_FDCWD, path, &c.map.id, &m, &e), -EBADMSG);
	assert_true(bc_map_open(AT_FDCWD, path, NULL, &m, &e) < 0);
	cache_close(&c);
	cache_open(&c);
	assert_int_equal(bc_map_open(AT_FDCWD, path, &c.map.id, &m, &e), 0);
	bc_map_close(&m);
	assert_int_equal(
		bc_map_open(AT_FDCWD, "/nowhere", NULL, &m, &e), -ENOENT);
	cache_fini(&c);
}

/* ---- several processes ---- */

static void two_openings_share_their_bits(void **state)
{
	struct bc_cachefile other;
	struct cache c;
	int status;
	pid_t pid;

	cache_init(&c);
	assert_int_equal(
		bc_cachefile_open(c.f.store, &c.f.digest, &c.map, &other, NULL),
		0);
	pid = fork();
	if (pid == 0) {
		struct bc_cachefile child;

		if (bc_cachefile_open(
			    c.f.store, &c.f.digest, &c.map, &child, NULL) < 0 ||
			bc_cachefile_store_begin(&child) < 0)
			_exit(1);
		(void)bc_cachefile_set_ready(&child, 9, 1);
		bc_cachefile_store_end(&child);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(bc_cachefile_is_ready(&c.c, 9, 1));
	assert_true(bc_cachefile_is_ready(&other, 9, 1));
	bc_cachefile_close(&other);
	cache_fini(&c);
}

static void nothing_is_stored_while_somebody_evicts(void **state)
{
	struct cache c;
	char path[512];
	int fd;

	cache_init(&c);
	fd = open(fixture_path(&c.f, "ready", path), O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(bc_cachefile_store_begin(&c.c), -EAGAIN);
	assert_int_equal(bc_cachefile_sync(&c.c), -EAGAIN);
	assert_int_equal(flock(fd, LOCK_UN), 0);
	assert_int_equal(bc_cachefile_store_begin(&c.c), 0);
	assert_int_equal(bc_cachefile_store_begin(&c.c), 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	bc_cachefile_store_end(&c.c);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	bc_cachefile_store_end(&c.c);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	(void)close(fd);
	cache_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_read_whole_or_refused),
		cmocka_unit_test(a_missing_directory_is_made_for_us_alone),
		cmocka_unit_test(others_directories_are_refused),
		cmocka_unit_test(
			a_file_in_the_place_of_the_directory_is_an_error),
		cmocka_unit_test(small_files_are_put_and_got),
		cmocka_unit_test(only_what_nobody_holds_is_swept_from_tmp),
		cmocka_unit_test(bits_are_there_after_reopening),
		cmocka_unit_test(
			after_another_boot_what_was_not_durable_is_read_back),
		cmocka_unit_test(
			without_memory_only_durable_bits_outlive_a_boot),
		cmocka_unit_test(clearing_moves_the_generation_and_is_for_good),
		cmocka_unit_test(a_sealed_file_is_never_written),
		cmocka_unit_test(
			only_a_whole_file_that_nobody_writes_is_sealed),
		cmocka_unit_test(a_sealed_file_that_lost_bytes_is_replaced),
		cmocka_unit_test(torn_and_foreign_ready_files_are_made_anew),
		cmocka_unit_test(a_data_file_of_another_size_is_made_anew),
		cmocka_unit_test(who_has_replaced_files_open_goes_on_with_them),
		cmocka_unit_test(a_stored_map_opens_by_its_id_and_is_mended),
		cmocka_unit_test(two_openings_share_their_bits),
		cmocka_unit_test(nothing_is_stored_while_somebody_evicts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
