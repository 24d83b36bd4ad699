/* SPDX-License-Identifier: Apache-2.0 */
/* Auth files, helper answers, token questions and answers, base64. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/auth_file.h"
#include "blobcache/base64.h"
#include "blobcache/token.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

static struct bc_auth_entry entry;

static int find(const char *json, const char *host, const char *repository)
{
	bc_auth_entry_fini(&entry);
	return bc_auth_file_find(
		json, strlen(json), false, host, repository, &entry);
}

/* user of the entry that is found; passwords are "p" throughout. */
static void check_user(const char *json, const char *host,
	const char *repository, const char *user)
{
	assert_int_equal(find(json, host, repository), 0);
	if (!user) {
		assert_null(entry.cred.user);
		return;
	}
	assert_non_null(entry.cred.user);
	assert_string_equal(entry.cred.user, user);
	assert_string_equal(entry.cred.password, "p");
}

/* base64 of "a:p", "b:p", "c:p" */
#define A "{\"auth\":\"YTpw\"}"
#define B "{\"auth\":\"Yjpw\"}"
#define C "{\"auth\":\"Yzpw\"}"

static void the_most_specific_entry_counts(void **state)
{
	const char *json = "{\"auths\":{\"h:1\":" A ",\"h:1/x\":" B
			   ",\"h:1/x/y/z\":" C "}}";

	check_user(json, "h:1", "q", "a");
	check_user(json, "h:1", "x/y", "b");
	check_user(json, "h:1", "x/y/z", "c");
	check_user(json, "h:1", "xx", "a");
	check_user(json, "h", "x", NULL);
	check_user(json, "h:2", "x", NULL);
}

static void older_keys_are_urls(void **state)
{
	check_user("{\"auths\":{\"https://h/v1/\":" A "}}", "h", "x", "a");
	check_user("{\"auths\":{\"http://H\":" A "}}", "h", "x", "a");
	check_user("{\"auths\":{\"https://hh/v1/\":" A "}}", "h", "x", NULL);
	/* A path without scheme is a repository, not a host. */
	check_user("{\"auths\":{\"h/other\":" A "}}", "h", "x", NULL);
}

static void docker_hub_goes_by_all_its_names(void **state)
{
	static const char *const keys[] = {"docker.io", "index.docker.io",
		"registry-1.docker.io", "https://index.docker.io/v1/"};
	char json[200];

	for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
		(void)snprintf(json, sizeof(json), "{\"auths\":{\"%s\":" A "}}",
			keys[i]);
		check_user(json, "registry-1.docker.io", "library/x", "a");
		check_user(json, "docker.io", "library/x", "a");
		check_user(json, "quay.io", "library/x", NULL);
		(void)snprintf(json, sizeof(json),
			"{\"credHelpers\":{\"%s\":\"s\"}}", keys[i]);
		assert_int_equal(find(json, "registry-1.docker.io", "x"), 0);
		assert_string_equal(entry.helper, "s");
		assert_string_equal(
			entry.server, "https://index.docker.io/v1/");
	}
}

static void helpers_and_secrets_have_an_order(void **state)
{
	assert_int_equal(find("{\"credHelpers\":{\"h\":\"one\"},\"credsStore\":"
			      "\"two\",\"auths\":{\"h\":" A "}}",
				 "h", "x"),
		0);
	assert_string_equal(entry.helper, "one");
	assert_string_equal(entry.server, "h");
	check_user("{\"credsStore\":\"two\",\"auths\":{\"h\":" A "}}", "h", "x",
		"a");
	assert_null(entry.helper);
	assert_int_equal(
		find("{\"credsStore\":\"two\",\"auths\":{\"h\":{}}}", "h", "x"),
		0);
	assert_string_equal(entry.helper, "two");
}

static void every_form_of_a_secret_is_read(void **state)
{
	/* "a:p:q\0\0" */
	assert_int_equal(find("{\"auths\":{\"h\":{\"auth\":\"YTpwOnEAAA==\"}}}",
				 "h", "x"),
		0);
	assert_string_equal(entry.cred.password, "p:q");
	check_user(
		"{\"auths\":{\"h\":{\"username\":\"a\",\"password\":\"p\"}}}",
		"h", "x", "a");
	assert_int_equal(
		find("{\"auths\":{\"h\":{\"auth\":\"\",\"identitytoken\":"
		     "\"t\"}}}",
			"h", "x"),
		0);
	assert_string_equal(entry.cred.identity_token, "t");
}

static void the_flat_form_is_read_too(void **state)
{
	const char *json = "{\"https://h/v1/\":" A ",\"i\":" B ",\"n\":1}";

	bc_auth_entry_fini(&entry);
	assert_int_equal(
		bc_auth_file_find(json, strlen(json), true, "h", "x", &entry),
		0);
	assert_string_equal(entry.cred.user, "a");
	bc_auth_entry_fini(&entry);
	assert_int_equal(
		bc_auth_file_find(json, strlen(json), true, "i", "x", &entry),
		0);
	assert_string_equal(entry.cred.user, "b");
}

static void hostile_files_are_refused_or_mean_nothing(void **state)
{
	static const char *const broken[] = {"", "[]", "1", "{", "{\"auths\":}",
		"{\"auths\":{\"h\":{\"auth\":\"*\"}}}",
		"{\"auths\":{\"h\":{\"auth\":\"YQ==\"}}}",
		"{\"auths\":{\"h\":{\"auth\":\"AGE6cA==\"}}}",
		"{\"credHelpers\":{\"h\":\"../../bin/sh\"}}",
		"{\"credHelpers\":{\"h\":\"a b\"}}",
		"{\"credsStore\":\"/bin/sh\"}", "{\"a\":\"\xff\"}"};
	static const char *const empty[] = {"{}", "{\"auths\":[]}",
		"{\"auths\":{\"h\":[]}}", "{\"auths\":{\"h\":{\"auth\":1}}}",
		"{\"credHelpers\":[\"h\"]}", "{\"credHelpers\":{\"h\":{}}}",
		"{\"credsStore\":{}}", "{\"auths\":{\"\":" A "}}"};
	static char deep[40000];

	for (unsigned i = 0; i < ARRAY_LEN(broken); i++)
		if (find(broken[i], "h", "x") != -EPROTO)
			fail_msg("taken: %s", broken[i]);
	for (unsigned i = 0; i < ARRAY_LEN(empty); i++) {
		assert_int_equal(find(empty[i], "h", "x"), 0);
		assert_true(!entry.cred.user && !entry.helper &&
			    !entry.cred.identity_token);
	}
	memset(deep, '[', sizeof(deep) - 1);
	assert_int_equal(find(deep, "h", "x"), -EPROTO);
	assert_int_equal(bc_auth_file_find(deep, BC_AUTH_FILE_MAX + 1, false,
				 "h", "x", &entry),
		-E2BIG);
}

static int answer(const char *json, struct bc_credentials *c)
{
	return bc_helper_answer_parse(json, strlen(json), c);
}

static void helper_answers_are_passwords_or_tokens(void **state)
{
	struct bc_credentials c;

	assert_int_equal(
		answer("{\"Username\":\"u\",\"Secret\":\"s\"}", &c), 0);
	assert_string_equal(c.user, "u");
	assert_string_equal(c.password, "s");
	bc_credentials_fini(&c);
	assert_int_equal(
		answer("{\"Username\":\"<token>\",\"Secret\":\"s\"}", &c), 0);
	assert_null(c.user);
	assert_string_equal(c.identity_token, "s");
	bc_credentials_fini(&c);
	assert_int_equal(answer("", &c), -EPROTO);
	assert_int_equal(answer("[]", &c), -EPROTO);
	assert_int_equal(answer("{\"Username\":\"u\"}", &c), -EPROTO);
	assert_int_equal(
		answer("{\"Username\":\"u\",\"Secret\":1}", &c), -EPROTO);
	assert_int_equal(
		answer("{\"Username\":\"u\",\"Secret\":\"\"}", &c), -EPROTO);
}

static void token_questions_are_escaped(void **state)
{
	struct bc_challenge c = {.realm = "https://a/t",
		.service = "s&x=\"1\" ",
		.scope = "repository:x:pull repository:y:pull,push"};
	struct bc_credentials cred = {.user = (char *)"u@h"}, none = {0};
	char *s;

	s = bc_token_url(&c, "q", &cred);
	assert_string_equal(s, "https://a/t?service=s%26x%3D%221%22%20"
			       "&scope=repository:x:pull"
			       "&scope=repository:y:pull,push&account=u%40h");
	mem_free(s);
	c = (struct bc_challenge){.realm = "https://a/t?k=v"};
	s = bc_token_url(&c, "x/y", &none);
	assert_string_equal(s, "https://a/t?k=v&scope=repository:x/y:pull");
	mem_free(s);
	s = bc_token_form(&c, "x/y", "i+/=");
	assert_string_equal(s, "grant_type=refresh_token&client_id=sluice"
			       "&access_type=offline&service="
			       "&scope=repository:x/y:pull"
			       "&refresh_token=i%2B/%3D");
	mem_free(s);
	cred.password = (char *)"p";
	s = bc_basic_header(&cred);
	assert_string_equal(s, "Authorization: Basic dUBoOnA=");
	mem_free(s);
}

static int token(const char *json, uint64_t *life)
{
	char *header = NULL;
	int rc = bc_token_parse(json, strlen(json), &header, life);

	if (rc == 0)
		assert_string_equal(header, "Authorization: Bearer T");
	mem_free(header);
	return rc;
}

static void token_answers_are_bounded(void **state)
{
	uint64_t life;

	assert_int_equal(token("{\"token\":\"T\"}", &life), 0);
	assert_int_equal(life, 60);
	assert_int_equal(
		token("{\"access_token\":\"T\",\"expires_in\":300}", &life), 0);
	assert_int_equal(life, 300);
	assert_int_equal(
		token("{\"token\":\"T\",\"expires_in\":1e300}", &life), 0);
	assert_int_equal(life, 86400);
	assert_int_equal(
		token("{\"token\":\"T\",\"expires_in\":-5}", &life), 0);
	assert_int_equal(life, 60);
	assert_int_equal(token("{\"token\":\"T\\r\\nX: y\"}", &life), -EPROTO);
	assert_int_equal(token("{\"token\":\"T T\"}", &life), -EPROTO);
	assert_int_equal(token("{\"token\":\"\"}", &life), -EPROTO);
	assert_int_equal(token("{\"token\":1}", &life), -EPROTO);
	assert_int_equal(token("{}", &life), -EPROTO);
	assert_int_equal(token("", &life), -EPROTO);
}

static void base64_goes_both_ways(void **state)
{
	static const char *const pairs[][2] = {{"", ""}, {"f", "Zg=="},
		{"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
		{"\xff\xfe", "//4="}};
	uint8_t *plain;
	char *coded;
	size_t n;

	for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
		coded = bc_base64_encode(pairs[i][0], strlen(pairs[i][0]));
		assert_string_equal(coded, pairs[i][1]);
		assert_int_equal(
			bc_base64_decode(coded, strlen(coded), &plain, &n), 0);
		assert_int_equal(n, strlen(pairs[i][0]));
		assert_memory_equal(plain, pairs[i][0], n);
		mem_free(plain);
		mem_free(coded);
	}
	assert_int_equal(bc_base64_decode("Zm9", 3, &plain, &n), 0);
	assert_int_equal(n, 2);
	mem_free(plain);
	assert_int_equal(bc_base64_decode("Z", 1, &plain, &n), -EPROTO);
	assert_int_equal(bc_base64_decode("Zm 9", 4, &plain, &n), -EPROTO);
	assert_int_equal(bc_base64_decode("Z=9v", 4, &plain, &n), -EPROTO);
	assert_int_equal(bc_base64_decode("Zm\0v", 4, &plain, &n), -EPROTO);
}

static int forget_entry(void **state)
{
	bc_auth_entry_fini(&entry);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_most_specific_entry_counts),
		cmocka_unit_test(older_keys_are_urls),
		cmocka_unit_test(docker_hub_goes_by_all_its_names),
		cmocka_unit_test(helpers_and_secrets_have_an_order),
		cmocka_unit_test(every_form_of_a_secret_is_read),
		cmocka_unit_test(the_flat_form_is_read_too),
		cmocka_unit_test(hostile_files_are_refused_or_mean_nothing),
		cmocka_unit_test(helper_answers_are_passwords_or_tokens),
		cmocka_unit_test(token_questions_are_escaped),
		cmocka_unit_test(token_answers_are_bounded),
		cmocka_unit_test(base64_goes_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, forget_entry);
}
