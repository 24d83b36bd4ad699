/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, indexes and configs: what is chosen, read, and refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "loader/manifest.h"
#include "runtime/base/util.h"

#define H(c) c c c c c c c c c c c c c c c c
#define A "sha256:" H("aaaa")
#define B "sha256:" H("bbbb")
#define C "sha256:" H("cccc")
#define D "sha256:" H("dddd")

#define OCI "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."
#define INDEX OCI "index.v1+json"
#define MANIFEST OCI "manifest.v1+json"
#define LIST DOCKER "distribution.manifest.list.v2+json"
#define SCHEMA2 DOCKER "distribution.manifest.v2+json"

#define CONFIG \
	"\"config\":{\"mediaType\":\"" OCI "config.v1+json\"," \
	"\"digest\":\"" A "\",\"size\":7}"
#define LAYER(type, digest, more) \
	"{\"mediaType\":\"" type "\",\"digest\":\"" digest \
	"\",\"size\":1000" more "}"
#define IMAGE(layers) "{\"schemaVersion\":2," CONFIG ",\"layers\":[" layers "]}"
#define NOTES(list) ",\"annotations\":{" list "}"
#define NEW "io.github.containers.zstd-chunked.manifest-"
#define OLD "io.containers.zstd-chunked.manifest-"
#define TOC "\"containerd.io/snapshot/stargz/toc.digest\":\"" D "\""

#define ENTRY(digest, os, arch, more) \
	"{\"mediaType\":\"" MANIFEST "\",\"digest\":\"" digest \
	"\",\"size\":9,\"platform\":{\"os\":\"" os \
	"\",\"architecture\":\"" arch "\"" more "}}"
#define AN_INDEX(entries) "{\"schemaVersion\":2,\"manifests\":[" entries "]}"

static int parse(const char *json, struct ld_manifest *m, struct err *e)
{
	*e = (struct err){0};
	return ld_manifest_parse(json, strlen(json), "", m, e);
}

static void an_image_may_have_no_layers(void **state)
{
	const char *config = "{\"rootfs\":{\"diff_ids\":[]}}";
	struct ld_manifest m;
	struct err e;

	assert_int_equal(parse(IMAGE(""), &m, &e), 0);
	assert_int_equal(m.layer_count, 0);
	assert_int_equal(
		ld_manifest_apply_config(&m, config, strlen(config), &e), 0);
	ld_manifest_fini(&m);
}

static void a_manifest_becomes_layers(void **state)
{
	struct ld_manifest m;
	struct err e;
	char text[DIGEST_MAX_TEXT];

	assert_int_equal(
		parse(IMAGE(LAYER(OCI "layer.v1.tar+gzip", B, "") "," LAYER(
			      OCI "layer.v1.tar", C, "")),
			&m, &e),
		0);
	assert_int_equal(m.layer_count, 2);
	assert_string_equal(digest_text(&m.config, text), A);
	assert_int_equal(m.config_size, 7);
	assert_string_equal(digest_text(&m.layers[0].digest, text), B);
	assert_int_equal(m.layers[1].size, 1000);
	assert_string_equal(m.layers[1].media_type, OCI "layer.v1.tar");
	assert_int_equal(m.layers[0].toc.algo, DIGEST_NONE);
	ld_manifest_fini(&m);
}

static void the_compression_decides_whose_annotation_counts(void **state)
{
	static const char zstd_new[] = IMAGE(LAYER(OCI "layer.v1.tar+zstd", B,
		NOTES(TOC ",\"" OLD "checksum\":\"" A "\",\"" OLD
			  "position\":\"1:2:3:1\",\"" NEW "checksum\":\"" C
			  "\",\"" NEW "position\":\"900:90:4000:1\"")));
	static const char zstd_old[] = IMAGE(LAYER(OCI "layer.v1.tar+zstd", B,
		NOTES(TOC ",\"" OLD "checksum\":\"" A "\",\"" OLD
			  "position\":\"1:2:3:1\"")));
	static const char gzip[] =
		IMAGE(LAYER(DOCKER "image.rootfs.diff.tar.gzip", B,
			NOTES(TOC ",\"" NEW "checksum\":\"" A "\",\"" NEW
				  "position\":\"1:2:3:1\"")));
	static const char tar[] =
		IMAGE(LAYER(OCI "layer.v1.tar", B, NOTES(TOC)));
	struct ld_manifest m;
	struct err e;
	char text[DIGEST_MAX_TEXT];

	assert_int_equal(parse(zstd_new, &m, &e), 0);
	assert_string_equal(digest_text(&m.layers[0].toc, text), C);
	assert_int_equal(m.layers[0].toc_off, 900);
	assert_int_equal(m.layers[0].toc_len, 90);
	assert_int_equal(m.layers[0].toc_raw_len, 4000);
	assert_false(m.layers[0].toc_is_estargz);
	ld_manifest_fini(&m);
	assert_int_equal(parse(zstd_old, &m, &e), 0);
	assert_string_equal(digest_text(&m.layers[0].toc, text), A);
	ld_manifest_fini(&m);
	assert_int_equal(parse(gzip, &m, &e), 0);
	assert_string_equal(digest_text(&m.layers[0].toc, text), D);
	assert_true(m.layers[0].toc_is_estargz);
	assert_int_equal(m.layers[0].toc_len, 0);
	ld_manifest_fini(&m);
	assert_int_equal(parse(tar, &m, &e), 0);
	assert_int_equal(m.layers[0].toc.algo, DIGEST_NONE);
	ld_manifest_fini(&m);
}

#define ZSTD_AT(pos) \
	IMAGE(LAYER(OCI "layer.v1.tar+zstd", B, \
		NOTES("\"" NEW "checksum\":\"" A "\",\"" NEW \
		      "position\":\"" pos "\"")))

struct bad {
	const char *json, *says;
	enum err_kind kind;
};

static const struct bad bad_manifests[] = {
	{"", "JSON", ERR_BROKEN},
	{"[]", "object", ERR_BROKEN},
	{"{}", "neither", ERR_BROKEN},
	{"{\"layers\":[],\"layers\":[]}", "JSON", ERR_BROKEN},
	{"{\"config\":1,\"layers\":[]}", "descriptor", ERR_BROKEN},
	{"{" CONFIG "}", "no layers", ERR_BROKEN},
	{"{" CONFIG ",\"layers\":{}}", "no layers", ERR_BROKEN},
	{"{" CONFIG ",\"layers\":[7]}", "layer 1", ERR_BROKEN},
	{"{" CONFIG ",\"layers\":[],\"manifests\":[]}", "at once", ERR_BROKEN},
	{"{\"mediaType\":\"" INDEX "\"," CONFIG ",\"layers\":[]}", "fit",
		ERR_BROKEN},
	{"{\"mediaType\":\"" MANIFEST "\",\"manifests\":[]}", "fit",
		ERR_BROKEN},
	{"{\"mediaType\":\"text/html\"," CONFIG ",\"layers\":[]}", "text/html",
		ERR_UNSUPPORTED},
	{"{\"schemaVersion\":1,\"fsLayers\":[]}", "schema 1", ERR_UNSUPPORTED},
	{"{\"config\":{\"mediaType\":\"application/x-chart\"},\"layers\":[]}",
		"artifact of type 'application/x-chart'", ERR_UNSUPPORTED},
	{AN_INDEX(""), "index", ERR_BROKEN},
	{IMAGE("{\"digest\":\"sha256:12\",\"size\":1}"), "sha256:12",
		ERR_BROKEN},
	{IMAGE("{\"digest\":\"blake3:" H("aaaa") "\",\"size\":1}"), "blake3",
		ERR_BROKEN},
	{IMAGE("{\"digest\":\"" A "\"}"), "size", ERR_BROKEN},
	{IMAGE("{\"digest\":\"" A "\",\"size\":-1}"), "size", ERR_BROKEN},
	{IMAGE("{\"digest\":\"" A "\",\"size\":1.5}"), "size", ERR_BROKEN},
	{IMAGE("{\"digest\":\"" A "\",\"size\":9000000000000000000}"), "size",
		ERR_BROKEN},
	{IMAGE(LAYER("x", A, "") "," LAYER("x+gzip", A, NOTES(TOC))),
		"two ways", ERR_BROKEN},
	{IMAGE(LAYER("x+gzip", A,
		 NOTES("\"containerd.io/snapshot/stargz/toc.digest\":\"x\""))),
		"toc.digest", ERR_BROKEN},
	{ZSTD_AT("1:2:3"), "position", ERR_BROKEN},
	{ZSTD_AT("1:2:3:2"), "position", ERR_BROKEN},
	{ZSTD_AT("1:2:3:1:"), "position", ERR_BROKEN},
	{ZSTD_AT("-1:2:3:1"), "position", ERR_BROKEN},
	{ZSTD_AT("99999999999999999999999:2:3:1"), "position", ERR_BROKEN},
	{ZSTD_AT("999:2:3:1"), "outside", ERR_BROKEN},
	{ZSTD_AT("1001:0:3:1"), "outside", ERR_BROKEN},
};

static void hostile_manifests_are_refused(void **state)
{
	struct ld_manifest m;
	struct err e;
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad_manifests); i++) {
		if (parse(bad_manifests[i].json, &m, &e) >= 0)
			fail_msg("taken: %s", bad_manifests[i].json);
		if (!strstr(e.text, bad_manifests[i].says) ||
			e.kind != bad_manifests[i].kind)
			fail_msg("%s: %s (%d)", bad_manifests[i].json, e.text,
				(int)e.kind);
	}
}

static void too_many_layers_and_bytes_are_refused(void **state)
{
	struct buf b;
	struct ld_manifest m;
	struct err e = {0};
	size_t i;

	buf_init(&b, 0);
	assert_int_equal(buf_printf(&b, "{" CONFIG ",\"layers\":["), 0);
	for (i = 0; i <= LD_MAX_LAYERS; i++)
		assert_int_equal(
			buf_printf(&b, "%s" LAYER("x", A, ""), i ? "," : ""),
			0);
	assert_int_equal(buf_printf(&b, "]}"), 0);
	assert_int_equal(
		ld_manifest_parse((char *)b.data, b.len, "", &m, &e), -EPROTO);
	assert_non_null(strstr(e.text, "513"));
	assert_int_equal(ld_manifest_parse((char *)b.data,
				 LD_MAX_MANIFEST_BYTES + 1, "", &m, &e),
		-EPROTO);
	buf_fini(&b);
}

static void header_and_body_must_name_the_same_type(void **state)
{
	static const char body[] = "{\"mediaType\":\"" MANIFEST "\"," CONFIG
				   ",\"layers\":[" LAYER("x", A, "") "]}";
	static const char bare[] = IMAGE(LAYER("x", A, ""));
	struct ld_manifest m;
	struct err e = {0};

	assert_int_equal(ld_manifest_parse(body, sizeof(body) - 1,
				 MANIFEST "; charset=utf-8", &m, &e),
		0);
	ld_manifest_fini(&m);
	/* a server that knows no types has said nothing */
	assert_int_equal(ld_manifest_parse(body, sizeof(body) - 1,
				 "application/json", &m, &e),
		0);
	ld_manifest_fini(&m);
	assert_int_equal(
		ld_manifest_parse(body, sizeof(body) - 1, SCHEMA2, &m, &e),
		-EPROTO);
	assert_int_equal(
		ld_manifest_parse(body, sizeof(body) - 1, INDEX, &m, &e),
		-EPROTO);
	/* without a type in the body the header alone must fit */
	assert_int_equal(
		ld_manifest_parse(bare, sizeof(bare) - 1, INDEX, &m, &e),
		-EPROTO);
	assert_int_equal(
		ld_manifest_parse(bare, sizeof(bare) - 1, SCHEMA2, &m, &e), 0);
	ld_manifest_fini(&m);
}

struct choice {
	const char *index, *platform, *want;
};

#define VARIANT(v) ",\"variant\":\"" v "\""
#define TWIN \
	"{\"digest\":\"" B "\",\"size\":9,\"platform\":{\"os\":\"linux\"," \
	"\"architecture\":\"amd64\"},\"annotations\":{" \
	"\"io.github.containers.compression.zstd\":\"true\"}}"
#define ATTESTED \
	"{\"digest\":\"" C "\",\"size\":9,\"platform\":{\"os\":\"linux\"," \
	"\"architecture\":\"amd64\"},\"annotations\":{" \
	"\"vnd.docker.reference.type\":\"attestation-manifest\"}}"

#define NYDUS(digest, arch) \
	ENTRY(digest, "linux", arch, \
		",\"os.features\":[\"nydus.remoteimage.v1\"]")

static const struct choice choices[] = {
	{AN_INDEX(ENTRY(A, "linux", "arm64", "") "," ENTRY(
		 B, "linux", "amd64", "")),
		"linux/amd64", B},
	{AN_INDEX(ENTRY(A, "linux", "arm64", VARIANT("v8"))), "linux/arm64", A},
	{AN_INDEX(ENTRY(A, "linux", "arm64", "")), "linux/arm64/v8", A},
	{AN_INDEX(ENTRY(A, "linux", "arm", VARIANT("v5")) "," ENTRY(
		 B, "linux", "arm", VARIANT("v6"))),
		"linux/arm/v7", B},
	{AN_INDEX(ENTRY(A, "linux", "arm", VARIANT("v7")) "," ENTRY(
		 B, "linux", "arm", VARIANT("v6"))),
		"linux/arm/v6", B},
	{AN_INDEX(ENTRY(A, "linux", "amd64", VARIANT("v3")) "," ENTRY(
		 B, "linux", "amd64", "")),
		"linux/amd64", B},
	{AN_INDEX(ENTRY(B, "linux", "amd64", "") "," ENTRY(
		 A, "linux", "amd64", VARIANT("v3"))),
		"linux/amd64/v3", A},
	/* the zstd:chunked twin wins on either side, attestations never */
	{AN_INDEX(ENTRY(A, "linux", "amd64", "") "," TWIN), "linux/amd64", B},
	{AN_INDEX(TWIN "," ENTRY(A, "linux", "amd64", "")), "linux/amd64", B},
	{AN_INDEX(ATTESTED "," ENTRY(A, "linux", "amd64", "")), "linux/amd64",
		A},
	/* what needs features of others comes last, but comes */
	{AN_INDEX(ENTRY(
		 A, "linux", "amd64", ",\"os.features\":[\"x\"]") "," ENTRY(B,
		 "linux", "amd64", "")),
		"linux/amd64", B},
	{AN_INDEX(ENTRY(A, "linux", "amd64", ",\"os.features\":[\"x\"]")),
		"linux/amd64", A},
	/* but Nydus' form of the same system's image wins on either side */
	{AN_INDEX(NYDUS(A, "amd64") "," ENTRY(B, "linux", "amd64", "")),
		"linux/amd64", A},
	{AN_INDEX(ENTRY(B, "linux", "amd64", "") "," NYDUS(A, "amd64")),
		"linux/amd64", A},
	{AN_INDEX(NYDUS(A, "arm64") "," ENTRY(B, "linux", "amd64", "")),
		"linux/amd64", B},
	/* an index within an index often has no platform */
	{AN_INDEX("{\"mediaType\":\"" INDEX "\",\"digest\":\"" D
		  "\",\"size\":9}"),
		"linux/amd64", D},
};

static void the_best_platform_is_chosen(void **state)
{
	const struct choice *c;
	struct digest d;
	struct err e;
	char text[DIGEST_MAX_TEXT];
	size_t i;

	for (i = 0; i < ARRAY_LEN(choices); i++) {
		c = &choices[i];
		e = (struct err){0};
		if (ld_manifest_is_index(c->index, strlen(c->index), "",
			    c->platform, &d, &e) != 1)
			fail_msg("%s: %s", c->index, e.text);
		if (strcmp(digest_text(&d, text), c->want) != 0)
			fail_msg("%s: chose %s", c->index, text);
	}
}

static void a_missing_platform_names_those_that_are_there(void **state)
{
	static const char json[] = AN_INDEX(ENTRY(A, "linux", "arm64",
		VARIANT("v8")) "," ENTRY(B, "unknown", "unknown", ""));
	struct digest d;
	struct err e = {0};

	assert_int_equal(ld_manifest_is_index(json, sizeof(json) - 1, INDEX,
				 "linux/amd64", &d, &e),
		-ENOENT);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	assert_non_null(strstr(e.text, "linux/amd64"));
	assert_non_null(strstr(e.text, "linux/arm64/v8"));
	assert_null(strstr(e.text, "unknown"));
	assert_int_equal(ld_manifest_is_index(
				 json, sizeof(json) - 1, LIST, "linux", &d, &e),
		-EINVAL);
	assert_int_equal(e.kind, ERR_USAGE);
	assert_int_equal(ld_manifest_is_index(json, sizeof(json) - 1, LIST,
				 "linux/a/b/c", &d, &e),
		-EINVAL);
}

static void a_manifest_is_no_index(void **state)
{
	static const char json[] = IMAGE(LAYER("x", A, ""));
	struct digest d;
	struct err e = {0};

	assert_int_equal(ld_manifest_is_index(json, sizeof(json) - 1, MANIFEST,
				 "linux/amd64", &d, &e),
		0);
}

static void the_config_gives_diff_ids(void **state)
{
	static const char one[] = "{\"rootfs\":{\"diff_ids\":[\"" C "\"]}}";
	static const char two[] =
		"{\"rootfs\":{\"diff_ids\":[\"" C "\",\"" C "\"]}}";
	static const char bad[] = "{\"rootfs\":{\"diff_ids\":[\"x\"]}}";
	struct ld_manifest m;
	struct err e;
	char text[DIGEST_MAX_TEXT];

	assert_int_equal(parse(IMAGE(LAYER("x", A, "")), &m, &e), 0);
	assert_int_equal(
		ld_manifest_apply_config(&m, one, sizeof(one) - 1, &e), 0);
	assert_string_equal(digest_text(&m.layers[0].diff_id, text), C);
	assert_int_equal(ld_manifest_apply_config(&m, two, sizeof(two) - 1, &e),
		-EPROTO);
	assert_int_equal(ld_manifest_apply_config(&m, bad, sizeof(bad) - 1, &e),
		-EPROTO);
	assert_int_equal(ld_manifest_apply_config(&m, "{}", 2, &e), 0);
	ld_manifest_fini(&m);
}

static void deep_nesting_is_refused(void **state)
{
	static char json[200000];
	struct ld_manifest m;
	struct err e;

	memset(json, '[', sizeof(json) - 1);
	memcpy(json, "{\"layers\":", 10);
	assert_int_equal(parse(json, &m, &e), -EPROTO);
}

static void a_platform_has_two_or_three_parts(void **state)
{
	static const char *const bad[] = {"", "linux", "linux/", "/amd64",
		"linux//v7", "linux/arm/v7/", "linux/arm/v7/x"};
	struct err e = {0};

	assert_int_equal(ld_platform_check("linux/amd64", &e), 0);
	assert_int_equal(ld_platform_check("linux/arm/v7", &e), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(ld_platform_check(bad[i], &e), -EINVAL);
		assert_int_equal(e.kind, ERR_USAGE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_platform_has_two_or_three_parts),
		cmocka_unit_test(an_image_may_have_no_layers),
		cmocka_unit_test(a_manifest_becomes_layers),
		cmocka_unit_test(
			the_compression_decides_whose_annotation_counts),
		cmocka_unit_test(hostile_manifests_are_refused),
		cmocka_unit_test(too_many_layers_and_bytes_are_refused),
		cmocka_unit_test(header_and_body_must_name_the_same_type),
		cmocka_unit_test(the_best_platform_is_chosen),
		cmocka_unit_test(a_missing_platform_names_those_that_are_there),
		cmocka_unit_test(a_manifest_is_no_index),
		cmocka_unit_test(the_config_gives_diff_ids),
		cmocka_unit_test(deep_nesting_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
