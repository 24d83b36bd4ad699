/* SPDX-License-Identifier: Apache-2.0 */
/* Where credentials are looked for, and in which order. */
#include "blobcache/credentials.h"
#include "tests/lib/registry_client.h"

static char dir[] = "/tmp/sluice-credentials-XXXXXX";

static int setup(void **state)
{
	char path[300];

	home_make(dir);
	(void)snprintf(path, sizeof(path), "%s:%s", dir, getenv("PATH"));
	assert_int_equal(setenv("PATH", path, 1), 0);
	return 0;
}

static int teardown(void **state)
{
	must_run("rm -rf %s", dir);
	return 0;
}

/* dir/at: one user for "auth.test", named by n. */
static void write_user(unsigned n, const char *at)
{
	static const char *const auths[] = {
		"dTA6cA==", "dTE6cA==", "dTI6cA==", "dTM6cA==", "dTQ6cA=="};
	bool is_flat = strstr(at, ".dockercfg") != NULL;
	char path[300], text[200];

	must_run("mkdir -p $(dirname %s/%s)", dir, at);
	(void)snprintf(path, sizeof(path), "%s/%s", dir, at);
	(void)snprintf(text, sizeof(text),
		"%s{\"auth.test\":{\"auth\":\"%s\"}}%s",
		is_flat ? "" : "{\"auths\":", auths[n], is_flat ? "" : "}");
	write_text(path, text, 0600);
}

static void the_usual_files_are_looked_at_in_their_order(void **state)
{
	static const char *const files[] = {"env.json", "containers/auth.json",
		".config/containers/auth.json", ".docker/config.json",
		".dockercfg"};
	struct bc_credentials got;
	char looked_in[2000], path[300], want[3];

	(void)snprintf(path, sizeof(path), "%s/env.json", dir);
	assert_int_equal(setenv("REGISTRY_AUTH_FILE", path, 1), 0);
	for (unsigned i = 0; i < ARRAY_LEN(files); i++)
		write_user(i, files[i]);
	for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
		assert_int_equal(
			bc_credentials_find("auth.test", "a/b", NULL, NULL,
				&got, looked_in, sizeof(looked_in)),
			0);
		(void)snprintf(want, sizeof(want), "u%u", i);
		assert_non_null(got.user);
		assert_string_equal(got.user, want);
		bc_credentials_fini(&got);
		must_run("rm %s/%s", dir, files[i]);
		(void)unsetenv("REGISTRY_AUTH_FILE");
	}
}

static void helpers_of_registries_conf_are_asked_in_order(void **state)
{
	struct bc_credentials got;
	char looked_in[2000], conf[300], helper[300];

	write_user(0, "order.json");
	(void)snprintf(conf, sizeof(conf), "%s/order.conf", dir);
	assert_int_equal(setenv("CONTAINERS_REGISTRIES_CONF", conf, 1), 0);
	(void)snprintf(looked_in, sizeof(looked_in), "%s/order.json", dir);
	assert_int_equal(setenv("REGISTRY_AUTH_FILE", looked_in, 1), 0);
	(void)snprintf(
		helper, sizeof(helper), "%s/docker-credential-test", dir);
	write_text(helper,
		"#!/bin/sh\n"
		"read -r server\n"
		"printf '{\"Username\":\"at %s\",\"Secret\":\"p\"}' "
		"\"$server\"\n",
		0755);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const lists[] = {
			"\"is-not-installed\", \"test\", "
			"\"containers-auth.json\"",
			"\"containers-auth.json\", \"test\"", ""};
		static const char *const want[] = {"at auth.test", "u0", "u0"};
		char text[200];

		(void)snprintf(text, sizeof(text),
			"credential-helpers = [%s]\n", lists[i]);
		write_text(conf, text, 0600);
		assert_int_equal(
			bc_credentials_find("auth.test", "a/b", NULL, NULL,
				&got, looked_in, sizeof(looked_in)),
			0);
		assert_non_null(got.user);
		assert_string_equal(got.user, want[i]);
		bc_credentials_fini(&got);
	}
	(void)unsetenv("CONTAINERS_REGISTRIES_CONF");
	(void)unsetenv("REGISTRY_AUTH_FILE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_usual_files_are_looked_at_in_their_order),
		cmocka_unit_test(helpers_of_registries_conf_are_asked_in_order),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
