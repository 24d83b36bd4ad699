/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: an EROFS image that holds metadata only, written by
 * index_write.c, read here (Linux Documentation/filesystems/erofs.rst and
 * fs/erofs/erofs_fs.h for the on-disk structures).
 *
 * Our dialect: one block size (4096 or 512); extended inodes; inline xattrs;
 * chunk-based regular files with 8-byte chunk indexes whose device id is slot
 * + 1; directories and symlinks flat (plain or inline tail); no compression.
 * Anything else is refused. The file is hostile input even when we wrote it:
 * every offset, count and name is checked when it is used.
 *
 * Reading takes no memory and no lock: an index is const after open and may be
 * used by every thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/tree.h"
#include "runtime/base/buf.h"
#include "runtime/base/err.h"

struct ld_index {
	const uint8_t *base; /* owned mapping, or borrowed memory */
	size_t len;
	bool is_mmapped;
	int guard; /* of the mapping, see blobcache/guard.h */
	unsigned block_bits;
	uint64_t root_nid;
	uint64_t meta_off; /* of nid 0 */
	uint64_t inode_count;
	uint32_t slot_count;
	uint64_t slots_off;
	bool has_xattrs; /* any inode at all */
	bool has_links;  /* hard links that wait for a merge */
};

/* An inode as stat shows it, and where its contents lie. */
struct ld_inode_view {
	uint64_t nid;
	struct ld_attr attr;
	uint64_t size;
	uint32_t nlink;
	/* private to the reader */
	uint64_t off;       /* of the inode in the file */
	uint32_t xattr_len; /* inline xattr area */
	uint8_t layout, flags;
	uint32_t raw_u;    /* i_u */
	uint64_t data_off; /* outside blocks, or chunk indexes */
};

/* 0, -EPROTO (not one, or not our dialect), -EIO (lost meanwhile), -errno. */
int ld_index_open(
	int dirfd, const char *path, struct ld_index *ret, struct err *e);
/* The same of an open file, which stays the caller's; path is for the person.
 */
int ld_index_open_fd(
	int fd, const char *path, struct ld_index *ret, struct err *e);
/* Over memory that stays the caller's. */
int ld_index_from_bytes(
	const void *p, size_t n, struct ld_index *ret, struct err *e);
void ld_index_close(struct ld_index *x);
/*
 * Read for now: pages of the mapped file leave this process; reading goes on as
 * before and brings them back. ANY_THREAD.
 */
void ld_index_let_go(const struct ld_index *x);
/*
 * Whether a page that is not in memory is read alone, as for the few of a
 * start, or with all around it, as is usual. ANY_THREAD.
 */
void ld_index_read_alone(const struct ld_index *x, bool is_alone);
/*
 * The file was cut short under the mapping, or its disk fails: some of what was
 * read since then were zeros in its place. Ask this *after* reading, before an
 * answer is believed. ANY_THREAD.
 */
bool ld_index_is_lost(const struct ld_index *x);

/*
 * Slot i: digest from its tag; device size in bytes, a multiple of the block
 * size. -EPROTO.
 */
int ld_index_slot(
	const struct ld_index *x, uint32_t slot, struct ld_blob_ref *ret);

/* -EPROTO if nid names no inode of ours. */
int ld_index_inode(
	const struct ld_index *x, uint64_t nid, struct ld_inode_view *ret);
/* A directory that its layer implied but did not describe. */
bool ld_index_is_implied(const struct ld_inode_view *i);
/* Binary search; -ENOENT, -ENOTDIR, -EPROTO. */
int ld_index_lookup(const struct ld_index *x, const struct ld_inode_view *dir,
	const char *name, size_t len, uint64_t *ret_nid);

/*
 * Directory entries in index order. cookie 0 starts; each entry's cookie is
 * what the next call continues behind. "." and ".." are among them.
 */
struct ld_index_dirent {
	const char *name; /* not NUL-terminated */
	uint16_t name_len;
	uint8_t type; /* DT_* */
	uint64_t nid;
	uint64_t cookie;
};
/* 1: *ret is set; 0: the end; -EPROTO, -ENOTDIR. */
int ld_index_next(const struct ld_index *x, const struct ld_inode_view *dir,
	uint64_t cookie, struct ld_index_dirent *ret);

/* The target, not NUL-terminated. -EINVAL if it is no symlink. */
int ld_index_symlink(const struct ld_index *x, const struct ld_inode_view *i,
	const char **ret, size_t *ret_len);

/* Whole xattr names ("user.x"). 1, 0 at the end, -EPROTO; *pos starts at 0. */
struct ld_index_xattr {
	char name[256 + 32];
	size_t name_len;
	const uint8_t *value;
	size_t value_len;
};
int ld_index_next_xattr(const struct ld_index *x, const struct ld_inode_view *i,
	size_t *pos, struct ld_index_xattr *ret);

/*
 * What lies at off of a regular file: the longest stretch that is contiguous on
 * one device, or a hole (slot UINT32_MAX). len is cut at the end of the file;
 * 0 at or behind it. A stretch of thousands of chunks may come in several
 * pieces, each continuing the one before. -EPROTO, -EINVAL (no regular file).
 */
int ld_index_extent(const struct ld_index *x, const struct ld_inode_view *i,
	uint64_t off, struct ld_extent *ret);

/* ---- writing (index_plan.c, index_write.c) ---- */

/*
 * Write the tree. Deterministic: same tree, same bytes. block_bits 12 or 9.
 * Counts links; names are sorted. The tree's nids are set.
 * -E2BIG (a format limit, named), -ENOMEM, -EPROTO (extent not on a block).
 */
int ld_index_write(
	struct ld_tree *t, unsigned block_bits, struct buf *out, struct err *e);
