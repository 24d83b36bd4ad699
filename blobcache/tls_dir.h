/* SPDX-License-Identifier: Apache-2.0 */
/* TLS material of one host, as container tools keep it (containers-certs.d(5)).
 */
#pragma once

#include "blobcache/net.h"
#include "runtime/base/err.h"

/*
 * Look into dir (NULL: certs.d/<host> of containers and Docker, the first that
 * exists) for *.crt, all of which are trusted, and *.cert with its *.key, which
 * are shown one after the other, by their names, until one is taken. What is
 * not there is NULL in ret; bc_tls_fini frees it. -ENOENT (dir was given and
 * cannot be read), -ENOMEM, -E2BIG, -EINVAL (*.cert without *.key), -errno of a
 * file. BLOCKING.
 */
int bc_tls_dir_find(const char *dir, const char *host, struct bc_net_tls *ret,
	struct err *e);
void bc_tls_fini(struct bc_net_tls *t);
