/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobcache/unpack with broken layers: each ends as its name states, and what
 * is whole decodes group by group.
 */
#include "tests/lib/hostile.h"
#include "tests/lib/unpack_run.h"

enum { SPAN = 16 << 10, LIMIT = 64 << 20 };

static void judge_groups(
	const struct unpack_run *r, const struct buf *map, const uint8_t *blob)
{
	uint8_t *copy = mem_alloc(map->len);
	struct bc_map m;
	struct err e;
	uint32_t i;

	assert_non_null(copy);
	memcpy(copy, map->data, map->len);
	assert_int_equal(bc_map_from_bytes(copy, map->len, &m, &e), 0);
	for (i = 0; i < m.group_count; i++)
		assert_true(
			unpack_group_is(&m, &m.groups[i], blob, r->out.data));
	bc_map_close(&m);
}

static void try_layer(void *arg, const char *name, struct buf *b)
{
	static const size_t pieces[] = {1, 37, 1 << 20};
	struct unpack_run r;
	struct buf map;
	size_t i;
	int err;

	for (i = 0; i < ARRAY_LEN(pieces); i++) {
		err = unpack_all(&r, b->data, b->len, pieces[i], 65536, SPAN,
			LIMIT, &map);
		hostile_judge(name, err, r.e.text);
		if (err == 0 && map.len)
			judge_groups(&r, &map, b->data);
		unpack_fini(&r);
		buf_fini(&map);
	}
}

static void samples_end_as_they_are_named(void **state)
{
	hostile_each("unpack", 20, try_layer, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples_end_as_they_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
