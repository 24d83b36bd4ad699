/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where credentials for a registry are found: auth files and helpers,
 * containers-auth.json(5) and containers-registries.conf(5).
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>

#include "blobcache/auth_file.h"

#define BC_HELPER_TIMEOUT_MS 30000

/*
 * Ask whom registries.conf names in credential-helpers, in order; where it
 * names nobody, and where it says so, look through the auth files: authfile
 * alone if it is given, else $REGISTRY_AUTH_FILE alone, else podman's and
 * Docker's usual places. The first that knows the repository counts. 0; ret is
 * empty if nobody knows it. -ENOMEM, -ECANCELED (*stop). looked_in (cap bytes)
 * says where it looked, in words for people, what could not be used with its
 * reason. BLOCKING.
 */
int bc_credentials_find(const char *host, const char *repository,
	const char *authfile, const atomic_bool *stop,
	struct bc_credentials *ret, char *looked_in, size_t cap);
