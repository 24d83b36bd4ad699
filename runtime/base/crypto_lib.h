/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few functions of libcrypto that digests need. It is loaded when the first
 * of them is wanted: from a cold disk that, and its own start with a file of
 * settings, takes longer than all the rest of a mount that hashes almost
 * nothing.
 */
#pragma once

#include <openssl/evp.h>
#include <openssl/sha.h>

#define CRYPTO_FUNCTIONS(F) \
	F(EVP_DigestFinal_ex) \
	F(EVP_DigestInit_ex) \
	F(EVP_DigestUpdate) \
	F(EVP_MD_CTX_free) \
	F(EVP_MD_CTX_new) \
	F(EVP_sha256) \
	F(EVP_sha512) \
	F(SHA256) \
	F(SHA512)

/* Each member is the library's function of that name. */
struct crypto_lib {
#define CRYPTO_MEMBER(name) __typeof__(name) *name;
	CRYPTO_FUNCTIONS(CRYPTO_MEMBER)
#undef CRYPTO_MEMBER
};

/*
 * The library, loaded at the first call. NULL if that failed, which the log has
 * said once. Any thread; lives as long as the process.
 */
const struct crypto_lib *crypto_lib(void);
