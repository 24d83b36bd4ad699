/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching an image whole: in the foreground, or in the process behind a mount,
 * beside its readers, asked over the control socket.
 *
 * Words of the protocol: "fetch" starts it, if it does not run, "fetching" only
 * asks. Both answer {"state": "idle"|"running"|"done"|"failed", "error": text
 * or null, "bytes_ready": N, "bytes_total": N}.
 */
#pragma once

#include "blobcache/fill.h"
#include "loader/image.h"
#include "runtime/base/buf.h"
#include "runtime/base/err.h"

struct ld_fetch;

/*
 * For image, whose blobs are open and outlive this; does nothing by itself.
 * -ENOMEM. INIT_ONLY.
 */
int ld_fetch_create(struct rt *rt, struct ld_image *image,
	struct ld_fetch **ret, struct err *e);
/* Ends what runs, and waits for that. NULL is fine. BLOCKING. */
void ld_fetch_destroy(struct ld_fetch *f);

/*
 * Fetch everything that is missing, as somebody who waits. 0, or -errno with
 * the sentence. progress may be NULL; it runs on a worker. BLOCKING.
 */
int ld_fetch_run(struct ld_fetch *f,
	void (*progress)(void *arg, uint64_t ready, uint64_t total), void *arg,
	struct err *e);
/*
 * The answer to one of the words; false: it is none of them. One thread at a
 * time.
 */
bool ld_fetch_answer(struct ld_fetch *f, const char *word, struct buf *out);
