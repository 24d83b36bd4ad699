/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What we need to know of a URL: its origin, whether that is this machine, the
 * target of a redirect, and a form that may be shown to people. PURE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define BC_URL_MAX 16384  /* longer ones are refused */
#define BC_ORIGIN_MAX 300 /* "https://" + host + ":65535" + NUL */

/*
 * "<scheme>://<host>:<port>" in lower case, the port always written (RFC 6454,
 * section 4). -EPROTO: not http(s), user names in it, bytes that no URL has, or
 * too long. out holds BC_ORIGIN_MAX bytes.
 */
int bc_url_origin(const char *url, char *out);
/* Same origin? False also when one of them is no URL of ours. */
bool bc_url_is_same_origin(const char *a, const char *b);
bool bc_url_is_https(const char *url);
/* The host of "host[:port]", "[v6]:port" or a URL is localhost, 127/8 or ::1.
 */
bool bc_url_is_loopback(const char *url_or_host);
/*
 * Where location (absolute or relative) leads from base; new memory.
 * -EPROTO (not http(s), user names, malformed), -ENOMEM.
 */
int bc_url_join(const char *base, const char *location, char **ret);
/*
 * url without user names, query and fragment, cut to cap; returns out. For
 * messages.
 */
char *bc_url_redact(const char *url, char *out, size_t cap);
