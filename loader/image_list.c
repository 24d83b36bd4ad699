/* SPDX-License-Identifier: Apache-2.0 */
/* The list of an image's layers, as status and inspect show it. */
#include <errno.h>

#include "loader/image_int.h"
#include "runtime/base/mem.h"

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

int image_list_layers(struct image_job *j, struct err *e)
{
	struct ld_image *i = j->image;
	const struct ld_layer_desc *d;
	struct ld_image_layer *l;
	const char *why;
	size_t k, n = j->manifest.layer_count;

	i->layers = mem_calloc(n, sizeof(*i->layers));
	if (!i->layers)
		return out_of_memory(e);
	i->layer_count = n;
	for (k = 0; k < n; k++) {
		d = &j->manifest.layers[k];
		l = &i->layers[k];
		l->digest = d->digest;
		l->size = d->size;
		l->entries = UINT64_MAX;
		l->size_uncompressed = UINT64_MAX;
		l->format = ld_layer_recognise(d, &l->lazy, &why);
		l->media_type = mem_strdup(d->media_type);
		l->why = mem_strdup(why);
		if (!l->media_type || !l->why)
			return out_of_memory(e);
	}
	return 0;
}

int image_describe_layers(
	struct image_job *j, const struct image_layers *l, struct err *e)
{
	struct ld_image *i = j->image;
	const struct image_layer *from;
	struct ld_image_layer *to;
	char *why;
	size_t k;

	for (k = 0; k < i->layer_count; k++) {
		from = l->by_layer[k];
		to = &i->layers[k];
		if (!from || from->is_absent)
			continue;
		to->entries = from->entries;
		to->size_uncompressed = from->size_uncompressed;
		to->format = from->format;
		to->lazy = from->lazy;
		why = from->why ? mem_strdup(from->why) : NULL;
		if (!why)
			return out_of_memory(e);
		mem_free(to->why);
		to->why = why;
	}
	return 0;
}

uint64_t image_sum_layers(const struct ld_image *i)
{
	uint64_t sum = 0;
	size_t k, n;

	for (k = 0; k < i->layer_count; k++) {
		for (n = 0; n < k; n++)
			if (digest_is_equal(
				    &i->layers[n].digest, &i->layers[k].digest))
				break;
		if (n == k)
			sum += i->layers[k].size;
	}
	return sum;
}
