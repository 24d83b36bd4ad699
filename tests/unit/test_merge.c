/* SPDX-License-Identifier: Apache-2.0 */
/* loader/merge: each rule of merge.h, on small layers. */
#include "tests/lib/layers.h"

#include "loader/erofs_format.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define MAX_LAYERS 4

/* Merge layers of steps; compare with text, or with an error and a piece of
 * its sentence. */
static void merge_steps(const struct step *const *steps, size_t count, int want,
	const char *text)
{
	struct layer layers[MAX_LAYERS], out;
	struct err e = {0};
	size_t k;
	int r;

	for (k = 0; k < count; k++)
		layer_make(&layers[k], steps[k]);
	r = layer_merge(layers, count, &out, &e);
	assert_int_equal(r, want);
	if (r == 0) {
		layer_expect(&out, text);
		layer_free(&out);
	} else {
		if (!strstr(e.text, text))
			fail_msg("%s", e.text);
	}
	for (k = 0; k < count; k++)
		layer_free(&layers[k]);
}

#define MERGE(want, text, ...) \
	do { \
		const struct step *const steps_[] = {__VA_ARGS__}; \
		merge_steps(steps_, ARRAY_LEN(steps_), want, text); \
	} while (0)
#define LAYER(...) ((const struct step[]){__VA_ARGS__, {0}})

static void upper_entries_come_to_lower_ones(void **state)
{
	MERGE(0, "a d1\na/x f2\na/y f3\nb f1\n",
		LAYER({'d', "a", 0, 1}, {'f', "a/x", 0, 2}, {'f', "b", 0, 1}),
		LAYER({'f', "a/y", 0, 3}));
}

static void a_described_directory_takes_the_upper_attributes(void **state)
{
	MERGE(0, "a d7 user.new=v\na/x f2\n",
		LAYER({'d', "a", 0, 1}, {'x', "a", "user.old", 0},
			{'f', "a/x", 0, 2}),
		LAYER({'d', "a", 0, 7}, {'x', "a", "user.new", 0}));
}

static void an_implied_directory_leaves_the_lower_one_as_it_is(void **state)
{
	MERGE(0, "a d1 user.old=v\na/x f2\na/z f3\n",
		LAYER({'d', "a", 0, 1}, {'x', "a", "user.old", 0},
			{'f', "a/x", 0, 2}),
		LAYER({'f', "a/z", 0, 3}));
	MERGE(0, "a d0 implied\na/z f3\n", LAYER({'f', "a", 0, 1}),
		LAYER({'f', "a/z", 0, 3}));
}

static void an_implied_root_leaves_the_lower_one_as_it_is(void **state)
{
	struct layer layers[2], out;
	struct ld_inode_view v;

	layer_make(&layers[0], LAYER({'d', "", 0, 9}, {'f', "a", 0, 1}));
	layer_make(&layers[1], LAYER({'f', "b", 0, 1}));
	assert_int_equal(layer_merge(layers, 2, &out, NULL), 0);
	assert_int_equal(index_find(&out.x, "", &v), 0);
	assert_int_equal(v.attr.uid, 9);
	assert_false(ld_index_is_implied(&v));
	layer_free(&layers[0]);
	layer_free(&layers[1]);
	layer_free(&out);
}

static void a_whiteout_removes_what_is_below(void **state)
{
	MERGE(0, "a d1\n",
		LAYER({'d', "a", 0, 1}, {'f', "a/x", 0, 2}, {'d', "b", 0, 1},
			{'f', "b/c/d", 0, 1}),
		LAYER({'w', "a/.wh.x", 0, 0}, {'w', ".wh.b", 0, 0},
			{'w', ".wh.absent", 0, 0}));
}

static void a_whiteout_spares_its_own_layer_and_those_above(void **state)
{
	MERGE(0, "a f2\nb f3\n", LAYER({'f', "a", 0, 1}, {'f', "b", 0, 1}),
		LAYER({'f', "a", 0, 2}, {'w', ".wh.a", 0, 0},
			{'w', ".wh.b", 0, 0}),
		LAYER({'f', "b", 0, 3}));
}

static void a_directory_whited_out_in_its_layer_hides_the_lower_one(
	void **state)
{
	const struct step *low =
		LAYER({'d', "a", 0, 1}, {'f', "a/x", 0, 1}, {'f', "a/y", 0, 1});

	MERGE(0, "a d2\na/y f2\n", low,
		LAYER({'w', ".wh.a", 0, 0}, {'d', "a", 0, 2},
			{'f', "a/y", 0, 2}));
	MERGE(0, "a d2\na/y f2\n", low,
		LAYER({'d', "a", 0, 2}, {'f', "a/y", 0, 2},
			{'w', ".wh.a", 0, 0}));
	MERGE(0, "a d0\na/y f2\n", low,
		LAYER({'w', ".wh.a", 0, 0}, {'f', "a/y", 0, 2}));
}

static void opaque_counts_wherever_it_stands(void **state)
{
	const struct step *low = LAYER({'d', "a", 0, 1}, {'f', "a/x", 0, 1},
		{'f', "a/sub/x", 0, 1}, {'f', "a/zz", 0, 1});
	const char *want = "a d2\na/sub d0 implied\na/sub/n f2\na/y f2\n";

	MERGE(0, want, low,
		LAYER({'w', "a/.wh..wh..opq", 0, 0}, {'d', "a", 0, 2},
			{'f', "a/y", 0, 2}, {'f', "a/sub/n", 0, 2}));
	MERGE(0, want, low,
		LAYER({'f', "a/y", 0, 2}, {'f', "a/sub/n", 0, 2},
			{'d', "a", 0, 2}, {'w', "a/.wh..wh..opq", 0, 0}));
	MERGE(0, "a d1\na/y f2\n", low,
		LAYER({'f', "a/y", 0, 2}, {'w', "a/.wh..wh..opq", 0, 0}));
	MERGE(0, "b f2\n", low,
		LAYER({'f', "b", 0, 2}, {'w', ".wh..wh..opq", 0, 0}));
}

static void types_replace_each_other(void **state)
{
	MERGE(0,
		"dir-file f2\ndir-link s2 ->t\nfile-dir d2\nfile-dir/n f2\n"
		"link-dir d2\nlink-dir/n f2\nlink-file f2\nt d1\nt/keep f1\n",
		LAYER({'f', "dir-file/x", 0, 1}, {'f', "dir-link/x", 0, 1},
			{'f', "file-dir", 0, 1}, {'d', "t", 0, 1},
			{'f', "t/keep", 0, 1}, {'s', "link-dir", "t", 1},
			{'s', "link-file", "t", 1}),
		LAYER({'f', "dir-file", 0, 2}, {'s', "dir-link", "t", 2},
			{'d', "file-dir", 0, 2}, {'f', "file-dir/n", 0, 2},
			{'d', "link-dir", 0, 2}, {'f', "link-dir/n", 0, 2},
			{'f', "link-file", 0, 2}));
}

static void a_directory_again_after_a_file_starts_empty(void **state)
{
	MERGE(0, "a d3\na/n f3\n", LAYER({'f', "a/x", 0, 1}),
		LAYER({'f', "a", 0, 2}),
		LAYER({'d', "a", 0, 3}, {'f', "a/n", 0, 3}));
}

static void hard_links_count_the_names_that_are_left(void **state)
{
	MERGE(0, "a f1 *2\nb f2\nc f1 *2\nd p5 *2\ne p5 *2\n",
		LAYER({'f', "a", 0, 1}, {'h', "b", "a", 0}, {'h', "c", "a", 0},
			{'h', "gone/x", "a", 0}, {'p', "d", 0, 5},
			{'h', "e", "d", 0}),
		LAYER({'f', "b", 0, 2}, {'w', ".wh.gone", 0, 0}));
}

static void an_open_hard_link_finds_the_lower_inode(void **state)
{
	const struct step *low = LAYER({'f', "d/a", 0, 1}, {'f', "b", 0, 2});

	MERGE(0, "b f2\nd d0 implied\nd/a f1 *3\nd/m f1 *3\nn f1 *3\n", low,
		LAYER({'L', "n", "d/a", 0}, {'h', "d/m", "n", 0}));
	/* As it was before this layer's own changes. */
	MERGE(0, "b f2\nd d0 implied\nd/a f9\nn f1\n", low,
		LAYER({'L', "n", "d/a", 0}, {'f', "d/a", 0, 9}));
	MERGE(0, "b f2\nn f1\n", low,
		LAYER({'L', "n", "d/a", 0}, {'w', ".wh.d", 0, 0}));
	MERGE(0, "a f1\nd d0 implied\nd/a f1\n",
		LAYER({'f', "d/a", 0, 1}, {'f', "a", 0, 1}),
		LAYER({'L', "d/a", "d/a", 0}));
}

static void an_open_hard_link_to_nothing_breaks_the_layer(void **state)
{
	const struct step *low = LAYER({'f', "d/a", 0, 1});

	MERGE(-EPROTO, "layer 2: the hard link 'n' leads to 'nope'", low,
		LAYER({'L', "n", "nope", 0}));
	MERGE(-EPROTO, "is a directory", low, LAYER({'L', "n", "d", 0}));
	MERGE(-EPROTO, "layer 1", LAYER({'L', "n", "x", 0}));
	/* What an earlier layer took away is not there. */
	MERGE(-EPROTO, "layer 3", low, LAYER({'w', "d/.wh.a", 0, 0}),
		LAYER({'L', "n", "d/a", 0}));
}

static void marks_of_layers_do_not_reach_the_image(void **state)
{
	struct layer layers[1], out;

	layer_make(&layers[0], LAYER({'w', "d/.wh..wh..opq", 0, 0},
				       {'w', ".wh.x", 0, 0}, {'d', "d", 0, 1}));
	assert_true(layers[0].x.has_xattrs);
	layer_expect(&layers[0], "d d1 trusted.overlay.opaque=y\nx c0\n");
	assert_int_equal(layer_merge(layers, 1, &out, NULL), 0);
	layer_expect(&out, "d d1\n");
	assert_false(out.x.has_xattrs);
	layer_free(&layers[0]);
	layer_free(&out);
}

/* ---- blobs ---- */

static void add_blob(struct layer *l, const char *of, uint64_t size,
	const char *path, uint64_t len)
{
	struct ld_blob_ref b = {.device_size = size};
	struct ld_inode *i;
	uint32_t slot;

	assert_int_equal(
		digest_of(DIGEST_SHA256, of, strlen(of), &b.digest), 0);
	assert_int_equal(ld_tree_add_blob(l->t, &b, &slot), 0);
	if (!path)
		return;
	i = layer_add(l, path, S_IFREG | 0644, 1);
	i->size = len;
	assert_int_equal(
		ld_tree_add_extent(l->t, i, 0, len, slot, 4096, NULL), 0);
}

static void expect_data(
	const struct layer *l, const char *path, const char *of, uint64_t len)
{
	struct ld_inode_view v;
	struct ld_blob_ref b;
	struct ld_extent x;
	struct digest d;

	assert_int_equal(index_find(&l->x, path, &v), 0);
	assert_int_equal(ld_index_extent(&l->x, &v, 0, &x), 0);
	assert_int_equal(x.len, len);
	assert_int_equal(x.dev_off, 4096);
	assert_int_equal(ld_index_slot(&l->x, x.slot, &b), 0);
	assert_int_equal(digest_of(DIGEST_SHA256, of, strlen(of), &d), 0);
	assert_true(digest_is_equal(&d, &b.digest));
}

static void blobs_are_distinct_and_in_layer_order(void **state)
{
	struct layer l[5], out;
	size_t k;

	for (k = 0; k < 5; k++)
		layer_start(&l[k]);
	add_blob(&l[0], "b", 8192, "x", 100);
	add_blob(&l[1], "empty", 0, NULL, 0);
	add_blob(&l[2], "a", 9000, "y", 4904);
	add_blob(&l[3], "b", 8192, "x", 100);
	add_blob(&l[4], "c", 8192, NULL, 0);
	for (k = 0; k < 5; k++)
		layer_finish(&l[k]);
	assert_int_equal(layer_merge(l, 5, &out, NULL), 0);
	assert_int_equal(out.x.slot_count, 3);
	expect_data(&out, "x", "b", 100);
	expect_data(&out, "y", "a", 4904);
	for (k = 0; k < 5; k++)
		layer_free(&l[k]);
	layer_free(&out);
}

static void layers_that_disagree_on_a_blob_are_refused(void **state)
{
	struct layer l[2], out;
	struct err e = {0};
	size_t k;

	for (k = 0; k < 2; k++) {
		layer_start(&l[k]);
		add_blob(&l[k], "b", 8192 + k * 4096, "x", 100);
		layer_finish(&l[k]);
	}
	assert_int_equal(layer_merge(l, 2, &out, &e), -EPROTO);
	assert_non_null(strstr(e.text, "sha256:"));
	layer_free(&l[0]);
	layer_free(&l[1]);
}

/* ---- hostile indexes ---- */

static uint8_t *dirent_nid(struct layer *l, const char *dir, const char *name)
{
	struct ld_inode_view v;
	struct ld_index_dirent d;
	uint64_t cookie = 0;
	uint32_t k = 0;

	assert_int_equal(index_find(&l->x, dir, &v), 0);
	for (;; k++) {
		assert_int_equal(ld_index_next(&l->x, &v, cookie, &d), 1);
		cookie = d.cookie;
		if (d.name_len == strlen(name) &&
			memcmp(d.name, name, d.name_len) == 0)
			break;
	}
	/* Small directories are inline. */
	return l->bytes.data + v.off + EROFS_INODE_LEN + v.xattr_len +
	       k * EROFS_DIRENT_LEN;
}

static void a_directory_with_two_names_is_refused(void **state)
{
	struct ld_inode_view v;
	struct layer l, out;
	struct err e = {0};

	layer_make(&l, LAYER({'d', "a", 0, 1}, {'d', "b/c", 0, 1}));
	assert_int_equal(index_find(&l.x, "a", &v), 0);
	put_le64(dirent_nid(&l, "b", "c"), v.nid);
	assert_int_equal(layer_merge(&l, 1, &out, &e), -EPROTO);
	assert_non_null(strstr(e.text, "two names"));
	/* A cycle. */
	assert_int_equal(index_find(&l.x, "b", &v), 0);
	put_le64(dirent_nid(&l, "b", "c"), v.nid);
	assert_int_equal(layer_merge(&l, 1, &out, &e), -EPROTO);
	put_le64(dirent_nid(&l, "b", "c"), l.x.root_nid);
	assert_int_equal(layer_merge(&l, 1, &out, &e), -EPROTO);
	layer_free(&l);
}

static void a_link_that_is_not_announced_is_refused(void **state)
{
	struct layer l[2], out;
	struct err e = {0};

	layer_make(&l[0], LAYER({'f', "a", 0, 1}));
	layer_make(&l[1], LAYER({'L', "b", "a", 1}));
	l[1].x.has_links = false;
	assert_int_equal(layer_merge(l, 2, &out, &e), -EPROTO);
	layer_free(&l[0]);
	layer_free(&l[1]);
}

static void changed_layers_do_no_harm(void **state)
{
	static const uint8_t masks[] = {0x01, 0x80, 0xff};
	struct layer l[2], out;
	struct ld_index *x = &l[1].x;
	size_t n, k, merged = 0, refused = 0;
	int r;

	layer_make(&l[0], LAYER({'f', "d/a", 0, 4}, {'s', "s", "t", 1},
				  {'d', "e", 0, 1}));
	layer_make(&l[1],
		LAYER({'L', "b", "d/a", 1}, {'w', "e/.wh..wh..opq", 0, 0},
			{'w', "d/.wh.x", 0, 0}, {'f', "f", 0, 9},
			{'h', "d/g", "f", 0}, {'x', "f", "user.a", 0}));
	for (n = EROFS_SLOTS_OFF; n < x->len; n++) {
		for (k = 0; k < ARRAY_LEN(masks); k++) {
			l[1].bytes.data[n] ^= masks[k];
			r = layer_merge(l, 2, &out, NULL);
			l[1].bytes.data[n] ^= masks[k];
			if (r == 0)
				layer_free(&out);
			merged += r == 0;
			refused += r != 0;
		}
	}
	assert_true(merged > 100 && refused > 100);
	layer_free(&l[0]);
	layer_free(&l[1]);
}

static void running_out_of_memory_is_an_error(void **state)
{
	const struct ld_index *x[2];
	struct layer l[2];
	struct ld_tree *t;
	unsigned long n;
	int r = -ENOMEM;

	layer_make(&l[0], LAYER({'f', "d/a", 0, 4}, {'s', "s", "t", 1},
				  {'d', "e", 0, 1}));
	layer_make(
		&l[1], LAYER({'L', "b", "d/a", 1}, {'f', "f", 0, 9},
			       {'h', "d/g", "f", 0}, {'x', "f", "user.a", 0}));
	x[0] = &l[0].x;
	x[1] = &l[1].x;
	for (n = 1; r != 0; n++) {
		assert_true(n < 100);
		(void)mem_fail_nth(0, 0);
		assert_int_equal(ld_tree_create(&t), 0);
		(void)mem_fail_nth(n, 1);
		r = ld_merge(x, 2, t, NULL);
		assert_true(r == 0 || r == -ENOMEM);
		ld_tree_destroy(t);
	}
	(void)mem_fail_nth(0, 0);
	assert_true(n > 3);
	layer_free(&l[0]);
	layer_free(&l[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(upper_entries_come_to_lower_ones),
		cmocka_unit_test(
			a_described_directory_takes_the_upper_attributes),
		cmocka_unit_test(
			an_implied_directory_leaves_the_lower_one_as_it_is),
		cmocka_unit_test(an_implied_root_leaves_the_lower_one_as_it_is),
		cmocka_unit_test(a_whiteout_removes_what_is_below),
		cmocka_unit_test(
			a_whiteout_spares_its_own_layer_and_those_above),
		cmocka_unit_test(
			a_directory_whited_out_in_its_layer_hides_the_lower_one),
		cmocka_unit_test(opaque_counts_wherever_it_stands),
		cmocka_unit_test(types_replace_each_other),
		cmocka_unit_test(a_directory_again_after_a_file_starts_empty),
		cmocka_unit_test(hard_links_count_the_names_that_are_left),
		cmocka_unit_test(an_open_hard_link_finds_the_lower_inode),
		cmocka_unit_test(an_open_hard_link_to_nothing_breaks_the_layer),
		cmocka_unit_test(marks_of_layers_do_not_reach_the_image),
		cmocka_unit_test(blobs_are_distinct_and_in_layer_order),
		cmocka_unit_test(layers_that_disagree_on_a_blob_are_refused),
		cmocka_unit_test(a_directory_with_two_names_is_refused),
		cmocka_unit_test(a_link_that_is_not_announced_is_refused),
		cmocka_unit_test(changed_layers_do_no_harm),
		cmocka_unit_test(running_out_of_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
