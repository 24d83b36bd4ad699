/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TOML 1.0 without dates, as a tree of JSON values: tables become objects,
 * arrays arrays. Strict: what the language forbids (a key twice, a table opened
 * twice, control characters) is an error. PURE.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "runtime/base/err.h"

#define BC_TOML_MAX (1u << 20) /* bytes of a document */

/*
 * Parse n bytes at s. -EPROTO, with the line in e; -E2BIG (too large, too many
 * tables, too deep), -ENOMEM. *ret is an object, the caller's.
 */
int bc_toml_parse(const char *s, size_t n, json_t **ret, struct err *e);
