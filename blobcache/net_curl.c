/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One transfer as libcurl sees it: options, header and body callbacks, and what
 * its end means.
 *
 * An answer is judged at its first body byte, so that a wrong one costs
 * nothing: 206 must name exactly the range that was asked for. Every unwanted
 * body (errors, redirects) is read up to a small limit and then cut off.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "blobcache/header.h"
#include "blobcache/net_int.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define CONNECT_TIMEOUT_MS 10000
#define STALL_TIMEOUT_MS 30000
#define MIN_BYTES_PER_WINDOW 1024
#define MAX_UNWANTED_BYTES 65536
#define CURL_BUFFER_BYTES (128L << 10)

static bool is_success(const struct bc_transfer *t)
{
	return t->status >= 200 && t->status <= 299;
}

/* ---- headers ---- */

static void answer_reset(struct bc_transfer *t)
{
	mem_free(t->location);
	mem_free(t->content_type);
	mem_free(t->digest);
	mem_free(t->www_authenticate);
	t->location = t->content_type = t->digest = t->www_authenticate = NULL;
	t->retry_after_ms = 0;
	t->has_content_range = t->has_content_length = false;
	t->cr_first = t->cr_last = t->cr_total = t->content_length = 0;
	t->body_len = 0;
}

void bc_transfer_fini(struct bc_transfer *t)
{
	answer_reset(t);
	t->result = 0;
	t->status = 0;
	t->range_ignored = false;
	t->error[0] = '\0';
}

static int keep_value(char **to, const char *v, size_t n)
{
	if (*to)
		return 0; /* the first one counts */
	if (n > NET_MAX_HEADER_VALUE)
		return -EPROTO;
	*to = mem_strndup(v, n);
	return *to ? 0 : -ENOMEM;
}

static int add_challenge(struct bc_transfer *t, const char *v, size_t n)
{
	char *joined;

	if (n + (t->www_authenticate ? strlen(t->www_authenticate) : 0) >
		NET_MAX_CHALLENGE)
		return -EPROTO;
	if (!t->www_authenticate)
		return keep_value(&t->www_authenticate, v, n);
	joined = mem_printf("%s, %.*s", t->www_authenticate, (int)n, v);
	if (!joined)
		return -ENOMEM;
	mem_free(t->www_authenticate);
	t->www_authenticate = joined;
	return 0;
}

static int add_content_range(struct bc_transfer *t, const char *v, size_t n)
{
	struct bc_content_range r;

	if (bc_content_range_parse(v, n, &r) < 0)
		return 0; /* as if it were not there: fails where needed */
	t->has_content_range = r.has_range;
	t->cr_first = r.first;
	t->cr_last = r.last;
	t->cr_total = r.total;
	return 0;
}

static bool is_name(const char *s, size_t n, const char *name)
{
	return n == strlen(name) && strncasecmp(s, name, n) == 0;
}

static int add_header(struct bc_transfer *t, const char *name, size_t name_len,
	const char *v, size_t n)
{
	if (is_name(name, name_len, "location"))
		return keep_value(&t->location, v, n);
	if (is_name(name, name_len, "content-type"))
		return keep_value(&t->content_type, v, n);
	if (is_name(name, name_len, "docker-content-digest"))
		return keep_value(&t->digest, v, n);
	if (is_name(name, name_len, "www-authenticate"))
		return add_challenge(t, v, n);
	if (is_name(name, name_len, "content-range"))
		return add_content_range(t, v, n);
	if (is_name(name, name_len, "content-length"))
		t->has_content_length =
			bc_header_u64(v, n, &t->content_length) == 0;
	else if (is_name(name, name_len, "retry-after"))
		t->retry_after_ms = bc_retry_after_ms(v, n, time(NULL));
	return 0;
}

static size_t on_header(char *p, size_t size, size_t count, void *arg)
{
	struct net_job *j = arg;
	struct bc_transfer *t = j->t;
	size_t n = size * count, name_len;
	const char *colon;
	unsigned status;
	int rc;

	j->moved_ms = clock_ms();
	j->window_bytes += n;
	status = bc_status_line(p, n);
	if (status) {
		answer_reset(t);
		t->status = status;
		return n;
	}
	colon = memchr(p, ':', n);
	if (!colon)
		return n;
	name_len = (size_t)(colon - p);
	p = (char *)colon + 1;
	count = n - name_len - 1;
	while (count > 0 && (*p == ' ' || *p == '\t')) {
		p++;
		count--;
	}
	while (count > 0 && strchr(" \t\r\n", p[count - 1]))
		count--;
	rc = add_header(t, colon - name_len, name_len, p, count);
	if (rc < 0) {
		j->result = rc;
		return 0;
	}
	return n;
}

/* ---- body ---- */

static int refuse(struct net_job *j, int code, const char *words)
{
	j->result = code;
	(void)snprintf(j->t->error, sizeof(j->t->error), "%s", words);
	return code;
}

static int check_partial(struct net_job *j)
{
	struct bc_transfer *t = j->t;

	if (!t->has_range)
		return refuse(
			j, -EPROTO, "a part came, the whole was asked for");
	if (!t->has_content_range)
		return refuse(j, -EPROTO, "an answer without Content-Range");
	if (t->cr_first != t->range_off ||
		t->cr_last != t->range_off + t->range_len - 1)
		return refuse(
			j, -EPROTO, "another range came than was asked for");
	if (t->range_total && t->cr_total && t->cr_total != t->range_total)
		return refuse(j, -EPROTO, "the object has another size");
	if (t->has_content_length && t->content_length != t->range_len)
		return refuse(
			j, -EPROTO, "length and range of the answer differ");
	return 0;
}

static int check_whole(struct net_job *j)
{
	struct bc_transfer *t = j->t;

	if (t->range_total && t->has_content_length &&
		t->content_length != t->range_total)
		return refuse(j, -EPROTO, "the object has another size");
	if (t->range_off == 0 && t->range_total &&
		t->range_len == t->range_total)
		return 0;
	if (!t->accept_whole) {
		t->range_ignored = true;
		return refuse(j, -EPROTO, "the server ignores ranges");
	}
	j->skip = t->range_off;
	return 0;
}

static int check_answer(struct net_job *j)
{
	struct bc_transfer *t = j->t;

	if (j->is_checked)
		return 0;
	j->is_checked = true;
	if (!is_success(t))
		return 0;
	if (t->status == 206)
		return check_partial(j);
	if (t->has_range)
		return check_whole(j);
	return 0;
}

/* Bodies of errors: some of it is kept where there is room. */
static size_t take_unwanted(struct net_job *j, const char *p, size_t n)
{
	j->dropped += n;
	if (j->dropped > MAX_UNWANTED_BYTES) {
		j->is_enough = true;
		return 0;
	}
	if (j->t->grow)
		(void)buf_append(j->t->grow, p, n); /* as far as it fits */
	return n;
}

static int take_wanted(struct net_job *j, const char *p, size_t n)
{
	struct bc_transfer *t = j->t;
	uint64_t want = t->has_range ? t->range_len : t->buf_len;
	size_t cut;
	int rc;

	cut = (size_t)min_u64(j->skip, n);
	j->skip -= cut;
	p += cut;
	n -= cut;
	if (t->buf) {
		if (t->has_range && t->status == 200 && t->accept_whole &&
			n > want - t->body_len) {
			n = (size_t)(want - t->body_len);
			j->is_enough = true;
		}
		if (n > t->buf_len - t->body_len)
			return refuse(
				j, -EPROTO, "more came than was asked for");
		memcpy(t->buf + t->body_len, p, n);
	} else if (t->grow) {
		rc = buf_append(t->grow, p, n);
		if (rc < 0)
			return refuse(j, rc, "the answer is too large");
	}
	t->body_len += n;
	return 0;
}

static size_t on_body(char *p, size_t size, size_t count, void *arg)
{
	struct net_job *j = arg;
	struct bc_transfer *t = j->t;
	size_t n = size * count;

	j->moved_ms = clock_ms();
	j->window_bytes += n;
	pthread_mutex_lock(&j->net->lock);
	j->net->stats.body_bytes += n;
	pthread_mutex_unlock(&j->net->lock);
	if (check_answer(j) < 0)
		return 0;
	if (!is_success(t))
		return take_unwanted(j, p, n);
	if (take_wanted(j, p, n) < 0)
		return 0;
	if (t->progress)
		t->progress(t, t->body_len);
	return j->is_enough ? 0 : n;
}

/* ---- start ---- */

/* A child of ours must not inherit connections. */
static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* a new socket: cannot fail */
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
	const char *ca = tls && tls->ca_file ? tls->ca_file : j->net->ca_file;

	SET(CURLOPT_CONNECTTIMEOUT_MS,
		(long)(t->connect_timeout_ms ? t->connect_timeout_ms
					     : CONNECT_TIMEOUT_MS));
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	/*
	 * Refused by a handle that was taken away in mid-transfer and still
	 * has its buffer: then that one serves again.
	 */
	(void)curl_easy_setopt(j->easy, CURLOPT_BUFFERSIZE, CURL_BUFFER_BYTES);
	/* An old libcurl without HTTP/2 refuses; then it is HTTP/1.1. */
	(void)curl_easy_setopt(
		j->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_PIPEWAIT, 1L);
	if (ca)
		SET(CURLOPT_CAINFO, ca);
	if (tls && tls->cert_file)
		SET(CURLOPT_SSLCERT, tls->cert_file);
	if (tls && tls->key_file)
		SET(CURLOPT_SSLKEY, tls->key_file);
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
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, j);
	SET(CURLOPT_WRITEFUNCTION, on_body);
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

/* The body of a complete answer is what was asked for? */
static int check_end(struct net_job *j)
{
	struct bc_transfer *t = j->t;

	if (t->status == 0)
		return refuse(j, -EPROTO, "no HTTP answer");
	if (!is_success(t))
		return 0;
	if (check_answer(j) < 0)
		return j->result;
	if (t->has_range && t->body_len != t->range_len)
		return refuse(j, -ECONNRESET, "the answer is too short");
	return 0;
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
		t->result = check_end(j);
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
