/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a repository is asked for: containers-registries.conf(5), versions 2
 * and 1. Mirrors, other locations, what is insecure or blocked, who knows
 * credentials.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"

#define BC_MAX_ENDPOINTS 16

/* One server that may have a repository. Strings are owned. */
struct bc_endpoint {
	char *host;       /* as its API is addressed */
	char *repository; /* its name there */
	char *ns;         /* mirror that has only another host: the query
	                     parameter "ns", the registry's name; else NULL */
	bool is_mirror;
	bool is_insecure;  /* no certificate, or plain HTTP */
	bool digests_only; /* not asked for tags */
};

/* In the order in which they are asked; the registry itself is the last. */
struct bc_endpoints {
	struct bc_endpoint list[BC_MAX_ENDPOINTS];
	unsigned count;
};
void bc_endpoints_fini(struct bc_endpoints *p);

struct bc_registries; /* what the files say */

/* ---- the parts; PURE ---- */

/* Empty. NULL: out of memory. */
struct bc_registries *bc_registries_create(void);
/* NULL is fine. */
void bc_registries_destroy(struct bc_registries *r);
/*
 * Add a file's text; path names it in sentences. A registry of it replaces that
 * of an earlier file with the same prefix. -EINVAL, -ENOMEM; r is unchanged
 * then.
 */
int bc_registries_add(struct bc_registries *r, const char *text, size_t n,
	const char *path, struct err *e);
/*
 * The endpoints of host/repository (as image names have them, or the host of
 * the API); reference is ":TAG" or "@DIGEST". -EACCES with ERR_REFUSED:
 * blocked; -EINVAL: a location leads to no valid name; -E2BIG, -ENOMEM.
 */
int bc_registries_choose(const struct bc_registries *r, const char *host,
	const char *repository, const char *reference, struct bc_endpoints *ret,
	struct err *e);
/*
 * credential-helpers, of the last file that has it: the i-th name, NULL behind
 * the last. BC_AUTH_FILES stands for the auth files. Borrowed.
 */
#define BC_AUTH_FILES "containers-auth.json"
const char *bc_registries_helper(const struct bc_registries *r, size_t i);

/* ---- the whole ---- */

/*
 * All files where container tools look: $CONTAINERS_REGISTRIES_CONF, else that
 * in ~/.config/containers, else that in /etc/containers; then their
 * registries.conf.d. As bc_registries_add, or -errno of a file that is there
 * and cannot be read. *ret is the caller's. BLOCKING.
 */
int bc_registries_load(struct bc_registries **ret, struct err *e);
/* bc_registries_choose over them. BLOCKING. */
int bc_registries_find(const char *host, const char *repository,
	const char *reference, struct bc_endpoints *ret, struct err *e);
