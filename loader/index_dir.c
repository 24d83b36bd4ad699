/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories of an index. A directory is a row of blocks; a block begins with
 * its dirents, the names follow. Names are sorted over the whole directory, so
 * a lookup halves the blocks, then one block's entries.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/erofs_format.h"
#include "loader/index.h"
#include "runtime/base/util.h"

/* One block of a directory; only its length and entry count are checked. */
struct dir_block {
	const uint8_t *at;
	uint32_t len, count;
};

static uint64_t block_count(
	const struct ld_index *x, const struct ld_inode_view *dir)
{
	return ((dir->size - 1) >> x->block_bits) + 1;
}

static int get_block(const struct ld_index *x, const struct ld_inode_view *dir,
	uint64_t n, struct dir_block *ret)
{
	uint64_t off = n << x->block_bits;
	uint32_t size = 1u << x->block_bits, names;

	ret->len = (uint32_t)min_u64(size, dir->size - off);
	if (dir->layout == LAYOUT_INLINE && ret->len < size)
		off = dir->off + EROFS_INODE_LEN + dir->xattr_len;
	else
		off += dir->data_off;
	ret->at = x->base + off;
	if (ret->len < EROFS_DIRENT_LEN)
		return -EPROTO;
	/* The first name begins behind the last dirent. */
	names = le16_at(ret->at + 8);
	if (names < EROFS_DIRENT_LEN || names % EROFS_DIRENT_LEN != 0 ||
		names >= ret->len)
		return -EPROTO;
	ret->count = names / EROFS_DIRENT_LEN;
	return 0;
}

/* The name of entry k < count. */
static int get_name(const struct dir_block *b, uint32_t k, const char **ret,
	size_t *ret_len)
{
	const uint8_t *e = b->at + k * EROFS_DIRENT_LEN;
	uint32_t from = le16_at(e + 8), to;
	const char *name;
	size_t len;

	to = k + 1 < b->count ? le16_at(e + EROFS_DIRENT_LEN + 8) : b->len;
	if (from < b->count * EROFS_DIRENT_LEN || from >= to || to > b->len)
		return -EPROTO;
	name = (const char *)b->at + from;
	len = to - from;
	if (k + 1 == b->count)
		len = strnlen(name, len);
	if (len == 0 || len > LD_MAX_NAME || memchr(name, '/', len) ||
		memchr(name, '\0', len))
		return -EPROTO;
	*ret = name;
	*ret_len = len;
	return 0;
}

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, min_u64(a_len, b_len));

	if (r)
		return r;
	return (a_len > b_len) - (a_len < b_len);
}

/* The last block whose first name is not behind name; -ENOENT: none. */
static int find_block(const struct ld_index *x, const struct ld_inode_view *dir,
	const char *name, size_t len, struct dir_block *ret)
{
	uint64_t low = 0, high = block_count(x, dir), mid;
	struct dir_block b;
	const char *first;
	size_t first_len;
	int r, found = -ENOENT;

	while (low < high) {
		mid = low + (high - low) / 2;
		r = get_block(x, dir, mid, &b);
		if (r == 0)
			r = get_name(&b, 0, &first, &first_len);
		if (r < 0)
			return r;
		if (compare(first, first_len, name, len) <= 0) {
			*ret = b;
			found = 0;
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return found;
}

int ld_index_lookup(const struct ld_index *x, const struct ld_inode_view *dir,
	const char *name, size_t len, uint64_t *ret_nid)
{
	uint32_t low = 0, high, mid;
	struct dir_block b;
	const char *have;
	size_t have_len;
	int r;

	if (!S_ISDIR(dir->attr.mode))
		return -ENOTDIR;
	r = find_block(x, dir, name, len, &b);
	if (r < 0)
		return r;
	high = b.count;
	while (low < high) {
		mid = low + (high - low) / 2;
		r = get_name(&b, mid, &have, &have_len);
		if (r < 0)
			return r;
		r = compare(have, have_len, name, len);
		if (r == 0) {
			*ret_nid = le64_at(b.at + mid * EROFS_DIRENT_LEN);
			return 0;
		}
		if (r < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return -ENOENT;
}

static int type_of(uint8_t on_disk)
{
	static const uint8_t types[] = {
		[TYPE_REG] = DT_REG,
		[TYPE_DIR] = DT_DIR,
		[TYPE_CHR] = DT_CHR,
		[TYPE_BLK] = DT_BLK,
		[TYPE_FIFO] = DT_FIFO,
		[TYPE_SOCK] = DT_SOCK,
		[TYPE_LNK] = DT_LNK,
	};

	if (on_disk == 0 || on_disk >= ARRAY_LEN(types))
		return -EPROTO;
	return types[on_disk];
}

/*
 * A cookie is the number of the next entry, had every block as many entries as
 * a block can have: it says block and entry without a walk.
 */
int ld_index_next(const struct ld_index *x, const struct ld_inode_view *dir,
	uint64_t cookie, struct ld_index_dirent *ret)
{
	uint32_t per_block = (1u << x->block_bits) / EROFS_DIRENT_LEN;
	uint64_t n = cookie / per_block;
	uint32_t k = (uint32_t)(cookie % per_block);
	struct dir_block b;
	size_t len;
	int r;

	if (!S_ISDIR(dir->attr.mode))
		return -ENOTDIR;
	for (;; n++, k = 0) {
		if (n >= block_count(x, dir))
			return 0;
		r = get_block(x, dir, n, &b);
		if (r < 0)
			return r;
		if (k < b.count)
			break;
	}
	r = get_name(&b, k, &ret->name, &len);
	if (r < 0)
		return r;
	r = type_of(b.at[k * EROFS_DIRENT_LEN + 10]);
	if (r < 0)
		return r;
	ret->name_len = (uint16_t)len;
	ret->type = (uint8_t)r;
	ret->nid = le64_at(b.at + k * EROFS_DIRENT_LEN);
	ret->cookie = n * per_block + k + 1;
	return 1;
}
