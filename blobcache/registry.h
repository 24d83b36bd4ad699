/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry client: manifests and blobs of one repository (OCI distribution
 * spec; token authentication as Docker registries do it), and plain HTTP files.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blobcache/net.h"
#include "blobcache/source.h"
#include "runtime/base/buf.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

struct bc_registry;

struct bc_registry_options {
	const char *authfile; /* NULL: the usual places */
	/* Not for mirrors. NULL: certs.d of containers and Docker. */
	const char *cert_dir;
	bool plain_http; /* not for mirrors; loopback may without being asked */
	/*
	 * ":TAG" or "@DIGEST", as registries.conf wants to know it; NULL: a
	 * digest.
	 */
	const char *reference;
	uint32_t offline_ms; /* how long a read waits for a dead network;
	                        UINT32_MAX: for ever, 0: not at all */
};

/*
 * Address a repository ("127.0.0.1:5000", "library/debian"), and its mirrors by
 * registries.conf. Asks nothing of the network yet. Strings are copied. Also
 * -EACCES with ERR_REFUSED: registries.conf blocks it. INIT_ONLY, BLOCKING.
 */
int bc_registry_open(struct bc_net *net, const struct bc_registry_options *o,
	const char *host, const char *repository, struct bc_registry **ret,
	struct err *e);
/* All its sources are destroyed. NULL is fine. INIT_ONLY. */
void bc_registry_close(struct bc_registry *r);

/*
 * What digest the reference (tag) has now, by HEAD, else GET. Kinds of error:
 * ERR_NOT_FOUND, ERR_REFUSED (names the auth files looked in), ERR_FAILED with
 * -EHOSTUNREACH when no server answered. BLOCKING.
 */
int bc_registry_resolve(struct bc_registry *r, const char *reference,
	struct digest *ret, struct err *e);
/*
 * The manifest that the reference (tag) names now, by one GET, its digest and,
 * as below, its type. Errors as those of bc_registry_resolve; -EBADMSG: it has
 * not the digest that was announced with it. At most 8 MiB. BLOCKING.
 */
int bc_registry_tagged(struct bc_registry *r, const char *reference,
	struct buf *out, char *ret_type, struct digest *ret, struct err *e);
/*
 * The manifest with this digest, verified, and its media type (Content-Type;
 * ret_type holds 128 bytes). At most 8 MiB. BLOCKING.
 */
int bc_registry_manifest(struct bc_registry *r, const struct digest *d,
	struct buf *out, char *ret_type, struct err *e);
/* A small blob (config), verified; size as the descriptor says. BLOCKING. */
int bc_registry_blob(struct bc_registry *r, const struct digest *d,
	uint64_t size, struct buf *out, struct err *e);
/* Ranges of a blob. The registry outlives it. INIT_ONLY. */
int bc_registry_source(struct bc_registry *r, const struct digest *d,
	uint64_t size, struct bc_source **ret, struct err *e);

/* Neither known nor asked for: any answer's total length is taken. */
#define BC_SIZE_UNKNOWN UINT64_MAX

/*
 * A file behind plain http(s) without credentials (bundles). size 0: asked for
 * now; or BC_SIZE_UNKNOWN. options: cert_dir and offline_ms count. BLOCKING.
 */
int bc_http_source_open(struct bc_net *net, const struct bc_registry_options *o,
	const char *url, uint64_t size, struct bc_source **ret, struct err *e);
