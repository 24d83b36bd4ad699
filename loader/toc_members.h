/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the TOC formats: where the compressed members of a blob end, for
 * TOCs that only say where they begin (eStargz, and zstd:chunked as stargz'
 * converter writes it: estargz/build.go, docs/estargz.md of
 * stargz-snapshotter).
 *
 * A member (a gzip member, a zstd frame) goes on to where the next one that the
 * TOC knows begins; what it holds behind its last chunk (padding, tar headers)
 * is not looked at. Its range is never longer than what its chunks can need
 * when packed: what a TOC leaves out does not make a group of any size.
 * ONE_THREAD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/toc.h"
#include "loader/toc_layer.h"
#include "runtime/base/err.h"

struct toc_member {
	uint64_t off;
	uint64_t need; /* decoded bytes up to the end of its last chunk */
};

struct toc_members {
	struct toc_member *list; /* owned; sorted by toc_members_end */
	size_t count, cap;
	uint64_t limit;    /* of the blob: no member begins here or behind */
	uint64_t landmark; /* what begins before it is wanted first; 0: none */
};

/* Frees the list; harmless twice. */
void toc_members_fini(struct toc_members *m);
/*
 * The entry describes bytes at entry->offset, or none; also one that is not
 * shown. -EPROTO (no offset, or not below m->limit), -E2BIG, -ENOMEM.
 */
int toc_members_note(
	struct toc_members *m, const struct toc_entry *entry, struct err *e);
/*
 * All entries are read: set src_end of every chunk of t that has none (0). No
 * range goes beyond end; one that would begin there stays empty, which
 * toc_layer_finish refuses.
 */
void toc_members_end(struct toc_members *m, struct toc_layer *t, uint64_t end);
/*
 * A file of stargz' own (prefetch up to here, which is noted in m, or nothing;
 * the TOC), which is not shown. tmp is overwritten.
 */
bool toc_is_landmark(
	struct toc_members *m, const struct toc_entry *entry, struct buf *tmp);
