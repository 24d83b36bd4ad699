/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authorization for one repository of one registry: it turns a challenge into
 * an Authorization header (Basic, or a Bearer token from the realm that the
 * challenge names), keeps it, and renews it for the life of the mount.
 *
 * Credentials are looked up anew for every renewal (files are read, helpers are
 * run) on a short-lived thread, because both may block; the token is asked for
 * there, too. At most one renewal is on its way; all who need it wait for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blobcache/net.h"
#include "runtime/base/err.h"
#include "runtime/base/list.h"

struct bc_auth;

struct bc_auth_waiter {
	/* ON_NET. result: 0, or as a transfer's; err says it in words. */
	void (*ready)(
		struct bc_auth_waiter *w, int result, const struct err *err);
	struct list node; /* private; zeroed before the first use */
};

/* Strings are copied; authfile NULL: the usual places. 0 or -ENOMEM. */
int bc_auth_create(struct bc_net *net, const char *host, const char *repository,
	const char *authfile, const struct bc_net_tls *tls,
	struct bc_auth **ret);
/* Nobody waits. Ends a renewal on its way. NULL is fine. INIT_ONLY. */
void bc_auth_destroy(struct bc_auth *a);

/*
 * The header line for a request now, new memory for bc_auth_header_free, NULL
 * when none is known to be needed; *ret_gen names it. -EINPROGRESS: w->ready
 * comes, ask again then. -ENOMEM. ON_NET.
 */
int bc_auth_get(struct bc_auth *a, struct bc_auth_waiter *w, char **ret_header,
	uint64_t *ret_gen);
/*
 * A request with the header of gen was answered by 401 with this challenge
 * (NULL: none), or by 403. 0: there is a newer header, ask again.
 * -EINPROGRESS: w->ready comes. -EACCES: nothing can be done with it. is_plain:
 * the registry speaks plain HTTP, so its realm may, too. ON_NET.
 */
int bc_auth_renew(struct bc_auth *a, struct bc_auth_waiter *w,
	const char *challenge, uint64_t gen, bool is_plain);
/* w does not wait any more. Fine when it does not. ON_NET. */
void bc_auth_leave(struct bc_auth_waiter *w);
/* "A, B, C": where the last lookup looked. out holds cap bytes. ON_NET. */
void bc_auth_looked_in(struct bc_auth *a, char *out, size_t cap);
/* Wipes it. NULL is fine. */
void bc_auth_header_free(char *header);
