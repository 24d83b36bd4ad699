/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One transfer as libcurl sees it: its options, and what its end means.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "blobcache/net_int.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define CONNECT_TIMEOUT_MS 10000
#define STALL_TIMEOUT_MS 30000
#define MIN_BYTES_PER_WINDOW 1024
#define CURL_BUFFER_BYTES (128L << 10)
/*
 * A network that is gone is told from a server that takes its time: the kernel
 * hears nothing at all from the other side.
 */
#define KEEPALIVE_S 5L
#define SILENCE_MS 8000U

/* ---- start ---- */

/* A child of ours must not inherit connections. */
static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	unsigned silence = SILENCE_MS;

	(void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* a new socket: cannot fail */
	/* Without it a dead connection is only found by its stall. */
	(void)setsockopt(
		fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence, sizeof(silence));
	return CURL_SOCKOPT_OK;
}

static bool add_line(struct curl_slist **l, const char *line)
{
	struct curl_slist *more = curl_slist_append(*l, line);

	if (more)
		*l = more;
	return more != NULL;
}

static int build_headers(struct net_job *j)
{
	const struct bc_transfer *t = j->t;
	bool ok = add_line(&j->headers, "Accept-Encoding: identity");

	for (unsigned i = 0; ok && i < t->header_count; i++)
		ok = add_line(&j->headers, t->headers[i]);
	if (ok && t->body)
		ok = add_line(&j->headers, "Expect:");
	return ok ? 0 : -ENOMEM;
}

static CURL *easy_get(struct bc_net *n)
{
	return n->spare_count > 0 ? n->spare[--n->spare_count]
	                          : curl_easy_init();
}

static void easy_put(struct bc_net *n, CURL *easy)
{
	if (!easy)
		return;
	if (n->spare_count == NET_SPARE_HANDLES) {
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	n->spare[n->spare_count++] = easy;
}

#define SET(opt, value) \
	do { \
		if (curl_easy_setopt(j->easy, opt, value) != CURLE_OK) \
			return -ENOMEM; \
	} while (0)

static int set_safety(struct net_job *j)
{
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_ERRORBUFFER, j->errbuf);
	SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* A resolver that hangs must not hold up the thread. */
	(void)curl_easy_setopt(j->easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	return 0;
}

static int set_connection(struct net_job *j)
{
	const struct bc_transfer *t = j->t;
	const struct bc_net_tls *tls = t->tls;
	const struct bc_net_pairs *pairs = tls ? tls->pairs : NULL;
	struct curl_blob ca = {.flags = CURL_BLOB_NOCOPY};

	SET(CURLOPT_CONNECTTIMEOUT_MS,
		(long)(t->connect_timeout_ms ? t->connect_timeout_ms
					     : CONNECT_TIMEOUT_MS));
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
	SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_S);
	/*
	 * Refused by a handle that was taken away in mid-transfer and still
	 * has its buffer: then that one serves again.
	 */
	(void)curl_easy_setopt(j->easy, CURLOPT_BUFFERSIZE, CURL_BUFFER_BYTES);
	/* An old libcurl without HTTP/2 refuses; then it is HTTP/1.1. */
	(void)curl_easy_setopt(
		j->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_PIPEWAIT, 1L);
	if (tls && tls->ca_pem) {
		ca.data = (void *)tls->ca_pem; /* it is only read */
		ca.len = strlen(tls->ca_pem);
		SET(CURLOPT_CAINFO_BLOB, &ca);
	} else if (j->net->ca_file) {
		SET(CURLOPT_CAINFO, j->net->ca_file);
	}
	if (pairs) {
		SET(CURLOPT_SSLCERT, pairs->at[pairs->now].cert_file);
		SET(CURLOPT_SSLKEY, pairs->at[pairs->now].key_file);
	}
	if (tls && tls->insecure) {
		SET(CURLOPT_SSL_VERIFYPEER, 0L);
		SET(CURLOPT_SSL_VERIFYHOST, 0L);
	}
	/* No proxy reaches our own loopback. */
	if (bc_url_is_loopback(t->url))
		SET(CURLOPT_PROXY, "");
	else if (j->net->http_proxy && !bc_url_is_https(t->url))
		SET(CURLOPT_PROXY, j->net->http_proxy);
	return 0;
}

static int set_request(struct net_job *j)
{
	const struct bc_transfer *t = j->t;

	SET(CURLOPT_URL, t->url);
	SET(CURLOPT_USERAGENT, j->net->user_agent);
	SET(CURLOPT_HTTPHEADER, j->headers);
	SET(CURLOPT_HEADERFUNCTION, net_on_header);
	SET(CURLOPT_HEADERDATA, j);
	SET(CURLOPT_WRITEFUNCTION, net_on_body);
	SET(CURLOPT_WRITEDATA, j);
	SET(CURLOPT_PRIVATE, j);
	if (strcmp(t->method, "HEAD") == 0)
		SET(CURLOPT_NOBODY, 1L);
	if (strcmp(t->method, "POST") == 0) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE, (long)strlen(t->body));
		SET(CURLOPT_POSTFIELDS, t->body);
	}
	if (t->has_range) {
		(void)snprintf(j->range, sizeof(j->range),
			"%" PRIu64 "-%" PRIu64, t->range_off,
			t->range_off + t->range_len - 1);
		SET(CURLOPT_RANGE, j->range);
	}
	return 0;
}

static void job_free(struct net_job *j)
{
	if (j->easy)
		easy_put(j->net, j->easy);
	curl_slist_free_all(j->headers);
	mem_free(j);
}

int net_job_start(
	struct bc_net *n, struct bc_transfer *t, struct net_host *host)
{
	struct net_job *j = mem_zalloc(sizeof(*j));
	uint64_t end;
	int rc = -ENOMEM;

	if (!j)
		return -ENOMEM;
	j->net = n;
	j->t = t;
	j->host = host;
	j->cls = t->cls;
	j->moved_ms = j->window_ms = clock_ms();
	if (t->has_range &&
		(t->range_len == 0 || (t->buf && t->range_len > t->buf_len) ||
			add_overflows(t->range_off, t->range_len, &end))) {
		rc = -EPROTO;
		goto fail;
	}
	j->easy = easy_get(n);
	if (!j->easy || build_headers(j) < 0 || set_safety(j) < 0 ||
		set_connection(j) < 0 || set_request(j) < 0)
		goto fail;
	if (curl_multi_add_handle(n->multi, j->easy) != CURLM_OK)
		goto fail;
	t->priv = j;
	host->active++;
	n->active_count++;
	if (j->cls == RT_PREFETCH) {
		host->active_prefetch++;
		n->active_prefetch++;
	}
	return 0;
fail:
	job_free(j);
	return rc;
}

/* ---- end ---- */

static int connect_result(struct net_job *j)
{
	long os = 0;

	(void)curl_easy_getinfo(j->easy, CURLINFO_OS_ERRNO, &os);
	switch (os) {
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ETIMEDOUT:
		return (int)-os;
	default:
		return -ECONNREFUSED;
	}
}

static int timeout_result(struct net_job *j)
{
	curl_off_t connected = 0;

	(void)curl_easy_getinfo(
		j->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
	return connected > 0 ? -ETIME : -ETIMEDOUT;
}

static int code_result(struct net_job *j, CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return connect_result(j);
	case CURLE_OPERATION_TIMEDOUT:
		return timeout_result(j);
	case CURLE_SSL_CONNECT_ERROR:
		return -EPROTONOSUPPORT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return -EKEYREJECTED;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
}

static const char *words_for(int result, CURLcode code)
{
	switch (result) {
	case -ECONNREFUSED:
		return "connection refused";
	case -ENETUNREACH:
		return "network unreachable";
	case -EHOSTUNREACH:
		return code == CURLE_COULDNT_RESOLVE_HOST ||
		                       code == CURLE_COULDNT_RESOLVE_PROXY
		               ? "host name not found"
		               : "no route to host";
	case -ETIMEDOUT:
	case -ETIME:
		return "timed out";
	case -ECONNRESET:
		return "connection closed by the server";
	case -ENOMEM:
		return "out of memory";
	default:
		return NULL;
	}
}

static void job_end(struct net_job *j)
{
	struct bc_transfer *t = j->t;
	struct bc_net *n = j->net;

	net_host_judge(j->host, t);
	j->host->active--;
	n->active_count--;
	if (j->cls == RT_PREFETCH) {
		j->host->active_prefetch--;
		n->active_prefetch--;
	}
	t->priv = NULL;
	(void)curl_multi_remove_handle(n->multi, j->easy); /* it is in there */
	job_free(j);
}

static void note_times(struct net_job *j)
{
	curl_off_t asked = 0, first = 0, last = 0;

	/* what is not known stays 0 */
	(void)curl_easy_getinfo(j->easy, CURLINFO_PRETRANSFER_TIME_T, &asked);
	(void)curl_easy_getinfo(j->easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
	(void)curl_easy_getinfo(j->easy, CURLINFO_TOTAL_TIME_T, &last);
	j->t->wait_us = first > asked ? (uint64_t)(first - asked) : 0;
	j->t->body_us = last > first ? (uint64_t)(last - first) : 0;
}

void net_job_finish(struct net_job *j, CURLcode code)
{
	struct bc_transfer *t = j->t;
	const char *words;
	long version = 0;

	if (code == CURLE_WRITE_ERROR && j->is_enough)
		code = CURLE_OK;
	t->result = j->result ? j->result : code_result(j, code);
	if (t->result == 0)
		t->result = net_check_end(j);
	if (t->result == 0)
		note_times(j);
	if (t->result < 0 && !t->error[0]) {
		words = words_for(t->result, code);
		if (!words)
			words = j->errbuf[0] ? j->errbuf
			                     : curl_easy_strerror(code);
		(void)snprintf(t->error, sizeof(t->error), "%s", words);
	}
	if (curl_easy_getinfo(j->easy, CURLINFO_HTTP_VERSION, &version) ==
			CURLE_OK &&
		version == CURL_HTTP_VERSION_2_0)
		net_host_set_h2(j->host);
	job_end(j);
}

void net_job_abort(struct net_job *j, int result, const char *words)
{
	j->t->result = result;
	(void)snprintf(j->t->error, sizeof(j->t->error), "%s", words);
	job_end(j);
}

bool net_job_is_stalled(struct net_job *j, uint64_t now_ms)
{
	uint64_t limit = j->t->stall_timeout_ms ? j->t->stall_timeout_ms
	                                        : STALL_TIMEOUT_MS;

	if (now_ms - j->moved_ms >= limit)
		return true;
	if (now_ms - j->window_ms < limit)
		return false;
	if (j->window_bytes < MIN_BYTES_PER_WINDOW)
		return true;
	j->window_ms = now_ms;
	j->window_bytes = 0;
	return false;
}
