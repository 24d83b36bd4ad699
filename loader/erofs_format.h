/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EROFS on disk, as far as an index uses it (Linux
 * Documentation/filesystems/erofs.rst; values as in fs/erofs/erofs_fs.h).
 * Everything is little endian. Fields are named by their offset, so that they
 * can be read from bytes of any alignment.
 *
 *   0     zeros
 *   1024  superblock
 *   1152  device slots, 128 bytes each
 *   ...   inodes on 32-byte slots, the root first; behind each its xattrs and
 *         its chunk indexes or inline data. nid = offset / 32
 *   ...   blocks: directories and link targets that do not fit inline
 *
 * What is ours alone, in places the kernel does not look at: the volume name
 * (version and flags) and the last bytes of an inode (enum erofs_our_flags).
 */
#pragma once

#include <stdint.h>

#define EROFS_MAGIC 0xe0f5e1e2u
#define EROFS_SB_OFF 1024
#define EROFS_SB_LEN 128

enum erofs_sb {
	SB_MAGIC = 0,          /* u32 */
	SB_CHECKSUM = 4,       /* u32, crc32c from SB_OFF to the block's end */
	SB_FEATURE_COMPAT = 8, /* u32 */
	SB_BLOCK_BITS = 12,    /* u8 */
	SB_EXT_SLOTS = 13,     /* u8: 0 */
	SB_ROOT_NID = 14,      /* u16 */
	SB_INODES = 16,        /* u64 */
	SB_BLOCKS = 36,        /* u32 */
	SB_META_BLOCK = 40,    /* u32: 0 */
	SB_XATTR_BLOCK = 44,   /* u32: 0 */
	SB_VOLUME_NAME = 64,   /* 16 bytes */
	SB_FEATURES = 80,      /* u32, the incompatible ones */
	SB_DEVICES = 86,       /* u16 */
	SB_DEVICE_SLOT_OFF = 88, /* u16, in slots from the file's start */
	SB_DIR_BLOCK_BITS = 90,  /* u8: 0, as the block's */
};

/* What the checksum covers, from EROFS_SB_OFF on, its own field as 0. */
static inline uint32_t erofs_checksum_len(uint32_t block_size)
{
	return block_size > EROFS_SB_OFF ? block_size - EROFS_SB_OFF
	                                 : block_size;
}

#define EROFS_COMPAT_CHECKSUM 1u
#define EROFS_COMPAT_MTIME 2u
#define EROFS_FEATURES (4u | 8u) /* chunked files, device table */

/* Volume name: "sluice1-", then a letter for each thing that is there. */
#define EROFS_VOLUME "sluice1-"
#define EROFS_VOLUME_LEN 8
#define EROFS_VOLUME_XATTRS 'x' /* some inode has xattrs */
#define EROFS_VOLUME_LINKS 'l'  /* some hard link waits for a lower layer */

#define EROFS_SLOT_LEN 128
#define EROFS_SLOTS_OFF (EROFS_SB_OFF + EROFS_SB_LEN)

enum erofs_slot {
	SLOT_TAG = 0,     /* 64 bytes: the digest, as hex */
	SLOT_BLOCKS = 64, /* u32 */
	/* Ours; a digest longer than 32 bytes goes on as raw bytes. */
	SLOT_ALGO = 87,        /* u8, enum digest_algo */
	SLOT_DIGEST_REST = 88, /* 32 bytes */
};

#define EROFS_TAG_BYTES 32 /* what 64 hex digits hold */

#define EROFS_NID_BITS 5
#define EROFS_INODE_LEN 64

enum erofs_inode {
	INODE_FORMAT = 0,      /* u16: 1 (extended) | layout << 1 */
	INODE_XATTR_COUNT = 2, /* u16: 0, or 1 + the entries' length / 4 */
	INODE_MODE = 4,        /* u16 */
	INODE_SIZE = 8,        /* u64 */
	INODE_U = 16,     /* u32: first block, chunk format or device number */
	INODE_INO = 20,   /* u32 */
	INODE_UID = 24,   /* u32 */
	INODE_GID = 28,   /* u32 */
	INODE_MTIME = 32, /* s64 */
	INODE_MTIME_NS = 40, /* u32 */
	INODE_NLINK = 44,    /* u32 */
	INODE_FLAGS = 63,    /* u8, ours */
};

enum erofs_layout { LAYOUT_PLAIN = 0, LAYOUT_INLINE = 2, LAYOUT_CHUNKS = 4 };

enum erofs_our_flags { INODE_IMPLIED = 1 };

#define EROFS_XATTR_HEAD 12
#define EROFS_XATTR_ENTRY 4 /* u8 name length, u8 prefix, u16 value length */
/* Head and entries of one inode: what a u16 counts in units of 4. */
#define EROFS_MAX_XATTR_AREA (EROFS_XATTR_HEAD + 4 * 65534)

enum erofs_xattr_prefix {
	XATTR_USER = 1,
	XATTR_ACL_ACCESS = 2,
	XATTR_ACL_DEFAULT = 3,
	XATTR_TRUSTED = 4,
	XATTR_SECURITY = 6,
};

/* How a directory says that it hides what lies below it: trusted., "y". */
#define EROFS_OPAQUE "overlay.opaque"
#define EROFS_OPAQUE_LEN 20 /* the entry, to a multiple of 4 */

#define EROFS_CHUNK_BITS 0x1f /* chunk size = block size << this */
#define EROFS_CHUNK_INDEXES 0x20
#define EROFS_CHUNK_INDEX_LEN 8 /* u16 0, u16 device, u32 block */
#define EROFS_HOLE 0xffffffffu

#define EROFS_DIRENT_LEN 12 /* u64 nid, u16 name offset, u8 type, u8 0 */

/* Types in dirents; DT_* in <dirent.h> differ. */
enum erofs_type {
	TYPE_REG = 1,
	TYPE_DIR,
	TYPE_CHR,
	TYPE_BLK,
	TYPE_FIFO,
	TYPE_SOCK,
	TYPE_LNK,
};
