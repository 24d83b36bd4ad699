/* SPDX-License-Identifier: Apache-2.0 */
/* A record of reads, as it is and with its checksum made right. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/record.h"
#include "runtime/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Its own file again is the same, and merging adds nothing to itself. */
static void check(const struct bc_record *r, const uint8_t *p, size_t len)
{
	struct bc_record copy = {0};
	struct buf b;
	size_t n;

	buf_init(&b, BC_RECORD_MAX_FILE);
	if (bc_record_write(r, &b) == 0 && b.len != len)
		abort();
	if (bc_record_merge(&copy, r) == 0) {
		n = copy.entry_count;
		if (n > r->entry_count || (bc_record_merge(&copy, r) == 0 &&
						  copy.entry_count != n))
			abort();
	}
	bc_record_fini(&copy);
	buf_fini(&b);
}

static void parse(const uint8_t *p, size_t len)
{
	struct bc_record r;
	struct err e;

	if (bc_record_parse(p, len, &r, &e) < 0)
		return;
	check(&r, p, len);
	bc_record_fini(&r);
}

static int sum(const uint8_t *p, size_t len, struct digest *ret)
{
	struct digest_ctx *c;
	int err = digest_ctx_create(DIGEST_BLAKE3, &c);

	if (err < 0)
		return err;
	err = digest_ctx_update(c, p, 32);
	if (err == 0)
		err = digest_ctx_update(c, p + 64, len - 64);
	if (err == 0)
		err = digest_ctx_final(c, ret);
	digest_ctx_destroy(c);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct digest d;
	uint8_t *copy;

	parse(data, size);
	copy = size >= 64 ? mem_alloc(size) : NULL;
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	put_le64(copy + 24, size);
	if (sum(copy, size, &d) == 0) {
		memcpy(copy + 32, d.bytes, 32);
		parse(copy, size);
	}
	mem_free(copy);
	return 0;
}
