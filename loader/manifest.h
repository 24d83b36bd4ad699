/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI and Docker schema-2 manifests, indexes and configs, read from JSON.
 * (OCI image spec 1.1: manifest.md, image-index.md, config.md.) PURE, bounded.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "loader/layer.h"
#include "runtime/base/digest.h"
#include "runtime/base/err.h"

#define LD_MAX_LAYERS 512
#define LD_MAX_MANIFEST_BYTES (8u << 20)

struct ld_manifest {
	struct digest config;
	uint64_t config_size;
	struct ld_layer_desc *layers; /* owned */
	size_t layer_count;
};

/* OS/ARCH[/VARIANT]? 0, or -EINVAL (ERR_USAGE). */
int ld_platform_check(const char *platform, struct err *e);

/*
 * If the bytes are an index: the manifest for platform ("os/arch[/variant]"),
 * 1 and *ret_next. If they are a manifest: 0. media_type is what the server
 * said ("" if nothing); it must agree with the body. Attestations and foreign
 * artifacts are skipped; a zstd:chunked twin or Nydus' form is preferred.
 */
int ld_manifest_is_index(const char *json, size_t len, const char *media_type,
	const char *platform, struct digest *ret_next, struct err *e);
int ld_manifest_parse(const char *json, size_t len, const char *media_type,
	struct ld_manifest *ret, struct err *e);
/* Fills diff_id of the layers from the config's rootfs.diff_ids. */
int ld_manifest_apply_config(
	struct ld_manifest *m, const char *json, size_t len, struct err *e);
void ld_manifest_fini(struct ld_manifest *m);
