/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole blob from its first byte to its last, fetched ahead in ranges: some
 * are on their way while the thread that asks works on the one before. A
 * connection that breaks is the source's to mend, range by range. What an
 * earlier try has kept comes from the disk.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "blobcache/part.h"
#include "blobcache/source.h"
#include "runtime/base/err.h"
#include "runtime/runtime.h"

struct bc_stream;

/*
 * Start to fetch the size bytes of s, without those that part has; what comes
 * is added to it, in order. All are borrowed until the close; part may be none.
 * rt has been started. -ENOMEM.
 */
int bc_stream_open(struct rt *rt, struct bc_source *s, uint64_t size,
	struct bc_part *part, struct bc_stream **ret);
/*
 * The next bytes, valid until the next call. 1; 0 at the end; -EBADMSG: what
 * part had cannot be read any more; else as bc_fetch.result, with the sentence
 * in e. One thread. BLOCKING.
 */
int bc_stream_next(struct bc_stream *st, const uint8_t **ret, size_t *ret_len,
	struct err *e);
/* Cancels what is on its way and waits for it. NULL is fine. BLOCKING. */
void bc_stream_close(struct bc_stream *st);
