/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the kernel reads ahead in an EROFS mount. Mounts have no option for
 * it, only a file in sysfs that is named by a number of the kernel's own:
 * whoever mounts looks which one is new. BLOCKING.
 */
#pragma once

#include <stdint.h>

/* The newest one's number, before the mount is made; 0: there is none. */
uint64_t ld_readahead_erofs_newest(void);
/*
 * Set that of the only EROFS mount that is newer. With more than one new, or
 * without sysfs, nothing is changed: the kernel's default reads slower, not
 * worse.
 */
void ld_readahead_erofs_set(uint64_t newest, unsigned kilobytes);
