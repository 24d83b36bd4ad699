/* SPDX-License-Identifier: Apache-2.0 */
/* Digest values and hashing; see digest.h. */
#include "runtime/base/digest.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/blake3.h"
#include "runtime/base/crypto_lib.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

static const struct {
	const char *name;
	size_t len;
} algos[] = {
	[DIGEST_NONE] = {"none", 0},
	[DIGEST_SHA256] = {"sha256", 32},
	[DIGEST_BLAKE3] = {"blake3", 32},
	[DIGEST_SHA512] = {"sha512", 64},
};

size_t digest_len(enum digest_algo algo)
{
	return (size_t)algo < ARRAY_LEN(algos) ? algos[algo].len : 0;
}

const char *digest_algo_name(enum digest_algo algo)
{
	return (size_t)algo < ARRAY_LEN(algos) ? algos[algo].name : "?";
}

bool digest_is_equal(const struct digest *a, const struct digest *b)
{
	return a->algo == b->algo &&
	       memcmp(a->bytes, b->bytes, digest_len(a->algo)) == 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int digest_parse(const char *s, size_t n, struct digest *ret)
{
	struct digest d = {0};
	size_t i, skip;

	for (i = DIGEST_SHA256; i < ARRAY_LEN(algos); i++) {
		skip = strlen(algos[i].name) + 1;
		if (n == skip + 2 * algos[i].len && s[skip - 1] == ':' &&
			memcmp(s, algos[i].name, skip - 1) == 0)
			break;
	}
	if (i == ARRAY_LEN(algos))
		return -EPROTO;
	d.algo = (enum digest_algo)i;
	s += strlen(algos[i].name) + 1;
	for (i = 0; i < algos[d.algo].len; i++) {
		int hi = hex_value(s[2 * i]), lo = hex_value(s[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EPROTO;
		d.bytes[i] = (uint8_t)(hi << 4 | lo);
	}
	*ret = d;
	return 0;
}

char *digest_hex(const struct digest *d, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t i, n = digest_len(d->algo);

	for (i = 0; i < n; i++) {
		out[2 * i] = digits[d->bytes[i] >> 4];
		out[2 * i + 1] = digits[d->bytes[i] & 15];
	}
	out[2 * n] = '\0';
	return out;
}

char *digest_text(const struct digest *d, char *out)
{
	const char *name = digest_algo_name(d->algo);
	size_t n = strlen(name);

	memcpy(out, name, n);
	out[n] = ':';
	(void)digest_hex(d, out + n + 1);
	return out;
}

static void blake3_of(const void *p, size_t n, uint8_t *out)
{
	struct blake3 b;

	blake3_init(&b);
	blake3_update(&b, p, n);
	blake3_final(&b, out);
}

static int by_library(
	enum digest_algo algo, const void *p, size_t n, uint8_t *out)
{
	const struct crypto_lib *lib = crypto_lib();

	if (!lib)
		return -ELIBACC;
	return (algo == DIGEST_SHA256 ? lib->SHA256 : lib->SHA512)(p, n, out)
	               ? 0
	               : -EIO;
}

int digest_of(
	enum digest_algo algo, const void *p, size_t n, struct digest *ret)
{
	struct digest d = {.algo = algo};
	int r = 0;

	switch (algo) {
	case DIGEST_SHA256:
	case DIGEST_SHA512:
		r = by_library(algo, p, n, d.bytes);
		break;
	case DIGEST_BLAKE3:
		blake3_of(p, n, d.bytes);
		break;
	case DIGEST_NONE:
	default:
		return -EOPNOTSUPP;
	}
	if (r == 0)
		*ret = d;
	return r;
}

int digest_check(const struct digest *want, const void *p, size_t n)
{
	struct digest got;
	int r;

	r = digest_of(want->algo, p, n, &got);
	if (r < 0)
		return r;
	return digest_is_equal(want, &got) ? 0 : -EBADMSG;
}

struct digest_ctx {
	enum digest_algo algo;
	const struct crypto_lib *lib; /* NULL: not needed */
	EVP_MD_CTX *md;
	struct blake3 b3;
};

int digest_ctx_create(enum digest_algo algo, struct digest_ctx **ret)
{
	struct digest_ctx *c;

	if (algo == DIGEST_NONE || digest_len(algo) == 0)
		return -EOPNOTSUPP;
	c = mem_zalloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->algo = algo;
	if (algo == DIGEST_BLAKE3) {
		blake3_init(&c->b3);
		*ret = c;
		return 0;
	}
	c->lib = crypto_lib();
	if (!c->lib) {
		digest_ctx_destroy(c);
		return -ELIBACC;
	}
	c->md = c->lib->EVP_MD_CTX_new();
	if (!c->md || c->lib->EVP_DigestInit_ex(c->md,
			      algo == DIGEST_SHA256 ? c->lib->EVP_sha256()
						    : c->lib->EVP_sha512(),
			      NULL) != 1) {
		digest_ctx_destroy(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

int digest_ctx_update(struct digest_ctx *c, const void *p, size_t n)
{
	if (c->algo == DIGEST_BLAKE3) {
		blake3_update(&c->b3, p, n);
		return 0;
	}
	return c->lib->EVP_DigestUpdate(c->md, p, n) == 1 ? 0 : -EIO;
}

int digest_ctx_final(struct digest_ctx *c, struct digest *ret)
{
	struct digest d = {.algo = c->algo};

	if (c->algo == DIGEST_BLAKE3)
		blake3_final(&c->b3, d.bytes);
	else if (c->lib->EVP_DigestFinal_ex(c->md, d.bytes, NULL) != 1)
		return -EIO;
	*ret = d;
	return 0;
}

void digest_ctx_destroy(struct digest_ctx *c)
{
	if (!c)
		return;
	if (c->lib)
		c->lib->EVP_MD_CTX_free(c->md);
	mem_free(c);
}
