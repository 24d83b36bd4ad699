/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl, loaded when the network is first needed: with all that it is linked
 * to, it takes more time to load than everything else that a mount does whose
 * data is in the cache. curl_lib.c defines the functions of <curl/curl.h> that
 * are used; one that is new goes into its list.
 */
#pragma once

#include <curl/curl.h>

#include "runtime/base/err.h"

/*
 * Load libcurl, once; the same answer every time. -ELIBACC: it cannot be, and
 * the functions that can say so give NULL or an error. ANY_THREAD.
 */
int bc_curl_load(struct err *e);

/* Its prototype is another one in each libcurl. */
CURLUcode bc_curl_url_get(
	CURLU *u, CURLUPart what, char **part, unsigned flags);
