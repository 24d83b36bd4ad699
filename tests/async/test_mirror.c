/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors of registries.conf: who is asked, what they get to see, and what
 * happens when they die, lie, or have nothing. Both the mirror and the registry
 * are fault servers; what they were asked is in their logs.
 */
#include <dirent.h>

#include "blobcache/registry.h"
#include "blobcache/toml.h"
#include "runtime/base/util.h"
#include "runtime/runtime.h"
#include "tests/lib/fetching.h"

#define SIZE (1u << 20)
#define USER_AUTH "dXNlcjpwYXNzIHdvcmQ="

static struct server mirror, origin;
static struct bc_net *net;
static struct rt *rt;
static char dir[] = "/tmp/sluice-mirror-XXXXXX";

static int setup(void **state)
{
	struct err e = {0};
	char path[300];

	assert_non_null(mkdtemp(dir));
	assert_int_equal(setenv("HOME", dir, 1), 0);
	assert_int_equal(setenv("XDG_RUNTIME_DIR", dir, 1), 0);
	(void)unsetenv("XDG_CONFIG_HOME");
	(void)unsetenv("DOCKER_CONFIG");
	(void)unsetenv("REGISTRY_AUTH_FILE");
	(void)snprintf(path, sizeof(path), "%s/conf", dir);
	assert_int_equal(setenv("CONTAINERS_REGISTRIES_CONF", path, 1), 0);
	faultserver_start(&mirror, 0);
	faultserver_start(&origin, 0);
	assert_int_equal(
		rt_create(&(struct rt_options){.workers = 2}, &rt, &e), 0);
	assert_int_equal(rt_start(rt, &e), 0);
	assert_int_equal(bc_net_create(NULL, &net, &e), 0);
	return 0;
}

static int teardown(void **state)
{
	bc_net_destroy(net);
	rt_stop(rt);
	rt_destroy(rt);
	server_stop(&mirror);
	server_stop(&origin);
	must_run("rm -rf %s", dir);
	return 0;
}

/* The mirror has the names below at; more is TOML for it. */
static void configure(const char *at, const char *more)
{
	char path[300], text[1000];

	(void)snprintf(path, sizeof(path), "%s/conf", dir);
	(void)snprintf(text, sizeof(text),
		"[[registry]]\nlocation='127.0.0.1:%d'\n"
		"[[registry.mirror]]\nlocation='127.0.0.1:%d%s'\n%s",
		origin.port[0], mirror.port[0], at, more);
	write_text(path, text, 0644);
}

static struct bc_registry *open_origin(
	const char *name, const char *authfile, uint32_t offline_ms)
{
	struct bc_registry_options o = {.authfile = authfile,
		.reference = ":one",
		.offline_ms = offline_ms};
	struct bc_registry *r;
	struct err e = {0};
	char host[40];

	(void)snprintf(host, sizeof(host), "127.0.0.1:%d", origin.port[0]);
	if (bc_registry_open(net, &o, host, name, &r, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

static struct bc_source *open_blob(struct bc_registry *r)
{
	struct bc_source *s;
	struct digest d;
	struct err e = {0};

	assert_int_equal(digest_of(DIGEST_SHA256, "x", 1, &d), 0);
	assert_int_equal(bc_registry_source(r, &d, SIZE, &s, &e), 0);
	return s;
}

/* How often the text stands in what the server was asked since the last time.
 */
static unsigned asked(const struct server *s, const char *what)
{
	char *log = fetch_text(net, s->port[0], "/_log");
	unsigned n = count_lines(log, what);

	mem_free(log);
	return n;
}

static void forget_logs(void)
{
	(void)asked(&mirror, "GET");
	(void)asked(&origin, "GET");
}

static void a_mirror_is_asked_first_and_with_ns(void **state)
{
	struct bc_registry *r;
	struct bc_source *s;
	char ns[60];

	configure("", "");
	forget_logs();
	r = open_origin("open", NULL, 1000);
	s = open_blob(r);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(fetch_range(rt, s, i * 1000, 1000), 0);
	(void)snprintf(
		ns, sizeof(ns), "?ns=127.0.0.1:%d bytes=", origin.port[0]);
	assert_int_equal(asked(&mirror, ns), 5);
	assert_int_equal(asked(&origin, "GET"), 0);
	bc_source_destroy(s);
	bc_registry_close(r);
}

static void a_mirror_that_dies_is_left_and_tried_again(void **state)
{
	int port = mirror.port[0];
	struct bc_registry *r;
	struct bc_source *s;

	configure("", "");
	r = open_origin("open", NULL, 1000);
	s = open_blob(r);
	server_stop(&mirror);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(fetch_range(rt, s, i * 1000, 1000), 0);
	assert_int_equal(asked(&origin, "GET"), 20);
	faultserver_start(&mirror, port);
	for (unsigned i = 0; asked(&mirror, "/v2/open") == 0; i++) {
		assert_true(i < 1000);
		assert_int_equal(fetch_range(rt, s, i * 1000, 1000), 0);
		(void)poll(NULL, 0, 20);
	}
	forget_logs();
	assert_int_equal(fetch_range(rt, s, 0, 1000), 0);
	assert_int_equal(asked(&origin, "GET"), 0);
	bc_source_destroy(s);
	bc_registry_close(r);
}

static void whoever_is_back_first_serves_who_waits(void **state)
{
	int ports[2] = {mirror.port[0], origin.port[0]};
	struct server *both[2] = {&mirror, &origin};
	struct bc_registry *r;
	struct bc_source *s;
	struct fetching g[8];

	for (unsigned who = 0; who < 2; who++) {
		configure("", "");
		r = open_origin("open", NULL, UINT32_MAX);
		s = open_blob(r);
		server_stop(&mirror);
		server_stop(&origin);
		for (unsigned i = 0; i < 8; i++)
			fetching_start(&g[i], rt, s, i * 1000, 1000);
		(void)poll(NULL, 0, 300);
		faultserver_start(both[who], ports[who]);
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(fetching_end(&g[i]), 0);
		faultserver_start(both[1 - who], ports[1 - who]);
		bc_source_destroy(s);
		bc_registry_close(r);
	}
}

static void a_mirror_without_the_blob_costs_one_request(void **state)
{
	struct bc_registry *r;
	struct bc_source *s;

	configure("/absent", "");
	forget_logs();
	r = open_origin("open", NULL, 1000);
	s = open_blob(r);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(fetch_range(rt, s, i * 1000, 1000), 0);
	assert_int_equal(asked(&mirror, "GET 0 /v2/absent/open/blobs"), 1);
	assert_int_equal(asked(&origin, "GET"), 5);
	bc_source_destroy(s);
	bc_registry_close(r);
}

static void a_busy_mirror_is_not_waited_for(void **state)
{
	struct bc_registry *r;
	struct bc_source *s;

	configure("/busy", "");
	forget_logs();
	r = open_origin("open", NULL, 0);
	s = open_blob(r);
	assert_int_equal(fetch_range(rt, s, 0, 1000), 0);
	assert_int_equal(asked(&mirror, "GET"), 1);
	bc_source_destroy(s);
	bc_registry_close(r);
}

static void credentials_stay_with_their_host(void **state)
{
	char path[300], text[600];
	struct bc_registry *r;
	struct bc_source *s;

	configure("/basic", "");
	(void)snprintf(path, sizeof(path), "%s/auth", dir);
	(void)snprintf(text, sizeof(text),
		"{\"auths\":{\"127.0.0.1:%d\":{\"auth\":\"%s\"}}}",
		origin.port[0], USER_AUTH);
	write_text(path, text, 0600);
	forget_logs();
	r = open_origin("bearer", path, 1000);
	s = open_blob(r);
	assert_int_equal(fetch_range(rt, s, 0, 1000), 0);
	assert_int_equal(asked(&mirror, "Basic\n"), 0);
	assert_true(asked(&origin, "Bearer\n") > 0);
	bc_source_destroy(s);
	bc_registry_close(r);
	/* The mirror's own are fine. */
	(void)snprintf(text, sizeof(text),
		"{\"auths\":{\"127.0.0.1:%d\":{\"auth\":\"%s\"}}}",
		mirror.port[0], USER_AUTH);
	write_text(path, text, 0600);
	forget_logs();
	r = open_origin("bearer", path, 1000);
	s = open_blob(r);
	assert_int_equal(fetch_range(rt, s, 0, 1000), 0);
	assert_true(asked(&mirror, "Basic\n") > 0);
	assert_int_equal(asked(&origin, "GET"), 0);
	bc_source_destroy(s);
	bc_registry_close(r);
}

static void ended(struct bc_fetch *f)
{
	(void)sem_post(&container_of(f, struct fetching, f)->ended);
}

static void a_mirror_that_lies_is_passed_over(void **state)
{
	struct fetching g = {.f = {.len = 1000, .done = ended}};
	uint8_t bytes[1000];
	struct bc_registry *r;
	struct bc_source *s;

	configure("", "");
	r = open_origin("liar-open", NULL, 1000);
	s = open_blob(r);
	g.f.buf = bytes;
	g.f.worker = rt_worker_at(rt, 0);
	(void)sem_init(&g.ended, 0, 0);
	forget_logs();
	bc_source_fetch(s, &g.f);
	while (sem_wait(&g.ended) != 0)
		continue;
	assert_int_equal(g.f.result, 0);
	assert_int_equal(asked(&mirror, "GET"), 1);
	g.f.is_again = true;
	bc_source_fetch(s, &g.f);
	while (sem_wait(&g.ended) != 0)
		continue;
	assert_int_equal(g.f.result, 0);
	assert_int_equal(asked(&mirror, "GET"), 0);
	assert_int_equal(asked(&origin, "GET"), 1);
	/* As a whole there is nobody left to distrust but the registry. */
	assert_true(s->distrust(s));
	assert_false(s->distrust(s));
	/* Neither is it asked by the next one. */
	g.f.is_again = false;
	bc_source_fetch(s, &g.f);
	while (sem_wait(&g.ended) != 0)
		continue;
	assert_int_equal(asked(&mirror, "GET"), 0);
	(void)sem_destroy(&g.ended);
	bc_source_destroy(s);
	bc_registry_close(r);
}

static void what_is_blocked_or_broken_is_refused(void **state)
{
	struct bc_registry *r;
	struct err e = {0};
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/conf", dir);
	write_text(path, "[[registry]]\nlocation='h.example'\nblocked=true\n",
		0644);
	assert_int_equal(
		bc_registry_open(net, NULL, "h.example", "a", &r, &e), -EACCES);
	assert_int_equal(e.kind, ERR_REFUSED);
	assert_non_null(strstr(e.text, "is blocked by 'h.example'"));
	write_text(path, "[[registry]\n", 0644);
	assert_int_equal(
		bc_registry_open(net, NULL, "h.example", "a", &r, &e), -EINVAL);
	assert_non_null(strstr(e.text, "/conf': line 1"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(
		bc_registry_open(net, NULL, "h.example", "a", &r, &e), -ENOENT);
	assert_non_null(strstr(e.text, "CONTAINERS_REGISTRIES_CONF"));
}

/* $HOME's file hides the system's; its directory changes it. */
static void files_are_read_in_order(void **state)
{
	struct bc_registry *r;
	struct err e = {0};
	char path[300];

	must_run("mkdir -p %s/.config/containers/registries.conf.d", dir);
	assert_int_equal(unsetenv("CONTAINERS_REGISTRIES_CONF"), 0);
	(void)snprintf(path, sizeof(path),
		"%s/.config/containers/registries.conf", dir);
	write_text(path, "[[registry]]\nlocation='h.example'\nblocked=true\n",
		0644);
	assert_int_equal(
		bc_registry_open(net, NULL, "h.example", "a", &r, &e), -EACCES);
	(void)snprintf(path, sizeof(path),
		"%s/.config/containers/registries.conf.d/1.conf", dir);
	write_text(path, "[[registry]]\nlocation='h.example'\n", 0644);
	assert_int_equal(
		bc_registry_open(net, NULL, "h.example", "a", &r, &e), 0);
	bc_registry_close(r);
	(void)snprintf(path, sizeof(path),
		"%s/.config/containers/registries.conf.d/2.conf", dir);
	write_text(path, "[[registry]]\nlocation='h.example'\nblocked=true\n",
		0644);
	assert_int_equal(
		bc_registry_open(net, NULL, "h.example", "a", &r, &e), -EACCES);
	assert_non_null(strstr(e.text, "2.conf"));
	(void)snprintf(path, sizeof(path), "%s/conf", dir);
	assert_int_equal(setenv("CONTAINERS_REGISTRIES_CONF", path, 1), 0);
}

/* The name of a sample says what is to come of it. */
static void samples_are_judged_as_their_names_say(void **state)
{
	const struct dirent *de;
	unsigned seen = 0;
	DIR *d = opendir(source_path("tests/samples/hostile/toml"));

	assert_non_null(d);
	while ((de = readdir(d))) {
		json_t *j = NULL;
		struct buf b;
		int rc, want;

		if (de->d_name[0] == '.')
			continue;
		want = strstr(de->d_name, ".ok.")      ? 0
		       : strstr(de->d_name, ".E2BIG.") ? -E2BIG
		                                       : -EPROTO;
		buf_init(&b, 0);
		assert_int_equal(buf_read_file(&b, dirfd(d), de->d_name), 0);
		rc = bc_toml_parse((char *)b.data, b.len, &j, NULL);
		if (rc != want)
			fail_msg("%s: %d", de->d_name, rc);
		json_decref(j);
		buf_fini(&b);
		seen++;
	}
	(void)closedir(d);
	assert_true(seen > 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mirror_is_asked_first_and_with_ns),
		cmocka_unit_test(a_mirror_that_dies_is_left_and_tried_again),
		cmocka_unit_test(whoever_is_back_first_serves_who_waits),
		cmocka_unit_test(a_mirror_without_the_blob_costs_one_request),
		cmocka_unit_test(a_busy_mirror_is_not_waited_for),
		cmocka_unit_test(credentials_stay_with_their_host),
		cmocka_unit_test(a_mirror_that_lies_is_passed_over),
		cmocka_unit_test(what_is_blocked_or_broken_is_refused),
		cmocka_unit_test(files_are_read_in_order),
		cmocka_unit_test(samples_are_judged_as_their_names_say),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
