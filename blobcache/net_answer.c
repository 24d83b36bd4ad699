/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer to one transfer, as it comes: header and body callbacks.
 *
 * It is judged at its first body byte, so that a wrong one costs nothing: 206
 * must name exactly the range that was asked for. Every unwanted body (errors,
 * redirects) is read up to a small limit and then cut off.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "blobcache/header.h"
#include "blobcache/net_int.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define MAX_UNWANTED_BYTES 65536

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

size_t net_on_header(char *p, size_t size, size_t count, void *arg)
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
	} else if (t->take) {
		rc = t->take(t, p, n);
		if (rc < 0)
			return refuse(j, rc, "the answer cannot be kept");
	} else if (t->grow) {
		rc = buf_append(t->grow, p, n);
		if (rc < 0)
			return refuse(j, rc, "the answer is too large");
	}
	t->body_len += n;
	return 0;
}

size_t net_on_body(char *p, size_t size, size_t count, void *arg)
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

/* The body of a complete answer is what was asked for? */
int net_check_end(struct net_job *j)
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
