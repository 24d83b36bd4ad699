/* SPDX-License-Identifier: Apache-2.0 */
/* URLs; see url.h. */
#include "blobcache/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "blobcache/curl_lib.h"
#include "runtime/base/mem.h"

/* The authority of url: its length, or 0. *ret_start is behind "://". */
static size_t authority_of(const char *url, const char **ret_start)
{
	const char *p = strstr(url, "://");

	if (!p)
		return 0;
	*ret_start = p + 3;
	return strcspn(p + 3, "/?#");
}

static bool has_odd_bytes(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || s[i] == '\\')
			return true;
	return false;
}

/* Digits only, 1 to 65535; 0 if not. */
static unsigned port_of(const char *s, size_t n)
{
	unsigned v = 0;

	if (n == 0 || n > 5)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return 0;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	return v <= 65535 ? v : 0;
}

/* Length of the host in "host[:port]" of n bytes, 0 if it is malformed. */
static size_t host_len(const char *a, size_t n)
{
	const char *end;

	if (n > 0 && a[0] == '[') {
		end = memchr(a, ']', n);
		return end ? (size_t)(end - a) + 1 : 0;
	}
	end = memchr(a, ':', n);
	return end ? (size_t)(end - a) : n;
}

int bc_url_origin(const char *url, char *out)
{
	size_t len = strnlen(url, BC_URL_MAX + 1), n, h;
	const char *a, *scheme;
	unsigned port;
	int m;

	if (len > BC_URL_MAX || has_odd_bytes(url, len))
		return -EPROTO;
	if (strncasecmp(url, "https://", 8) == 0)
		scheme = "https";
	else if (strncasecmp(url, "http://", 7) == 0)
		scheme = "http";
	else
		return -EPROTO;
	n = authority_of(url, &a);
	if (n == 0 || n > 260 || memchr(a, '@', n))
		return -EPROTO;
	h = host_len(a, n);
	if (h == 0)
		return -EPROTO;
	port = strcmp(scheme, "https") == 0 ? 443 : 80;
	if (h < n) {
		if (a[h] != ':')
			return -EPROTO;
		port = port_of(a + h + 1, n - h - 1);
		if (port == 0)
			return -EPROTO;
	}
	m = snprintf(
		out, BC_ORIGIN_MAX, "%s://%.*s:%u", scheme, (int)h, a, port);
	if (m < 0 || m >= BC_ORIGIN_MAX)
		return -EPROTO;
	for (char *p = out; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return 0;
}

bool bc_url_is_same_origin(const char *a, const char *b)
{
	char oa[BC_ORIGIN_MAX], ob[BC_ORIGIN_MAX];

	return bc_url_origin(a, oa) == 0 && bc_url_origin(b, ob) == 0 &&
	       strcmp(oa, ob) == 0;
}

bool bc_url_is_https(const char *url)
{
	return strncasecmp(url, "https://", 8) == 0;
}

bool bc_url_is_loopback(const char *url_or_host)
{
	const char *a = url_or_host;
	size_t n, h;
	char host[64];
	struct in_addr v4;

	n = authority_of(url_or_host, &a);
	if (n == 0)
		n = strcspn(a, "/?#");
	h = host_len(a, n);
	if (h == 0 || h >= sizeof(host))
		return false;
	memcpy(host, a, h);
	host[h] = '\0';
	if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 &&
	       ntohl(v4.s_addr) >> 24 == 127;
}

int bc_url_join(const char *base, const char *location, char **ret)
{
	char origin[BC_ORIGIN_MAX];
	CURLU *u = NULL;
	char *full = NULL;
	int rc = -EPROTO;

	if (strnlen(location, BC_URL_MAX + 1) > BC_URL_MAX ||
		has_odd_bytes(location, strlen(location)))
		return -EPROTO;
	u = curl_url();
	if (!u)
		return -ENOMEM;
	if (curl_url_set(u, CURLUPART_URL, base, 0) != CURLUE_OK ||
		curl_url_set(u, CURLUPART_URL, location, 0) != CURLUE_OK ||
		curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK ||
		bc_curl_url_get(u, CURLUPART_URL, &full, 0) != CURLUE_OK)
		goto out;
	if (bc_url_origin(full, origin) < 0)
		goto out;
	*ret = mem_strdup(full);
	rc = *ret ? 0 : -ENOMEM;
out:
	curl_free(full);
	curl_url_cleanup(u);
	return rc;
}

char *bc_url_redact(const char *url, char *out, size_t cap)
{
	const char *a = url, *at;
	size_t n = strcspn(url, "?#"), head, k = 0, auth;

	auth = authority_of(url, &a);
	head = (size_t)(a - url);
	/* The last '@': everything before it is somebody's secret. */
	at = auth ? memrchr(a, '@', auth) : NULL;
	for (size_t i = 0; i < n && k + 1 < cap; i++) {
		if (at && i >= head && url + i <= at)
			continue;
		out[k++] = (unsigned char)url[i] < ' ' ? '?' : url[i];
	}
	if (cap > 0)
		out[k] = '\0';
	return out;
}
