/* SPDX-License-Identifier: Apache-2.0 */
/* Writing JSON into our buffers, and reading what we wrote. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/buf.h"
#include "runtime/base/digest.h"

/*
 * Append the text of root to out; flags are jansson's. A NULL root, which is
 * what building without memory gives, is -ENOMEM. Else 0 or -ENOMEM (also
 * behind max).
 */
int ld_json_write(const json_t *root, size_t flags, struct buf *out);
/* The digest that is o's member key. False: there is none. */
bool ld_json_digest(const json_t *o, const char *key, struct digest *ret);
