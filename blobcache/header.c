/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP header values; see header.h. */
#include "blobcache/header.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "blobcache/curl_lib.h"

#define RETRY_AFTER_MAX_S 3600

static void trim(const char **s, size_t *n)
{
	while (*n > 0 && ((*s)[0] == ' ' || (*s)[0] == '\t')) {
		(*s)++;
		(*n)--;
	}
	while (*n > 0 && strchr(" \t\r\n", (*s)[*n - 1]))
		(*n)--;
}

int bc_header_u64(const char *s, size_t n, uint64_t *ret)
{
	uint64_t v = 0;

	trim(&s, &n);
	if (n == 0)
		return -EPROTO;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9' ||
			__builtin_mul_overflow(v, 10u, &v) ||
			__builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
			return -EPROTO;
	}
	*ret = v;
	return 0;
}

int bc_content_range_parse(
	const char *s, size_t n, struct bc_content_range *ret)
{
	struct bc_content_range r = {0};
	const char *slash, *dash;
	size_t head;

	trim(&s, &n);
	if (n < 6 || strncasecmp(s, "bytes", 5) != 0 ||
		(s[5] != ' ' && s[5] != '\t'))
		return -EPROTO;
	s += 6;
	n -= 6;
	trim(&s, &n);
	slash = memchr(s, '/', n);
	if (!slash)
		return -EPROTO;
	head = (size_t)(slash - s);
	n -= head + 1;
	if (n != 1 || slash[1] != '*') {
		if (bc_header_u64(slash + 1, n, &r.total) < 0)
			return -EPROTO;
	}
	if (head == 1 && s[0] == '*') {
		*ret = r;
		return 0;
	}
	dash = memchr(s, '-', head);
	if (!dash || bc_header_u64(s, (size_t)(dash - s), &r.first) < 0 ||
		bc_header_u64(
			dash + 1, head - (size_t)(dash - s) - 1, &r.last) < 0)
		return -EPROTO;
	if (r.first > r.last || (r.total && r.last >= r.total))
		return -EPROTO;
	r.has_range = true;
	*ret = r;
	return 0;
}

uint64_t bc_retry_after_ms(const char *s, size_t n, time_t now)
{
	char date[64];
	uint64_t secs;
	time_t then;

	trim(&s, &n);
	if (bc_header_u64(s, n, &secs) < 0) {
		if (n == 0 || n >= sizeof(date))
			return 0;
		memcpy(date, s, n);
		date[n] = '\0';
		then = curl_getdate(date, NULL);
		if (then == (time_t)-1 || then <= now)
			return 0;
		secs = (uint64_t)(then - now);
	}
	if (secs > RETRY_AFTER_MAX_S)
		secs = RETRY_AFTER_MAX_S;
	return secs * 1000;
}

unsigned bc_status_line(const char *s, size_t n)
{
	const char *sp;
	unsigned v = 0;

	if (n < 5 || strncasecmp(s, "HTTP/", 5) != 0)
		return 0;
	sp = memchr(s, ' ', n);
	if (!sp || (size_t)(s + n - sp) < 4)
		return 0;
	for (int i = 1; i <= 3; i++) {
		if (sp[i] < '0' || sp[i] > '9')
			return 0;
		v = v * 10 + (unsigned)(sp[i] - '0');
	}
	return v >= 100 ? v : 0;
}
