/* SPDX-License-Identifier: Apache-2.0 */
/* TOML: what it means, and that what is wrong is refused with its line. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blobcache/toml.h"
#include "runtime/base/mem.h"

/* Parse text; it as compact JSON, or the sentence. Owned by the caller. */
static char *parsed(const char *text, int *ret_rc)
{
	struct err e = {0};
	json_t *j = NULL;
	char *s;

	*ret_rc = bc_toml_parse(text, strlen(text), &j, &e);
	if (*ret_rc < 0)
		return mem_strdup(e.text);
	s = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
	assert_non_null(s);
	json_decref(j);
	return s;
}

static void means(const char *text, const char *json)
{
	int rc;
	char *s = parsed(text, &rc);

	if (rc < 0)
		fail_msg("%s: %s", text, s);
	assert_string_equal(s, json);
	free(s);
}

static void fails(const char *text, int code, const char *sentence)
{
	int rc;
	char *s = parsed(text, &rc);

	if (rc != code || !strstr(s, sentence))
		fail_msg("%s: %d, %s", text, rc, s);
	free(s);
}

static void keys_and_tables_become_objects(void **state)
{
	means("", "{}");
	means("# only this", "{}");
	means("a=1\r\n\r\n  b = 2 # x\n", "{\"a\":1,\"b\":2}");
	means("a . b=1\na.c=2\n", "{\"a\":{\"b\":1,\"c\":2}}");
	means("\"a b\"=1\n'c\"'=2\n\"\"=3", "{\"\":3,\"a b\":1,\"c\\\"\":2}");
	means("[a.b]\nx=1\n[a]\ny=2\n", "{\"a\":{\"b\":{\"x\":1},\"y\":2}}");
	means("[[a]]\nx=1\n[[a.b]]\n[[a]]\n[a.c]\nz=1",
		"{\"a\":[{\"b\":[{}],\"x\":1},{\"c\":{\"z\":1}}]}");
	means("[f]\na.c=1\n[f.a.s]\nt=2",
		"{\"f\":{\"a\":{\"c\":1,\"s\":{\"t\":2}}}}");
}

static void values_keep_their_type(void **state)
{
	means("a=[true,false]", "{\"a\":[true,false]}");
	means("a=[0,-17,+9,1_0,0x1F,0o17,0b101]",
		"{\"a\":[0,-17,9,10,31,15,5]}");
	means("a=[1.5,-2e3]", "{\"a\":[1.5,-2000.0]}");
	means("a=[ # c\n 1 ,\n\n [ ] , {} , ]", "{\"a\":[1,[],{}]}");
	means("a={b={c=[{d=1}]},e.f=2}",
		"{\"a\":{\"b\":{\"c\":[{\"d\":1}]},\"e\":{\"f\":2}}}");
}

static void strings_are_read_as_they_are_meant(void **state)
{
	means("a='\\n'", "{\"a\":\"\\\\n\"}");
	means("a=\"\\t\\\"\\\\\\u0041\\U0001F600\"",
		"{\"a\":\"\\t\\\"\\\\A\xf0\x9f\x98\x80\"}");
	means("a=\"\"\"\nx\ny\"\"\"", "{\"a\":\"x\\ny\"}");
	means("a=\"\"\"x\\  \n\n  y\"\"\"", "{\"a\":\"xy\"}");
	means("a=\"\"\"\"x\"\"\"\"\"", "{\"a\":\"\\\"x\\\"\\\"\"}");
	means("a='''\r\n'x''''", "{\"a\":\"'x'\"}");
	means("a=\"\"\nb=''\nc=\"\"\"\"\"\"",
		"{\"a\":\"\",\"b\":\"\",\"c\":\"\"}");
}

static void mistakes_are_named_with_their_line(void **state)
{
	fails("a=1\nb=", -EPROTO, "line 2: neither");
	fails("\n\na 1", -EPROTO, "line 3: '='");
	fails("a='\nb'", -EPROTO, "line 1: a control character");
	fails("a=\"\"\"\n\n", -EPROTO, "line 3: a string has no end");
	fails("[a\nb=1", -EPROTO, "']'");
	fails("[[a]\n", -EPROTO, "']'");
	fails("a=[1\n", -EPROTO, "','");
	fails("a={b=1\n}", -EPROTO, "','");
	fails("a=\"\\x\"", -EPROTO, "escape");
	fails("a=1__0", -EPROTO, "neither");
	fails("a=0x", -EPROTO, "neither");
	fails("a=inf", -EPROTO, "neither");
	fails("a=9223372036854775808", -EPROTO, "neither");
	fails("=1", -EPROTO, "a key is expected");
	fails("a={b=1}\na.c=2", -EPROTO, "dotted key");
	fails("[a]\nb=1\n[a.b.c]", -EPROTO, "leads into");
	fails("[[a]]\n[a]", -EPROTO, "twice");
	fails("[a]\n[[a]]", -EPROTO, "something else");
}

static void no_memory_is_an_error_and_nothing_more(void **state)
{
	static const char text[] = "a.b='x'\n[[t]]\nc=[{d=1},\"y\"]\n[t.u.v]\n";
	json_t *j = NULL;
	int rc = -ENOMEM;

	json_set_alloc_funcs(mem_alloc, mem_free);
	for (unsigned long n = 1; rc == -ENOMEM; n++) {
		(void)mem_fail_nth(n, 0);
		rc = bc_toml_parse(text, sizeof(text) - 1, &j, NULL);
		(void)mem_fail_nth(0, 0);
		assert_true(n < 1000);
	}
	assert_int_equal(rc, 0);
	json_decref(j);
	json_set_alloc_funcs(malloc, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_and_tables_become_objects),
		cmocka_unit_test(values_keep_their_type),
		cmocka_unit_test(strings_are_read_as_they_are_meant),
		cmocka_unit_test(mistakes_are_named_with_their_line),
		cmocka_unit_test(no_memory_is_an_error_and_nothing_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
