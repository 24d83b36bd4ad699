/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images, taken apart. PURE apart from one stat for bare paths.
 */
#pragma once

#include "runtime/base/digest.h"
#include "runtime/base/err.h"

enum ld_ref_kind {
	LD_REF_REGISTRY,
	LD_REF_LAYOUT,
	LD_REF_BUNDLE,
	LD_REF_BUNDLE_URL
};

/* Of a tag, with the NUL. */
#define LD_TAG_LEN 129

struct ld_ref {
	enum ld_ref_kind kind;
	char host[262]; /* as the API is addressed (docker.io mapped) */
	char repository[256];
	char tag[LD_TAG_LEN]; /* "" if only a digest was given */
	struct digest digest; /* algo NONE: by tag; bundle: #sha256= */
	char path[4096];      /* layout, bundle; made absolute */
	char canonical[4400]; /* what status shows */
};

/* -EINVAL with ERR_USAGE and a sentence that says what to write instead. */
int ld_ref_parse(const char *s, struct ld_ref *ret, struct err *e);
