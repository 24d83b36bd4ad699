/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TOC of eStargz layers (stargz-snapshotter, docs/estargz.md): a chunk
 * begins innerOffset bytes into the gzip member at its offset. A member ends
 * where the next one that the TOC knows begins; what it holds behind its last
 * chunk (padding, tar headers) is not looked at.
 *
 * The last member ends where the TOC begins, but only the blob's footer says
 * where that is, and nobody has verified the footer: a registry that lies would
 * leave a map in the cache with which every image that has this layer fails. So
 * the last range is as long as its bytes can be at most when packed. What is
 * kept of a layer is then a function of the TOC and of the blob's size alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "loader/layer.h"
#include "loader/toc_layer.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* What deflate and gzip may need on top of n bytes, whoever packed them. */
#define PACKED_MOST(n) ((n) + (n) / 8 + (n) / 64 + 4096)

/* Where members begin, sorted and distinct once all entries are read. */
struct members {
	uint64_t *offs; /* owned */
	size_t count, cap;
	uint64_t limit;    /* of the blob: where data end, as its footer says */
	uint64_t last_end; /* of the last member's range */
};

/* Files of the format itself: prefetch up to here, or nothing. */
static bool is_landmark(const struct toc_entry *entry, struct buf *tmp)
{
	static const char *const names[] = {".prefetch.landmark",
		".no.prefetch.landmark", "stargz.index.json"};

	if (entry->type == TOC_CHUNK ||
		toc_path_clean(entry->name, entry->name_len, tmp, NULL))
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp((const char *)tmp->data, names[i]))
			return true;
	return false;
}

static int note_member(
	struct members *m, const struct toc_entry *entry, struct err *e)
{
	void *offs = m->offs;
	int r;

	if (entry->type != TOC_CHUNK &&
		(entry->type != TOC_REG || entry->size == 0))
		return 0;
	if (!entry->has_offset || entry->offset >= m->limit)
		return err_set(e, -EPROTO,
			"'%.200s' lies at %" PRIu64
			", outside the blob's %" PRIu64 " bytes of data",
			entry->name, entry->offset, m->limit);
	if (m->count > 0 && m->offs[m->count - 1] == entry->offset)
		return 0;
	r = mem_grow(
		&offs, &m->cap, m->count + 1, BC_MAX_CHUNKS, sizeof(*m->offs));
	if (r)
		return err_set(e, r, "no memory for more chunks");
	m->offs = offs;
	m->offs[m->count++] = entry->offset;
	return 0;
}

static int compare_offs(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void sort_members(struct members *m)
{
	size_t n = 0;

	if (m->count == 0)
		return;
	qsort(m->offs, m->count, sizeof(*m->offs), compare_offs);
	for (size_t i = 0; i < m->count; i++)
		if (n == 0 || m->offs[n - 1] != m->offs[i])
			m->offs[n++] = m->offs[i];
	m->count = n;
}

/* The member at off, which is one of them, ends here. */
static uint64_t member_end(const struct members *m, uint64_t off)
{
	const uint64_t *at = bsearch(
		&off, m->offs, m->count, sizeof(*m->offs), compare_offs);

	return at + 1 < m->offs + m->count ? at[1] : m->last_end;
}

static void find_last_end(
	struct members *m, const struct toc_layer *t, uint64_t blob_size)
{
	uint64_t off = m->count > 0 ? m->offs[m->count - 1] : 0, need = 0;

	for (size_t i = 0; i < t->chunk_count; i++)
		if (t->chunks[i].src_off == off)
			need = max_u64(need, (uint64_t)t->chunks[i].inner +
						     t->chunks[i].len);
	need = min_u64(PACKED_MOST(need), BC_MAX_GROUP_LEN);
	if (off >= blob_size)
		m->last_end = off; /* refused where groups are made */
	else
		m->last_end = off + min_u64(need, blob_size - off);
}

static int read_entries(struct toc_layer *t, struct toc_reader *rd,
	struct members *m, struct err *e)
{
	struct toc_entry entry;
	bool has_data;
	int r;

	while ((r = toc_reader_next(rd, &entry, e)) == 1) {
		r = note_member(m, &entry, e);
		if (r)
			return r;
		if (is_landmark(&entry, &t->tmp)) {
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
	struct members m = {.limit = toc_off};
	struct toc_layer t;
	struct toc_reader rd;
	int r;

	r = toc_layer_init(&t, e);
	if (r)
		return r;
	toc_reader_init(&rd, toc, len);
	r = read_entries(&t, &rd, &m, e);
	toc_reader_fini(&rd);
	if (r)
		goto out;
	sort_members(&m);
	find_last_end(&m, &t, d->size);
	for (size_t i = 0; i < t.chunk_count; i++)
		t.chunks[i].src_end = member_end(&m, t.chunks[i].src_off);
	mem_free(m.offs);
	m.offs = NULL;
	r = toc_layer_finish(&t, d, BC_CODEC_GZIP, &layer, e);
out:
	mem_free(m.offs);
	toc_layer_fini(&t);
	if (!r)
		*ret = layer;
	return r;
}
