/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TOC of eStargz layers (stargz-snapshotter, docs/estargz.md): a chunk
 * begins innerOffset bytes into the gzip member at its offset. Where members
 * end: toc_members.h.
 *
 * The last member ends where the TOC begins, but only the blob's footer says
 * where that is, and nobody has verified the footer: a registry that lies would
 * leave a map in the cache with which every image that has this layer fails. So
 * the last range may go up to the blob's end. What is kept of a layer is then a
 * function of the TOC and of the blob's size alone.
 */
#include "loader/layer.h"
#include "loader/toc_layer.h"
#include "loader/toc_members.h"

static int read_entries(struct toc_layer *t, struct toc_reader *rd,
	struct toc_members *m, struct err *e)
{
	struct toc_entry entry;
	bool has_data;
	int r;

	while ((r = toc_reader_next(rd, &entry, e)) == 1) {
		r = toc_members_note(m, &entry, e);
		if (r)
			return r;
		if (toc_is_landmark(m, &entry, &t->tmp)) {
			r = toc_layer_skip(t, e);
			if (r)
				return r;
			continue;
		}
		r = toc_layer_add(t, &entry, &has_data, e);
		if (!r && has_data)
			r = toc_layer_add_chunk(t, &entry, entry.offset, 0,
				entry.inner_offset, e);
		if (r)
			return r;
	}
	return r;
}

int ld_toc_parse_estargz(const uint8_t *toc, size_t len, uint64_t toc_off,
	const struct ld_layer_desc *d, struct ld_layer *ret, struct err *e)
{
	struct ld_layer layer = {.format = LD_FORMAT_ESTARGZ};
	struct toc_members m = {.limit = toc_off};
	struct toc_layer t;
	struct toc_reader rd;
	int r;

	r = toc_layer_init(&t, e);
	if (r)
		return r;
	toc_reader_init(&rd, toc, len);
	r = read_entries(&t, &rd, &m, e);
	toc_reader_fini(&rd);
	if (!r)
		toc_members_end(&m, &t, d->size);
	toc_members_fini(&m);
	if (!r)
		r = toc_layer_finish(&t, d, BC_CODEC_GZIP, &layer, e);
	toc_layer_fini(&t);
	layer.prefetch_end = m.landmark;
	if (!r)
		*ret = layer;
	return r;
}
