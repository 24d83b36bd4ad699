/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings that may lose their file.
 *
 * Touching a mapping whose file was truncated, or whose disk fails, raises
 * SIGBUS. Inside a guarded mapping the page is replaced by zeros and the guard
 * is marked broken; whoever reads the mapping asks for that before it acts on
 * what it saw. Everywhere else SIGBUS does what it always did.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/thread.h"

#define BC_GUARD_MAX 1024 /* mappings at once, in the process */

/*
 * Guard [base, base + len), a whole mapping. Returns its number, -ENOSPC (too
 * many) or -errno. Each call (again) installs the handler. ANY_THREAD.
 */
int bc_guard_add(const void *base, size_t len);
/* Before the munmap. A negative number is fine. ANY_THREAD. */
void bc_guard_remove(int guard);
/* Some page was lost; false for a negative number. ANY_THREAD. */
bool bc_guard_is_broken(int guard);
