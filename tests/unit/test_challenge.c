/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate as registries really write it, and as nobody should. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/challenge.h"

static struct bc_challenge c;

static int parse(const char *s)
{
	return bc_challenge_parse(s, strlen(s), &c);
}

static void check_bearer(const char *s, const char *realm, const char *service,
	const char *scope)
{
	assert_int_equal(parse(s), 0);
	assert_true(c.has_bearer);
	assert_string_equal(c.realm, realm);
	assert_string_equal(c.service, service);
	assert_string_equal(c.scope, scope);
}

static void a_bearer_challenge_is_taken_apart(void **state)
{
	check_bearer("Bearer realm=\"https://auth.docker.io/token\","
		     "service=\"registry.docker.io\","
		     "scope=\"repository:library/debian:pull\"",
		"https://auth.docker.io/token", "registry.docker.io",
		"repository:library/debian:pull");
	assert_false(c.has_basic);
	assert_string_equal(c.error, "");
}

static void spacing_case_and_order_do_not_matter(void **state)
{
	check_bearer(" ,, bEARER   SCOPE = \"a b\" ,\trealm= \"r\",, "
		     "Service =\"s\" , ",
		"r", "s", "a b");
	check_bearer("Bearer realm=https://x/y?z=1,service=s",
		"https://x/y?z=1", "s", "");
	check_bearer("Bearer realm=\"r\" service=\"s\"", "r", "s", "");
}

static void quotes_and_backslashes_are_undone(void **state)
{
	check_bearer("Bearer realm=\"a, \\\"b\\\" = c\\\\\",service=\"\"",
		"a, \"b\" = c\\", "", "");
}

static void several_challenges_are_told_apart(void **state)
{
	check_bearer("Basic realm=\"not this\", Bearer realm=\"r\",error="
		     "\"insufficient_scope\"",
		"r", "", "");
	assert_true(c.has_basic);
	assert_string_equal(c.error, "insufficient_scope");
	check_bearer("Negotiate, NTLM TlRMTVNTUAA=, Digest realm=\"d\","
		     "nonce=\"n\", Bearer realm=\"r\", Basic realm=\"b\"",
		"r", "", "");
	assert_true(c.has_basic);
	check_bearer("Bearer realm=\"one\",scope=\"1\", Bearer realm=\"two\","
		     "scope=\"2\",service=\"2\"",
		"one", "", "1");
	assert_int_equal(parse("Basic"), 0);
	assert_true(c.has_basic && !c.has_bearer);
}

static void a_bearer_without_realm_is_none(void **state)
{
	assert_int_equal(parse("Bearer"), 0);
	assert_false(c.has_bearer);
	assert_int_equal(parse("Bearer service=\"s\", Basic realm=\"b\""), 0);
	assert_true(!c.has_bearer && c.has_basic);
	assert_int_equal(parse(""), 0);
	assert_true(!c.has_bearer && !c.has_basic);
}

static void what_is_malformed_is_refused_whole(void **state)
{
	static const char *const bad[] = {"Bearer realm=\"open",
		"Bearer realm=\"x\\", "realm=\"x\"", "Bearer realm=\"a\nb\"",
		"Bearer realm=\"a\x7f\"", "=", "Bearer \"x\"",
		"Basic realm=\"b\", @"};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse(bad[i]) != -EPROTO)
			fail_msg("taken: %s", bad[i]);
		assert_true(!c.has_basic && !c.has_bearer && !c.realm[0]);
	}
	assert_int_equal(
		bc_challenge_parse("Bearer realm=\"a\0b\"", 18, &c), -EPROTO);
}

static void what_is_too_long_is_refused(void **state)
{
	static char text[70000];

	memset(text, 'a', sizeof(text));
	memcpy(text, "Bearer realm=", 13);
	assert_int_equal(
		bc_challenge_parse(text, 13 + BC_CHALLENGE_MAX_VALUE - 1, &c),
		0);
	assert_int_equal(
		bc_challenge_parse(text, 13 + BC_CHALLENGE_MAX_VALUE, &c),
		-EPROTO);
	assert_int_equal(bc_challenge_parse(text, sizeof(text), &c), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bearer_challenge_is_taken_apart),
		cmocka_unit_test(spacing_case_and_order_do_not_matter),
		cmocka_unit_test(quotes_and_backslashes_are_undone),
		cmocka_unit_test(several_challenges_are_told_apart),
		cmocka_unit_test(a_bearer_without_realm_is_none),
		cmocka_unit_test(what_is_malformed_is_refused_whole),
		cmocka_unit_test(what_is_too_long_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
