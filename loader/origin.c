/* SPDX-License-Identifier: Apache-2.0 */
/* Registries as origins of images, and the choice between origins. */
#include "loader/origin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blobcache/registry.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

struct from_registry {
	struct ld_origin origin;
	struct bc_registry *registry;
	char reference[LD_TAG_LEN]; /* the tag */
};

static struct from_registry *of(struct ld_origin *o)
{
	return container_of(o, struct from_registry, origin);
}

static int resolve(struct ld_origin *o, struct digest *ret, struct err *e)
{
	return bc_registry_resolve(of(o)->registry, of(o)->reference, ret, e);
}

static int tagged(struct ld_origin *o, const char *suffix, struct buf *out,
	char ret_type[LD_MEDIA_TYPE_LEN], struct digest *ret, struct err *e)
{
	char tag[2 * LD_TAG_LEN];

	(void)snprintf(tag, sizeof(tag), "%s%s", of(o)->reference, suffix);
	return bc_registry_tagged(of(o)->registry, tag, out, ret_type, ret, e);
}

static int manifest(struct ld_origin *o, const struct digest *d,
	struct buf *out, char ret_type[LD_MEDIA_TYPE_LEN], struct err *e)
{
	return bc_registry_manifest(of(o)->registry, d, out, ret_type, e);
}

static int blob(struct ld_origin *o, const struct digest *d, uint64_t size,
	struct buf *out, struct err *e)
{
	return bc_registry_blob(of(o)->registry, d, size, out, e);
}

static int source(struct ld_origin *o, const struct digest *d, uint64_t size,
	struct bc_source **ret, struct err *e)
{
	return bc_registry_source(of(o)->registry, d, size, ret, e);
}

static void destroy(struct ld_origin *o)
{
	bc_registry_close(of(o)->registry);
	mem_free(of(o));
}

static const struct ld_origin_ops registry_ops = {
	.resolve = resolve,
	.tagged = tagged,
	.manifest = manifest,
	.blob = blob,
	.source = source,
	.destroy = destroy,
};

static int open_registry(const struct ld_ref *r,
	const struct ld_image_options *o, struct bc_net *net,
	struct ld_origin **ret, struct err *e)
{
	char text[DIGEST_MAX_TEXT], reference[LD_TAG_LEN + DIGEST_MAX_TEXT];
	struct bc_registry_options ro = {
		.authfile = o->authfile,
		.cert_dir = o->cert_dir,
		.plain_http = o->plain_http,
		.reference = reference,
		.offline_ms = o->offline_ms,
	};
	struct from_registry *f = mem_zalloc(sizeof(*f));
	int err;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	f->origin.ops = &registry_ops;
	memcpy(f->reference, r->tag, sizeof(f->reference));
	if (r->digest.algo != DIGEST_NONE)
		(void)snprintf(reference, sizeof(reference), "@%s",
			digest_text(&r->digest, text));
	else
		(void)snprintf(reference, sizeof(reference), ":%s", r->tag);
	err = bc_registry_open(
		net, &ro, r->host, r->repository, &f->registry, e);
	if (err < 0) {
		mem_free(f);
		return err;
	}
	*ret = &f->origin;
	return 0;
}

int ld_origin_open(const struct ld_ref *r, const struct ld_image_options *o,
	struct bc_net *net, struct ld_origin **ret, struct err *e)
{
	if (r->kind == LD_REF_LAYOUT)
		return ld_origin_open_layout(r, ret, e);
	return open_registry(r, o, net, ret, e);
}

void ld_origin_close(struct ld_origin *o)
{
	if (o)
		o->ops->destroy(o);
}
