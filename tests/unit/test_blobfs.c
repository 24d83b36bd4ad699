/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader/blobfs: the flat directory of blobs that EROFS has its devices from;
 * no data is read here, tests/e2e/test_driver.py does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "blobcache/blob_int.h"
#include "loader/fs_int.h"
#include "runtime/base/util.h"

#define BLOBS 3
#define SIZE 8704 /* no whole number of pages */

struct fixture {
	struct bc_blob blobs[BLOBS];
	struct ld_image_blob slots[BLOBS];
	struct ld_image image;
	struct ld_fs fs;
	struct ld_fs_counters counters;
	uint8_t out[LD_FS_MAX_READ];
};

static const uint8_t getattr_in[16];
static int replies, frees, error;
static size_t reply_len;

static void on_reply(struct ld_fs_req *r, int e, size_t len)
{
	replies++;
	error = e;
	reply_len = len;
}

static void on_free(struct ld_fs_req *r)
{
	frees++;
}

static const struct ld_fs_req_ops ops = {on_reply, on_free};

static int setup(void **state)
{
	static struct fixture f;
	unsigned i;

	f = (struct fixture){.image = {.blobs = f.slots, .blob_count = BLOBS}};
	for (i = 0; i < BLOBS; i++) {
		f.blobs[i].map.device_size = (i + 1) * SIZE;
		f.slots[i].blob = &f.blobs[i];
	}
	ld_fs_init(&f.fs, &f.image);
	f.fs.serves_blobs = true;
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ld_fs_fini(&f->fs);
	return 0;
}

/* Send it; returns the error of the reply. */
static int send(struct fixture *f, uint32_t opcode, uint64_t nodeid,
	const void *bytes, size_t len)
{
	struct fw_in_header h = {.len = (uint32_t)(sizeof(h) + len),
		.opcode = opcode,
		.unique = 42,
		.nodeid = nodeid};
	struct ld_fs_req r = {
		.fs = &f->fs, .ops = &ops, .counters = &f->counters};
	int rc;

	replies = frees = 0;
	rc = ld_fs_decode(&r, &h, bytes, len);
	if (rc < 0) {
		ld_fs_finish(&r, rc, 0);
	} else {
		r.out = f->out;
		r.out_cap = r.out_need;
		ld_fs_run(&r);
	}
	assert_int_equal(frees, 1);
	assert_int_equal(replies, 1);
	return error;
}

static int lookup(struct fixture *f, const char *name)
{
	return send(f, FW_LOOKUP, FW_ROOT_ID, name, strlen(name) + 1);
}

static void each_slot_is_a_file_as_long_as_its_device(void **state)
{
	static const char *const names[BLOBS] = {"0", "1", "2"};
	struct fixture *f = *state;
	struct fw_entry_out e;
	struct fw_attr_out a;
	unsigned i;

	for (i = 0; i < BLOBS; i++) {
		assert_int_equal(lookup(f, names[i]), 0);
		assert_int_equal(reply_len, sizeof(e));
		memcpy(&e, f->out, sizeof(e));
		assert_int_equal(e.nodeid, i + 2);
		assert_int_equal(e.attr.size, (i + 1) * SIZE);
		assert_int_equal(e.attr.mode, S_IFREG | 0400);
		assert_int_equal(send(f, FW_GETATTR, e.nodeid, getattr_in,
					 sizeof(getattr_in)),
			0);
		memcpy(&a, f->out, sizeof(a));
		assert_memory_equal(&a.attr, &e.attr, sizeof(a.attr));
	}
}

static void other_names_are_not_there(void **state)
{
	static const char *const names[] = {"3", "00", "01", "-1", "+1", "1x",
		"x", " 1", "4294967296", "4294967297", "18446744073709551616",
		".", "..", "index"};
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(lookup(f, names[i]), -ENOENT);
	assert_int_equal(send(f, FW_LOOKUP, 2, "0", 2), -ENOTDIR);
}

static void other_nodes_are_stale(void **state)
{
	static const uint64_t nodes[] = {0, BLOBS + 2, UINT64_MAX};
	const struct fw_read_in in = {.size = 4096};
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < ARRAY_LEN(nodes); i++) {
		assert_int_equal(send(f, FW_GETATTR, nodes[i], getattr_in,
					 sizeof(getattr_in)),
			-ESTALE);
		assert_int_equal(
			send(f, FW_READ, nodes[i], &in, sizeof(in)), -ESTALE);
	}
}

static void a_read_behind_the_device_gives_nothing(void **state)
{
	struct fw_read_in in = {.offset = SIZE, .size = 4096};
	struct fixture *f = *state;

	assert_int_equal(send(f, FW_READ, 2, &in, sizeof(in)), 0);
	assert_int_equal(reply_len, 0);
	in.offset = UINT64_MAX;
	assert_int_equal(send(f, FW_READ, 2, &in, sizeof(in)), 0);
	assert_int_equal(reply_len, 0);
	assert_int_equal(
		send(f, FW_READ, FW_ROOT_ID, &in, sizeof(in)), -EISDIR);
}

static void what_a_tree_has_is_never_asked_for_again(void **state)
{
	static const uint32_t opcodes[] = {FW_READLINK, FW_READDIR,
		FW_READDIRPLUS, FW_LISTXATTR, FW_STATFS, FW_ACCESS};
	const struct fw_read_in in = {.size = 4096};
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < ARRAY_LEN(opcodes); i++)
		assert_int_equal(
			send(f, opcodes[i], FW_ROOT_ID, &in, sizeof(in)),
			-ENOSYS);
	assert_int_equal(send(f, FW_WRITE, 2, &in, sizeof(in)), -EROFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			each_slot_is_a_file_as_long_as_its_device, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			other_names_are_not_there, setup, teardown),
		cmocka_unit_test_setup_teardown(
			other_nodes_are_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_read_behind_the_device_gives_nothing, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			what_a_tree_has_is_never_asked_for_again, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
