/* SPDX-License-Identifier: Apache-2.0 */
/* Docker's credential helpers: docker-credential-<suffix> get. */
#pragma once

#include <stdatomic.h>

#include "blobcache/auth_file.h"
#include "runtime/base/err.h"

/*
 * Run the helper and ask it for server. -ENOKEY (it has none), -ETIMEDOUT
 * (after timeout_ms), -ECANCELED (*stop became true), -EPROTO (its answer), or
 * -errno (it cannot be run). The child gets no descriptor but its pipes and
 * stderr to /dev/null. BLOCKING.
 */
int bc_helper_get(const char *suffix, const char *server,
	const atomic_bool *stop, unsigned timeout_ms,
	struct bc_credentials *ret, struct err *e);
