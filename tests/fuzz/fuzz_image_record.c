/* SPDX-License-Identifier: Apache-2.0 */
/* image.json of the cache, of the image that its samples name. */
#include <stdint.h>
#include <string.h>

#include "loader/image_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ld_image i = {.digest = {.algo = DIGEST_SHA256}};
	json_t *o;

	memset(i.digest.bytes, 0x11, digest_len(DIGEST_SHA256));
	o = image_record_parse((const char *)data, size, &i.digest);
	if (o)
		(void)image_record_lists(o, &i);
	json_decref(o);
	image_clear(&i);
	return 0;
}
