/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file tree in memory, on its way from a source format to an index.
 *
 * Every format parser builds one; the merge builds one from layer indexes; the
 * index writer turns one into bytes. Names and structure come from outside:
 * each function here checks what it is given. All memory is the tree's and goes
 * with it. One thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/digest.h"
#include "runtime/base/err.h"

#define LD_MAX_NAME 255
#define LD_MAX_PATH 4096
#define LD_MAX_SYMLINK 4095
#define LD_MAX_DEPTH 1024
#define LD_MAX_ENTRIES (1u << 24)
#define LD_MAX_XATTRS 4096 /* of one inode */
#define LD_MAX_XATTR_VAL 65535
#define LD_MAX_BLOBS 4096

struct ld_tree;
struct ld_inode;

/* What stat shows, save size and link count. */
struct ld_attr {
	uint32_t mode; /* S_IFMT and permission bits, as st_mode */
	uint32_t uid, gid;
	uint32_t rdev_major, rdev_minor;
	int64_t mtime;     /* seconds; may be negative */
	uint32_t mtime_ns; /* < 1000000000 */
};

/* A name in a directory. */
struct ld_dirent {
	const char *name; /* name_len bytes, then NUL; never "." or ".." */
	uint16_t name_len;
	bool removed;
	uint32_t hash; /* private */
	struct ld_inode *inode;
	struct ld_inode *parent; /* the directory it is in */
	struct ld_dirent *next;  /* in the directory, order of insertion */
	struct ld_dirent *hash_next;
};

/* length bytes of a file from file_off on lie at dev_off of blob slot. */
struct ld_extent {
	uint64_t file_off, len;
	uint64_t dev_off;
	uint32_t slot; /* index of the tree's blob table */
};

struct ld_xattr {
	struct ld_xattr *next; /* sorted by name */
	const char *name;      /* "user.x", NUL-terminated, no NUL inside */
	const uint8_t *value;
	uint32_t value_len;
};

struct ld_inode {
	struct ld_attr attr;
	uint64_t size; /* regular: as given; symlink: length of the target */
	struct ld_dirent *children; /* directories */
	struct ld_dirent *children_last;
	struct ld_dirent *self;    /* directories: their name; NULL: the root */
	const char *target;        /* symlinks, NUL-terminated */
	struct ld_extent *extents; /* regular: by file_off; gaps are holes */
	struct ld_xattr *xattrs, *xattr_last; /* sorted; the newest one */
	uint64_t nid;                         /* the index writer's */
	void *user;                           /* the builder's */
	uint32_t nlink; /* names; directories are counted on writing */
	uint32_t child_count;
	uint32_t extent_count, extent_cap;
	uint32_t xattr_count;
	uint32_t mark;  /* private: who has been here */
	uint16_t depth; /* directories: 0 is the root */
	bool implied;   /* a parent nobody described: 0755 root, mtime 0 */
	bool opaque;    /* a directory that hides what lies below */
};

/* A blob that extents point into: a device slot of the index. */
struct ld_blob_ref {
	struct digest digest;
	uint64_t device_size; /* bytes */
};

/* An empty tree. -ENOMEM. */
int ld_tree_create(struct ld_tree **ret);
/* With all inodes, names and values. NULL is fine. */
void ld_tree_destroy(struct ld_tree *t);
/* An implied directory until somebody describes it with ld_tree_add("", ...).
 */
struct ld_inode *ld_tree_root(struct ld_tree *t);

/* Device slots, in order; the same digest twice is the caller's fault. */
int ld_tree_add_blob(
	struct ld_tree *t, const struct ld_blob_ref *b, uint32_t *ret_slot);
struct ld_blob_ref *ld_tree_blob(struct ld_tree *t, uint32_t slot);
uint32_t ld_tree_blob_count(const struct ld_tree *t);

/*
 * Add or replace what path names. The path may begin with "/" or "./" and end
 * with "/"; components ".." , empty names and names with NUL or longer than 255
 * bytes are -EPROTO. Absent parents are made as implied directories; a parent
 * that is not a directory is replaced by one. A directory that exists keeps its
 * children when attr is a directory too (its xattrs go, it stays opaque);
 * everything else is replaced. A directory in the place of a whiteout becomes
 * opaque: the whiteout hid what lies below. An implied directory becomes
 * described. "" and "." are the root.
 * 0, -EPROTO, -E2BIG (limits above), -ENOMEM.
 */
int ld_tree_add(struct ld_tree *t, const char *path, size_t len,
	const struct ld_attr *a, struct ld_inode **ret, struct err *e);
/* Another name for an inode of this tree (no directory). */
int ld_tree_link(struct ld_tree *t, const char *path, size_t len,
	struct ld_inode *target, struct err *e);
/* NULL if there is none. Symlinks are not followed. */
struct ld_inode *ld_tree_find(struct ld_tree *t, const char *path, size_t len);
/* The same one level deep, for builders that walk directories themselves. */
struct ld_dirent *ld_tree_child(
	struct ld_tree *t, struct ld_inode *dir, const char *name, size_t len);
int ld_tree_add_child(struct ld_tree *t, struct ld_inode *dir, const char *name,
	size_t len, const struct ld_attr *a, struct ld_inode **ret,
	struct err *e);
int ld_tree_link_child(struct ld_tree *t, struct ld_inode *dir,
	const char *name, size_t len, struct ld_inode *target, struct err *e);
/* Take a name (and everything below it) away. Constant time. */
void ld_tree_remove(struct ld_tree *t, struct ld_dirent *d);
/* Take all names out of a directory. */
void ld_tree_clear(struct ld_tree *t, struct ld_inode *dir);

/* Copied. -EPROTO (embedded NUL, too long). */
int ld_tree_set_symlink(struct ld_tree *t, struct ld_inode *i,
	const char *target, size_t len, struct err *e);
/*
 * Can an index hold an xattr of this name: "user.", "trusted.", "security." and
 * something behind it, the two POSIX ACLs; at most 255 bytes, no NUL. A source
 * drops others as unpackers do, or calls the image broken.
 */
bool ld_xattr_name_is_known(const char *name, size_t len);
/*
 * Copied; replaces one of the same name. -EPROTO: a name that is not known.
 * "trusted.overlay." and "user.overlay." ones are dropped (0): what a source
 * says there is not obeyed.
 */
int ld_tree_set_xattr(struct ld_tree *t, struct ld_inode *i, const char *name,
	size_t name_len, const void *value, size_t value_len, struct err *e);
/* NULL if it has none of that name. */
const struct ld_xattr *ld_tree_xattr(
	const struct ld_inode *i, const char *name);
/* Behind the last extent; merges with it where they continue each other. */
int ld_tree_add_extent(struct ld_tree *t, struct ld_inode *i, uint64_t file_off,
	uint64_t len, uint32_t slot, uint64_t dev_off, struct err *e);

/*
 * A hard link whose target is not in its own layer: an empty regular file with
 * this xattr, whose value is the target's path from the root, cleaned ("a/b",
 * no NUL). Only layer trees and layer indexes have it; the merge puts the lower
 * layers' inode in its place, or finds the layer broken. Never shown, and never
 * taken from a source format's own xattrs.
 */
#define LD_XATTR_LINK "trusted.sluice.link"

/* Whiteouts inside a layer tree, as overlayfs writes them. */
bool ld_inode_is_whiteout(const struct ld_inode *i); /* char device 0:0 */
/*
 * Apply a tar-style name: ".wh..wh..opq" marks dir opaque, ".wh.NAME" becomes a
 * whiteout NAME unless this layer has a real one, other ".wh..wh.*" vanish,
 * bare ".wh." is -EPROTO. *ret_was_one tells whether path was any of these.
 * Call for each entry of a tar-like source before ld_tree_add.
 */
int ld_tree_add_whiteout(struct ld_tree *t, const char *path, size_t len,
	bool *ret_was_one, struct err *e);
