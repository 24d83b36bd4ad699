/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer as it comes: gzip, zstd or neither. In pieces or at once it is the
 * same, and each group of the map that comes of it decodes alone. Broken zstd
 * is another matter: a compressed block of no bytes is an error to libzstd 1.5
 * in a frame that it sees whole, and none in some that come in pieces.
 */
#include <stdlib.h>

#include "tests/lib/unpack_run.h"

#define SPAN (16u << 10)
#define MOST (256u << 10) /* of output: a bomb need not go off */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(
	const struct unpack_run *r, const struct buf *map, const uint8_t *blob)
{
	uint8_t *copy = mem_alloc(map->len);
	uint64_t sum = 0;
	struct bc_map m;
	struct err e;
	uint32_t i;

	if (!copy)
		return;
	memcpy(copy, map->data, map->len);
	if (bc_map_from_bytes(copy, map->len, &m, &e) < 0)
		abort();
	for (i = 0; i < m.group_count; i++) {
		sum += m.groups[i].dec_len;
		if (m.groups[i].codec != BC_CODEC_STREAM &&
			!unpack_group_is(&m, &m.groups[i], blob, r->out.data))
			abort();
	}
	if (sum != r->out.len || bc_unpack_output(r->u) != sum)
		abort();
	bc_map_close(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct unpack_run once, pieces;
	struct buf map, same;
	int r, r2;

	r = unpack_all(&once, data, size, size, 65536, SPAN, MOST, &map);
	r2 = unpack_all(&pieces, data, size, 37, 4096, SPAN, MOST, &same);
	/* Where the limit is met depends on the room. */
	if (bc_packing_of(data, size) != BC_PACKING_ZSTD &&
		once.out.len < MOST - 65536 && pieces.out.len < MOST - 65536 &&
		r != r2)
		abort();
	if (r == 0 && map.len)
		check(&once, &map, data);
	if (r == 0 && r2 == 0 && same.len)
		check(&pieces, &same, data);
	if (r == 0 && r2 == 0 &&
		(once.out.len != pieces.out.len ||
			(once.out.len && memcmp(once.out.data, pieces.out.data,
						 once.out.len) != 0)))
		abort();
	unpack_fini(&once);
	unpack_fini(&pieces);
	buf_fini(&map);
	buf_fini(&same);
	return 0;
}
