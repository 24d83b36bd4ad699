/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests and small blobs of one repository (OCI distribution spec 1.1,
 * "pull"). Everything is asked by calls (call.h); this file knows paths, media
 * types, digests and what to tell people.
 */
#include "blobcache/registry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blobcache/registries.h"
#include "blobcache/registry_int.h"
#include "blobcache/tls_dir.h"
#include "blobcache/url.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"

#define MAX_MANIFEST (8u << 20)
#define MAX_REPOSITORY 255
#define MAX_REFERENCE 128

static const char accept_manifests[] =
	"application/vnd.oci.image.index.v1+json, "
	"application/vnd.docker.distribution.manifest.list.v2+json, "
	"application/vnd.oci.image.manifest.v1+json, "
	"application/vnd.docker.distribution.manifest.v2+json";

/* ---- open ---- */

/* Nothing that could end a path component of a URL. */
static bool is_plain(const char *s, size_t max, const char *more)
{
	size_t n = strnlen(s, max + 1);

	if (n == 0 || n > max)
		return false;
	for (; *s; s++) {
		if ((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9'))
			continue;
		if (!strchr(more, *s))
			return false;
	}
	return true;
}

static bool is_host(const char *host)
{
	char origin[BC_ORIGIN_MAX], url[BC_ORIGIN_MAX];
	int n = snprintf(url, sizeof(url), "https://%s", host);

	return n > 0 && (size_t)n < sizeof(url) && !strpbrk(host, "/?#") &&
	       bc_url_origin(url, origin) == 0;
}

static bool is_repository(const char *s)
{
	return is_plain(s, MAX_REPOSITORY, "._-/") && s[0] != '/' &&
	       !strstr(s, "//") && !strstr(s, "..") && s[strlen(s) - 1] != '/';
}

/* The API of repository at host. */
static int add_remote(struct bc_registry *r, const struct bc_endpoint *p,
	const struct bc_registry_options *o, struct err *e)
{
	struct bc_remote *m = &r->route.remotes[r->route.count++];
	bool is_plain_http = o && o->plain_http && !p->is_mirror;
	const char *cert_dir = o && !p->is_mirror ? o->cert_dir : NULL;
	int rc;

	if (!is_host(p->host) || !is_repository(p->repository))
		return err_set(e, -EINVAL,
			"'%s/%s', where registries.conf leads, is no "
			"repository",
			p->host, p->repository);
	m->is_mirror = p->is_mirror;
	m->digests_only = p->digests_only;
	m->scheme = is_plain_http ? BC_SCHEME_HTTP
	            : p->is_insecure || bc_url_is_loopback(p->host)
	                    ? BC_SCHEME_PROBE
	                    : BC_SCHEME_HTTPS;
	m->host = mem_strdup(p->host);
	m->prefix = mem_printf("/v2/%s", p->repository);
	m->query = p->ns ? mem_printf("ns=%s", p->ns) : NULL;
	if (!m->host || !m->prefix || (p->ns && !m->query))
		return err_set(e, -ENOMEM, "out of memory");
	if (m->scheme != BC_SCHEME_HTTP) {
		rc = bc_tls_dir_find(cert_dir, p->host, &m->tls, e);
		if (rc < 0)
			return rc;
	}
	m->tls.insecure = p->is_insecure;
	if (bc_auth_create(r->route.net, p->host, p->repository,
		    o ? o->authfile : NULL, &m->tls, &m->auth) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return 0;
}

static int fill(struct bc_registry *r, struct bc_net *net,
	const struct bc_registry_options *o, const char *host,
	const char *repository, struct err *e)
{
	const char *reference = o && o->reference ? o->reference : "@";
	struct bc_endpoints places;
	int rc;

	bc_route_init(&r->route, net);
	r->offline_ms = o ? o->offline_ms : 0;
	r->route.label = mem_printf("%s/%s", host, repository);
	if (!r->route.label)
		return err_set(e, -ENOMEM, "out of memory");
	rc = bc_registries_find(host, repository, reference, &places, e);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; rc == 0 && i < places.count; i++)
		rc = add_remote(r, &places.list[i], o, e);
	bc_endpoints_fini(&places);
	return rc;
}

int bc_registry_open(struct bc_net *net, const struct bc_registry_options *o,
	const char *host, const char *repository, struct bc_registry **ret,
	struct err *e)
{
	struct bc_registry *r;
	int rc;

	if (!is_host(host))
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"'%s' is not a registry host", host);
	if (!is_repository(repository))
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"'%s' is not a repository name", repository);
	r = mem_zalloc(sizeof(*r));
	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	rc = fill(r, net, o, host, repository, e);
	if (rc < 0) {
		bc_registry_close(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void bc_registry_close(struct bc_registry *r)
{
	if (!r)
		return;
	bc_route_fini(&r->route);
	mem_free(r);
}

/* ---- manifests ---- */

static void note_wait(struct bc_registry *r, uint64_t us)
{
	uint64_t least = atomic_load(&r->wait_us);

	if (us > 0 && (least == 0 || us < least))
		atomic_store(&r->wait_us, us); /* of two one is enough */
}

/* A manifest call for reference, a tag or a digest. */
static int run_manifest(struct bc_registry *r, const char *method,
	const char *reference, uint32_t distrusted, struct buf *body,
	struct bc_call *c)
{
	CLEANUP_FREE char *path = mem_printf("/manifests/%s", reference);
	int rc;

	*c = (struct bc_call){
		.route = &r->route,
		.method = method,
		.path = path,
		.is_tag = !strchr(reference, ':'),
		.distrusted = distrusted,
		.accept = accept_manifests,
		.grow = body,
		.patience_ms =
			(uint32_t)min_u64(r->offline_ms, BC_COLD_PATIENCE_MS),
	};
	if (!path)
		return err_set(&c->err, -ENOMEM, "out of memory");
	rc = bc_call_run(c);
	if (rc == 0)
		note_wait(r, c->t.wait_us);
	return rc;
}

static int pass_on(const struct bc_call *c, struct err *e)
{
	if (e)
		*e = c->err;
	return c->err.code;
}

static int no_such_tag(
	struct bc_registry *r, const char *reference, struct err *e)
{
	return err_set_kind(e, ERR_NOT_FOUND, -ENOENT, "'%s' has no tag '%s'",
		r->route.label, reference);
}

static int check_tag(const char *reference, struct err *e)
{
	if (is_plain(reference, MAX_REFERENCE, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_.-"))
		return 0;
	return err_set_kind(
		e, ERR_USAGE, -EINVAL, "'%s' is not a tag", reference);
}

/* The digest that the answer announces; false: none that we know. */
static bool announced(const struct bc_call *c, struct digest *ret)
{
	return c->t.digest &&
	       digest_parse(c->t.digest, strlen(c->t.digest), ret) == 0;
}

/* What came with c, and its type. */
static int take_body(const struct bc_call *c, const struct buf *body,
	struct buf *out, char *ret_type, struct err *e)
{
	const char *type = c->t.content_type ? c->t.content_type : "";
	size_t n = strcspn(type, "; \t");

	out->len = 0;
	if (buf_append(out, body->data, body->len) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	(void)snprintf(ret_type, 128, "%.*s", (int)min_u64(n, 127), type);
	return 0;
}

/* With the digest that it has. */
static int take_tagged(struct bc_registry *r, const struct bc_call *c,
	const struct buf *body, struct buf *out, char *ret_type,
	struct digest *ret, struct err *e)
{
	char text[DIGEST_MAX_TEXT];
	struct digest d;
	int rc;

	if (!announced(c, &d))
		rc = digest_of(DIGEST_SHA256, body->data, body->len, &d);
	else
		rc = digest_check(&d, body->data, body->len);
	if (rc == -EBADMSG)
		return err_set(e, rc,
			"the manifest that '%s' sent has not the digest '%s' "
			"that came with it",
			r->route.label, digest_text(&d, text));
	if (rc < 0)
		return err_set(e, -EIO, "cannot hash the manifest of '%s'",
			r->route.label);
	rc = take_body(c, body, out, ret_type, e);
	if (rc == 0)
		*ret = d;
	return rc;
}

/* From one who is not distrusted, if there is anybody. */
static int get_tagged(struct bc_registry *r, const char *reference,
	uint32_t *distrusted, struct buf *out, char *ret_type,
	struct digest *ret, struct err *e)
{
	struct bc_call c;
	struct buf body;
	int rc;

	buf_init(&body, MAX_MANIFEST);
	rc = run_manifest(r, "GET", reference, *distrusted, &body, &c);
	*distrusted |= 1u << c.at;
	if (rc == 0)
		rc = take_tagged(r, &c, &body, out, ret_type, ret, e);
	else if (rc == -ENOENT)
		rc = no_such_tag(r, reference, e);
	else
		rc = pass_on(&c, e);
	bc_call_fini(&c);
	buf_fini(&body);
	return rc;
}

int bc_registry_tagged(struct bc_registry *r, const char *reference,
	struct buf *out, char *ret_type, struct digest *ret, struct err *e)
{
	uint32_t distrusted = 0;
	int rc = check_tag(reference, e);

	if (rc < 0)
		return rc;
	rc = -EBADMSG;
	/* Who lies is not asked first the next time. */
	for (unsigned i = 0; rc == -EBADMSG && i < r->route.count; i++)
		rc = get_tagged(
			r, reference, &distrusted, out, ret_type, ret, e);
	return rc;
}

/* Ask for the manifest itself and hash it. */
static int resolve_by_get(struct bc_registry *r, const char *reference,
	struct digest *ret, struct err *e)
{
	struct buf out;
	char type[128];
	int rc;

	buf_init(&out, MAX_MANIFEST);
	rc = bc_registry_tagged(r, reference, &out, type, ret, e);
	buf_fini(&out);
	return rc;
}

int bc_registry_resolve(struct bc_registry *r, const char *reference,
	struct digest *ret, struct err *e)
{
	struct bc_call c;
	bool is_known;
	int rc;

	rc = check_tag(reference, e);
	if (rc < 0)
		return rc;
	rc = run_manifest(r, "HEAD", reference, 0, NULL, &c);
	is_known = rc == 0 && announced(&c, ret);
	if (rc == -ENOENT)
		rc = no_such_tag(r, reference, e);
	else if (rc < 0 && rc != -EPROTO)
		rc = pass_on(&c, e);
	else if (!is_known)
		rc = 1;
	bc_call_fini(&c);
	/* No HEAD here, or one that says nothing. */
	return rc == 1 ? resolve_by_get(r, reference, ret, e) : rc;
}

static int take_manifest(struct bc_registry *r, const struct digest *d,
	const struct bc_call *c, const struct buf *body, struct buf *out,
	char *ret_type, struct err *e)
{
	char text[DIGEST_MAX_TEXT];
	int rc = digest_check(d, body->data, body->len);

	if (rc < 0)
		return err_set(e, rc,
			"the manifest that '%s' sent has not the digest '%s'",
			r->route.label, digest_text(d, text));
	return take_body(c, body, out, ret_type, e);
}

/* From one who is not distrusted, if there is anybody. */
static int get_manifest(struct bc_registry *r, const struct digest *d,
	uint32_t *distrusted, struct buf *out, char *ret_type, struct err *e)
{
	char text[DIGEST_MAX_TEXT];
	struct bc_call c;
	struct buf body;
	int rc;

	buf_init(&body, MAX_MANIFEST);
	rc = run_manifest(
		r, "GET", digest_text(d, text), *distrusted, &body, &c);
	*distrusted |= 1u << c.at;
	if (rc == 0)
		rc = take_manifest(r, d, &c, &body, out, ret_type, e);
	else if (rc == -ENOENT)
		rc = err_set_kind(e, ERR_NOT_FOUND, rc,
			"'%s' has no manifest '%s'", r->route.label, text);
	else
		rc = pass_on(&c, e);
	bc_call_fini(&c);
	buf_fini(&body);
	return rc;
}

int bc_registry_manifest(struct bc_registry *r, const struct digest *d,
	struct buf *out, char *ret_type, struct err *e)
{
	uint32_t distrusted = 0;
	int rc = -EBADMSG;

	/* Who lies is not asked first the next time. */
	for (unsigned i = 0; rc == -EBADMSG && i < r->route.count; i++)
		rc = get_manifest(r, d, &distrusted, out, ret_type, e);
	return rc;
}
