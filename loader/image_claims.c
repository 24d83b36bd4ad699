/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images whose maps rest on tables that no digest covers (batch chunks, ZRAN
 * bootstraps that were not merged). The chunks' own digests keep every byte
 * right; but a false table makes chunks unreadable, and a record of it would
 * keep them so. Hence such a record counts only for the place that the tables
 * came from, and goes when a mount has seen chunks that were wrong: then the
 * next one asks for the tables again.
 */
#include <string.h>
#include <unistd.h>

#include "loader/image_int.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "image"

static int add_text(struct digest_ctx *c, const char *s, size_t len)
{
	int ret = digest_ctx_update(c, s, len);

	return ret < 0 ? ret : digest_ctx_update(c, "\n", 1);
}

int image_claims_place(const struct image_job *j, struct digest *ret)
{
	const char *blobs = j->o->blobs ? j->o->blobs : "";
	struct digest_ctx *c;
	int err;

	err = digest_ctx_create(DIGEST_SHA256, &c);
	if (err < 0)
		return err;
	/* a query signs a request, and changes with it */
	err = add_text(c, j->ref.host, strlen(j->ref.host));
	if (err == 0)
		err = add_text(c, j->ref.repository, strlen(j->ref.repository));
	if (err == 0)
		err = add_text(c, j->ref.path, strcspn(j->ref.path, "?"));
	if (err == 0)
		err = add_text(c, blobs, strcspn(blobs, "?"));
	if (err == 0)
		err = digest_ctx_final(c, ret);
	digest_ctx_destroy(c);
	return err;
}

void image_claims_judge(const struct ld_image *i)
{
	char rel[IMAGE_REL_LEN];
	struct bc_blob_stats stats;
	uint64_t failures = 0;
	size_t k;

	for (k = 0; k < i->blob_count && i->claims; k++) {
		if (!i->blobs[k].blob)
			continue;
		bc_blob_stats(i->blobs[k].blob, &stats);
		failures += stats.verify_failures;
	}
	if (failures == 0)
		return;
	image_rel(&i->digest, "image.json", rel);
	if (unlinkat(bc_store_dirfd(i->claims), rel, 0) == 0)
		log_warn("chunks were not what the bootstrap says, the next "
			 "mount asks for the blobs' chunk tables again");
}
