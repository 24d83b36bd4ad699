/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests: the value type, its text form ("sha256:<hex>"), and hashing,
 * one-shot and incremental. sha256 and sha512 are libcrypto's; blake3 is in
 * blake3.c. PURE; a context is ONE_THREAD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The values are stored in map files: do not renumber. */
enum digest_algo {
	DIGEST_NONE = 0,
	DIGEST_SHA256 = 1,
	DIGEST_BLAKE3 = 2, /* 256 bits of output */
	DIGEST_SHA512 = 3,
};

#define DIGEST_MAX_BYTES 64
#define DIGEST_MAX_TEXT (8 + 2 * DIGEST_MAX_BYTES + 1) /* with the NUL */

struct digest {
	enum digest_algo algo;
	uint8_t bytes[DIGEST_MAX_BYTES]; /* unused tail is zero */
};

/* Bytes of a digest of algo; 0 for DIGEST_NONE. */
size_t digest_len(enum digest_algo algo);
/* "sha256", "blake3", "sha512". */
const char *digest_algo_name(enum digest_algo algo);
bool digest_is_equal(const struct digest *a, const struct digest *b);
/*
 * Strict: "<algo>:<lower-case hex of the right length>", n bytes at s, nothing
 * behind. 0 or -EPROTO.
 */
int digest_parse(const char *s, size_t n, struct digest *ret);
/* out holds DIGEST_MAX_TEXT bytes; returns out. */
char *digest_text(const struct digest *d, char *out);
/* The hex part alone; out holds 2 * digest_len + 1 bytes; returns out. */
char *digest_hex(const struct digest *d, char *out);

/*
 * One-shot. 0, -EOPNOTSUPP (algo), -ELIBACC (no libcrypto, which is loaded when
 * it is first needed) or -EIO (it failed). ANY_THREAD.
 */
int digest_of(
	enum digest_algo algo, const void *p, size_t n, struct digest *ret);
/* 0 if the bytes have the digest, -EBADMSG if not, other codes as digest_of. */
int digest_check(const struct digest *want, const void *p, size_t n);

/* Incremental hashing; opaque. Not thread-safe, one thread at a time. */
struct digest_ctx;
int digest_ctx_create(enum digest_algo algo, struct digest_ctx **ret);
int digest_ctx_update(struct digest_ctx *c, const void *p, size_t n);
/* Ends it; the context can only be destroyed afterwards. */
int digest_ctx_final(struct digest_ctx *c, struct digest *ret);
void digest_ctx_destroy(struct digest_ctx *c);
