/* SPDX-License-Identifier: Apache-2.0 */
/* registries.conf: which name leads where. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/registries.h"
#include "runtime/base/mem.h"

static struct bc_registries *conf;

static int setup(void **state)
{
	conf = bc_registries_create();
	return conf ? 0 : -1;
}

static int teardown(void **state)
{
	bc_registries_destroy(conf);
	return 0;
}

static void add(const char *text)
{
	struct err e = {0};

	if (bc_registries_add(conf, text, strlen(text), "conf", &e) < 0)
		fail_msg("%s", e.text);
}

/* "HOST/NAME[ flags], ..." of what name leads to. */
static const char *places_of(
	const char *host, const char *name, const char *reference)
{
	static char out[1000];
	struct bc_endpoints p;
	struct err e = {0};
	size_t n = 0;
	int rc = bc_registries_choose(conf, host, name, reference, &p, &e);

	if (rc < 0) {
		(void)snprintf(out, sizeof(out), "%d: %s", rc, e.text);
		return out;
	}
	for (unsigned i = 0; i < p.count; i++)
		n += (size_t)snprintf(out + n, sizeof(out) - n,
			"%s%s/%s%s%s%s%s%s", i ? ", " : "", p.list[i].host,
			p.list[i].repository, p.list[i].is_mirror ? " m" : "",
			p.list[i].is_insecure ? " i" : "",
			p.list[i].digests_only ? " d" : "",
			p.list[i].ns ? " ns=" : "",
			p.list[i].ns ? p.list[i].ns : "");
	bc_endpoints_fini(&p);
	return out;
}

static void without_a_file_a_name_leads_to_itself(void **state)
{
	assert_string_equal(places_of("h:5000", "a/b", ":x"), "h:5000/a/b");
	assert_string_equal(places_of("registry-1.docker.io", "library/a", "@"),
		"registry-1.docker.io/library/a");
}

static void mirrors_go_before_the_registry(void **state)
{
	add("[[registry]]\nlocation='docker.io'\n"
	    "[[registry.mirror]]\nlocation='m1:5000'\ninsecure=true\n"
	    "[[registry.mirror]]\nlocation='m2/hub/'\n");
	assert_string_equal(
		places_of("registry-1.docker.io", "library/a", ":x"),
		"m1:5000/library/a m i ns=docker.io, m2/hub/library/a m, "
		"registry-1.docker.io/library/a");
	assert_string_equal(places_of("quay.io", "a", ":x"), "quay.io/a");
}

static void the_longest_prefix_counts_and_ends_at_a_border(void **state)
{
	add("[[registry]]\nprefix='h/a'\nlocation='one/x'\n"
	    "[[registry]]\nprefix='h/a/b'\nlocation='two'\n"
	    "[[registry]]\nlocation='h'\ninsecure=true\n");
	assert_string_equal(places_of("h", "a/c", ":x"), "one/x/c");
	assert_string_equal(places_of("h", "a/b/c", ":x"), "two/c");
	assert_string_equal(places_of("h", "ab", ":x"), "h/ab i");
	assert_string_equal(places_of("h:80", "ab", ":x"), "h:80/ab i");
	assert_string_equal(places_of("hh", "ab", ":x"), "hh/ab");
}

static void wildcards_stand_for_subdomains(void **state)
{
	add("[[registry]]\nprefix='*.example.com'\n"
	    "[[registry.mirror]]\nlocation='m'\n"
	    "[[registry]]\nprefix='*.example.com/no'\nblocked=true\n"
	    "[[registry]]\nprefix='*.org'\nlocation='l/p'\n");
	assert_string_equal(places_of("a.b.example.com", "x", ":1"),
		"m/x m ns=a.b.example.com, a.b.example.com/x");
	assert_string_equal(
		places_of("example.com", "x", ":1"), "example.com/x");
	assert_non_null(strstr(places_of("a.example.com", "no", ":1"),
		"'a.example.com/no' is blocked by '*.example.com/no' in "
		"'conf'"));
	assert_string_equal(places_of("w.org", "x/y", ":1"), "l/p/x/y");
	assert_string_equal(places_of("h", "w.org/x", ":1"), "h/w.org/x");
}

static void mirrors_may_be_for_tags_or_digests_only(void **state)
{
	add("[[registry]]\nlocation='h'\n"
	    "[[registry.mirror]]\nlocation='d'\n"
	    "pull-from-mirror='digest-only'\n"
	    "[[registry.mirror]]\nlocation='t'\npull-from-mirror='tag-only'\n"
	    "[[registry.mirror]]\nlocation='a'\npull-from-mirror='all'\n");
	assert_string_equal(places_of("h", "x", ":1"),
		"d/x m d ns=h, t/x m ns=h, a/x m ns=h, h/x");
	assert_string_equal(places_of("h", "x", "@sha256:00"),
		"d/x m d ns=h, a/x m ns=h, h/x");
}

static void version_1_says_what_is_insecure_or_blocked(void **state)
{
	add("[registries.search]\nregistries=['docker.io']\n"
	    "[registries.insecure]\nregistries=['i:5000', 'both']\n"
	    "[registries.block]\nregistries=['b/x', 'both']\n");
	assert_string_equal(places_of("i:5000", "x", ":1"), "i:5000/x i");
	assert_string_equal(places_of("b", "y", ":1"), "b/y");
	assert_non_null(strstr(places_of("b", "x", ":1"), "blocked"));
	assert_non_null(strstr(places_of("both", "x", ":1"), "blocked"));
	/* Empty ones are of either version. */
	add("[registries.search]\nregistries=[]\n"
	    "[[registry]]\nlocation='k'\ninsecure=true\n");
	assert_string_equal(places_of("k", "x", ":1"), "k/x i");
}

static void a_later_file_replaces_a_prefix(void **state)
{
	add("[[registry]]\nlocation='h'\nblocked=true\n"
	    "[[registry]]\nlocation='k'\ninsecure=true\n");
	assert_non_null(strstr(places_of("h", "x", ":1"), "blocked"));
	add("[[registry]]\nlocation='h'\n[[registry]]\nlocation='h'\n"
	    "insecure=true\n");
	/* Of one file the first one counts. */
	assert_string_equal(places_of("h", "x", ":1"), "h/x");
	assert_string_equal(places_of("k", "x", ":1"), "k/x i");
}

static void docker_io_is_spelt_as_its_api_wants_it(void **state)
{
	add("[[registry]]\nprefix='h'\nlocation='docker.io'\n");
	assert_string_equal(places_of("h", "debian", ":1"),
		"registry-1.docker.io/library/debian");
	assert_string_equal(
		places_of("h", "a/b", ":1"), "registry-1.docker.io/a/b");
}

static void what_leads_nowhere_is_refused(void **state)
{
	add("[[registry]]\nprefix='h/x'\nlocation='onlyhost'\n"
	    "[[registry]]\nprefix='t/x:1'\nlocation='t/x:2'\n");
	assert_non_null(strstr(places_of("h", "x", ":1"), "no repository"));
	assert_non_null(strstr(places_of("t", "x", ":1"), "not supported"));
	assert_string_equal(places_of("t", "x", ":2"), "t/x");
}

static void mistakes_in_a_file_are_named(void **state)
{
	static const char *const bad[][2] = {
		{"[[registry]]\n", "neither a prefix nor a location"},
		{"[[registry]]\nprefix='a'\n", "no location"},
		{"[[registry]]\nlocation='https://a'\n", "without a scheme"},
		{"[[registry]]\nlocation='/a'\n", "without a scheme"},
		{"[[registry]]\nlocation=1\n", "no string"},
		{"[[registry]]\nlocation='a'\nblocked='yes'\n",
			"neither true nor false"},
		{"[[registry]]\nlocation='a'\nmirror='b'\n", "no list"},
		{"[[registry]]\nlocation='a'\nmirror=['b']\n", "no table"},
		{"[[registry]]\nlocation='a'\n[[registry.mirror]]\n",
			"location"},
		{"[[registry]]\nlocation='a'\n[[registry.mirror]]\n"
		 "location='b'\npull-from-mirror='some'\n",
			"digest-only"},
		{"[[registry]]\nlocation='a'\nmirror-by-digest-only=true\n"
		 "[[registry.mirror]]\nlocation='b'\npull-from-mirror='all'\n",
			"exclude each other"},
		{"registry=1\n", "no list"},
		{"[registries.block]\nregistries=['a']\n"
		 "[[registry]]\nlocation='h'\n",
			"exclude each other"},
		{"[registries.search]\nregistries=['a']\n"
		 "[[registry]]\nlocation='h'\n",
			"exclude each other"},
		{"[registries.insecure]\nregistries='a'\n", "no list of names"},
		{"[registries.insecure]\nregistries=[1]\n", "no strings"},
		{"registries=1\n", "no table"},
		{"[[registry]\n", "'conf': line 1"},
		{"credential-helpers='a'\n", "no list"},
		{"credential-helpers=['../a']\n", "no name of a helper"},
	};
	struct err e = {0};

	add("[[registry]]\nlocation='k'\ninsecure=true\n");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(bc_registries_add(conf, bad[i][0],
					 strlen(bad[i][0]), "conf", &e),
			-EINVAL);
		if (!strstr(e.text, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], e.text);
	}
	assert_string_equal(places_of("k", "x", ":1"), "k/x i");
}

/* A mirror without "ns" would be asked for somebody else's image. */
static void no_failed_allocation_is_lost(void **state)
{
	static const char whole[] = "m/x m ns=h, h/x";
	const char *got;

	add("[[registry]]\nlocation='h'\n"
	    "[[registry.mirror]]\nlocation='m'\n");
	for (unsigned long n = 1; n < 100; n++) {
		(void)mem_fail_nth(n, 0);
		got = places_of("h", "x", ":1");
		if (mem_fail_nth(0, 0) < n)
			break;
		if (!strstr(got, "out of memory"))
			fail_msg("allocation %lu: %s", n, got);
	}
	assert_string_equal(got, whole);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(without_a_file_a_name_leads_to_itself),
		CASE(mirrors_go_before_the_registry),
		CASE(the_longest_prefix_counts_and_ends_at_a_border),
		CASE(wildcards_stand_for_subdomains),
		CASE(mirrors_may_be_for_tags_or_digests_only),
		CASE(version_1_says_what_is_insecure_or_blocked),
		CASE(a_later_file_replaces_a_prefix),
		CASE(docker_io_is_spelt_as_its_api_wants_it),
		CASE(what_leads_nowhere_is_refused),
		CASE(mistakes_in_a_file_are_named),
		CASE(no_failed_allocation_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
