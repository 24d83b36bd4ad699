/* SPDX-License-Identifier: Apache-2.0 */
/* Image names: what each part becomes, and what is refused with which hint. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/imageref.h"
#include "runtime/base/util.h"

#define HEX64 \
	"0123456789abcdef0123456789abcdef" \
	"0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX64

struct good {
	const char *name;
	enum ld_ref_kind kind;
	const char *host, *repository, *tag, *path, *canonical;
	bool has_digest;
};

static const struct good good_names[] = {
	{"docker://127.0.0.1:5000/a/b:1", LD_REF_REGISTRY, "127.0.0.1:5000",
		"a/b", "1", "", "127.0.0.1:5000/a/b:1", false},
	{"127.0.0.1:5000/a", LD_REF_REGISTRY, "127.0.0.1:5000", "a", "latest",
		"", "127.0.0.1:5000/a:latest", false},
	{"localhost/x", LD_REF_REGISTRY, "localhost", "x", "latest", "",
		"localhost/x:latest", false},
	{"[::1]:5000/x:y", LD_REF_REGISTRY, "[::1]:5000", "x", "y", "",
		"[::1]:5000/x:y", false},
	{"docker.io/debian", LD_REF_REGISTRY, "registry-1.docker.io",
		"library/debian", "latest", "",
		"docker.io/library/debian:latest", false},
	{"index.docker.io/me/debian:12", LD_REF_REGISTRY,
		"registry-1.docker.io", "me/debian", "12", "",
		"docker.io/me/debian:12", false},
	{"ghcr.io/a__b/c--d.e_f@" DIGEST, LD_REF_REGISTRY, "ghcr.io",
		"a__b/c--d.e_f", "", "", "ghcr.io/a__b/c--d.e_f@" DIGEST, true},
	{"ghcr.io/a:V1.0_x@" DIGEST, LD_REF_REGISTRY, "ghcr.io", "a", "V1.0_x",
		"", "ghcr.io/a:V1.0_x@" DIGEST, true},
	{"oci:/tmp/x", LD_REF_LAYOUT, "", "", "", "/tmp/x", "oci:/tmp/x",
		false},
	{"oci:/tmp/x:latest", LD_REF_LAYOUT, "", "", "latest", "/tmp/x",
		"oci:/tmp/x:latest", false},
	{"oci:/tmp/x:docker.io/library/debian:12", LD_REF_LAYOUT, "", "",
		"docker.io/library/debian:12", "/tmp/x",
		"oci:/tmp/x:docker.io/library/debian:12", false},
	{"oci:/tmp/x@" DIGEST, LD_REF_LAYOUT, "", "", "", "/tmp/x",
		"oci:/tmp/x", true},
	{"/b/bootstrap", LD_REF_BUNDLE, "", "", "", "/b/bootstrap",
		"/b/bootstrap", false},
	{"/b/bootstrap#sha256=" HEX64, LD_REF_BUNDLE, "", "", "",
		"/b/bootstrap", "/b/bootstrap", true},
	{"https://h/b/bootstrap?sig=secret", LD_REF_BUNDLE_URL, "", "", "",
		"https://h/b/bootstrap?sig=secret", "https://h/b/bootstrap",
		false},
	{"http://127.0.0.1:8000/b#sha256=" HEX64, LD_REF_BUNDLE_URL, "", "", "",
		"http://127.0.0.1:8000/b", "http://127.0.0.1:8000/b", true},
};

static void good_names_are_taken_apart(void **state)
{
	const struct good *g;
	struct ld_ref r;
	struct err e = {0};
	size_t i;

	for (i = 0; i < ARRAY_LEN(good_names); i++) {
		g = &good_names[i];
		if (ld_ref_parse(g->name, &r, &e) < 0)
			fail_msg("%s: %s", g->name, e.text);
		assert_int_equal(r.kind, g->kind);
		assert_string_equal(r.host, g->host);
		assert_string_equal(r.repository, g->repository);
		assert_string_equal(r.tag, g->tag);
		assert_string_equal(r.path, g->path);
		assert_string_equal(r.canonical, g->canonical);
		assert_int_equal(r.digest.algo != DIGEST_NONE, g->has_digest);
	}
}

struct bad {
	const char *name, *hint;
};

static const struct bad bad_names[] = {
	{"", "empty"},
	{"debian", "docker.io/library/debian"},
	{"debian:12", "docker.io/library/debian:12"},
	{"me/app", "docker.io/me/app"},
	{"Debian", "no image name"},
	{"ghcr.io/", "the name ''"},
	{"ghcr.io", "ghcr.io/NAME"},
	{"ghcr.io/Upper", "lower-case"},
	{"ghcr.io/a//b", "lower-case"},
	{"ghcr.io/a/../b", "lower-case"},
	{"ghcr.io/-a", "lower-case"},
	{"ghcr.io/a___b", "lower-case"},
	{"ghcr.io/a:", "tag"},
	{"ghcr.io/a:b/c", "lower-case"},
	{"ghcr.io/a:.x", "tag"},
	{"ghcr.io/a@sha256:12", "digest"},
	{"ghcr.io/a@" DIGEST "0", "digest"},
	{"ghcr.io:port/a", "host"},
	{"ghcr.io:123456/a", "host"},
	{"user@ghcr.io/a", "digest"},
	{"exa mple.com/a", "host"},
	{"docker://", "no image name"},
	{"docker:///x", "no image name"},
	{"containers-storage://x", "not known"},
	{"ftp://host/x", "not known"},
	{"oci:", "oci:PATH"},
	{"oci::x", "oci:PATH"},
	{"oci:/x:", "tag"},
	{"oci:/x:a b", "tag"},
	{"/b#sha256=12", "64"},
	{"https://user:pw@host/b", "user name"},
	{"https:///b", "host"},
	{"https://h/b#frag", "#sha256"},
	{"ghcr.io/a\nb", "control"},
};

static void bad_names_are_usage_errors_with_a_hint(void **state)
{
	struct ld_ref r;
	struct err e;
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad_names); i++) {
		e = (struct err){0};
		if (ld_ref_parse(bad_names[i].name, &r, &e) == 0)
			fail_msg("'%s' was taken", bad_names[i].name);
		assert_int_equal(e.kind, ERR_USAGE);
		assert_int_equal(e.code, -EINVAL);
		if (!strstr(e.text, bad_names[i].hint))
			fail_msg("'%s': %s", bad_names[i].name, e.text);
	}
}

static void secrets_in_a_refused_url_are_not_repeated(void **state)
{
	struct ld_ref r;
	struct err e = {0};

	assert_int_not_equal(
		ld_ref_parse("https://user:hunter2@host/b", &r, &e), 0);
	assert_null(strstr(e.text, "hunter2"));
}

static void relative_paths_become_absolute(void **state)
{
	char cwd[4096], want[5000];
	struct ld_ref r;
	struct err e = {0};

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	(void)snprintf(want, sizeof(want), "%s/x/bootstrap", cwd);
	assert_int_equal(ld_ref_parse("./x/bootstrap", &r, &e), 0);
	assert_string_equal(r.path, want);
	assert_int_equal(ld_ref_parse("oci:x/bootstrap", &r, &e), 0);
	assert_string_equal(r.path, want);
}

static void names_that_are_too_long_are_refused(void **state)
{
	char name[6000];
	struct ld_ref r;
	struct err e = {0};

	memset(name, 'a', sizeof(name));
	memcpy(name, "ghcr.io/", 8);
	name[400] = '\0';
	assert_int_equal(ld_ref_parse(name, &r, &e), -EINVAL);
	memset(name, 'a', sizeof(name));
	name[0] = '/';
	name[5000] = '\0';
	assert_int_equal(ld_ref_parse(name, &r, &e), -EINVAL);
	memcpy(name, "oci:/", 5);
	assert_int_equal(ld_ref_parse(name, &r, &e), -EINVAL);
	memcpy(name, "http://h/", 9);
	assert_int_equal(ld_ref_parse(name, &r, &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_names_are_taken_apart),
		cmocka_unit_test(bad_names_are_usage_errors_with_a_hint),
		cmocka_unit_test(secrets_in_a_refused_url_are_not_repeated),
		cmocka_unit_test(relative_paths_become_absolute),
		cmocka_unit_test(names_that_are_too_long_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
