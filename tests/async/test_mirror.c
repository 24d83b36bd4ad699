/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors of registries.conf: who is asked, what they get to see, and what
 * happens when they die, lie, or have nothing. Both the mirror and the registry
 * are fault servers; what they were asked is in their logs.
 */
#include "blobcache/toml.h"
#include "tests/lib/hostile.h"
#include "tests/lib/registry_client.h"

static struct server mirror, origin;
static struct bc_net *net;
static struct rt *rt;
static char dir[] = "/tmp/sluice-mirror-XXXXXX";

static int setup(void **state)
{
	char path[300];

	home_make(dir);
	(void)snprintf(path, sizeof(path), "%s/conf", dir);
	assert_int_equal(setenv("CONTAINERS_REGISTRIES_CONF", path, 1), 0);
	faultserver_start(&mirror, 0);
	faultserver_start(&origin, 0);
	rt = runtime_start(2);
	net = net_start();
	return 0;
}

static int teardown(void **state)
{
	bc_net_destroy(net);
	runtime_stop(rt);
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

static struct remote open_origin(
	const char *name, const char *authfile, uint32_t offline_ms)
{
	struct bc_registry_options o = {.authfile = authfile,
		.reference = ":one",
		.offline_ms = offline_ms};

	return remote_open(net, &o, origin.port[0], name);
}

static void forget_logs(void)
{
	forget_log(net, &mirror);
	forget_log(net, &origin);
}

static void a_mirror_is_asked_first_and_with_ns(void **state)
{
	struct remote m;
	char ns[60];

	configure("", "");
	forget_logs();
	m = open_origin("open", NULL, 1000);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(fetch_range(rt, m.s, i * 1000, 1000), 0);
	(void)snprintf(
		ns, sizeof(ns), "?ns=127.0.0.1:%d bytes=", origin.port[0]);
	assert_int_equal(asked(net, &mirror, ns), 5);
	assert_int_equal(asked(net, &origin, "GET"), 0);
	remote_close(&m);
}

static void a_mirror_that_dies_is_left_and_tried_again(void **state)
{
	int port = mirror.port[0];
	struct remote m;

	configure("", "");
	m = open_origin("open", NULL, 1000);
	server_stop(&mirror);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(fetch_range(rt, m.s, i * 1000, 1000), 0);
	assert_int_equal(asked(net, &origin, "GET"), 20);
	faultserver_start(&mirror, port);
	for (unsigned i = 0; asked(net, &mirror, "/v2/open") == 0; i++) {
		assert_true(i < 1000);
		assert_int_equal(fetch_range(rt, m.s, i * 1000, 1000), 0);
		(void)poll(NULL, 0, 20);
	}
	forget_logs();
	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	assert_int_equal(asked(net, &origin, "GET"), 0);
	remote_close(&m);
}

static void whoever_is_back_first_serves_who_waits(void **state)
{
	int ports[2] = {mirror.port[0], origin.port[0]};
	struct server *both[2] = {&mirror, &origin};
	struct remote m;
	struct fetching g[8];

	for (unsigned who = 0; who < 2; who++) {
		configure("", "");
		m = open_origin("open", NULL, UINT32_MAX);
		server_stop(&mirror);
		server_stop(&origin);
		for (unsigned i = 0; i < 8; i++)
			fetching_start(&g[i], rt, m.s, i * 1000, 1000);
		(void)poll(NULL, 0, 300);
		faultserver_start(both[who], ports[who]);
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(fetching_end(&g[i]), 0);
		faultserver_start(both[1 - who], ports[1 - who]);
		remote_close(&m);
	}
}

static void a_mirror_without_the_blob_costs_one_request(void **state)
{
	struct remote m;

	configure("/absent", "");
	forget_logs();
	m = open_origin("open", NULL, 1000);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(fetch_range(rt, m.s, i * 1000, 1000), 0);
	assert_int_equal(asked(net, &mirror, "GET 0 /v2/absent/open/blobs"), 1);
	assert_int_equal(asked(net, &origin, "GET"), 5);
	remote_close(&m);
}

static void a_busy_mirror_is_not_waited_for(void **state)
{
	struct remote m;

	configure("/busy", "");
	forget_logs();
	m = open_origin("open", NULL, 0);
	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	assert_int_equal(asked(net, &mirror, "GET"), 1);
	remote_close(&m);
}

static void credentials_stay_with_their_host(void **state)
{
	struct remote m;

	configure("/basic", "");
	forget_logs();
	m = open_origin("bearer", login_file(dir, origin.port[0]), 1000);
	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	assert_int_equal(asked(net, &mirror, "Basic\n"), 0);
	assert_true(asked(net, &origin, "Bearer\n") > 0);
	remote_close(&m);
	/* The mirror's own are fine. */
	forget_logs();
	m = open_origin("bearer", login_file(dir, mirror.port[0]), 1000);
	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	assert_true(asked(net, &mirror, "Basic\n") > 0);
	assert_int_equal(asked(net, &origin, "GET"), 0);
	remote_close(&m);
}

/* The same fetch: it knows who has lied to it. */
static void fetch_same(struct fetching *g, struct bc_source *s)
{
	bc_source_fetch(s, &g->f);
	while (sem_wait(&g->ended) != 0)
		continue;
	assert_int_equal(g->f.result, 0);
}

static void a_mirror_that_lies_is_passed_over(void **state)
{
	uint8_t bytes[1000];
	struct fetching g;
	struct remote m;

	configure("", "");
	m = open_origin("liar-open", NULL, 1000);
	fetching_init(&g, rt, 0, bytes, sizeof(bytes));
	forget_logs();
	fetch_same(&g, m.s);
	assert_int_equal(asked(net, &mirror, "GET"), 1);
	g.f.is_again = true;
	fetch_same(&g, m.s);
	assert_int_equal(asked(net, &mirror, "GET"), 0);
	assert_int_equal(asked(net, &origin, "GET"), 1);
	/* As a whole there is nobody left to distrust but the registry. */
	assert_true(m.s->distrust(m.s));
	assert_false(m.s->distrust(m.s));
	/* Neither is it asked by the next one. */
	g.f.is_again = false;
	fetch_same(&g, m.s);
	assert_int_equal(asked(net, &mirror, "GET"), 0);
	(void)sem_destroy(&g.ended);
	remote_close(&m);
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

static void try_toml(void *arg, const char *name, struct buf *b)
{
	json_t *j = NULL;
	struct err e = {0};

	hostile_judge(
		name, bc_toml_parse((char *)b->data, b->len, &j, &e), e.text);
	json_decref(j);
}

static void samples_are_judged_as_their_names_say(void **state)
{
	hostile_each("toml", 16, try_toml, NULL);
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
