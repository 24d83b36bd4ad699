/* SPDX-License-Identifier: Apache-2.0 */
/* TLS material of one host, as container tools keep it (containers-certs.d(5)).
 */
#pragma once

#include "blobcache/net.h"
#include "runtime/base/err.h"

/*
 * Look into dir (NULL: certs.d/<host> of containers and Docker, the first that
 * exists) for *.crt, and *.cert with its *.key. Paths in ret are new memory;
 * NULL what is not there. -ENOENT (dir was given and cannot be read), -ENOMEM,
 * -EINVAL (*.cert without *.key). BLOCKING.
 */
int bc_tls_dir_find(const char *dir, const char *host, struct bc_net_tls *ret,
	struct err *e);
