/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry client against docker-registry (open, htpasswd, tokens) and
 * against the registry in tests/lib/faultserver.py, whose tokens are revoked
 * and whose blobs lie with another host.
 */
#include <fcntl.h>

#include "blobcache/registry_int.h"
#include "runtime/base/log.h"
#include "tests/lib/registry_client.h"

static struct server faults, tokens, plain, basic, bearer;
static struct bc_net *net;
static struct rt *rt;
static char dir[] = "/tmp/sluice-registry-XXXXXX";

/* ---- servers ---- */

static void registry_start(struct server *s, const char *name, const char *auth)
{
	char conf[300], text[2048];
	char *argv[] = {(char *)"docker-registry", (char *)"serve", conf, NULL};

	s->port[0] = free_port();
	(void)snprintf(text, sizeof(text),
		"version: 0.1\n"
		"log: {level: error, accesslog: {disabled: true}}\n"
		"storage: {filesystem: {rootdirectory: %s/storage}}\n"
		"http: {addr: '127.0.0.1:%d'}\n%s",
		dir, s->port[0], auth);
	(void)snprintf(conf, sizeof(conf), "%s/%s.yml", dir, name);
	write_text(conf, text, 0644);
	server_spawn(s, argv, NULL);
	wait_for_port(s->port[0]);
}

static void registries_start(void)
{
	char *const who[3] = {(char *)"user", (char *)"pass word", (char *)"2"};
	char text[1024];

	registry_start(&plain, "open", "");
	must_run("skopeo copy -q --dest-tls-verify=false oci:%s "
		 "docker://127.0.0.1:%d/dir/app:one",
		source_path("tests/samples/oci/edge-zstdchunked"),
		plain.port[0]);
	must_run("htpasswd -Bbn user 'pass word' >%s/htpasswd", dir);
	(void)snprintf(text, sizeof(text),
		"auth: {htpasswd: {realm: r, path: %s/htpasswd}}\n", dir);
	registry_start(&basic, "basic", text);
	script_start(&tokens, "tokenserver.py", who);
	(void)snprintf(text, sizeof(text),
		"auth: {token: {realm: 'http://127.0.0.1:%d/t', service: s, "
		"issuer: tests, rootcertbundle: %s}}\n",
		tokens.port[0], tokens.crt);
	registry_start(&bearer, "bearer", text);
}

static int setup(void **state)
{
	char path[300];

	home_make(dir);
	(void)snprintf(path, sizeof(path), "%s:%s", dir, getenv("PATH"));
	assert_int_equal(setenv("PATH", path, 1), 0);
	faultserver_start(&faults, 0);
	registries_start();
	(void)snprintf(path, sizeof(path), "%s/log", dir);
	assert_int_equal(log_open(LOG_SINK_FILE, path), 0);
	log_set_level(LOG_LEVEL_DEBUG);
	net = net_start();
	rt = runtime_start(2);
	return 0;
}

static int teardown(void **state)
{
	struct server *all[] = {&faults, &tokens, &plain, &basic, &bearer};

	bc_net_destroy(net);
	runtime_stop(rt);
	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		server_stop(all[i]);
	must_run("rm -rf %s", dir);
	return 0;
}

/* ---- help ---- */

/* An auth file in the test's folder; its path. */
static const char *auth_file(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));
static const char *auth_file(const char *fmt, ...)
{
	static char path[300];
	char text[2000];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)snprintf(path, sizeof(path), "%s/auth-test.json", dir);
	write_text(path, text, 0600);
	return path;
}

static struct bc_registry *open_registry(
	int port, const char *name, const char *authfile)
{
	struct bc_registry_options o = {
		.authfile = authfile, .offline_ms = 2000};

	return registry_at(net, &o, port, name);
}

static struct remote open_blob(int port, const char *name, const char *authfile)
{
	struct bc_registry_options o = {
		.authfile = authfile, .offline_ms = 2000};

	return remote_open(net, &o, port, name);
}

static int resolve(int port, const char *name, const char *authfile,
	const char *tag, struct err *e)
{
	struct bc_registry *r = open_registry(port, name, authfile);
	struct digest d;
	int rc = bc_registry_resolve(r, tag, &d, e);

	bc_registry_close(r);
	return rc;
}

/* The n-th digest and size (0: the config) in a manifest's text. */
static uint64_t nth_descriptor(const char *text, unsigned n, struct digest *d)
{
	const char *at = text, *size;

	for (unsigned i = 0; i <= n; i++) {
		at = strstr(at + 1, "\"digest\":\"sha256:");
		if (!at)
			return 0;
	}
	assert_int_equal(digest_parse(at + 10, 71, d), 0);
	size = strstr(at, "\"size\":");
	/* The order of the two keys differs between writers. */
	for (const char *p = at; p > text && *p != '{'; p--)
		if (strncmp(p, "\"size\":", 7) == 0)
			size = p;
	assert_non_null(size);
	return strtoull(size + 7, NULL, 10);
}

/* Everything that a mount asks for; the layers' bytes are verified. */
static void pull_all(int port, const char *authfile)
{
	struct bc_registry *r = open_registry(port, "dir/app", authfile);
	struct buf manifest, config;
	struct digest d;
	struct bc_source *s;
	char type[128];
	struct err e = {0};
	uint64_t size;
	uint8_t *layer;

	buf_init(&manifest, 0);
	buf_init(&config, 0);
	if (bc_registry_resolve(r, "one", &d, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(bc_registry_manifest(r, &d, &manifest, type, &e), 0);
	assert_string_equal(type, "application/vnd.oci.image.manifest.v1+json");
	assert_int_equal(buf_terminate(&manifest), 0);
	size = nth_descriptor((char *)manifest.data, 0, &d);
	assert_int_equal(bc_registry_blob(r, &d, size, &config, &e), 0);
	assert_int_equal(
		bc_registry_blob(r, &d, size + 1, &config, &e), -EPROTO);
	assert_int_equal(
		bc_registry_blob(r, &d, size - 1, &config, &e), -EPROTO);
	for (unsigned i = 1;; i++) {
		size = nth_descriptor((char *)manifest.data, i, &d);
		if (size == 0)
			break;
		layer = mem_alloc(size);
		assert_non_null(layer);
		assert_int_equal(bc_registry_source(r, &d, size, &s, &e), 0);
		assert_int_equal(fetch_into(rt, s, 0, layer, size), 0);
		assert_int_equal(digest_check(&d, layer, size), 0);
		bc_source_destroy(s);
		mem_free(layer);
	}
	buf_fini(&manifest);
	buf_fini(&config);
	bc_registry_close(r);
}

/* ---- cases ---- */

static void an_open_registry_serves_everything(void **state)
{
	pull_all(plain.port[0], NULL);
}

static void what_a_registry_does_not_have_is_named(void **state)
{
	struct bc_registry *r = open_registry(plain.port[0], "dir/app", NULL);
	struct err e = {0};
	struct digest d;
	struct buf b;
	char type[128];

	buf_init(&b, 0);
	assert_int_equal(bc_registry_resolve(r, "two", &d, &e), -ENOENT);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	assert_non_null(strstr(e.text, "/dir/app' has no tag 'two'"));
	assert_int_equal(digest_of(DIGEST_SHA256, "", 0, &d), 0);
	assert_int_equal(bc_registry_manifest(r, &d, &b, type, &e), -ENOENT);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	assert_int_equal(bc_registry_blob(r, &d, 10, &b, &e), -ENOENT);
	bc_registry_close(r);
	assert_int_equal(
		resolve(plain.port[0], "dir/none", NULL, "one", &e), -ENOENT);
	assert_int_equal(
		resolve(plain.port[0], "dir/app", NULL, "a/b", &e), -EINVAL);
	buf_fini(&b);
}

/* The object of the fault server. */
static void fault_body(struct digest *d, uint64_t *size)
{
	uint8_t *body;

	*size = 1u << 20;
	body = mem_alloc(*size);
	assert_non_null(body);
	for (uint64_t i = 0; i < *size; i++)
		body[i] = (uint8_t)(i % 251);
	assert_int_equal(digest_of(DIGEST_SHA256, body, *size, d), 0);
	mem_free(body);
}

/* As a small blob of a registry that is near (0) or far. */
static int pull_blob(const char *name, uint64_t wait_us, const struct digest *d,
	uint64_t size, struct err *e)
{
	struct bc_registry *r = open_registry(faults.port[0], name, NULL);
	struct buf b;
	int rc;

	buf_init(&b, 0);
	atomic_store(&r->wait_us, wait_us);
	forget_log(net, &faults);
	rc = bc_registry_blob(r, d, size, &b, e);
	if (rc == 0) {
		assert_int_equal(b.len, size);
		assert_int_equal(digest_check(d, b.data, b.len), 0);
	}
	buf_fini(&b);
	bc_registry_close(r);
	return rc;
}

static unsigned count_asked(const char *name)
{
	char with[100];

	(void)snprintf(with, sizeof(with), "/v2/%s/blobs/", name);
	return asked(net, &faults, with);
}

static void a_blob_that_is_far_away_comes_in_parts(void **state)
{
	struct err e = {0};
	struct digest d;
	uint64_t size;

	fault_body(&d, &size);
	assert_int_equal(pull_blob("open", 0, &d, size, &e), 0);
	assert_int_equal(count_asked("open"), 1);
	assert_int_equal(pull_blob("open", 50000, &d, size, &e), 0);
	assert_int_equal(count_asked("open"), 6);
	assert_int_equal(pull_blob("open", 50000, &d, size + 1, &e), -EPROTO);
	assert_int_equal(pull_blob("open", 50000, &d, size - 1, &e), -EPROTO);
	assert_int_equal(pull_blob("liar-open", 50000, &d, size, &e), -EBADMSG);
	assert_int_equal(pull_blob("absent", 50000, &d, size, &e), -ENOENT);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	/* ranges that are ignored cost a request, not the blob */
	assert_int_equal(pull_blob("whole-open", 50000, &d, size, &e), 0);
	assert_in_range(count_asked("whole-open"), 2, 7);
	/* the server is known for it now, for a while */
	assert_int_equal(pull_blob("whole-open", 50000, &d, size, &e), 0);
	assert_int_equal(count_asked("whole-open"), 1);
}

static void a_tag_leads_to_its_manifest_by_one_request(void **state)
{
	struct bc_registry *r = open_registry(plain.port[0], "dir/app", NULL);
	struct digest d, want;
	struct err e = {0};
	struct buf b;
	char type[128];

	buf_init(&b, 0);
	assert_int_equal(bc_registry_resolve(r, "one", &want, &e), 0);
	assert_int_equal(bc_registry_tagged(r, "one", &b, type, &d, &e), 0);
	assert_true(digest_is_equal(&d, &want));
	assert_int_equal(digest_check(&d, b.data, b.len), 0);
	assert_string_equal(type, "application/vnd.oci.image.manifest.v1+json");
	assert_int_equal(
		bc_registry_tagged(r, "two", &b, type, &d, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/dir/app' has no tag 'two'"));
	assert_int_equal(
		bc_registry_tagged(r, "a/b", &b, type, &d, &e), -EINVAL);
	buf_fini(&b);
	bc_registry_close(r);
}

static void names_that_would_change_the_url_are_refused(void **state)
{
	static const char *const hosts[] = {
		"", "a b", "u:p@h", "h/x", "h?x", "h:99999", "h#", "[::1"};
	static const char *const names[] = {"", "/a", "a/", "a//b", "a/../b",
		"A", "a?b", "a b", "a%2fb", "a:b"};
	struct bc_registry *r;
	struct err e = {0};

	for (unsigned i = 0; i < ARRAY_LEN(hosts); i++)
		assert_int_equal(
			bc_registry_open(net, NULL, hosts[i], "a", &r, &e),
			-EINVAL);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(
			bc_registry_open(net, NULL, "h", names[i], &r, &e),
			-EINVAL);
}

static void nobody_there_is_said_so(void **state)
{
	struct err e = {0};

	assert_int_equal(
		resolve(free_port(), "a", NULL, "one", &e), -EHOSTUNREACH);
	assert_int_equal(e.kind, ERR_FAILED);
	assert_non_null(strstr(e.text, "cannot reach '127.0.0.1:"));
	assert_non_null(strstr(e.text, "(connection refused)"));
}

static void refused(int port, const char *authfile, const char *place)
{
	struct err e = {0};

	assert_int_equal(
		resolve(port, "dir/app", authfile, "one", &e), -EACCES);
	assert_int_equal(e.kind, ERR_REFUSED);
	assert_non_null(strstr(e.text, "/dir/app' was refused; looked for"));
	if (!strstr(e.text, place))
		fail_msg("no '%s' in: %s", place, e.text);
}

static void refusals_name_the_files_looked_in(void **state)
{
	const char *file;

	refused(basic.port[0], NULL, "/containers/auth.json");
	refused(basic.port[0], NULL, "/.docker/config.json");
	refused(bearer.port[0], NULL, "/.docker/config.json");
	refused(basic.port[0], "/nowhere.json", "/nowhere.json");
	file = auth_file("{\"auths\":{\"127.0.0.1:%d\":"
			 "{\"auth\":\"dXNlcjp3cm9uZw==\"}}}",
		basic.port[0]);
	refused(basic.port[0], file, file);
	refused(basic.port[0], auth_file("[\"auths\"]"), "(broken)");
	refused(basic.port[0],
		auth_file("{\"credHelpers\":{\"127.0.0.1:%d\":"
			  "\"../x\"}}",
			basic.port[0]),
		"(broken)");
	refused(basic.port[0],
		auth_file("{\"credsStore\":\"is-not-installed\"}"),
		"docker-credential-is-not-installed");
}

static void both_kinds_of_login_work_from_an_auth_file(void **state)
{
	pull_all(basic.port[0], login_file(dir, basic.port[0]));
	pull_all(bearer.port[0],
		auth_file(
			"{\"auths\":{\"127.0.0.1:%d/dir\":{\"auth\":\"%s\"}}}",
			bearer.port[0], USER_AUTH));
}

static void docker_config_is_found_without_being_named(void **state)
{
	char path[300], text[300];

	(void)snprintf(path, sizeof(path), "%s/.docker", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/.docker/config.json", dir);
	(void)snprintf(text, sizeof(text),
		"{\"auths\":{\"https://127.0.0.1:%d/v1/\":{\"auth\":\"%s\"}}}",
		basic.port[0], USER_AUTH);
	write_text(path, text, 0600);
	pull_all(basic.port[0], NULL);
	assert_int_equal(unlink(path), 0);
}

static unsigned helper_runs(void)
{
	struct buf b;
	char path[300];
	unsigned n;

	(void)snprintf(path, sizeof(path), "%s/helper-runs", dir);
	buf_init(&b, 0);
	if (buf_read_file(&b, AT_FDCWD, path) < 0)
		return 0;
	n = (unsigned)b.len;
	buf_fini(&b);
	return n;
}

static void install_helper(const char *answer)
{
	char path[300], text[600];

	(void)snprintf(path, sizeof(path), "%s/docker-credential-test", dir);
	(void)snprintf(text, sizeof(text),
		"#!/bin/sh\nprintf . >>%s/helper-runs\nread -r server\n%s\n",
		dir, answer);
	write_text(path, text, 0755);
}

static void a_helper_is_asked_and_asked_again(void **state)
{
	const char *file =
		auth_file("{\"credHelpers\":{\"127.0.0.1:%d\":\"test\"}}",
			faults.port[0]);
	struct remote m;
	unsigned before;

	install_helper("printf '{\"ServerURL\":\"%s\",\"Username\":\"user\","
		       "\"Secret\":\"pass word\"}' \"$server\"");
	m = open_blob(faults.port[0], "bearer", file);
	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	before = helper_runs();
	assert_true(before > 0);
	assert_int_equal(fetch_range(rt, m.s, 1000, 1000), 0);
	assert_int_equal(helper_runs(), before);
	mem_free(fetch_text(net, faults.port[0], "/_revoke"));
	assert_int_equal(fetch_range(rt, m.s, 2000, 1000), 0);
	assert_int_equal(helper_runs(), before + 1);
	remote_close(&m);
}

static void refused_helpers_are_not_asked_in_a_storm(void **state)
{
	const char *file = auth_file("{\"credsStore\":\"test\"}");
	struct remote m;
	unsigned before = helper_runs();

	install_helper("printf '{\"ServerURL\":\"%s\",\"Username\":\"user\","
		       "\"Secret\":\"wrong\"}' \"$server\"");
	m = open_blob(faults.port[0], "bearer", file);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(fetch_range(rt, m.s, 0, 1000), -EACCES);
	assert_in_range(helper_runs() - before, 1, 10);
	remote_close(&m);
}

static void a_helper_may_fail_or_hang(void **state)
{
	const char *file = auth_file("{\"credsStore\":\"test\"}");
	struct remote m;
	struct fetching g;

	install_helper("exit 3");
	refused(basic.port[0], file, "failed (status 3)");
	install_helper("echo credentials not found in native keychain; exit 1");
	refused(basic.port[0], file, "helper (test)");
	install_helper("echo '{}'");
	refused(basic.port[0], file, "an answer that is none");
	install_helper("head -c 2000000 /dev/zero");
	refused(basic.port[0], file, "docker-credential-test");
	/* One that hangs does not hold up cancelling or closing. */
	install_helper("sleep 1000");
	m = open_blob(faults.port[0], "basic", file);
	fetching_start(&g, rt, m.s, 0, 10);
	(void)poll(NULL, 0, 200);
	bc_source_cancel(m.s, &g.f);
	assert_int_equal(fetching_end(&g), -ECANCELED);
	remote_close(&m);
}

static void a_revoked_token_is_renewed_once_for_all(void **state)
{
	const char *file = login_file(dir, faults.port[0]);
	struct remote m = open_blob(faults.port[0], "bearer", file);
	struct fetching g[16];

	for (unsigned round = 0; round < 5; round++) {
		mem_free(fetch_text(net, faults.port[0], "/_revoke"));
		forget_log(net, &faults);
		for (unsigned i = 0; i < 16; i++)
			fetching_start(&g[i], rt, m.s, i * 1000, 1000);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(fetching_end(&g[i]), 0);
		assert_int_equal(asked(net, &faults, "GET 0 /token"), 1);
	}
	remote_close(&m);
}

static void tokens_that_run_out_are_renewed(void **state)
{
	const char *file = login_file(dir, bearer.port[0]);
	struct bc_registry *r = open_registry(bearer.port[0], "dir/app", file);
	struct digest d;
	struct err e = {0};

	assert_int_equal(bc_registry_resolve(r, "one", &d, &e), 0);
	(void)poll(NULL, 0, 3500); /* they live for 2 s */
	assert_int_equal(bc_registry_resolve(r, "one", &d, &e), 0);
	bc_registry_close(r);
}

static void an_identity_token_is_posted(void **state)
{
	const char *file = auth_file("{\"auths\":{\"127.0.0.1:%d\":{"
				     "\"identitytoken\":\"identity+/=\"}}}",
		faults.port[0]);
	struct remote m = open_blob(faults.port[0], "identity", file);

	forget_log(net, &faults);
	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	assert_int_equal(asked(net, &faults, "POST 0 /token"), 1);
	remote_close(&m);
}

static void an_anonymous_token_is_enough_where_it_is(void **state)
{
	struct remote m = open_blob(faults.port[0], "anonymous", NULL);

	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	remote_close(&m);
}

static void no_memory_for_a_token_is_an_error(void **state)
{
	const char *file = login_file(dir, faults.port[0]);
	struct remote m = open_blob(faults.port[0], "bearer", file);
	uint8_t bytes[1000];
	unsigned failed = 0;
	int rc;

	for (unsigned long n = 1; n < 60; n++) {
		mem_free(fetch_text(net, faults.port[0], "/_revoke"));
		(void)mem_fail_nth(n, 0);
		rc = fetch_into(rt, m.s, 0, bytes, sizeof(bytes));
		(void)mem_fail_nth(0, 0);
		assert_true(rc == 0 || rc == -ENOMEM || rc == -EACCES);
		failed += rc != 0;
		assert_int_equal(fetch_range(rt, m.s, 1000, 1000), 0);
	}
	assert_true(failed > 10);
	remote_close(&m);
}

static void the_storage_never_sees_the_authorization(void **state)
{
	const char *file = login_file(dir, faults.port[0]);
	struct remote m = open_blob(faults.port[0], "signed-bearer", file);
	char *log;

	forget_log(net, &faults);
	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	mem_free(fetch_text(net, faults.port[0], "/_revoke"));
	mem_free(fetch_text(net, faults.port[0], "/_expire/403"));
	assert_int_equal(fetch_range(rt, m.s, 5000, 1000), 0);
	log = fetch_text(net, faults.port[0], "/_log");
	assert_int_equal(count_lines(log, "GET 1 /store/"), 3);
	for (const char *p = log; (p = strstr(p, "GET 1 /store/")); p++)
		assert_int_equal(*(strchr(p, '\n') - 1), '-');
	mem_free(log);
	remote_close(&m);
}

static void a_redirect_within_the_registry_keeps_it(void **state)
{
	const char *file = login_file(dir, faults.port[0]);
	struct remote m = open_blob(faults.port[0], "hop-bearer", file);

	assert_int_equal(fetch_range(rt, m.s, 0, 1000), 0);
	mem_free(fetch_text(net, faults.port[0], "/_revoke"));
	assert_int_equal(fetch_range(rt, m.s, 5000, 1000), 0);
	remote_close(&m);
}

static void https_on_loopback_goes_before_http(void **state)
{
	char cert_dir[256];
	struct bc_registry_options o = {.cert_dir = cert_dir,
		.authfile = login_file(dir, faults.port[2])};
	struct remote m;

	(void)snprintf(cert_dir, sizeof(cert_dir), "%s", faults.crt);
	*strrchr(cert_dir, '/') = '\0';
	m = remote_open(net, &o, faults.port[2], "bearer");
	assert_int_equal(fetch_range(rt, m.s, 77, 100000), 0);
	remote_close(&m);
	/* A certificate that is not trusted is no reason to use http. */
	m = open_blob(faults.port[2], "open", NULL);
	assert_int_equal(fetch_range(rt, m.s, 0, 10), -EIO);
	remote_close(&m);
}

/* Last: what all the others have logged. */
static void no_secret_was_logged(void **state)
{
	char path[300];
	struct buf b;

	(void)snprintf(path, sizeof(path), "%s/log", dir);
	buf_init(&b, 0);
	assert_int_equal(buf_read_file(&b, AT_FDCWD, path), 0);
	assert_int_equal(buf_terminate(&b), 0);
	assert_true(b.len > 0);
	assert_null(strstr((char *)b.data, "pass word"));
	assert_null(strstr((char *)b.data, USER_AUTH));
	assert_null(strstr((char *)b.data, "token-"));
	assert_null(strstr((char *)b.data, "sig="));
	assert_null(strstr((char *)b.data, "identity+"));
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_open_registry_serves_everything),
		cmocka_unit_test(what_a_registry_does_not_have_is_named),
		cmocka_unit_test(a_tag_leads_to_its_manifest_by_one_request),
		cmocka_unit_test(names_that_would_change_the_url_are_refused),
		cmocka_unit_test(nobody_there_is_said_so),
		cmocka_unit_test(refusals_name_the_files_looked_in),
		cmocka_unit_test(both_kinds_of_login_work_from_an_auth_file),
		cmocka_unit_test(docker_config_is_found_without_being_named),
		cmocka_unit_test(a_helper_is_asked_and_asked_again),
		cmocka_unit_test(refused_helpers_are_not_asked_in_a_storm),
		cmocka_unit_test(a_helper_may_fail_or_hang),
		cmocka_unit_test(a_revoked_token_is_renewed_once_for_all),
		cmocka_unit_test(tokens_that_run_out_are_renewed),
		cmocka_unit_test(an_identity_token_is_posted),
		cmocka_unit_test(an_anonymous_token_is_enough_where_it_is),
		cmocka_unit_test(no_memory_for_a_token_is_an_error),
		cmocka_unit_test(the_storage_never_sees_the_authorization),
		cmocka_unit_test(a_redirect_within_the_registry_keeps_it),
		cmocka_unit_test(https_on_loopback_goes_before_http),
		cmocka_unit_test(no_secret_was_logged),
		/* last: it makes the fault server known for ignoring ranges */
		cmocka_unit_test(a_blob_that_is_far_away_comes_in_parts),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
