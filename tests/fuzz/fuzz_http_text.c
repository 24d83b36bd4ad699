/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What servers say in headers: challenges, ranges, dates, status lines,
 * redirect targets. Each reader gets the same bytes.
 */
#include <stdlib.h>

#include "blobcache/challenge.h"
#include "blobcache/header.h"
#include "blobcache/url.h"
#include "runtime/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_challenge(const char *s, size_t n)
{
	static struct bc_challenge c;

	if (bc_challenge_parse(s, n, &c) == 0 && c.has_bearer && !c.realm[0])
		abort();
}

static void check_url(const char *s)
{
	char out[BC_ORIGIN_MAX], shown[100];
	char *joined = NULL;

	(void)bc_url_redact(s, shown, sizeof(shown));
	(void)bc_url_is_loopback(s);
	if (bc_url_join("http://a/b?c", s, &joined) < 0)
		return;
	/* What is followed is always one that we understand. */
	if (bc_url_origin(joined, out) < 0)
		abort();
	mem_free(joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bc_content_range r;
	const char *s = (const char *)data;
	char *text;

	check_challenge(s, len);
	if (bc_content_range_parse(s, len, &r) == 0 && r.has_range &&
		(r.first > r.last || (r.total && r.last >= r.total)))
		abort();
	if (bc_retry_after_ms(s, len, 0) > 3600000)
		abort();
	(void)bc_status_line(s, len);
	text = mem_strndup(s, len);
	if (text)
		check_url(text);
	mem_free(text);
	return 0;
}
