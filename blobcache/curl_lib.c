/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of libcurl, each of which calls the library's own once that is
 * there. What has no handle loads it; a handle is proof that it is loaded.
 */
#define CURL_DISABLE_TYPECHECK

#include "blobcache/curl_lib.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>

#include "runtime/base/late_lib.h"
#include "runtime/base/util.h"

#define SONAME "libcurl.so.4"

#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

#define FUNCTIONS(F) \
	F(easy_cleanup) \
	F(easy_getinfo) \
	F(easy_init) \
	F(easy_reset) \
	F(easy_setopt) \
	F(easy_strerror) \
	F(free) \
	F(getdate) \
	F(global_init) \
	F(multi_add_handle) \
	F(multi_cleanup) \
	F(multi_info_read) \
	F(multi_init) \
	F(multi_perform) \
	F(multi_poll) \
	F(multi_remove_handle) \
	F(multi_setopt) \
	F(multi_wakeup) \
	F(slist_append) \
	F(slist_free_all) \
	F(url) \
	F(url_cleanup) \
	F(url_get) \
	F(url_set)

#define MEMBER(name) __typeof__(curl_##name) *name;
#define ENTRY(name) {"curl_" #name, offsetof(struct lib, name)},

/* Set once, then only read. */
struct lib {
	FUNCTIONS(MEMBER)
};

static struct lib lib;
static const struct late_entry entries[] = {FUNCTIONS(ENTRY)};
static struct late_lib late = {
	.topic = "libcurl",
	.soname = SONAME,
	.path = LIBCURL_DIR "/" SONAME,
	.entries = entries,
	.entry_count = ARRAY_LEN(entries),
};
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
	(void)late_lib_load(&late, &lib); /* late tells */
}

int bc_curl_load(struct err *e)
{
	(void)pthread_once(&once, load); /* cannot fail */
	if (late.is_loaded)
		return 0;
	return err_set(e, -ELIBACC, "cannot load libcurl: %s", late.why);
}

/* ---- without a handle ---- */

CURLcode curl_global_init(long flags)
{
	return bc_curl_load(NULL) < 0 ? CURLE_FAILED_INIT
	                              : lib.global_init(flags);
}

CURL *curl_easy_init(void)
{
	return bc_curl_load(NULL) < 0 ? NULL : lib.easy_init();
}

CURLM *curl_multi_init(void)
{
	return bc_curl_load(NULL) < 0 ? NULL : lib.multi_init();
}

CURLU *curl_url(void)
{
	return bc_curl_load(NULL) < 0 ? NULL : lib.url();
}

time_t curl_getdate(const char *p, const time_t *unused)
{
	return bc_curl_load(NULL) < 0 ? -1 : lib.getdate(p, unused);
}

struct curl_slist *curl_slist_append(struct curl_slist *l, const char *s)
{
	return bc_curl_load(NULL) < 0 ? NULL : lib.slist_append(l, s);
}

void curl_slist_free_all(struct curl_slist *l)
{
	if (l)
		lib.slist_free_all(l);
}

void curl_free(void *p)
{
	if (p)
		lib.free(p);
}

const char *curl_easy_strerror(CURLcode code)
{
	return bc_curl_load(NULL) < 0 ? late.why : lib.easy_strerror(code);
}

/* ---- handles ---- */

void curl_easy_cleanup(CURL *c)
{
	if (c)
		lib.easy_cleanup(c);
}

void curl_easy_reset(CURL *c)
{
	lib.easy_reset(c);
}

/* Options tell by their number what their value is. */
CURLcode curl_easy_setopt(CURL *c, CURLoption option, ...)
{
	CURLcode rc;
	va_list ap;

	va_start(ap, option);
	switch (option / 10000) {
	case CURLOPTTYPE_LONG / 10000:
		rc = lib.easy_setopt(c, option, va_arg(ap, long));
		break;
	case CURLOPTTYPE_OFF_T / 10000:
		rc = lib.easy_setopt(c, option, va_arg(ap, curl_off_t));
		break;
	default:
		rc = lib.easy_setopt(c, option, va_arg(ap, void *));
		break;
	}
	va_end(ap);
	return rc;
}

CURLcode curl_easy_getinfo(CURL *c, CURLINFO info, ...)
{
	CURLcode rc;
	va_list ap;

	va_start(ap, info);
	rc = lib.easy_getinfo(c, info, va_arg(ap, void *));
	va_end(ap);
	return rc;
}

CURLMcode curl_multi_setopt(CURLM *m, CURLMoption option, ...)
{
	CURLMcode rc;
	va_list ap;

	va_start(ap, option);
	switch (option / 10000) {
	case CURLOPTTYPE_LONG / 10000:
		rc = lib.multi_setopt(m, option, va_arg(ap, long));
		break;
	case CURLOPTTYPE_OFF_T / 10000:
		rc = lib.multi_setopt(m, option, va_arg(ap, curl_off_t));
		break;
	default:
		rc = lib.multi_setopt(m, option, va_arg(ap, void *));
		break;
	}
	va_end(ap);
	return rc;
}

CURLMcode curl_multi_add_handle(CURLM *m, CURL *c)
{
	return lib.multi_add_handle(m, c);
}

CURLMcode curl_multi_cleanup(CURLM *m)
{
	return lib.multi_cleanup(m);
}

CURLMsg *curl_multi_info_read(CURLM *m, int *left)
{
	return lib.multi_info_read(m, left);
}

CURLMcode curl_multi_perform(CURLM *m, int *running)
{
	return lib.multi_perform(m, running);
}

CURLMcode curl_multi_poll(
	CURLM *m, struct curl_waitfd *fds, unsigned n, int timeout_ms, int *ret)
{
	return lib.multi_poll(m, fds, n, timeout_ms, ret);
}

CURLMcode curl_multi_remove_handle(CURLM *m, CURL *c)
{
	return lib.multi_remove_handle(m, c);
}

CURLMcode curl_multi_wakeup(CURLM *m)
{
	return lib.multi_wakeup(m);
}

void curl_url_cleanup(CURLU *u)
{
	if (u)
		lib.url_cleanup(u);
}

CURLUcode bc_curl_url_get(CURLU *u, CURLUPart what, char **part, unsigned flags)
{
	return lib.url_get(u, what, part, flags);
}

CURLUcode curl_url_set(
	CURLU *u, CURLUPart what, const char *part, unsigned flags)
{
	return lib.url_set(u, what, part, flags);
}
