/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON out of an eStargz TOC member; see toc_fetch.h. */
#include <errno.h>
#include <string.h>

#include <zlib.h>

#include "loader/toc_fetch.h"
#include "loader/toc_footer.h"
#include "runtime/base/mem.h"

#define TAR_BLOCK 512
#define TAR_NAME_LEN 100
#define TAR_SIZE_AT 124
#define TAR_SIZE_LEN 12
#define TOC_NAME "stargz.index.json"

/* Octal digits, spaces around them, a NUL behind. */
static bool tar_size(const uint8_t *header, uint64_t *ret)
{
	const uint8_t *p = header + TAR_SIZE_AT, *end = p + TAR_SIZE_LEN;
	uint64_t v = 0;

	while (p < end && *p == ' ')
		p++;
	for (; p < end && *p >= '0' && *p <= '7'; p++)
		v = v << 3 | (uint64_t)(*p - '0');
	*ret = v;
	return p == end || *p == '\0' || *p == ' ';
}

/* Inflate exactly n bytes to out. */
static bool inflate_exactly(z_stream *z, uint8_t *out, size_t n)
{
	int r;

	z->next_out = out;
	z->avail_out = (uInt)n;
	while (z->avail_out > 0) {
		r = inflate(z, Z_NO_FLUSH);
		if (r != Z_OK && !(r == Z_STREAM_END && z->avail_out == 0))
			return false;
	}
	return true;
}

static int inflate_toc(
	z_stream *z, uint8_t **ret, size_t *ret_len, struct err *e)
{
	uint8_t header[TAR_BLOCK];
	uint8_t *json;
	uint64_t size;

	if (!inflate_exactly(z, header, sizeof(header)) ||
		strncmp((const char *)header, TOC_NAME, TAR_NAME_LEN) != 0 ||
		!tar_size(header, &size))
		return err_set(e, -EPROTO,
			"there is no '" TOC_NAME "' where its TOC should be");
	if (size > LD_TOC_MAX_BYTES)
		return err_set_kind(e, ERR_UNSUPPORTED, -E2BIG,
			"its TOC is longer than %u MiB",
			LD_TOC_MAX_BYTES >> 20);
	json = mem_alloc((size_t)size);
	if (!json)
		return err_set(e, -ENOMEM, "no memory for its TOC");
	if (!inflate_exactly(z, json, (size_t)size)) {
		mem_free(json);
		return err_set(e, -EPROTO, "its TOC does not decompress");
	}
	*ret = json;
	*ret_len = (size_t)size;
	return 0;
}

int toc_inflate_estargz(const uint8_t *gz, size_t len, uint8_t **ret,
	size_t *ret_len, struct err *e)
{
	z_stream z = {0};
	int r;

	if (inflateInit2(&z, 15 + 16) != Z_OK)
		return err_set(e, -ENOMEM, "out of memory");
	/* zlib's interface is not const, but it only reads. */
	z.next_in = (Bytef *)(uintptr_t)gz;
	z.avail_in = (uInt)len;
	r = inflate_toc(&z, ret, ret_len, e);
	(void)inflateEnd(&z); /* cannot fail after a good init */
	return r;
}
