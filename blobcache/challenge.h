/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WWW-Authenticate (RFC 9110, section 11.6.1; RFC 6750, section 3): the
 * challenges that a registry may answer with. PURE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define BC_CHALLENGE_MAX_VALUE 2048

struct bc_challenge {
	bool has_basic;
	bool has_bearer;
	/* Of the first Bearer challenge that has a realm; "" when not given. */
	char realm[BC_CHALLENGE_MAX_VALUE];
	char service[512];
	char scope[BC_CHALLENGE_MAX_VALUE];
	char error[64]; /* "insufficient_scope" */
};

/*
 * Parse the field's value, n bytes, perhaps several joined with ", ". Schemes
 * that we do not know are stepped over. -EPROTO: malformed, or a value that is
 * too long or holds control characters; ret is zeroed then.
 */
int bc_challenge_parse(const char *s, size_t n, struct bc_challenge *ret);
