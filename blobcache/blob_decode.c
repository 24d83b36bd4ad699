/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the bytes that a run has fetched to a group that is verified, in a job.
 * The group is what it was when the run was made; chunks are read from the map
 * now, and are the group's or nothing.
 */
#include <errno.h>
#include <string.h>

#include "blobcache/blob_int.h"
#include "blobcache/decode.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"

static int verify_group(const struct bc_map *m, const struct run_group *rg,
	const uint8_t *bytes)
{
	struct digest want = {0};
	struct bc_chunk c;
	uint32_t i;
	int r;

	for (i = 0; i < rg->g.chunk_count; i++) {
		c = bc_map_chunk(m, rg->g.first_chunk + i);
		if (!blob_chunk_is_of(&c, rg)) {
			bc_map_set_lost(m);
			return -EIO;
		}
		want.algo = c.algo;
		memcpy(want.bytes, c.digest, sizeof(c.digest));
		r = digest_check(&want, bytes + c.group_off, c.len);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode_bytes(const struct bc_map *m, const struct bc_group *g,
	const uint8_t *src, uint8_t *dst)
{
	CLEANUP_FREE uint8_t *ctx = bc_map_ctx(m, g);

	if (g->ctx_len && !ctx)
		return -ENOMEM;
	return bc_decode(
		g->codec, src, g->src_len, ctx, g->ctx_len, dst, g->dec_len);
}

/* Is it in what was fetched? When the run was planned it was. */
static bool is_fetched(const struct blob_run *run, const struct bc_group *g)
{
	return g->src_len > 0 && g->src_off >= run->off &&
	       range_fits(g->src_off - run->off, g->src_len, run->len);
}

int blob_decode_group(struct blob_run *run, struct run_group *rg)
{
	const struct bc_map *m = &run->blob->map;
	const struct bc_group *g = &rg->g;
	const uint8_t *src, *bytes;
	struct blob_mem *mem;
	int r = 0;

	if (!is_fetched(run, g)) {
		bc_map_set_lost(m);
		return -EIO;
	}
	src = run->src->data + (g->src_off - run->off);
	if (g->codec == BC_CODEC_NONE) {
		mem = run->src;
		blob_mem_ref(mem);
		bytes = src;
	} else {
		mem = blob_mem_create(run->blob, g->dec_len);
		if (!mem)
			return -ENOMEM;
		bytes = mem->data;
		r = decode_bytes(m, g, src, mem->data);
	}
	if (r == 0)
		r = verify_group(m, rg, bytes);
	if (r < 0) {
		blob_mem_unref(mem);
		return r;
	}
	rg->mem = mem;
	rg->bytes = bytes;
	return 0;
}
