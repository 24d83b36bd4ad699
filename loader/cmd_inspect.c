/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: what an image is made of, without mounting it. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "loader/cmd.h"
#include "loader/image.h"
#include "loader/json.h"
#include "loader/size.h"
#include "loader/work.h"

#define MAX_TEXT (16u << 20)

static json_t *number(uint64_t n)
{
	return n == UINT64_MAX ? json_null() : json_integer((json_int_t)n);
}

static json_t *layer_json(const struct ld_image_layer *l)
{
	char digest[DIGEST_MAX_TEXT];

	return json_pack("{s:s, s:s?, s:s, s:o, s:o, s:o, s:b, s:s}", "digest",
		digest_text(&l->digest, digest), "media_type", l->media_type,
		"format", ld_format_name(l->format), "size", number(l->size),
		"size_uncompressed", number(l->size_uncompressed), "entries",
		number(l->entries), "lazy", (int)l->lazy, "why", l->why);
}

static int print_json(const struct ld_image *i, struct err *e)
{
	char digest[DIGEST_MAX_TEXT];
	json_t *layers = json_array(), *o;
	struct buf b;
	size_t k;
	int ret = 0;

	for (k = 0; k < i->layer_count; k++)
		ret |= json_array_append_new(layers, layer_json(&i->layers[k]));
	o = json_pack("{s:s, s:s, s:s?, s:o}", "image", i->name, "digest",
		digest_text(&i->digest, digest), "platform", i->platform,
		"layers", layers);
	buf_init(&b, MAX_TEXT);
	if (ret == 0)
		ret = ld_json_write(o, JSON_INDENT(2), &b);
	if (ret == 0)
		(void)printf("%.*s\n", (int)b.len, (char *)b.data);
	buf_fini(&b);
	json_decref(o);
	return ret < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static void print_text(const struct ld_image *i)
{
	const struct ld_image_layer *l;
	char digest[DIGEST_MAX_TEXT], size[32];
	size_t k;

	(void)printf("image    %s\ndigest   %s\n", i->name,
		digest_text(&i->digest, digest));
	if (i->platform)
		(void)printf("platform %s\n", i->platform);
	for (k = 0; k < i->layer_count; k++) {
		l = &i->layers[k];
		(void)printf("layer %-2zu %.19s %s", k + 1,
			digest_text(&l->digest, digest),
			ld_format_name(l->format));
		if (l->size != UINT64_MAX)
			(void)printf(", %s", ld_size_text(l->size, size));
		if (l->size_uncompressed != UINT64_MAX)
			(void)printf(" for %s",
				ld_size_text(l->size_uncompressed, size));
		if (l->entries != UINT64_MAX)
			(void)printf(", %" PRIu64 " entries", l->entries);
		(void)printf("\n         %s: %s\n",
			l->lazy ? "lazy" : "not lazy", l->why);
	}
}

int ld_cmd_inspect(struct ld_cli *c, struct err *e)
{
	struct ld_work w;
	struct ld_image_options o;
	struct ld_image i;
	int ret;

	ld_work_image_options(c, &o);
	ld_work_log(c);
	ret = ld_work_start(&w, c, NULL, e);
	if (ret < 0)
		return ret;
	ret = ld_image_inspect(&o, w.rt, w.net, w.store, &i, e);
	if (ret == 0) {
		if (c->json)
			ret = print_json(&i, e);
		else
			print_text(&i);
		ld_image_fini(&i);
	}
	ld_work_stop(&w);
	return ret;
}
