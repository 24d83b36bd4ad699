/* SPDX-License-Identifier: Apache-2.0 */
/* Loads libcrypto; see crypto_lib.h. */
#include "runtime/base/crypto_lib.h"

#include <openssl/opensslv.h>
#include <pthread.h>
#include <stddef.h>

#include "runtime/base/late_lib.h"
#include "runtime/base/util.h"

#define TEXT(n) #n
#define SONAME_OF(n) "libcrypto.so." TEXT(n)
#define SONAME SONAME_OF(OPENSSL_SHLIB_VERSION)

#define ENTRY(name) {#name, offsetof(struct crypto_lib, name)},

/* Set once, then only read. */
static struct crypto_lib table;
static const struct late_entry entries[] = {CRYPTO_FUNCTIONS(ENTRY)};
static struct late_lib lib = {
	.topic = "libcrypto",
	.soname = SONAME,
	.path = LIBCRYPTO_DIR "/" SONAME,
	.entries = entries,
	.entry_count = ARRAY_LEN(entries),
};
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
	(void)late_lib_load(&lib, &table); /* lib tells */
}

const struct crypto_lib *crypto_lib(void)
{
	(void)pthread_once(&once, load); /* cannot fail */
	return lib.is_loaded ? &table : NULL;
}
