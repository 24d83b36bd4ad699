/* SPDX-License-Identifier: Apache-2.0 */
/* Base64; see base64.h. */
#include "blobcache/base64.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/mem.h"

static const char alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *bc_base64_encode(const void *p, size_t n)
{
	const uint8_t *b = p;
	size_t i, k = 0;
	uint32_t v;
	char *out;

	if (n > SIZE_MAX / 2)
		return NULL;
	out = mem_alloc(n / 3 * 4 + 5);
	if (!out)
		return NULL;
	for (i = 0; i < n; i += 3) {
		v = (uint32_t)b[i] << 16;
		if (i + 1 < n)
			v |= (uint32_t)b[i + 1] << 8;
		if (i + 2 < n)
			v |= b[i + 2];
		out[k++] = alphabet[v >> 18 & 63];
		out[k++] = alphabet[v >> 12 & 63];
		out[k++] = i + 1 < n ? alphabet[v >> 6 & 63] : '=';
		out[k++] = i + 2 < n ? alphabet[v & 63] : '=';
	}
	out[k] = '\0';
	return out;
}

static int value_of(char c)
{
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (int)(at - alphabet) : -1;
}

int bc_base64_decode(const char *s, size_t n, uint8_t **ret, size_t *ret_len)
{
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t k = 0;
	uint8_t *out;
	int v;

	while (n > 0 && s[n - 1] == '=')
		n--;
	if (n % 4 == 1)
		return -EPROTO;
	out = mem_alloc(n / 4 * 3 + 4);
	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		v = value_of(s[i]);
		if (v < 0) {
			mem_free(out);
			return -EPROTO;
		}
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[k++] = (uint8_t)(acc >> bits);
		}
	}
	out[k] = '\0';
	*ret = out;
	*ret_len = k;
	return 0;
}
