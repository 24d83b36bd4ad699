/* SPDX-License-Identifier: Apache-2.0 */
/* Auth files, helper answers and token answers. */
#include <stdlib.h>
#include <string.h>

#include "blobcache/auth_file.h"
#include "blobcache/token.h"
#include "runtime/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *s = (const char *)data;
	struct bc_auth_entry e;
	struct bc_credentials c;
	char *header;
	uint64_t life;

	for (int flat = 0; flat < 2; flat++) {
		if (bc_auth_file_find(s, len, flat, "docker.io", "a/b", &e) < 0)
			continue;
		if (e.helper && !bc_helper_name_is_ok(e.helper))
			abort();
		bc_auth_entry_fini(&e);
	}
	if (bc_helper_answer_parse(s, len, &c) == 0)
		bc_credentials_fini(&c);
	if (bc_token_parse(s, len, &header, &life) == 0) {
		if (strpbrk(header, "\r\n"))
			abort();
		mem_free(header);
	}
	return 0;
}
