/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over /dev/fuse: the structures and numbers of the FUSE protocol
 * (Linux Documentation/filesystems/fuse, protocol 7.31 and later) that a
 * read-only tree needs. Everything is in the byte order of the machine.
 *
 * fuse_wire_check.c holds them against <linux/fuse.h> at compile time.
 */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>

#define FW_MAJOR 7
#define FW_MINOR 38     /* what we speak */
#define FW_MIN_MINOR 28 /* the oldest kernel we answer: Linux 4.20 */
#define FW_ROOT_ID 1

/* The least that read(2) on the device may be given. */
#define FW_MIN_READ_BUFFER 8192

/* On a fresh /dev/fuse: join the connection of the descriptor pointed to. */
#define FW_DEV_IOC_CLONE _IOR(229, 0, uint32_t)

enum fw_opcode {
	FW_LOOKUP = 1,
	FW_FORGET = 2, /* no reply */
	FW_GETATTR = 3,
	FW_SETATTR = 4,
	FW_READLINK = 5,
	FW_SYMLINK = 6,
	FW_MKNOD = 8,
	FW_MKDIR = 9,
	FW_UNLINK = 10,
	FW_RMDIR = 11,
	FW_RENAME = 12,
	FW_LINK = 13,
	FW_OPEN = 14,
	FW_READ = 15,
	FW_WRITE = 16,
	FW_STATFS = 17,
	FW_RELEASE = 18,
	FW_FSYNC = 20,
	FW_SETXATTR = 21,
	FW_GETXATTR = 22,
	FW_LISTXATTR = 23,
	FW_REMOVEXATTR = 24,
	FW_FLUSH = 25,
	FW_INIT = 26,
	FW_OPENDIR = 27,
	FW_READDIR = 28,
	FW_RELEASEDIR = 29,
	FW_FSYNCDIR = 30,
	FW_ACCESS = 34,
	FW_CREATE = 35,
	FW_INTERRUPT = 36, /* no reply */
	FW_DESTROY = 38,
	FW_NOTIFY_REPLY = 41, /* no reply */
	FW_BATCH_FORGET = 42, /* no reply */
	FW_FALLOCATE = 43,
	FW_READDIRPLUS = 44,
	FW_RENAME2 = 45,
	FW_COPY_FILE_RANGE = 47,
	FW_TMPFILE = 51,
};

/* INIT flags; bits 32 and up travel in flags2. */
#define FW_ASYNC_READ (1ull << 0)
#define FW_EXPORT_SUPPORT (1ull << 4)
#define FW_DO_READDIRPLUS (1ull << 13)
#define FW_READDIRPLUS_AUTO (1ull << 14)
#define FW_ASYNC_DIO (1ull << 15)
#define FW_NO_OPEN_SUPPORT (1ull << 17)
#define FW_PARALLEL_DIROPS (1ull << 18)
#define FW_MAX_PAGES (1ull << 22)
#define FW_CACHE_SYMLINKS (1ull << 23)
#define FW_NO_OPENDIR_SUPPORT (1ull << 24)
#define FW_EXPLICIT_INVAL_DATA (1ull << 25)
#define FW_INIT_EXT (1ull << 30)
#define FW_OVER_IO_URING (1ull << 41) /* Linux 6.14 */

/* open_flags of the OPEN and OPENDIR replies */
#define FW_FOPEN_KEEP_CACHE (1u << 1)
#define FW_FOPEN_CACHE_DIR (1u << 3)
#define FW_FOPEN_NOFLUSH (1u << 5)

struct fw_in_header {
	uint32_t len; /* of the whole request */
	uint32_t opcode;
	uint64_t unique;
	uint64_t nodeid;
	uint32_t uid, gid, pid;
	uint16_t total_extlen;
	uint16_t padding;
};

struct fw_out_header {
	uint32_t len;  /* of the whole reply */
	int32_t error; /* 0 or negative errno */
	uint64_t unique;
};

struct fw_attr {
	uint64_t ino, size, blocks;
	uint64_t atime, mtime, ctime; /* signed seconds */
	uint32_t atimensec, mtimensec, ctimensec;
	uint32_t mode, nlink, uid, gid, rdev, blksize, flags;
};

struct fw_entry_out {
	uint64_t nodeid; /* 0: there is no such name */
	uint64_t generation;
	uint64_t entry_valid, attr_valid; /* seconds */
	uint32_t entry_valid_nsec, attr_valid_nsec;
	struct fw_attr attr;
};

struct fw_attr_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t dummy;
	struct fw_attr attr;
};

struct fw_init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
	uint32_t unused[11];
};

struct fw_init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2;
	uint32_t unused[7];
};

struct fw_open_in {
	uint32_t flags, open_flags;
};

struct fw_open_out {
	uint64_t fh;
	uint32_t open_flags, padding;
};

struct fw_read_in { /* READ, READDIR, READDIRPLUS */
	uint64_t fh, offset;
	uint32_t size, read_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};

struct fw_getxattr_in { /* GETXATTR, LISTXATTR */
	uint32_t size, padding;
};

struct fw_getxattr_out {
	uint32_t size, padding;
};

struct fw_access_in {
	uint32_t mask, padding;
};

struct fw_statfs_out {
	uint64_t blocks, bfree, bavail, files, ffree;
	uint32_t bsize, namelen, frsize, padding;
	uint32_t spare[6];
};

struct fw_interrupt_in {
	uint64_t unique;
};

struct fw_dirent { /* the name follows, padded to 8 bytes */
	uint64_t ino, off;
	uint32_t namelen, type;
};

struct fw_direntplus { /* the name follows, padded to 8 bytes */
	struct fw_entry_out entry;
	struct fw_dirent dirent;
};

/*
 * FUSE over io_uring (protocol 7.42; Documentation/filesystems/
 * fuse-io-uring.rst). An entry is a head and a payload in our memory, given to
 * the kernel by REGISTER; it comes back with a request, and goes again, with
 * the reply, by COMMIT_AND_FETCH.
 */
enum fw_uring_cmd {
	FW_URING_REGISTER = 1,
	FW_URING_COMMIT_AND_FETCH = 2,
};

struct fw_uring_ent_in_out {
	uint64_t flags;
	uint64_t commit_id;  /* of the request that was delivered */
	uint32_t payload_sz; /* used of the payload, both ways */
	uint32_t padding;
	uint64_t reserved;
};

/* An argument of fixed size is in op_in, all others are in the payload. */
struct fw_uring_head {
	uint8_t in_out[128]; /* fw_in_header, then fw_out_header */
	uint8_t op_in[128];
	struct fw_uring_ent_in_out ent;
};

/* In the 80 bytes behind the header of the ring's submission entry. */
struct fw_uring_cmd_req {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t qid; /* of the CPU whose requests these are */
	uint8_t padding[6];
};

/* The least that a payload may have, whatever max_pages says. */
#define FW_URING_MIN_PAYLOAD 8192
