/* SPDX-License-Identifier: Apache-2.0 */
/* JSON; see json.h. */
#include "loader/json.h"

#include <errno.h>
#include <string.h>

static int append(const char *p, size_t n, void *arg)
{
	return buf_append(arg, p, n) < 0 ? -1 : 0;
}

int ld_json_write(const json_t *root, size_t flags, struct buf *out)
{
	size_t was = out->len;

	if (!root)
		return -ENOMEM;
	if (json_dump_callback(root, append, out, flags) == 0)
		return 0;
	out->len = was;
	return -ENOMEM;
}

bool ld_json_digest(const json_t *o, const char *key, struct digest *ret)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && digest_parse(s, strlen(s), ret) == 0;
}
