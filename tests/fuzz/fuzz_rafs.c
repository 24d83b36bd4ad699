/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAFS bootstraps: any bytes are either parsed or refused. What begins with
 * "BLOB" and a length is a bootstrap of that length and behind it the bytes
 * that every blob has. Those are parsed twice: as they are, as if the bootstrap
 * had been found in such a blob; and with the digest that the bytes have where
 * a blob of tables is named, so that they are looked at.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "loader/rafs.h"
#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct blob {
	const uint8_t *p;
	size_t len;
};

static int read_blob(void *arg, const struct digest *d, uint64_t off,
	uint64_t len, struct buf *ret, struct err *e)
{
	const struct blob *b = arg;

	if (len == 0 && off <= b->len)
		len = b->len - off;
	if (!range_fits(off, len, b->len))
		return err_set(e, -EPROTO, "beyond the blob");
	return buf_append(ret, b->p + off, (size_t)len);
}

/* In every entry of the blob table that the bootstrap has room for. */
static void name_tables(uint8_t *boot, size_t len, const struct blob *b)
{
	struct digest d;
	uint64_t off, i;

	if (len < 2048 || digest_of(DIGEST_SHA256, b->p, b->len, &d) < 0)
		return;
	off = le64_at(boot + 1152 + 8);
	for (i = 0; i < 16 && range_fits(off, 256, len); i++, off += 256)
		memcpy(boot + off + 168, d.bytes, 32);
}

static void parse(
	const uint8_t *boot, size_t len, struct blob *b, bool is_inline)
{
	const struct ld_rafs_reader reader = {
		.read = read_blob, .arg = b, .is_inline = is_inline};
	struct ld_rafs r;
	struct err e;

	if (ld_rafs_parse(boot, len, b ? &reader : NULL, &r, &e) == 0)
		ld_rafs_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct blob b;
	uint8_t *boot;
	size_t n;

	if (len < 8 || memcmp(data, "BLOB", 4) != 0 ||
		le32_at(data + 4) > len - 8) {
		parse(data, len, NULL, false);
		return 0;
	}
	n = le32_at(data + 4);
	b = (struct blob){.p = data + 8 + n, .len = len - 8 - n};
	boot = mem_alloc(n);
	if (!boot)
		return 0;
	if (n > 0)
		memcpy(boot, data + 8, n);
	parse(boot, n, &b, true);
	name_tables(boot, n, &b);
	parse(boot, n, &b, false);
	mem_free(boot);
	return 0;
}
