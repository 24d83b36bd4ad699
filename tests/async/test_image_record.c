/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a prepared image, as somebody else may have written it. */
#include "loader/image_int.h"
#include "tests/lib/hostile.h"

static void judge(void *arg, const char *name, struct buf *b)
{
	struct ld_image i = {.digest = {.algo = DIGEST_SHA256}};
	json_t *o;
	int r = -ENOENT;

	memset(i.digest.bytes, 0x11, digest_len(DIGEST_SHA256));
	o = image_record_parse((const char *)b->data, b->len, &i.digest);
	if (o)
		r = image_record_lists(o, &i);
	hostile_judge(name, r, "the image is prepared anew");
	json_decref(o);
	image_clear(&i);
}

static void each_sample_ends_as_its_name_says(void **state)
{
	hostile_each("image_record", 14, judge, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_sample_ends_as_its_name_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
