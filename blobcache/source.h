/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a blob's bytes come from: a registry, plain HTTP, a directory.
 *
 * A source turns one byte range into one full buffer. It authenticates, follows
 * redirects and retries; it does not cache, decode or verify.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/op.h"
#include "runtime/runtime.h"

struct bc_source;
struct bc_store;

/* One range; zero it, fill the public part, start it; reusable after done. */
struct bc_fetch {
	uint64_t off;
	size_t len;        /* > 0 */
	uint8_t *buf;      /* borrowed until done */
	enum rt_class cls; /* ANY_THREAD to raise through bc_source_promote */
	/* The last answer to this fetch was wrong: ask somebody else, if there
	 * is anybody. */
	bool is_again;
	struct rt_worker *worker; /* done runs here */
	void (*done)(struct bc_fetch *f);
	/*
	 * 0: all of buf is filled. -ENOENT, -EACCES, -ETIMEDOUT, -EIO (retries
	 * used up), -EPROTO (the server breaks HTTP), -ECANCELED.
	 */
	int result;
	/*
	 * With 0, of a network: from the request until its answer began, and
	 * from there to its end. Both 0: not known.
	 */
	uint64_t wait_us, body_us;
	/* private to the source */
	struct rt_task task;
	void *priv;
	uint32_t via; /* who has answered, also for is_again */
};

struct bc_source_ops {
	/* Never fails by itself; never calls done before it returns. ANY_THREAD
	 */
	void (*fetch)(struct bc_source *s, struct bc_fetch *f);
	/*
	 * Ask for an early end; done still runs once. This and promote may come
	 * until done has run, so also when f's answer is on its way already.
	 * ANY_THREAD
	 */
	void (*cancel)(struct bc_source *s, struct bc_fetch *f);
	/* Somebody waits for f now; as for cancel. May be NULL. */
	void (*promote)(struct bc_source *s, struct bc_fetch *f);
	/* No fetch is on its way. INIT_ONLY */
	void (*destroy)(struct bc_source *s);
};

/* First member of every source's structure. */
struct bc_source {
	const struct bc_source_ops *ops;
	uint64_t size; /* of the blob; 0: not known */
	bool is_local; /* no network: prefetch and coalescing gain nothing */
	/*
	 * For servers that send objects only whole; set before the first fetch.
	 * Where such a one is kept meanwhile, NULL: nowhere; and who wants to
	 * know that it comes, NULL: nobody. ANY_THREAD, during a fetch.
	 */
	struct bc_store *store;
	void (*whole_begins)(struct bc_source *s);
	void *whole_arg;
	/*
	 * What it has kept of one is not needed any more. Set by the source;
	 * NULL: it keeps nothing. ANY_THREAD.
	 */
	void (*forget)(struct bc_source *s);
	/*
	 * What it gave turned out wrong as a whole. True: it comes from others
	 * from now on, so that another try makes sense. Set by the source;
	 * NULL: there is nobody else. No fetch is on its way. ANY_THREAD.
	 */
	bool (*distrust)(struct bc_source *s);
};

static inline void bc_source_fetch(struct bc_source *s, struct bc_fetch *f)
{
	s->ops->fetch(s, f);
}

static inline void bc_source_cancel(struct bc_source *s, struct bc_fetch *f)
{
	s->ops->cancel(s, f);
}

static inline void bc_source_promote(struct bc_source *s, struct bc_fetch *f)
{
	if (s->ops->promote)
		s->ops->promote(s, f);
}

static inline void bc_source_destroy(struct bc_source *s)
{
	if (s)
		s->ops->destroy(s);
}

/*
 * Fetch and wait, for start-up code: reads [off, off + len) into buf. rt must
 * have been started. 0 or as bc_fetch.result, with the sentence in e. BLOCKING.
 */
int bc_source_read(struct rt *rt, struct bc_source *s, uint64_t off, void *buf,
	size_t len, struct err *e);

/*
 * A file as source: a blob in an OCI layout's blobs/<algo>/ or a bundle's
 * blobs/. Takes nothing; the file is opened now and stays open. -ENOENT,
 * -errno.
 */
int bc_source_file_open(
	const char *path, struct bc_source **ret, struct err *e);

/*
 * The bytes of first; as soon as it says that it does not have them (-ENOENT),
 * of second for good. Both are taken, also on failure: -ENOMEM.
 */
int bc_source_either(struct bc_source *first, struct bc_source *second,
	struct bc_source **ret);
