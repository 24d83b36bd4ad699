/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of any bytes to the file system, over an index that may lie. */
#include <stdint.h>

#include "tests/lib/fs_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)drive(data, size);
	return 0;
}
