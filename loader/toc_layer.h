/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the TOC formats: a layer tree and a map under construction.
 *
 * A format hands over entries in the TOC's order and says for each piece of a
 * file where it lies in the blob. Names, duplicates, whiteouts, hard links,
 * xattrs, device offsets and the map are made here, once for both formats.
 * ONE_THREAD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blobcache/map.h"
#include "loader/layer.h"
#include "loader/toc.h"
#include "loader/tree.h"
#include "runtime/base/buf.h"
#include "runtime/base/err.h"

/* A piece of a file. */
struct toc_chunk {
	uint64_t src_off, src_end; /* its group in the blob */
	uint64_t file_off;
	uint32_t len;
	uint32_t inner; /* where it begins in the decoded group */
	uint8_t algo;   /* DIGEST_NONE: nothing but zeros; len is 0 then */
	uint8_t digest[32];
};

/* A regular file that is not empty; its chunks are neighbours in the list. */
struct toc_file {
	struct ld_inode *inode;
	uint64_t size, dev_off;
	size_t first_chunk, chunk_count;
	size_t first_data; /* the first chunk that is no hole */
	bool is_live;      /* a name leads to it, and it has data */
};

/* A hard link whose target had not been seen when it came. */
struct toc_link {
	struct ld_inode *inode; /* the empty file that stands for it */
	struct ld_inode *final; /* what it leads to; NULL: not known yet */
	size_t stamp;           /* which search passed here; 0: none */
};

/* A name of such a file. */
struct toc_link_name {
	char *path; /* owned */
	size_t len;
	struct ld_inode *inode;
};

struct toc_layer {
	struct ld_tree *tree; /* owned until toc_layer_finish */
	struct buf path;      /* cleaned name of the last entry */
	struct buf tmp;
	struct toc_file *files;
	size_t file_count, file_cap;
	struct toc_chunk *chunks;
	size_t chunk_count, chunk_cap;
	struct toc_link *links;
	size_t link_count, link_cap;
	struct toc_link_name *names;
	size_t name_count, name_cap;
	uint64_t covered; /* of the open file: what its chunks have described */
	bool is_open;     /* chunks of the last file may come */
	bool is_skipping; /* the last file is not shown, nor its chunks */
	uint64_t entries, size_uncompressed;
	uint64_t zeros_hashed; /* to find out whether long chunks are holes */
};

/* An empty tree and map; fini frees what has not been taken. 0, -ENOMEM. */
int toc_layer_init(struct toc_layer *t, struct err *e);
void toc_layer_fini(struct toc_layer *t);

/*
 * Take an entry; of a TOC_CHUNK only its name. True in *ret_has_data says that
 * it describes bytes, which the format must place with toc_layer_add_chunk.
 * Whiteouts vanish here with their chunks. -EPROTO, -E2BIG, -ENOMEM.
 */
int toc_layer_add(struct toc_layer *t, const struct toc_entry *entry,
	bool *ret_has_data, struct err *e);
/* The entry at hand, and chunks that follow it, are not to be shown. */
int toc_layer_skip(struct toc_layer *t, struct err *e);
/*
 * The bytes that the entry just added describes begin inner bytes into what
 * the blob's range [src_off, src_end) decodes to. src_end may be set later,
 * before toc_layer_finish, in the last of t->chunks. -EPROTO (chunks do not
 * follow each other), -EOPNOTSUPP (no digest covers them; too large).
 */
int toc_layer_add_chunk(struct toc_layer *t, const struct toc_entry *entry,
	uint64_t src_off, uint64_t src_end, uint64_t inner, struct err *e);
/*
 * Resolve links, lay the files out on the device in the order of their source
 * offsets, build the map; tree and map go to ret. A layer without data has no
 * blob slot and an empty map.
 */
int toc_layer_finish(struct toc_layer *t, const struct ld_layer_desc *d,
	enum bc_codec codec, struct ld_layer *ret, struct err *e);

/* ---- toc_layout.c ---- */

/*
 * Give every live file its place on the device and its extent, and write the
 * map. Files that have the same bytes of the blob share their place. A live
 * file's inode->user is toc_layer_user(its index, false).
 */
int toc_layout(struct toc_layer *t, const struct ld_layer_desc *d,
	enum bc_codec codec, struct buf *map, struct err *e);

/* What inode->user says while a TOC is read. */
static inline void *toc_layer_user(size_t i, bool is_link)
{
	return (void *)((uintptr_t)(i + 1) << 1 | is_link);
}

static inline bool toc_layer_is_link(const struct ld_inode *i)
{
	return i->user && ((uintptr_t)i->user & 1);
}

static inline bool toc_layer_is_file(const struct ld_inode *i)
{
	return i->user && !((uintptr_t)i->user & 1);
}

static inline size_t toc_layer_index(const struct ld_inode *i)
{
	return ((uintptr_t)i->user >> 1) - 1;
}
