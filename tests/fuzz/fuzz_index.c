/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An index of any bytes: walked, looked up in, merged on top of a copy of
 * itself, and written again. The superblock's checksum is put right first, or
 * nothing would get past it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loader/erofs_format.h"
#include "loader/index.h"
#include "loader/merge.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/mem.h"
#include "tests/lib/index_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_checksum(uint8_t *p, size_t size)
{
	uint8_t *s = p + EROFS_SB_OFF;
	uint32_t len;

	if (size < EROFS_SLOTS_OFF || s[SB_BLOCK_BITS] > 12)
		return;
	len = erofs_checksum_len(1u << s[SB_BLOCK_BITS]);
	if (size < EROFS_SB_OFF + len)
		return;
	put_le32(s + SB_CHECKSUM, 0);
	put_le32(s + SB_CHECKSUM, crc32c(~0u, s, len));
}

/* What could be read must be written, if not for a limit, and read again. */
static void write_again(struct ld_tree *t)
{
	struct ld_index x;
	struct buf out;
	struct err e;

	buf_init(&out, 64u << 20);
	if (ld_index_write(t, 9, &out, &e) == 0) {
		if (ld_index_from_bytes(out.data, out.len, &x, &e) < 0 ||
			index_walk_all(&x) < 0)
			abort();
	}
	buf_fini(&out);
}

static void look_up(const struct ld_index *x)
{
	static const char *const names[] = {"", "d", "f", "e/name-07", "zz"};
	struct ld_inode_view v;
	size_t k;

	for (k = 0; k < sizeof(names) / sizeof(names[0]); k++)
		(void)index_find(x, names[k], &v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct ld_index *layers[2];
	uint8_t *copy = mem_alloc(size);
	struct ld_tree *t = NULL;
	struct ld_index x;
	struct err e;

	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	put_checksum(copy, size);
	if (ld_index_from_bytes(copy, size, &x, &e) == 0) {
		(void)index_walk_all(&x);
		look_up(&x);
		layers[0] = &x;
		layers[1] = &x;
		if (ld_tree_create(&t) == 0 && ld_merge(layers, 2, t, &e) == 0)
			write_again(t);
		ld_tree_destroy(t);
	}
	mem_free(copy);
	return 0;
}
