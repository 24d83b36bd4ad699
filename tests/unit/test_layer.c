/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer is, from its media type and annotations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/layer.h"
#include "runtime/base/util.h"

#define OCI "application/vnd.oci.image.layer."
#define DOCKER "application/vnd.docker.image.rootfs."

enum { NO_TOC, ESTARGZ_TOC, ZSTD_TOC };

static enum ld_format recognise(
	const char *type, int toc, bool *ret_lazy, const char **ret_why)
{
	char copy[200];
	struct ld_layer_desc d = {.media_type = type ? copy : NULL};

	if (type) {
		assert_true(strlen(type) < sizeof(copy));
		memcpy(copy, type, strlen(type) + 1);
	}
	if (toc != NO_TOC)
		d.toc.algo = DIGEST_SHA256;
	d.toc_is_estargz = toc == ESTARGZ_TOC;
	return ld_layer_recognise(&d, ret_lazy, ret_why);
}

static void layers_are_told_by_type_and_annotation(void **state)
{
	static const struct {
		const char *type;
		int toc;
		enum ld_format format;
		bool is_lazy;
	} cases[] = {
		{OCI "v1.tar", NO_TOC, LD_FORMAT_TAR, false},
		{OCI "v1.tar", ESTARGZ_TOC, LD_FORMAT_TAR, false},
		{OCI "v1.tar+gzip", NO_TOC, LD_FORMAT_TAR_GZIP, false},
		{OCI "v1.tar+gzip", ESTARGZ_TOC, LD_FORMAT_ESTARGZ, true},
		{OCI "v1.tar+gzip", ZSTD_TOC, LD_FORMAT_TAR_GZIP, false},
		{OCI "v1.tar+gzip; a=b", ESTARGZ_TOC, LD_FORMAT_ESTARGZ, true},
		{OCI "v1.tar+zstd", NO_TOC, LD_FORMAT_TAR_ZSTD, false},
		{OCI "v1.tar+zstd", ZSTD_TOC, LD_FORMAT_ZSTD_CHUNKED, true},
		{OCI "v1.tar+zstd", ESTARGZ_TOC, LD_FORMAT_TAR_ZSTD, false},
		{OCI "nondistributable.v1.tar+gzip", NO_TOC, LD_FORMAT_TAR_GZIP,
			false},
		{DOCKER "diff.tar.gzip", NO_TOC, LD_FORMAT_TAR_GZIP, false},
		{DOCKER "diff.tar.gzip", ESTARGZ_TOC, LD_FORMAT_ESTARGZ, true},
		{DOCKER "diff.tar", NO_TOC, LD_FORMAT_TAR, false},
		{DOCKER "foreign.diff.tar.gzip", NO_TOC, LD_FORMAT_TAR_GZIP,
			false},
		{OCI "nydus.blob.v1", NO_TOC, LD_FORMAT_RAFS_V6, false},
		{OCI "v1.tar+gzip+encrypted", ESTARGZ_TOC, LD_FORMAT_UNKNOWN,
			false},
		{"application/octet-stream", ZSTD_TOC, LD_FORMAT_UNKNOWN,
			false},
		{"", NO_TOC, LD_FORMAT_UNKNOWN, false},
		{NULL, NO_TOC, LD_FORMAT_UNKNOWN, false},
	};
	const char *why;
	bool is_lazy;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		why = NULL;
		assert_int_equal(
			recognise(cases[i].type, cases[i].toc, &is_lazy, &why),
			cases[i].format);
		assert_int_equal(is_lazy, cases[i].is_lazy);
		assert_non_null(why);
	}
	(void)recognise(OCI "v1.tar+zstd+encrypted", NO_TOC, &is_lazy, &why);
	assert_string_equal(why, "the layer is encrypted");
}

static void every_format_has_a_name(void **state)
{
	assert_string_equal(
		ld_format_name(LD_FORMAT_ZSTD_CHUNKED), "zstd:chunked");
	assert_string_equal(ld_format_name(LD_FORMAT_ESTARGZ), "estargz");
	for (int f = LD_FORMAT_TAR; f <= LD_FORMAT_NYDUS_V3; f++)
		assert_string_not_equal(ld_format_name(f), "unknown");
	assert_string_equal(ld_format_name(LD_FORMAT_UNKNOWN), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layers_are_told_by_type_and_annotation),
		cmocka_unit_test(every_format_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
