/* SPDX-License-Identifier: Apache-2.0 */
/* What manifest.c and manifest_platform.c share. PURE. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "runtime/base/digest.h"
#include "runtime/base/err.h"

/* The string at key; "" if there is none or it is no string. Borrowed. */
const char *manifest_str(const json_t *obj, const char *key);
/* The digest and size of a descriptor; what names it in the sentence. -EPROTO.
 */
int manifest_descriptor(const json_t *d, const char *what,
	struct digest *ret_digest, uint64_t *ret_size, struct err *e);
/*
 * The entry of an image index for platform. -ENOENT with ERR_NOT_FOUND: none;
 * -EPROTO, -EINVAL (the platform's spelling).
 */
int manifest_choose(const json_t *root, const char *platform,
	struct digest *ret, struct err *e);
