/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar, whole and in pieces: both ways must end the same. The first byte says
 * how large the pieces are. Checksums of headers are put right first, else no
 * change would get past them.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/index.h"
#include "loader/tar_layer.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_tar(
	const uint8_t *p, size_t size, size_t piece, struct ld_layer *ret)
{
	const struct digest blob = {.algo = DIGEST_SHA256};
	struct ld_tar_layer t;
	size_t n;
	int r;

	if (ld_tar_layer_init(&t, &blob, NULL) < 0)
		abort();
	for (r = 0; r == 0 && size > 0; p += n, size -= n) {
		n = (size_t)min_u64(piece, size);
		r = ld_tar_layer_feed(&t, p, n, NULL);
	}
	if (r == 0)
		r = ld_tar_layer_finish(&t, ret, NULL);
	ld_tar_layer_fini(&t);
	return r;
}

/* What was accepted must fit into an index of 512-byte blocks. */
static void check(struct ld_layer *l)
{
	struct buf b;
	int r;

	buf_init(&b, 64u << 20);
	r = ld_index_write(l->tree, 9, &b, NULL);
	if (r == -EPROTO)
		abort();
	buf_fini(&b);
}

static void mend_sums(uint8_t *p, size_t size)
{
	unsigned sum;
	size_t i;

	for (; size >= LD_TAR_BLOCK; p += LD_TAR_BLOCK, size -= LD_TAR_BLOCK) {
		if (memcmp(p + 257, "ustar", 5) != 0)
			continue;
		memset(p + 148, ' ', 8);
		for (sum = 0, i = 0; i < LD_TAR_BLOCK; i++)
			sum += p[i];
		(void)snprintf((char *)p + 148, 8, "%06o", sum);
	}
}

static int read_both(const uint8_t *data, size_t size, struct ld_layer *whole,
	struct ld_layer *pieces)
{
	uint8_t *tar = mem_alloc(size);
	int r;

	if (!tar)
		abort();
	memcpy(tar, data + 1, size - 1);
	mend_sums(tar, size - 1);
	r = read_tar(tar, size - 1, size, whole);
	if (r != read_tar(tar, size - 1, (size_t)data[0] + 1, pieces))
		abort();
	mem_free(tar);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ld_layer whole = {0}, pieces = {0};
	int r;

	if (size == 0)
		return 0;
	r = read_both(data, size, &whole, &pieces);
	if (r < 0)
		return 0;
	if (whole.entries != pieces.entries ||
		whole.size_uncompressed != pieces.size_uncompressed)
		abort();
	check(&whole);
	ld_layer_fini(&whole);
	ld_layer_fini(&pieces);
	return 0;
}
