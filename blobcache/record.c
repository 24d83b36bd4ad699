/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of wanted groups, and their files; see record.h. */
#include "blobcache/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define MAGIC "SLUICREC"

enum {
	VERSION = 2,
	HEADER_LEN = 64,
	BLOB_LEN = 104,
	ENTRY_LEN = 12,
	SUM_OFF = 32,
	SUM_LEN = 32,
	/* Readers that run beside each other: so many may be continued. */
	CONTINUABLE = 8,
};

void bc_record_fini(struct bc_record *r)
{
	mem_free(r->blobs);
	mem_free(r->entries);
	*r = (struct bc_record){0};
}

int bc_record_add_blob(struct bc_record *r, const struct digest *digest,
	const struct digest *map_id, uint32_t *ret)
{
	size_t i;
	int err;

	for (i = 0; i < r->blob_count; i++)
		if (digest_is_equal(&r->blobs[i].digest, digest) &&
			digest_is_equal(&r->blobs[i].map_id, map_id))
			break;
	if (i == r->blob_count) {
		err = mem_grow((void **)&r->blobs, &r->blob_cap, i + 1,
			BC_RECORD_MAX_BLOBS, sizeof(*r->blobs));
		if (err < 0)
			return err;
		r->blobs[i] = (struct bc_record_blob){*digest, *map_id};
		r->blob_count++;
	}
	*ret = (uint32_t)i;
	return 0;
}

int bc_record_add(
	struct bc_record *r, uint32_t blob, uint32_t group, uint32_t count)
{
	size_t i, n = r->entry_count;
	struct bc_record_entry *last;
	int err;

	for (i = 0; i < CONTINUABLE && i < n; i++) {
		last = &r->entries[n - 1 - i];
		if (last->blob == blob && last->group + last->count == group) {
			last->count += count;
			return 0;
		}
	}
	err = mem_grow((void **)&r->entries, &r->entry_cap, n + 1,
		BC_RECORD_MAX_ENTRIES, sizeof(*r->entries));
	if (err < 0)
		return err;
	r->entries[r->entry_count++] =
		(struct bc_record_entry){blob, group, count};
	return 0;
}

/* ---- merging ---- */

static int by_place(const void *va, const void *vb)
{
	const struct bc_record_entry *a = va, *b = vb;

	if (a->blob != b->blob)
		return a->blob < b->blob ? -1 : 1;
	return a->group < b->group ? -1 : a->group > b->group;
}

/*
 * What sorted, count entries by place that do not touch each other, does not
 * cover of e, appended to r.
 */
static int add_uncovered(struct bc_record *r,
	const struct bc_record_entry *sorted, size_t count,
	const struct bc_record_entry *e)
{
	uint64_t at = e->group, end = at + e->count, stop;
	size_t lo = 0, hi = count, i;
	int err = 0;

	/* the first one that reaches behind e's beginning */
	while (lo < hi) {
		i = lo + (hi - lo) / 2;
		if (sorted[i].blob < e->blob ||
			(sorted[i].blob == e->blob &&
				(uint64_t)sorted[i].group + sorted[i].count <=
					at))
			lo = i + 1;
		else
			hi = i;
	}
	for (i = lo; at < end && err == 0; i++) {
		bool is_same = i < count && sorted[i].blob == e->blob;

		stop = is_same ? min_u64(end, sorted[i].group) : end;
		if (stop > at)
			err = bc_record_add(r, e->blob, (uint32_t)at,
				(uint32_t)(stop - at));
		if (!is_same)
			break;
		at = max_u64(at, (uint64_t)sorted[i].group + sorted[i].count);
	}
	return err;
}

/* Entries that touch become one, so that a search passes few. */
static size_t join_sorted(struct bc_record_entry *s, size_t n)
{
	size_t i, out = 0;
	uint64_t end;

	for (i = 0; i < n; i++) {
		if (out == 0 || s[out - 1].blob != s[i].blob ||
			(uint64_t)s[out - 1].group + s[out - 1].count <
				s[i].group) {
			s[out++] = s[i];
			continue;
		}
		end = max_u64((uint64_t)s[out - 1].group + s[out - 1].count,
			(uint64_t)s[i].group + s[i].count);
		s[out - 1].count = (uint32_t)(end - s[out - 1].group);
	}
	return out;
}

int bc_record_merge(struct bc_record *r, const struct bc_record *add)
{
	struct bc_record_entry *sorted, e;
	size_t n = r->entry_count, i;
	int err = 0;

	sorted = mem_calloc(n, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	if (n > 0) {
		memcpy(sorted, r->entries, n * sizeof(*sorted));
		qsort(sorted, n, sizeof(*sorted), by_place);
	}
	n = join_sorted(sorted, n);
	for (i = 0; err == 0 && i < add->entry_count; i++) {
		e = add->entries[i];
		err = bc_record_add_blob(r, &add->blobs[e.blob].digest,
			&add->blobs[e.blob].map_id, &e.blob);
		if (err == 0)
			err = add_uncovered(r, sorted, n, &e);
	}
	mem_free(sorted);
	return err == -E2BIG ? 0 : err;
}

uint64_t bc_record_groups(const struct bc_record *r)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < r->entry_count; i++)
		n += r->entries[i].count;
	return n;
}

/* ---- the file ---- */

/* Of all but the sum itself; blake3, which needs no library to be loaded. */
static int checksum(const uint8_t *p, size_t len, struct digest *ret)
{
	struct digest_ctx *c;
	int err;

	err = digest_ctx_create(DIGEST_BLAKE3, &c);
	if (err < 0)
		return err;
	err = digest_ctx_update(c, p, SUM_OFF);
	if (err == 0)
		err = digest_ctx_update(
			c, p + SUM_OFF + SUM_LEN, len - SUM_OFF - SUM_LEN);
	if (err == 0)
		err = digest_ctx_final(c, ret);
	digest_ctx_destroy(c);
	return err;
}

static size_t file_len(uint64_t blobs, uint64_t entries)
{
	return HEADER_LEN + blobs * BLOB_LEN + entries * ENTRY_LEN;
}

int bc_record_write(const struct bc_record *r, struct buf *out)
{
	size_t len = file_len(r->blob_count, r->entry_count), i;
	struct digest sum;
	uint8_t *p, *at;
	int err;

	err = buf_reserve(out, len);
	if (err < 0)
		return err;
	p = at = out->data + out->len;
	memset(p, 0, len);
	memcpy(p, MAGIC, 8);
	put_le32(p + 8, VERSION);
	put_le32(p + 12, (uint32_t)r->blob_count);
	put_le32(p + 16, (uint32_t)r->entry_count);
	put_le64(p + 24, len);
	at += HEADER_LEN;
	for (i = 0; i < r->blob_count; i++, at += BLOB_LEN) {
		at[0] = (uint8_t)r->blobs[i].digest.algo;
		memcpy(at + 8, r->blobs[i].digest.bytes, DIGEST_MAX_BYTES);
		memcpy(at + 72, r->blobs[i].map_id.bytes, 32);
	}
	for (i = 0; i < r->entry_count; i++, at += ENTRY_LEN) {
		put_le32(at, r->entries[i].blob);
		put_le32(at + 4, r->entries[i].group);
		put_le32(at + 8, r->entries[i].count);
	}
	err = checksum(p, len, &sum);
	if (err < 0)
		return err;
	memcpy(p + SUM_OFF, sum.bytes, SUM_LEN);
	out->len += len;
	return 0;
}

static int broken(struct err *e, const char *what)
{
	return err_set(e, -EPROTO, "not a record of reads: %s", what);
}

static int check_header(const uint8_t *p, size_t len, struct err *e)
{
	struct digest sum;

	if (len < HEADER_LEN || memcmp(p, MAGIC, 8) != 0)
		return broken(e, "it does not begin like one");
	if (le32_at(p + 8) != VERSION)
		return broken(e, "its version is not known");
	if (le32_at(p + 12) > BC_RECORD_MAX_BLOBS ||
		le32_at(p + 16) > BC_RECORD_MAX_ENTRIES)
		return broken(e, "it is too long");
	if (le64_at(p + 24) != len || le32_at(p + 20) != 0 ||
		file_len(le32_at(p + 12), le32_at(p + 16)) != len)
		return broken(e, "its length is wrong");
	if (checksum(p, len, &sum) < 0 ||
		memcmp(sum.bytes, p + SUM_OFF, SUM_LEN) != 0)
		return err_set(
			e, -EBADMSG, "a record of reads has a wrong checksum");
	return 0;
}

static int read_blob(struct bc_record_blob *b, const uint8_t *at)
{
	size_t len;

	*b = (struct bc_record_blob){0};
	if (at[0] != DIGEST_SHA256 && at[0] != DIGEST_SHA512 &&
		at[0] != DIGEST_BLAKE3)
		return -EPROTO;
	b->digest.algo = (enum digest_algo)at[0];
	len = digest_len(b->digest.algo);
	memcpy(b->digest.bytes, at + 8, len);
	b->map_id.algo = DIGEST_SHA256;
	memcpy(b->map_id.bytes, at + 72, 32);
	return 0;
}

static int read_tables(struct bc_record *r, const uint8_t *p, struct err *e)
{
	const uint8_t *at = p + HEADER_LEN;
	struct bc_record_entry *x;
	size_t i;

	for (i = 0; i < r->blob_count; i++, at += BLOB_LEN)
		if (read_blob(&r->blobs[i], at) < 0)
			return broken(e, "a blob without a digest");
	for (i = 0; i < r->entry_count; i++, at += ENTRY_LEN) {
		x = &r->entries[i];
		x->blob = le32_at(at);
		x->group = le32_at(at + 4);
		x->count = le32_at(at + 8);
		if (x->blob >= r->blob_count || x->count == 0 ||
			x->count > UINT32_MAX - x->group)
			return broken(e, "an entry that names nothing");
	}
	return 0;
}

int bc_record_parse(
	const uint8_t *p, size_t len, struct bc_record *ret, struct err *e)
{
	struct bc_record r = {0};
	int err;

	err = check_header(p, len, e);
	if (err < 0)
		return err;
	r.blob_count = r.blob_cap = le32_at(p + 12);
	r.entry_count = r.entry_cap = le32_at(p + 16);
	r.blobs = mem_calloc(r.blob_cap, sizeof(*r.blobs));
	r.entries = mem_calloc(r.entry_cap, sizeof(*r.entries));
	err = r.blobs && r.entries ? read_tables(&r, p, e)
	                           : err_set(e, -ENOMEM, "out of memory");
	if (err < 0) {
		bc_record_fini(&r);
		return err;
	}
	*ret = r;
	return 0;
}
