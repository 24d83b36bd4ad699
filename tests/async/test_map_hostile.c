/* SPDX-License-Identifier: Apache-2.0 */
/* The hostile maps and groups of tests/samples: a file's name says its end. */
#include <stdint.h>

#include "blobcache/decode.h"
#include "blobcache/map.h"
#include "runtime/base/mem.h"
#include "tests/lib/hostile.h"

static void try_map(void *arg, int dir, const char *name)
{
	struct err e = {0};
	struct bc_map m;
	int r;

	r = bc_map_open(dir, name, NULL, &m, &e);
	if (r == 0)
		bc_map_close(&m);
	else if (!strstr(e.text, name))
		fail_msg("%s: the sentence is '%s'", name, e.text);
	hostile_judge(name, r, e.text);
}

/* The form that the fuzz target decode takes. */
static void try_group(void *arg, const char *name, struct buf *b)
{
	uint8_t *dst;
	size_t want, ctx;
	int r;

	assert_true(b->len >= 4);
	want = le16_at(b->data + 1);
	ctx = b->data[3];
	dst = mem_alloc(want);
	assert_non_null(dst);
	r = bc_decode(b->data[0], b->data + 4 + ctx, b->len - 4 - ctx,
		b->data + 4, ctx, dst, want);
	mem_free(dst);
	if (r != hostile_code(name))
		fail_msg("%s: %d", name, r);
}

static void every_map_ends_as_its_name_says(void **state)
{
	hostile_files("map", 10, try_map, NULL);
}

static void every_group_ends_as_its_name_says(void **state)
{
	hostile_each("decode", 10, try_group, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_map_ends_as_its_name_says),
		cmocka_unit_test(every_group_ends_as_its_name_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
