/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hostile tars of tests/samples: each file's name says how it ends. Byte 0
 * of a file is not of the tar; it says how large the pieces are that the parser
 * is fed.
 */
#include "loader/index.h"
#include "loader/tar_layer.h"
#include "runtime/base/util.h"
#include "tests/lib/hostile.h"

static int load(
	const struct buf *b, size_t piece, struct ld_layer *ret, struct err *e)
{
	const struct digest blob = {.algo = DIGEST_SHA256};
	struct ld_tar_layer t;
	size_t at, n;
	int r = 0;

	assert_int_equal(ld_tar_layer_init(&t, &blob, e), 0);
	for (at = 1; r == 0 && at < b->len; at += n) {
		n = (size_t)min_u64(piece, b->len - at);
		r = ld_tar_layer_feed(&t, b->data + at, n, e);
	}
	if (r == 0)
		r = ld_tar_layer_finish(&t, ret, e);
	ld_tar_layer_fini(&t);
	return r;
}

static void try_pieces(const char *name, const struct buf *b, size_t piece)
{
	struct ld_layer l = {0};
	struct err e = {0};
	struct buf index;
	int r = load(b, piece, &l, &e);

	hostile_judge(name, r, e.text);
	if (r < 0)
		return;
	buf_init(&index, 1u << 24);
	if (ld_index_write(l.tree, 9, &index, &e) < 0)
		fail_msg("%s: no index: '%s'", name, e.text);
	buf_fini(&index);
	ld_layer_fini(&l);
}

static void try_file(void *arg, const char *name, struct buf *b)
{
	try_pieces(name, b, 1u << 20);
	try_pieces(name, b, 1);
	try_pieces(name, b, (size_t)b->data[0] + 1);
}

static void every_tar_ends_as_its_name_says(void **state)
{
	hostile_each("tar", 70, try_file, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_tar_ends_as_its_name_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
