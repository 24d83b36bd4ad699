/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the kernel reads ahead of a reader. By default that is 128 KiB, which
 * over a network means to wait again and again for little.
 */
#pragma once

#include "loader/image.h"

/*
 * While data of the image is missing, let the kernel read 1 MiB ahead in the
 * mount at dir; after its INIT. Needs root and a writable /sys; without them it
 * stays as it is. BLOCKING.
 */
void ld_readahead_widen(const char *dir, const struct ld_image *image);
