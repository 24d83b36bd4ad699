/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TOC of zstd:chunked layers, of two makers.
 *
 * containers/storage (pkg/chunked): every chunk is whole zstd frames of its
 * own, which end where the file's next chunk begins, the last at the file's
 * endOffset. Holes ("zeros" chunks) have a place in the blob too but are not
 * fetched.
 *
 * stargz' converter (estargz/zstdchunked): eStargz' members with zstd for gzip,
 * so no endOffset, and padding and tar headers behind the chunks of a frame.
 * Only where frames begin is known (toc_members.h), and decoding stops early.
 */
#include <errno.h>
#include <inttypes.h>

#include "loader/layer.h"
#include "loader/toc_layer.h"
#include "loader/toc_members.h"

struct source {
	uint64_t limit; /* of the blob: where data end */
	struct toc_members members;
	bool has_open; /* some file does not say where it ends */
	/* the file whose chunks are coming */
	bool is_open;  /* it does not */
	uint64_t end;  /* of the file in the blob; 0: is_open */
	uint64_t last; /* where its last chunk began */
};

static int open_file(
	struct source *s, const struct toc_entry *entry, struct err *e)
{
	s->end = entry->end_offset;
	s->last = entry->offset;
	s->is_open = entry->end_offset == 0;
	if (s->is_open) {
		s->has_open = true;
		return 0;
	}
	if (entry->end_offset > s->limit || entry->offset >= entry->end_offset)
		return err_set(e, -EPROTO,
			"'%.200s' lies at %" PRIu64 " to %" PRIu64
			", outside the blob's %" PRIu64 " bytes of data",
			entry->name, entry->offset, entry->end_offset,
			s->limit);
	return 0;
}

static int follow_chunk(struct toc_layer *t, struct source *s,
	const struct toc_entry *entry, struct err *e)
{
	if (entry->offset <= s->last || entry->offset >= s->end)
		return err_set(e, -EPROTO,
			"the chunk of '%.200s' at %" PRIu64
			" of the blob does not follow the one before",
			entry->name, entry->offset);
	t->chunks[t->chunk_count - 1].src_end = entry->offset;
	s->last = entry->offset;
	return 0;
}

static int add_data(struct toc_layer *t, struct source *s,
	const struct toc_entry *entry, struct err *e)
{
	int r = 0;

	if (entry->type == TOC_REG)
		r = open_file(s, entry, e);
	else if (!s->is_open)
		r = follow_chunk(t, s, entry, e);
	return r ? r
	         : toc_layer_add_chunk(t, entry, entry->offset, s->end,
			   s->is_open ? entry->inner_offset : 0, e);
}

static int add_entry(struct toc_layer *t, struct source *s,
	const struct toc_entry *entry, struct err *e)
{
	bool has_data;
	int r;

	r = toc_members_note(&s->members, entry, e);
	if (r)
		return r;
	/* containers/storage knows no landmarks: such a file is the image's */
	if (entry->type == TOC_REG && entry->size > 0 &&
		entry->end_offset == 0 &&
		toc_is_landmark(&s->members, entry, &t->tmp))
		return toc_layer_skip(t, e);
	r = toc_layer_add(t, entry, &has_data, e);
	return r || !has_data ? r : add_data(t, s, entry, e);
}

static int read_entries(struct toc_layer *t, struct toc_reader *rd,
	struct source *s, struct err *e)
{
	struct toc_entry entry;
	int r;

	while ((r = toc_reader_next(rd, &entry, e)) == 1) {
		r = add_entry(t, s, &entry, e);
		if (r)
			return r;
	}
	return r;
}

int ld_toc_parse_zstd_chunked(const uint8_t *toc, size_t len,
	const struct ld_layer_desc *d, struct ld_layer *ret, struct err *e)
{
	struct ld_layer layer = {.format = LD_FORMAT_ZSTD_CHUNKED};
	struct source s = {.limit = d->toc_off > 0 ? d->toc_off : d->size};
	struct toc_layer t;
	struct toc_reader rd;
	int r;

	if (s.limit == 0)
		s.limit = INT64_MAX;
	s.members.limit = s.limit;
	r = toc_layer_init(&t, e);
	if (r)
		return r;
	toc_reader_init(&rd, toc, len);
	r = read_entries(&t, &rd, &s, e);
	toc_reader_fini(&rd);
	if (!r && s.has_open)
		toc_members_end(&s.members, &t, s.limit);
	toc_members_fini(&s.members);
	if (!r)
		r = toc_layer_finish(&t, d,
			s.has_open ? BC_CODEC_ZSTD_PART : BC_CODEC_ZSTD, &layer,
			e);
	toc_layer_fini(&t);
	layer.prefetch_end = s.members.landmark;
	if (!r)
		*ret = layer;
	return r;
}
