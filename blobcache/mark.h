/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks: "this file of the cache was hashed in this boot, and found right".
 *
 * A mark lies beside its file, under the same name and ".seen". It names the
 * boot, the digest that was found, and inode, size, mtime and ctime of the file
 * as it was then. The kernel moves the ctime at every change, and nobody but
 * root can set it back: as long as all of them are as the mark says, the file
 * is the one that was hashed. Another boot, another file, a mark that is torn
 * or forged badly: no mark, and the file is hashed again.
 *
 * What a mark does not see is a disk that gives back other bytes later, within
 * one boot; so whoever trusts one checks what it reads as it reads it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "blobcache/store.h"
#include "runtime/base/buf.h"
#include "runtime/base/digest.h"

/*
 * Smaller files are hashed every time, which costs less than it takes to ask;
 * but for those of bc_mark_get.
 */
#define BC_MARK_MIN_LEN (256u << 10)

/* What else was found out when the file was read whole; the caller's. */
struct bc_mark_note {
	uint64_t a, b;
};

/* An open file as it was before somebody read it. */
struct bc_mark_look {
	struct stat st;
	bool is_settled; /* whatever changes it next gets another ctime */
};

/* 0 or -errno. ANY_THREAD. */
int bc_mark_look(int fd, struct bc_mark_look *ret);
/*
 * True: the file, at rel below the cache, was found to have the digest d, and
 * is as it was then. note may be NULL. ANY_THREAD. BLOCKING.
 */
bool bc_mark_is_there(struct bc_store *s, const char *rel,
	const struct bc_mark_look *l, const struct digest *d,
	struct bc_mark_note *ret_note);
/*
 * The open file fd at rel has the digest d: it was hashed after the look, or
 * just written (before NULL). What is not settled or has changed meanwhile is
 * not marked; nothing is, if it cannot be written: that costs the next reader a
 * hash. note may be NULL. ANY_THREAD. BLOCKING.
 */
void bc_mark_put(struct bc_store *s, const char *rel, int fd,
	const struct bc_mark_look *before, const struct digest *d,
	const struct bc_mark_note *note);
/*
 * Read the small file at rel, which has the digest d. It is hashed if it has no
 * mark; with one, which is for those that would hash nothing else and so need
 * no library for that, its crc32c is compared, at each reading. -ENOENT;
 * -EBADMSG: something else; -E2BIG, -ENOMEM or -errno. out is empty on failure.
 * ANY_THREAD. BLOCKING.
 */
int bc_mark_get(struct bc_store *s, const char *rel, const struct digest *d,
	struct buf *out);
/* The file at rel turned out wrong, or goes. ANY_THREAD. BLOCKING. */
void bc_mark_remove(struct bc_store *s, const char *rel);
