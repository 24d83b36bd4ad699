/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proof at compile time that fuse_wire.h says what the kernel's header says,
 * as far as the header of this machine goes (Debian 12: 7.38). No code.
 */
#include "loader/fuse_wire.h"

#include <assert.h>
#include <stddef.h>

#include <linux/fuse.h>

#define SAME_SIZE(s) \
	static_assert(sizeof(struct fw_##s) == sizeof(struct fuse_##s), #s)
#define SAME_PLACE(s, m) \
	static_assert( \
		offsetof(struct fw_##s, m) == offsetof(struct fuse_##s, m) && \
			sizeof(((struct fw_##s *)0)->m) == \
				sizeof(((struct fuse_##s *)0)->m), \
		#s "." #m)
#define SAME_NUMBER(n) static_assert((uint64_t)FW_##n == (uint64_t)FUSE_##n, #n)
/* Some of the kernel's flags are signed. */
#define SAME_FLAG(n) static_assert(FW_##n == (uint32_t)FUSE_##n, #n)
#define SAME_FOPEN(n) static_assert(FW_FOPEN_##n == FOPEN_##n, #n)

static_assert(FW_MAJOR == FUSE_KERNEL_VERSION, "major");
static_assert(FW_ROOT_ID == FUSE_ROOT_ID, "root");
static_assert(FW_DEV_IOC_CLONE == FUSE_DEV_IOC_CLONE, "clone");
static_assert(FW_MIN_READ_BUFFER == FUSE_MIN_READ_BUFFER, "read buffer");

SAME_SIZE(in_header);
SAME_PLACE(in_header, len);
SAME_PLACE(in_header, opcode);
SAME_PLACE(in_header, unique);
SAME_PLACE(in_header, nodeid);
SAME_PLACE(in_header, uid);
SAME_PLACE(in_header, gid);
SAME_PLACE(in_header, pid);
SAME_SIZE(out_header);
SAME_PLACE(out_header, len);
SAME_PLACE(out_header, error);
SAME_PLACE(out_header, unique);
SAME_SIZE(attr);
SAME_PLACE(attr, ino);
SAME_PLACE(attr, size);
SAME_PLACE(attr, blocks);
SAME_PLACE(attr, atime);
SAME_PLACE(attr, mtime);
SAME_PLACE(attr, ctime);
SAME_PLACE(attr, atimensec);
SAME_PLACE(attr, mtimensec);
SAME_PLACE(attr, ctimensec);
SAME_PLACE(attr, mode);
SAME_PLACE(attr, nlink);
SAME_PLACE(attr, uid);
SAME_PLACE(attr, gid);
SAME_PLACE(attr, rdev);
SAME_PLACE(attr, blksize);
SAME_SIZE(entry_out);
SAME_PLACE(entry_out, nodeid);
SAME_PLACE(entry_out, generation);
SAME_PLACE(entry_out, entry_valid);
SAME_PLACE(entry_out, attr_valid);
SAME_PLACE(entry_out, entry_valid_nsec);
SAME_PLACE(entry_out, attr_valid_nsec);
SAME_PLACE(entry_out, attr);
SAME_SIZE(attr_out);
SAME_PLACE(attr_out, attr_valid);
SAME_PLACE(attr_out, attr_valid_nsec);
SAME_PLACE(attr_out, attr);
SAME_SIZE(init_in);
SAME_PLACE(init_in, major);
SAME_PLACE(init_in, minor);
SAME_PLACE(init_in, max_readahead);
SAME_PLACE(init_in, flags);
SAME_PLACE(init_in, flags2);
SAME_SIZE(init_out);
SAME_PLACE(init_out, major);
SAME_PLACE(init_out, minor);
SAME_PLACE(init_out, max_readahead);
SAME_PLACE(init_out, flags);
SAME_PLACE(init_out, max_background);
SAME_PLACE(init_out, congestion_threshold);
SAME_PLACE(init_out, max_write);
SAME_PLACE(init_out, time_gran);
SAME_PLACE(init_out, max_pages);
SAME_PLACE(init_out, flags2);
SAME_SIZE(open_in);
SAME_PLACE(open_in, flags);
SAME_SIZE(open_out);
SAME_PLACE(open_out, fh);
SAME_PLACE(open_out, open_flags);
SAME_SIZE(read_in);
SAME_PLACE(read_in, fh);
SAME_PLACE(read_in, offset);
SAME_PLACE(read_in, size);
SAME_SIZE(getxattr_in);
SAME_PLACE(getxattr_in, size);
SAME_SIZE(getxattr_out);
SAME_PLACE(getxattr_out, size);
SAME_SIZE(access_in);
SAME_PLACE(access_in, mask);
SAME_SIZE(interrupt_in);
SAME_PLACE(interrupt_in, unique);
SAME_SIZE(statfs_out);
static_assert(offsetof(struct fw_statfs_out, bsize) ==
		      offsetof(struct fuse_kstatfs, bsize),
	"statfs_out.bsize");
static_assert(offsetof(struct fw_statfs_out, frsize) ==
		      offsetof(struct fuse_kstatfs, frsize),
	"statfs_out.frsize");
SAME_SIZE(dirent);
SAME_PLACE(dirent, ino);
SAME_PLACE(dirent, off);
SAME_PLACE(dirent, namelen);
SAME_PLACE(dirent, type);
static_assert(sizeof(struct fw_dirent) == FUSE_NAME_OFFSET, "dirent.name");
SAME_SIZE(direntplus);
static_assert(sizeof(struct fw_direntplus) == FUSE_NAME_OFFSET_DIRENTPLUS,
	"direntplus.name");

SAME_NUMBER(LOOKUP);
SAME_NUMBER(FORGET);
SAME_NUMBER(GETATTR);
SAME_NUMBER(SETATTR);
SAME_NUMBER(READLINK);
SAME_NUMBER(SYMLINK);
SAME_NUMBER(MKNOD);
SAME_NUMBER(MKDIR);
SAME_NUMBER(UNLINK);
SAME_NUMBER(RMDIR);
SAME_NUMBER(RENAME);
SAME_NUMBER(LINK);
SAME_NUMBER(OPEN);
SAME_NUMBER(READ);
SAME_NUMBER(WRITE);
SAME_NUMBER(STATFS);
SAME_NUMBER(RELEASE);
SAME_NUMBER(FSYNC);
SAME_NUMBER(SETXATTR);
SAME_NUMBER(GETXATTR);
SAME_NUMBER(LISTXATTR);
SAME_NUMBER(REMOVEXATTR);
SAME_NUMBER(FLUSH);
SAME_NUMBER(INIT);
SAME_NUMBER(OPENDIR);
SAME_NUMBER(READDIR);
SAME_NUMBER(RELEASEDIR);
SAME_NUMBER(FSYNCDIR);
SAME_NUMBER(ACCESS);
SAME_NUMBER(CREATE);
SAME_NUMBER(INTERRUPT);
SAME_NUMBER(DESTROY);
SAME_NUMBER(NOTIFY_REPLY);
SAME_NUMBER(BATCH_FORGET);
SAME_NUMBER(FALLOCATE);
SAME_NUMBER(READDIRPLUS);
SAME_NUMBER(RENAME2);
SAME_NUMBER(COPY_FILE_RANGE);
SAME_NUMBER(TMPFILE);

SAME_FLAG(ASYNC_READ);
SAME_FLAG(EXPORT_SUPPORT);
SAME_FLAG(DO_READDIRPLUS);
SAME_FLAG(READDIRPLUS_AUTO);
SAME_FLAG(ASYNC_DIO);
SAME_FLAG(NO_OPEN_SUPPORT);
SAME_FLAG(PARALLEL_DIROPS);
SAME_FLAG(MAX_PAGES);
SAME_FLAG(CACHE_SYMLINKS);
SAME_FLAG(NO_OPENDIR_SUPPORT);
SAME_FLAG(EXPLICIT_INVAL_DATA);
SAME_FLAG(INIT_EXT);

SAME_FOPEN(KEEP_CACHE);
SAME_FOPEN(CACHE_DIR);
SAME_FOPEN(NOFLUSH);

/* 7.42; Debian 12 has 7.38. */
static_assert(sizeof(struct fw_uring_head) == 288, "uring_head");
static_assert(sizeof(struct fw_uring_cmd_req) == 24, "uring_cmd_req");
#ifdef FUSE_OVER_IO_URING
static_assert(FW_OVER_IO_URING == FUSE_OVER_IO_URING, "OVER_IO_URING");
static_assert(
	sizeof(struct fw_uring_head) == sizeof(struct fuse_uring_req_header),
	"uring_head");
static_assert(offsetof(struct fw_uring_head, op_in) ==
		      offsetof(struct fuse_uring_req_header, op_in),
	"uring_head.op_in");
static_assert(offsetof(struct fw_uring_head, ent) ==
		      offsetof(struct fuse_uring_req_header, ring_ent_in_out),
	"uring_head.ent");
static_assert(offsetof(struct fw_uring_ent_in_out, payload_sz) ==
		      offsetof(struct fuse_uring_ent_in_out, payload_sz),
	"uring_ent_in_out.payload_sz");
static_assert(offsetof(struct fw_uring_cmd_req, qid) ==
		      offsetof(struct fuse_uring_cmd_req, qid),
	"uring_cmd_req.qid");
#endif
