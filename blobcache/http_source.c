/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of one object behind HTTP.
 *
 * A fetch is one call (call.h) on the net thread; its end goes home to the
 * worker of the fetch. The memory of the call lives until done has been called
 * there, so that a cancel on the way finds something to cancel.
 */
#include <errno.h>
#include <string.h>

#include "blobcache/http_int.h"
#include "blobcache/registry.h"
#include "blobcache/tls_dir.h"
#include "blobcache/url.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define LOG_TOPIC "http"
#define WARN_INTERVAL_MS 5000

static void fetch_home(struct rt_task *t)
{
	struct bc_fetch *f = container_of(t, struct bc_fetch, task);
	struct http_fetch *hf = f->priv;

	if (hf) {
		pthread_mutex_lock(&hf->source->lock);
		f->priv = NULL;
		pthread_mutex_unlock(&hf->source->lock);
		mem_free(hf);
	}
	f->done(f);
}

void http_fetch_end(struct bc_fetch *f, int result)
{
	f->result = result;
	f->task.run = fetch_home;
	rt_post(f->worker, &f->task);
}

/* The codes that a source promises. */
static int fetch_code(int result)
{
	switch (result) {
	case -EHOSTUNREACH:
		return -ETIMEDOUT;
	case -E2BIG:
		return -EPROTO;
	case -EKEYREJECTED:
	case -EAGAIN:
		return -EIO;
	default:
		return result;
	}
}

int http_fetch_code(struct http_source *s, const struct bc_call *c)
{
	int rc = fetch_code(c->result);

	if (rc < 0 && rc != -ECANCELED &&
		log_ratelimit(&s->warned_ms, WARN_INTERVAL_MS))
		log_warn("%s, giving up", c->err.text);
	return rc;
}

static void fetch_answered(struct bc_call *c)
{
	struct http_fetch *hf = container_of(c, struct http_fetch, call);
	struct http_source *s = hf->source;
	bool is_whole = c->result == -EOPNOTSUPP;
	int rc = is_whole ? 0 : http_fetch_code(s, c);

	hf->fetch->wait_us = c->t.wait_us;
	hf->fetch->body_us = c->t.body_us;
	bc_call_fini(c);
	hf->fetch->via = 1u << c->at;
	pthread_mutex_lock(&s->lock);
	hf->is_calling = false;
	s->served |= hf->fetch->via;
	pthread_mutex_unlock(&s->lock);
	if (is_whole)
		http_whole_join(hf);
	else
		http_fetch_end(hf->fetch, rc);
}

void http_fetch_call(struct http_fetch *hf, bool ranges_only)
{
	struct http_source *s = hf->source;
	struct bc_fetch *f = hf->fetch;

	hf->call = (struct bc_call){
		.route = s->route,
		.targets = &s->targets,
		.method = "GET",
		.path = s->path,
		.distrusted = s->distrusted | (f->is_again ? f->via : 0),
		.cls = f->cls,
		.has_range = true,
		.ranges_only = ranges_only,
		.off = f->off,
		.total = s->src.size,
		.buf = f->buf,
		.len = f->len,
		.patience_ms = s->offline_ms,
		.done = fetch_answered,
	};
	hf->is_calling = true;
	bc_call_start(&hf->call);
}

static void source_fetch(struct bc_source *src, struct bc_fetch *f)
{
	struct http_source *s = container_of(src, struct http_source, src);
	struct http_fetch *hf;
	bool is_whole;

	if (f->len == 0 ||
		(src->size && !range_fits(f->off, f->len, src->size))) {
		http_fetch_end(f, -EPROTO);
		return;
	}
	hf = mem_zalloc(sizeof(*hf));
	if (!hf) {
		http_fetch_end(f, -ENOMEM);
		return;
	}
	hf->fetch = f;
	hf->source = s;
	pthread_mutex_lock(&s->lock);
	f->priv = hf;
	is_whole = s->whole.is_on;
	/* Without a place or a size there is no other way than range by range
	 */
	if (!is_whole)
		http_fetch_call(hf, src->store && src->size);
	pthread_mutex_unlock(&s->lock);
	if (is_whole)
		http_whole_join(hf);
}

/* f may have ended: then there is nothing to do. */
static void tell_call(struct bc_source *src, struct bc_fetch *f,
	void (*tell)(struct bc_call *c))
{
	struct http_source *s = container_of(src, struct http_source, src);
	struct http_fetch *hf;

	pthread_mutex_lock(&s->lock);
	hf = f->priv;
	if (hf && hf->is_calling)
		tell(&hf->call);
	pthread_mutex_unlock(&s->lock);
}

static void source_cancel(struct bc_source *src, struct bc_fetch *f)
{
	struct http_source *s = container_of(src, struct http_source, src);
	struct http_fetch *hf;

	tell_call(src, f, bc_call_cancel);
	pthread_mutex_lock(&s->lock);
	hf = f->priv;
	/* The stream goes on: for others, and for the cache. */
	if (hf && hf->is_waiting) {
		list_remove(&hf->node);
		hf->is_waiting = false;
		http_fetch_end(f, -ECANCELED);
	}
	pthread_mutex_unlock(&s->lock);
}

static void source_promote(struct bc_source *src, struct bc_fetch *f)
{
	tell_call(src, f, bc_call_promote);
}

/* Of those that have answered, mirrors only: the registry has no substitute. */
static bool source_distrust(struct bc_source *src)
{
	struct http_source *s = container_of(src, struct http_source, src);
	uint32_t mirrors = (1u << (s->route->count - 1)) - 1, fresh;

	pthread_mutex_lock(&s->lock);
	fresh = s->served & mirrors & ~s->distrusted;
	s->distrusted |= fresh;
	if (fresh)
		http_whole_reset(s);
	pthread_mutex_unlock(&s->lock);
	return fresh != 0;
}

static void source_destroy(struct bc_source *src)
{
	struct http_source *s = container_of(src, struct http_source, src);

	http_whole_fini(s);
	/* A done that has posted its end may still be on the net thread. */
	bc_net_barrier(s->route->net);
	if (s->own)
		bc_route_fini(s->own);
	mem_free(s->own);
	bc_targets_fini(&s->targets);
	pthread_mutex_destroy(&s->lock);
	mem_free(s->path);
	mem_free(s);
}

static const struct bc_source_ops source_ops = {
	.fetch = source_fetch,
	.cancel = source_cancel,
	.promote = source_promote,
	.destroy = source_destroy,
};

int bc_route_source(struct bc_route *route, const char *path, uint64_t size,
	uint32_t offline_ms, struct bc_source **ret)
{
	struct http_source *s = mem_zalloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	http_whole_init(s);
	s->src.distrust = source_distrust;
	s->src.ops = &source_ops;
	s->src.size = size;
	s->route = route;
	s->offline_ms = offline_ms;
	s->path = mem_strdup(path);
	if (!s->path) {
		pthread_mutex_destroy(&s->lock);
		mem_free(s);
		return -ENOMEM;
	}
	*ret = &s->src;
	return 0;
}

/* ---- plain HTTP ---- */

/* Split url into the parts of a route and a path. */
static int own_init(struct http_source *s, const char *url,
	const struct bc_registry_options *o, struct err *e)
{
	const char *host = strstr(url, "://") + 3; /* bc_url_origin saw it */
	size_t host_len = strcspn(host, "/?#"), path_len;
	struct bc_remote *m = &s->own->remotes[0];
	char shown[256];

	path_len = strcspn(host + host_len, "#");
	s->own->count = 1;
	s->own->label = mem_strdup(bc_url_redact(url, shown, sizeof(shown)));
	m->scheme = bc_url_is_https(url) ? BC_SCHEME_HTTPS : BC_SCHEME_HTTP;
	m->host = mem_strndup(host, host_len);
	if (path_len > 0 && host[host_len] == '/')
		s->path = mem_strndup(host + host_len, path_len);
	else
		s->path = mem_printf("/%.*s", (int)path_len, host + host_len);
	if (!m->host || !s->own->label || !s->path)
		return err_set(e, -ENOMEM, "out of memory");
	if (m->scheme == BC_SCHEME_HTTP)
		return 0;
	return bc_tls_dir_find(o ? o->cert_dir : NULL, m->host, &m->tls, e);
}

static int ask_size(struct http_source *s, struct err *e)
{
	struct bc_call c = {
		.route = s->route,
		.targets = &s->targets,
		.method = "GET",
		.path = s->path,
		.has_range = true,
		.len = 1,
		.patience_ms = BC_COLD_PATIENCE_MS,
	};
	uint64_t size = 0;
	int rc = bc_call_run(&c);

	if (rc < 0) {
		if (rc == -ENOENT)
			rc = err_set_kind(e, ERR_NOT_FOUND, rc,
				"'%s' does not exist", s->route->label);
		else if (e)
			*e = c.err;
	} else {
		size = c.t.status == 206        ? c.t.cr_total
		       : c.t.has_content_length ? c.t.content_length
		                                : 0;
		if (size == 0)
			rc = err_set_kind(e, ERR_FAILED, -EPROTO,
				"'%s' is empty or its server does not say how "
				"large it is",
				s->route->label);
	}
	bc_call_fini(&c);
	s->src.size = size;
	return rc;
}

int bc_http_source_open(struct bc_net *net, const struct bc_registry_options *o,
	const char *url, uint64_t size, struct bc_source **ret, struct err *e)
{
	char origin[BC_ORIGIN_MAX], shown[256];
	struct http_source *s;
	int rc;

	if (bc_url_origin(url, origin) < 0)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"'%s' is not an http(s) URL without user names",
			bc_url_redact(url, shown, sizeof(shown)));
	s = mem_zalloc(sizeof(*s));
	if (s)
		s->own = mem_zalloc(sizeof(*s->own));
	if (!s || !s->own) {
		mem_free(s);
		return err_set(e, -ENOMEM, "out of memory");
	}
	bc_route_init(s->own, net);
	pthread_mutex_init(&s->lock, NULL);
	http_whole_init(s);
	s->src.distrust = source_distrust;
	s->src.ops = &source_ops;
	s->src.size = size == BC_SIZE_UNKNOWN ? 0 : size;
	s->route = s->own;
	s->offline_ms = o ? o->offline_ms : 0;
	rc = own_init(s, url, o, e);
	if (rc == 0 && size == 0)
		rc = ask_size(s, e);
	if (rc < 0) {
		source_destroy(&s->src);
		return rc;
	}
	*ret = &s->src;
	return 0;
}
