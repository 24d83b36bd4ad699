/* SPDX-License-Identifier: Apache-2.0 */
/* A map file, as it is and with its checksum made right. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/map.h"
#include "blobcache/map_int.h"
#include "blobcache/plan.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is handed out keeps the promises that its users rely on. */
static void check(const struct bc_map *m)
{
	uint64_t end = 0;
	uint32_t i, at;

	for (i = 0; i < m->chunk_count; i++) {
		const struct bc_chunk *c = &m->chunks[i];
		const struct bc_group *g = &m->groups[c->group];

		if (c->group >= m->group_count || c->dev_off < end ||
			!range_fits(c->group_off, c->len, g->dec_len) ||
			i - g->first_chunk >= g->chunk_count)
			abort();
		end = c->dev_off + c->len;
		at = bc_map_find(m, c->dev_off);
		if (end > m->device_size || at != i ||
			bc_map_find(m, end - 1) != i)
			abort();
	}
	if (bc_map_find(m, m->device_size) != m->chunk_count)
		abort();
	for (i = 0; i + 1 < m->group_count; i++) {
		const uint32_t wanted[] = {i, i + 1};
		struct bc_range r = bc_plan_next(
			m, &bc_plan_network, wanted, 0, ARRAY_LEN(wanted));

		if (r.count < 1 || r.count > 2 ||
			r.len < m->groups[i].src_len ||
			r.off != m->groups[i].src_off)
			abort();
	}
}

static void parse(const uint8_t *data, size_t size, int mend)
{
	uint8_t *copy = mem_alloc(size);
	struct digest sum;
	struct bc_map m;
	struct err e;

	if (!copy)
		return;
	if (size)
		memcpy(copy, data, size);
	if (mend && size >= sizeof(struct map_header) &&
		map_checksum(copy, size, &sum) == 0)
		memcpy(copy + offsetof(struct map_header, checksum), sum.bytes,
			32);
	if (bc_map_from_bytes(copy, size, &m, &e) < 0) {
		mem_free(copy);
		return;
	}
	check(&m);
	bc_map_close(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	parse(data, size, 0);
	parse(data, size, 1);
	return 0;
}
