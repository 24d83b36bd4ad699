/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole buffers from and to a place in a file, however many calls that takes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* n bytes at off. 0, -EIO where the file ends before, -errno. BLOCKING. */
int whole_pread(int fd, void *to, size_t n, uint64_t off);
/* As whole_pread; -EIO where the file takes nothing. BLOCKING. */
int whole_pwrite(int fd, const void *from, size_t n, uint64_t off);
