/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every command that touches images needs: the cache, a running runtime,
 * the network; made from the command line in one order, ended in the other. On
 * the program's first thread.
 */
#pragma once

#include "blobcache/net.h"
#include "blobcache/store.h"
#include "loader/cli.h"
#include "loader/image.h"
#include "loader/transport.h"
#include "runtime/base/err.h"
#include "runtime/runtime.h"

struct ld_work {
	struct bc_store *store;
	struct rt *rt; /* started */
	struct bc_net *net;
};

/* --cache, or $SLUICE_CACHE; NULL: the default place. Borrowed. */
const char *ld_work_cache_dir(const struct ld_cli *c);
/*
 * plan: how requests will arrive, which decides what workers there are; it is
 * corrected where the machine does not allow it. NULL: there will be none. On
 * failure everything is gone again. INIT_ONLY.
 */
int ld_work_start(struct ld_work *ret, const struct ld_cli *c,
	struct ld_transport_plan *plan, struct err *e);
/* Images are finished. Fine for an empty one. */
void ld_work_stop(struct ld_work *w);
/* The command line's part of it; borrows from c. */
void ld_work_image_options(
	const struct ld_cli *c, struct ld_image_options *ret);
/*
 * The image that the command line names, with progress on stderr; signals end
 * the process meanwhile. The caller finishes ret. INIT_ONLY.
 */
int ld_work_prepare(struct ld_work *w, const struct ld_cli *c,
	struct ld_image *ret, struct err *e);
/* For commands in front: levels by -q and -v, to stderr. */
void ld_work_log(const struct ld_cli *c);
