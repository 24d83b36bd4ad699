/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bootstraps inside blobs. A blob built with inline metadata is a sequence of
 * parts, each followed by a 512-byte tar header that names it and says its
 * size; the last part may be a TOC that names all of them (Nydus 2.x,
 * storage/src/meta/toc.rs describes it). So a blob is read from its end.
 */
#include <errno.h>
#include <string.h>
#include <zstd.h>

#include "blobcache/decode.h"
#include "blobcache/source.h"
#include "loader/rafs.h"
#include "runtime/base/digest.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

enum {
	HEADER_LEN = 512,
	TOC_ENTRY_LEN = 128,
	MAX_TOC_ENTRIES = 16,
	MAX_PARTS = 16,
};

#define MAX_BOOT_LEN (1u << 30)

/* A part of the blob; toc_digest.algo NONE where no TOC speaks of it. */
struct part {
	char name[101];
	uint64_t off, len;
	uint64_t raw_len; /* 0: not said */
	struct digest toc_digest;
};

static int broken(struct err *e, const char *what)
{
	return err_set(
		e, -EPROTO, "broken RAFS blob: %s of the inline part", what);
}

/* The size field: 12 octal digits, or base 256 when the top bit is set. */
static int header_size(const uint8_t *h, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i;

	if (h[124] & 0x80) {
		for (i = 128; i < 136; i++)
			v = v << 8 | h[i];
		*ret = v;
		return 0;
	}
	for (i = 124; i < 136 && h[i] >= '0' && h[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(h[i] - '0');
	*ret = v;
	return i > 124 ? 0 : -EPROTO;
}

/* The part whose header ends at end. -ENOENT: there is no header. */
static int read_part(struct rt *rt, struct bc_source *blob, uint64_t end,
	struct part *ret, struct err *e)
{
	uint8_t h[HEADER_LEN];
	int err;

	if (end < HEADER_LEN)
		return -ENOENT;
	err = bc_source_read(rt, blob, end - HEADER_LEN, h, sizeof(h), e);
	if (err < 0)
		return err;
	if (memcmp(h + 257, "ustar", 5) != 0)
		return -ENOENT;
	*ret = (struct part){0};
	memcpy(ret->name, h, 100);
	if (header_size(h, &ret->len) < 0 || ret->len > end - HEADER_LEN)
		return broken(e, "the size");
	ret->off = end - HEADER_LEN - ret->len;
	return 0;
}

/* The image.boot entry of a TOC. */
static int find_in_toc(struct rt *rt, struct bc_source *blob,
	const struct part *toc, struct part *ret, struct err *e)
{
	uint8_t bytes[MAX_TOC_ENTRIES * TOC_ENTRY_LEN], *at;
	int err;

	if (toc->len == 0 || toc->len > sizeof(bytes) ||
		toc->len % TOC_ENTRY_LEN != 0)
		return broken(e, "the TOC");
	err = bc_source_read(rt, blob, toc->off, bytes, (size_t)toc->len, e);
	if (err < 0)
		return err;
	for (at = bytes; at < bytes + toc->len; at += TOC_ENTRY_LEN) {
		if (strncmp((const char *)at + 8, "image.boot", 16) != 0)
			continue;
		*ret = (struct part){.off = le64_at(at + 56),
			.len = le64_at(at + 64),
			.raw_len = le64_at(at + 72)};
		ret->toc_digest.algo = DIGEST_SHA256;
		memcpy(ret->toc_digest.bytes, at + 24, 32);
		if (!range_fits(ret->off, ret->len, toc->off))
			return broken(e, "the place");
		return 0;
	}
	return -ENOENT;
}

static int find_part(
	struct rt *rt, struct bc_source *blob, struct part *ret, struct err *e)
{
	uint64_t end = blob->size;
	unsigned i;
	int err;

	for (i = 0; i < MAX_PARTS; i++) {
		err = read_part(rt, blob, end, ret, e);
		if (err < 0)
			return err;
		if (i == 0 && strcmp(ret->name, "rafs.blob.toc") == 0) {
			struct part toc = *ret;

			return find_in_toc(rt, blob, &toc, ret, e);
		}
		if (strcmp(ret->name, "image.boot") == 0)
			return 0;
		end = ret->off;
	}
	return -ENOENT;
}

/* The part's bytes are a zstd frame or the bootstrap itself. */
static int decode_part(const struct part *p, const uint8_t *bytes,
	struct buf *out, struct err *e)
{
	unsigned long long raw_len = p->len;
	enum bc_codec codec = BC_CODEC_NONE;
	int err;

	if (ld_rafs_recognise(bytes, p->len) == LD_FORMAT_UNKNOWN) {
		codec = BC_CODEC_ZSTD;
		raw_len = p->raw_len ? p->raw_len
		                     : ZSTD_getFrameContentSize(bytes, p->len);
	}
	if (raw_len == 0 || raw_len > MAX_BOOT_LEN)
		return broken(e, "the decoded size");
	err = buf_reserve(out, raw_len);
	if (err < 0)
		return err_set(e, err,
			"no memory for a bootstrap of %llu bytes", raw_len);
	err = bc_decode(codec, bytes, p->len, NULL, 0, out->data, raw_len);
	if (err < 0)
		return broken(e, "the compression");
	out->len = raw_len;
	if (p->toc_digest.algo != DIGEST_NONE &&
		digest_check(&p->toc_digest, out->data, out->len) < 0)
		return err_set(e, -EBADMSG,
			"the inline bootstrap does not have the digest that "
			"the blob's TOC names");
	return 0;
}

int ld_rafs_read_inline(
	struct rt *rt, struct bc_source *blob, struct buf *out, struct err *e)
{
	struct part p;
	uint8_t *bytes;
	int err;

	err = find_part(rt, blob, &p, e);
	if (err < 0)
		return err;
	if (p.len == 0 || p.len > MAX_BOOT_LEN)
		return broken(e, "the size");
	bytes = mem_alloc(p.len);
	if (!bytes)
		return err_set(e, -ENOMEM, "out of memory");
	err = bc_source_read(rt, blob, p.off, bytes, p.len, e);
	if (err == 0)
		err = decode_part(&p, bytes, out, e);
	mem_free(bytes);
	return err;
}
