/* SPDX-License-Identifier: Apache-2.0 */
/* Loads libcrypto; see crypto_lib.h. */
#include "runtime/base/crypto_lib.h"

#include <dlfcn.h>
#include <openssl/opensslv.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "digest"
#define TEXT(n) #n
#define SONAME_OF(n) "libcrypto.so." TEXT(n)
#define SONAME SONAME_OF(OPENSSL_SHLIB_VERSION)

/* Set once, then only read. */
static struct crypto_lib lib;
static bool is_loaded;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
#define ENTRY(name) {#name, offsetof(struct crypto_lib, name)},
	static const struct {
		const char *name;
		size_t at;
	} list[] = {CRYPTO_FUNCTIONS(ENTRY)};
	/* The second where nothing else tells the loader: it was built with. */
	void *dl = dlopen(SONAME, RTLD_LAZY), *f;
	size_t i;

	if (!dl)
		dl = dlopen(LIBCRYPTO_DIR "/" SONAME, RTLD_LAZY);
	for (i = 0; dl && i < ARRAY_LEN(list); i++) {
		f = dlsym(dl, list[i].name);
		if (!f)
			break;
		memcpy((char *)&lib + list[i].at, &f, sizeof(f));
	}
	is_loaded = dl && i == ARRAY_LEN(list);
	if (!is_loaded)
		log_error("cannot load libcrypto: %s", dlerror());
}

const struct crypto_lib *crypto_lib(void)
{
	(void)pthread_once(&once, load); /* cannot fail */
	return is_loaded ? &lib : NULL;
}
