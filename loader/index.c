/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading an index: superblock, slots, inodes and what they hold. Directories
 * are in index_dir.c. See index.h; nothing is believed before it is checked
 * against the length of the mapping.
 */
#include "loader/index.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "blobcache/guard.h"
#include "loader/erofs_format.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/util.h"

/* Chunk indexes that one ld_index_extent looks at. */
#define MAX_COALESCE 4096

/* ---- open ---- */

static int check_super(const uint8_t *s, struct err *e)
{
	if (le32_at(s + SB_MAGIC) != EROFS_MAGIC)
		return err_set(e, -EPROTO, "no EROFS superblock");
	if (memcmp(s + SB_VOLUME_NAME, EROFS_VOLUME, EROFS_VOLUME_LEN) != 0)
		return err_set(e, -EPROTO,
			"an EROFS image, but no index of this version");
	if (s[SB_BLOCK_BITS] != 12 && s[SB_BLOCK_BITS] != 9)
		return err_set(
			e, -EPROTO, "blocks of 2^%u bytes", s[SB_BLOCK_BITS]);
	if (le32_at(s + SB_FEATURES) != EROFS_FEATURES ||
		!(le32_at(s + SB_FEATURE_COMPAT) & EROFS_COMPAT_CHECKSUM) ||
		s[SB_EXT_SLOTS] || s[SB_DIR_BLOCK_BITS] ||
		le32_at(s + SB_META_BLOCK) || le32_at(s + SB_XATTR_BLOCK))
		return err_set(e, -EPROTO, "EROFS features that no index has");
	return 0;
}

static bool checksum_is_right(const uint8_t *s, uint32_t block_size)
{
	static const uint8_t none[4];
	uint32_t crc;

	crc = crc32c(~0u, s, SB_CHECKSUM);
	crc = crc32c(crc, none, sizeof(none));
	crc = crc32c(crc, s + SB_CHECKSUM + sizeof(none),
		erofs_checksum_len(block_size) - SB_CHECKSUM - sizeof(none));
	return crc == le32_at(s + SB_CHECKSUM);
}

static void read_flags(struct ld_index *x, const uint8_t *s)
{
	const uint8_t *name = s + SB_VOLUME_NAME + EROFS_VOLUME_LEN;
	const uint8_t *end = s + SB_VOLUME_NAME + 16;

	for (; name < end && *name; name++) {
		x->has_xattrs |= *name == EROFS_VOLUME_XATTRS;
		x->has_links |= *name == EROFS_VOLUME_LINKS;
	}
}

int ld_index_from_bytes(
	const void *p, size_t n, struct ld_index *ret, struct err *e)
{
	const uint8_t *s = (const uint8_t *)p + EROFS_SB_OFF;
	struct ld_index x = {.base = p, .len = n, .guard = -1};
	struct ld_inode_view root;
	int r;

	if (n < EROFS_SLOTS_OFF)
		return err_set(e, -EPROTO, "%zu bytes are no index", n);
	r = check_super(s, e);
	if (r < 0)
		return r;
	x.block_bits = s[SB_BLOCK_BITS];
	if (n < (uint64_t)le32_at(s + SB_BLOCKS) << x.block_bits ||
		n < EROFS_SB_OFF + erofs_checksum_len(1u << x.block_bits))
		return err_set(e, -EPROTO, "the index is cut off");
	if (!checksum_is_right(s, 1u << x.block_bits))
		return err_set(
			e, -EPROTO, "the superblock's checksum is wrong");
	x.root_nid = le16_at(s + SB_ROOT_NID);
	x.inode_count = le64_at(s + SB_INODES);
	x.slot_count = le16_at(s + SB_DEVICES);
	x.slots_off =
		(uint64_t)le16_at(s + SB_DEVICE_SLOT_OFF) * EROFS_SLOT_LEN;
	if (x.slot_count > LD_MAX_BLOBS ||
		!range_fits(x.slots_off,
			(uint64_t)x.slot_count * EROFS_SLOT_LEN, n))
		return err_set(e, -EPROTO, "the device table is cut off");
	read_flags(&x, s);
	if (ld_index_inode(&x, x.root_nid, &root) < 0 ||
		!S_ISDIR(root.attr.mode))
		return err_set(e, -EPROTO, "the index has no root directory");
	*ret = x;
	return 0;
}

int ld_index_open(
	int dirfd, const char *path, struct ld_index *ret, struct err *e)
{
	CLEANUP_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, -errno, "cannot open '%s'", path);
	return ld_index_open_fd(fd, path, ret, e);
}

int ld_index_open_fd(
	int fd, const char *path, struct ld_index *ret, struct err *e)
{
	struct stat st;
	int r, guard;
	void *p;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "cannot stat '%s'", path);
	if (!S_ISREG(st.st_mode) || st.st_size < EROFS_SLOTS_OFF)
		return err_set(e, -EPROTO, "'%s' is no index", path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, -errno, "cannot map '%s'", path);
	/*
	 * Of two pages: what the disk would read around them keeps it busy for
	 * longer than all else that a mount wants of it.
	 */
	(void)madvise(p, (size_t)st.st_size, MADV_RANDOM); /* advice */
	guard = bc_guard_add(p, (size_t)st.st_size);
	r = guard;
	if (r < 0)
		(void)err_sys(e, r, "cannot guard the mapping");
	else
		r = ld_index_from_bytes(p, (size_t)st.st_size, ret, e);
	if (r == 0 && bc_guard_is_broken(guard))
		r = err_set(e, -EIO, "the file was cut short");
	if (r < 0) {
		bc_guard_remove(guard);
		(void)munmap(p, (size_t)st.st_size); /* it was just mapped */
		return err_wrap(e, "'%s'", path);
	}
	ret->is_mmapped = true;
	ret->guard = guard;
	ld_index_read_alone(ret, false);
	return 0;
}

bool ld_index_is_lost(const struct ld_index *x)
{
	return x->is_mmapped && bc_guard_is_broken(x->guard);
}

void ld_index_close(struct ld_index *x)
{
	if (x->is_mmapped) {
		bc_guard_remove(x->guard);
		/* cannot fail on a mapping of our own */
		(void)munmap((void *)(uintptr_t)x->base, x->len);
	}
	*x = (struct ld_index){0};
}

void ld_index_let_go(const struct ld_index *x)
{
	/* advice: what it fails to do is no error */
	if (x->is_mmapped)
		(void)madvise(
			(void *)(uintptr_t)x->base, x->len, MADV_DONTNEED);
}

void ld_index_read_alone(const struct ld_index *x, bool is_alone)
{
	/* advice: what it fails to do is no error */
	if (x->is_mmapped)
		(void)madvise((void *)(uintptr_t)x->base, x->len,
			is_alone ? MADV_RANDOM : MADV_NORMAL);
}

/* ---- slots ---- */

static uint32_t slot_blocks(const struct ld_index *x, uint32_t slot)
{
	return le32_at(x->base + x->slots_off +
		       (uint64_t)slot * EROFS_SLOT_LEN + SLOT_BLOCKS);
}

int ld_index_slot(
	const struct ld_index *x, uint32_t slot, struct ld_blob_ref *ret)
{
	char text[DIGEST_MAX_TEXT];
	struct ld_blob_ref b = {0};
	enum digest_algo algo;
	const uint8_t *s;
	size_t len, n, hex;

	if (slot >= x->slot_count)
		return -EPROTO;
	s = x->base + x->slots_off + (uint64_t)slot * EROFS_SLOT_LEN;
	algo = (enum digest_algo)s[SLOT_ALGO];
	len = digest_len(algo);
	if (len < EROFS_TAG_BYTES)
		return -EPROTO;
	/* What fits the tag is hex there; it is parsed with zeros behind it. */
	n = strlen(digest_algo_name(algo));
	memcpy(text, digest_algo_name(algo), n);
	text[n++] = ':';
	hex = 2 * EROFS_TAG_BYTES;
	memcpy(text + n, s + SLOT_TAG, hex);
	memset(text + n + hex, '0', 2 * len - hex);
	if (digest_parse(text, n + 2 * len, &b.digest) < 0)
		return -EPROTO;
	memcpy(b.digest.bytes + EROFS_TAG_BYTES, s + SLOT_DIGEST_REST,
		len - EROFS_TAG_BYTES);
	b.device_size = (uint64_t)slot_blocks(x, slot) << x->block_bits;
	*ret = b;
	return 0;
}

/* ---- inodes ---- */

static uint64_t chunks_off(const struct ld_inode_view *i)
{
	return round_up(i->off + EROFS_INODE_LEN + i->xattr_len, 8);
}

static unsigned chunk_shift(
	const struct ld_index *x, const struct ld_inode_view *i)
{
	return x->block_bits + (i->raw_u & EROFS_CHUNK_BITS);
}

/* Is all that the inode points to inside the file? */
static int check_file(const struct ld_index *x, struct ld_inode_view *i)
{
	uint64_t chunks;

	if (i->layout != LAYOUT_CHUNKS ||
		(i->raw_u & ~(uint32_t)EROFS_CHUNK_BITS) != EROFS_CHUNK_INDEXES)
		return -EPROTO;
	i->data_off = chunks_off(i);
	if (i->size == 0)
		return 0;
	chunks = ((i->size - 1) >> chunk_shift(x, i)) + 1;
	if (chunks > x->len / EROFS_CHUNK_INDEX_LEN ||
		!range_fits(
			i->data_off, chunks * EROFS_CHUNK_INDEX_LEN, x->len))
		return -EPROTO;
	return 0;
}

static int check_flat(const struct ld_index *x, struct ld_inode_view *i)
{
	uint64_t outside = i->size, tail = 0;

	if (i->layout == LAYOUT_INLINE) {
		tail = i->size & ((1u << x->block_bits) - 1);
		outside -= tail;
	} else if (i->layout != LAYOUT_PLAIN) {
		return -EPROTO;
	}
	i->data_off = (uint64_t)i->raw_u << x->block_bits;
	if ((outside && !range_fits(i->data_off, outside, x->len)) ||
		!range_fits(
			i->off + EROFS_INODE_LEN + i->xattr_len, tail, x->len))
		return -EPROTO;
	return 0;
}

static int check_contents(const struct ld_index *x, struct ld_inode_view *i)
{
	switch (i->attr.mode & S_IFMT) {
	case S_IFREG:
		return check_file(x, i);
	case S_IFDIR:
		return i->size ? check_flat(x, i) : -EPROTO;
	case S_IFLNK:
		if (i->size == 0 || i->size > LD_MAX_SYMLINK)
			return -EPROTO;
		return check_flat(x, i);
	case S_IFCHR:
	case S_IFBLK:
		i->attr.rdev_major = i->raw_u >> 8 & 0xfff;
		i->attr.rdev_minor =
			(i->raw_u & 0xff) | (i->raw_u >> 12 & 0xfff00);
		return i->size ? -EPROTO : 0;
	case S_IFIFO:
	case S_IFSOCK:
		return i->size ? -EPROTO : 0;
	default:
		return -EPROTO;
	}
}

int ld_index_inode(
	const struct ld_index *x, uint64_t nid, struct ld_inode_view *ret)
{
	struct ld_inode_view i = {.nid = nid};
	const uint8_t *at;
	uint16_t format, count;
	int r;

	if (nid > x->len >> EROFS_NID_BITS)
		return -EPROTO;
	i.off = nid << EROFS_NID_BITS;
	if (i.off < EROFS_SLOTS_OFF ||
		!range_fits(i.off, EROFS_INODE_LEN, x->len))
		return -EPROTO;
	at = x->base + i.off;
	format = le16_at(at + INODE_FORMAT);
	if (!(format & 1) || format >> 4)
		return -EPROTO;
	i.layout = format >> 1;
	count = le16_at(at + INODE_XATTR_COUNT);
	i.xattr_len = count ? EROFS_XATTR_HEAD + 4 * (count - 1u) : 0;
	i.raw_u = le32_at(at + INODE_U);
	i.size = le64_at(at + INODE_SIZE);
	i.nlink = le32_at(at + INODE_NLINK);
	i.flags = at[INODE_FLAGS];
	i.attr = (struct ld_attr){
		.mode = le16_at(at + INODE_MODE),
		.uid = le32_at(at + INODE_UID),
		.gid = le32_at(at + INODE_GID),
		.mtime = (int64_t)le64_at(at + INODE_MTIME),
		.mtime_ns = le32_at(at + INODE_MTIME_NS),
	};
	if (i.size > INT64_MAX || i.nlink == 0 ||
		i.attr.mtime_ns >= 1000000000 ||
		!range_fits(i.off + EROFS_INODE_LEN, i.xattr_len, x->len))
		return -EPROTO;
	r = check_contents(x, &i);
	if (r == 0)
		*ret = i;
	return r;
}

bool ld_index_is_implied(const struct ld_inode_view *i)
{
	return S_ISDIR(i->attr.mode) && (i->flags & INODE_IMPLIED);
}

int ld_index_symlink(const struct ld_index *x, const struct ld_inode_view *i,
	const char **ret, size_t *ret_len)
{
	uint64_t off = i->data_off;

	if (!S_ISLNK(i->attr.mode))
		return -EINVAL;
	if (i->layout == LAYOUT_INLINE) {
		/* Our links are whole on one side. */
		if (i->size >> x->block_bits)
			return -EPROTO;
		off = i->off + EROFS_INODE_LEN + i->xattr_len;
	}
	if (memchr(x->base + off, '\0', i->size))
		return -EPROTO;
	*ret = (const char *)x->base + off;
	*ret_len = i->size;
	return 0;
}

/* ---- xattrs ---- */

static const char *prefix_text(uint8_t prefix)
{
	switch (prefix) {
	case XATTR_USER:
		return "user.";
	case XATTR_ACL_ACCESS:
		return "system.posix_acl_access";
	case XATTR_ACL_DEFAULT:
		return "system.posix_acl_default";
	case XATTR_TRUSTED:
		return "trusted.";
	case XATTR_SECURITY:
		return "security.";
	default:
		return NULL;
	}
}

int ld_index_next_xattr(const struct ld_index *x, const struct ld_inode_view *i,
	size_t *pos, struct ld_index_xattr *ret)
{
	const uint8_t *at = x->base + i->off + EROFS_INODE_LEN;
	size_t off = *pos ? *pos : EROFS_XATTR_HEAD;
	size_t name_len, value_len, n;
	const char *prefix;

	if (off >= i->xattr_len)
		return 0;
	/* Shared xattrs are not ours; their ids would come first. */
	if (i->xattr_len - off < EROFS_XATTR_ENTRY || at[4] != 0)
		return -EPROTO;
	name_len = at[off];
	prefix = prefix_text(at[off + 1]);
	value_len = le16_at(at + off + 2);
	if (!prefix ||
		i->xattr_len - off < EROFS_XATTR_ENTRY + name_len + value_len)
		return -EPROTO;
	n = strlen(prefix);
	memcpy(ret->name, prefix, n);
	memcpy(ret->name + n, at + off + EROFS_XATTR_ENTRY, name_len);
	ret->name_len = n + name_len;
	ret->name[ret->name_len] = '\0';
	if (!ld_xattr_name_is_known(ret->name, ret->name_len))
		return -EPROTO;
	ret->value = at + off + EROFS_XATTR_ENTRY + name_len;
	ret->value_len = value_len;
	*pos = off + round_up(EROFS_XATTR_ENTRY + name_len + value_len, 4);
	return 1;
}

/* ---- extents ---- */

/* Device and block of chunk n; a hole is slot UINT32_MAX. */
static int chunk_at(const struct ld_index *x, const struct ld_inode_view *i,
	uint64_t n, uint32_t *ret_slot, uint64_t *ret_block)
{
	const uint8_t *at = x->base + i->data_off + n * EROFS_CHUNK_INDEX_LEN;
	uint32_t device = le16_at(at + 2);

	*ret_block = le32_at(at + 4);
	*ret_slot = UINT32_MAX;
	if (*ret_block == EROFS_HOLE)
		return 0;
	if (device == 0 || device > x->slot_count)
		return -EPROTO;
	*ret_slot = device - 1;
	return 0;
}

int ld_index_extent(const struct ld_index *x, const struct ld_inode_view *i,
	uint64_t off, struct ld_extent *ret)
{
	unsigned shift = chunk_shift(x, i);
	uint64_t n, next, end, block, begin, chunk_blocks, looked = 0;
	uint32_t slot, next_slot;
	int r;

	if (!S_ISREG(i->attr.mode))
		return -EINVAL;
	*ret = (struct ld_extent){.file_off = off, .slot = UINT32_MAX};
	if (off >= i->size)
		return 0;
	n = off >> shift;
	r = chunk_at(x, i, n, &slot, &block);
	if (r < 0)
		return r;
	begin = block;
	chunk_blocks = 1ull << (shift - x->block_bits);
	for (next = n + 1; next << shift < i->size; next++) {
		if (++looked == MAX_COALESCE)
			break;
		r = chunk_at(x, i, next, &next_slot, &block);
		if (r < 0)
			return r;
		if (next_slot != slot ||
			(slot != UINT32_MAX &&
				block != begin + (next - n) * chunk_blocks))
			break;
	}
	end = min_u64(next << shift, i->size);
	ret->len = end - off;
	if (slot == UINT32_MAX)
		return 0;
	ret->slot = slot;
	ret->dev_off = (begin << x->block_bits) + (off - (n << shift));
	if (!range_fits(ret->dev_off, ret->len,
		    (uint64_t)slot_blocks(x, slot) << x->block_bits))
		return -EPROTO;
	return 0;
}
