/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image's config, which nothing but the DiffIDs of streamed layers waits
 * for: it is fetched on a thread of its own while the layers' tables come.
 *
 *   begin --> applied at once: it is in the cache, or its origin is near
 *      |
 *      +----> on its way --> over, with its result for all who wait
 */
#include <errno.h>
#include <string.h>

#include "loader/image_int.h"
#include "runtime/base/mem.h"

static void config_rel(struct image_job *j, char ret[IMAGE_REL_LEN])
{
	image_rel(&j->image->digest, "config", ret);
}

/*
 * Layers with a table are being read meanwhile, and need no DiffID: only those
 * of the others are set, which wait for it.
 */
static int apply(struct image_job *j, const struct buf *b, struct err *e)
{
	struct ld_manifest m = j->manifest;
	const char *why;
	bool is_lazy;
	size_t i;
	int ret;

	m.layers = mem_calloc(m.layer_count, sizeof(*m.layers));
	if (!m.layers)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(m.layers, j->manifest.layers, m.layer_count * sizeof(*m.layers));
	ret = ld_manifest_apply_config(&m, (char *)b->data, b->len, e);
	for (i = 0; i < m.layer_count && ret == 0; i++)
		if (ld_layer_is_plain(
			    ld_layer_recognise(&m.layers[i], &is_lazy, &why)))
			j->manifest.layers[i].diff_id = m.layers[i].diff_id;
	mem_free(m.layers); /* what they own is the manifest's */
	return ret;
}

/* True: it was there, and *ret says what came of it. */
static bool apply_kept(struct image_job *j, int *ret, struct err *e)
{
	struct ld_manifest *m = &j->manifest;
	char rel[IMAGE_REL_LEN];
	struct buf b;
	bool is_kept;

	buf_init(&b, LD_MAX_MANIFEST_BYTES);
	config_rel(j, rel);
	is_kept = bc_store_get(j->store, rel, &b, NULL) == 0 &&
	          digest_check(&m->config, b.data, b.len) == 0;
	if (is_kept)
		*ret = apply(j, &b, e);
	buf_fini(&b);
	return is_kept;
}

static int fetch(struct image_job *j, struct err *e)
{
	struct ld_origin *origin = j->image->origin;
	struct ld_manifest *m = &j->manifest;
	char rel[IMAGE_REL_LEN];
	struct buf b;
	int ret;

	buf_init(&b, LD_MAX_MANIFEST_BYTES);
	ret = origin->ops->blob(origin, &m->config, m->config_size, &b, e);
	if (ret == 0) {
		config_rel(j, rel);
		/* lost: it is fetched again */
		(void)bc_store_put(j->store, rel, b.data, b.len, NULL);
		ret = apply(j, &b, e);
	}
	buf_fini(&b);
	return ret;
}

static void *run(void *arg)
{
	struct image_job *j = arg;
	struct image_config *c = &j->config;
	struct err e = {0};
	int ret = fetch(j, &e);

	(void)pthread_mutex_lock(&c->lock); /* a plain mutex cannot fail */
	c->result = ret;
	c->err = e;
	c->is_over = true;
	(void)pthread_cond_broadcast(&c->over);
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

int image_config_init(struct image_config *c)
{
	int ret = -pthread_mutex_init(&c->lock, NULL);

	if (ret < 0)
		return ret;
	ret = -pthread_cond_init(&c->over, NULL);
	if (ret < 0)
		(void)pthread_mutex_destroy(&c->lock); /* nobody holds it */
	c->is_over = true;
	return ret;
}

int image_config_begin(struct image_job *j, struct err *e)
{
	struct image_config *c = &j->config;
	int ret;

	if (apply_kept(j, &ret, e))
		return ret;
	if (j->image->origin->is_local)
		return fetch(j, e);
	c->is_over = false;
	c->has_thread = pthread_create(&c->thread, NULL, run, j) == 0;
	if (c->has_thread)
		return 0;
	c->is_over = true;
	return fetch(j, e);
}

int image_config_wait(struct image_job *j, struct err *e)
{
	struct image_config *c = &j->config;
	int ret;

	(void)pthread_mutex_lock(&c->lock); /* a plain mutex cannot fail */
	while (!c->is_over)
		(void)pthread_cond_wait(&c->over, &c->lock);
	ret = c->result;
	if (ret < 0 && e)
		*e = c->err;
	(void)pthread_mutex_unlock(&c->lock);
	return ret;
}

void image_config_fini(struct image_config *c)
{
	if (c->has_thread)
		(void)pthread_join(c->thread, NULL); /* its only end */
	(void)pthread_cond_destroy(&c->over);        /* nobody waits */
	(void)pthread_mutex_destroy(&c->lock);       /* nobody holds it */
}
