/* SPDX-License-Identifier: Apache-2.0 */
/* Writing JSON into our buffers, which jansson cannot allocate itself. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "runtime/base/buf.h"

/*
 * Append the text of root to out; flags are jansson's. A NULL root, which is
 * what building without memory gives, is -ENOMEM. Else 0 or -ENOMEM (also
 * behind max).
 */
int ld_json_write(const json_t *root, size_t flags, struct buf *out);
