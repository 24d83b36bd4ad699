/* SPDX-License-Identifier: Apache-2.0 */
/* Where members end; see toc_members.h. */
#include "loader/toc_members.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* What gzip or zstd may need on top of n bytes, whoever packed them. */
#define PACKED_MOST(n) ((n) + (n) / 8 + (n) / 64 + 4096)

void toc_members_fini(struct toc_members *m)
{
	mem_free(m->list);
	m->list = NULL;
	m->count = m->cap = 0;
}

bool toc_is_landmark(
	struct toc_members *m, const struct toc_entry *entry, struct buf *tmp)
{
	static const char *const names[] = {".prefetch.landmark",
		".no.prefetch.landmark", "stargz.index.json"};

	if (entry->type == TOC_CHUNK ||
		toc_path_clean(entry->name, entry->name_len, tmp, NULL))
		return false;
	if (!strcmp((const char *)tmp->data, names[0]))
		m->landmark = entry->offset;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp((const char *)tmp->data, names[i]))
			return true;
	return false;
}

int toc_members_note(
	struct toc_members *m, const struct toc_entry *entry, struct err *e)
{
	void *list = m->list;
	int r;

	if (entry->type != TOC_CHUNK &&
		(entry->type != TOC_REG || entry->size == 0))
		return 0;
	if (!entry->has_offset || entry->offset >= m->limit)
		return err_set(e, -EPROTO,
			"'%.200s' lies at %" PRIu64
			", outside the blob's %" PRIu64 " bytes of data",
			entry->name, entry->offset, m->limit);
	if (m->count > 0 && m->list[m->count - 1].off == entry->offset)
		return 0;
	r = mem_grow(
		&list, &m->cap, m->count + 1, BC_MAX_CHUNKS, sizeof(*m->list));
	if (r)
		return err_set(e, r, "no memory for more chunks");
	m->list = list;
	m->list[m->count++] = (struct toc_member){.off = entry->offset};
	return 0;
}

static int compare_offs(const void *a, const void *b)
{
	const struct toc_member *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static void sort_members(struct toc_members *m)
{
	size_t n = 0;

	if (m->count == 0)
		return;
	qsort(m->list, m->count, sizeof(*m->list), compare_offs);
	for (size_t i = 0; i < m->count; i++)
		if (n == 0 || m->list[n - 1].off != m->list[i].off)
			m->list[n++] = m->list[i];
	m->count = n;
}

/* Every chunk's offset has been noted, so it is found. */
static struct toc_member *find_member(struct toc_members *m, uint64_t off)
{
	const struct toc_member key = {.off = off};

	return bsearch(&key, m->list, m->count, sizeof(*m->list), compare_offs);
}

static uint64_t member_end(
	const struct toc_members *m, const struct toc_member *at, uint64_t end)
{
	uint64_t most = min_u64(PACKED_MOST(at->need), BC_MAX_GROUP_LEN);

	if (at + 1 < m->list + m->count)
		end = min_u64(end, at[1].off);
	return at->off >= end ? at->off
	                      : at->off + min_u64(most, end - at->off);
}

void toc_members_end(struct toc_members *m, struct toc_layer *t, uint64_t end)
{
	struct toc_member *at;
	struct toc_chunk *c;

	sort_members(m);
	for (size_t i = 0; i < t->chunk_count; i++) {
		c = &t->chunks[i];
		at = c->src_end == 0 ? find_member(m, c->src_off) : NULL;
		if (at)
			at->need =
				max_u64(at->need, (uint64_t)c->inner + c->len);
	}
	for (size_t i = 0; i < t->chunk_count; i++) {
		c = &t->chunks[i];
		at = c->src_end == 0 ? find_member(m, c->src_off) : NULL;
		if (at)
			c->src_end = member_end(m, at, end);
	}
}
