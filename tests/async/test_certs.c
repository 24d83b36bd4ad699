/* SPDX-License-Identifier: Apache-2.0 */
/* certs.d: authorities of a host, and certificates that it wants to see. */
#include "blobcache/registry.h"
#include "tests/lib/fetching.h"

static struct server nginx, registry;
static struct bc_net *net;
static struct rt *rt;
static char dir[] = "/tmp/sluice-certs-XXXXXX";
static char host[40], registry_host[40];

/* A key and a certificate for itself: dir/NAME.key, dir/NAME.cert. */
static void make_certificate(const char *name)
{
	must_run("openssl req -x509 -newkey ec -pkeyopt "
		 "ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=%s "
		 "-addext subjectAltName=IP:127.0.0.1 "
		 "-keyout %s/%s.key -out %s/%s.cert 2>/dev/null",
		name, dir, name, dir, name);
}

/* nginx with a file "f", only for who shows the client's certificate. */
static void nginx_start(void)
{
	char conf[300], text[2048];
	char *argv[] = {(char *)"/usr/sbin/nginx", (char *)"-p", dir,
		(char *)"-c", conf, NULL};

	must_run("/usr/bin/python3 -c "
		 "'open(\"%s/f\",\"wb\").write(bytes(range(251)))'",
		dir);
	nginx.port[0] = free_port();
	(void)snprintf(text, sizeof(text),
		"daemon off; master_process off; pid %s/pid;\n"
		"error_log /dev/null; events {}\n"
		"http { access_log off; client_body_temp_path %s/b;\n"
		"proxy_temp_path %s/p; fastcgi_temp_path %s/c;\n"
		"uwsgi_temp_path %s/u; scgi_temp_path %s/s;\n"
		"server { listen 127.0.0.1:%d ssl; root %s;\n"
		"ssl_certificate %s/server.cert;\n"
		"ssl_certificate_key %s/server.key;\n"
		"ssl_client_certificate %s/client.cert;\n"
		"ssl_verify_client on; } }\n",
		dir, dir, dir, dir, dir, dir, nginx.port[0], dir, dir, dir,
		dir);
	(void)snprintf(conf, sizeof(conf), "%s/conf", dir);
	write_text(conf, text, 0644);
	server_spawn(&nginx, argv, NULL);
	wait_for_port(nginx.port[0]);
}

/* An empty registry that lets in only who shows the client's certificate; it
 * says so by an alert. */
static void registry_start(void)
{
	char conf[300], text[1024];
	char *argv[] = {(char *)"docker-registry", (char *)"serve", conf, NULL};

	registry.port[0] = free_port();
	(void)snprintf(text, sizeof(text),
		"version: 0.1\n"
		"log: {level: error, accesslog: {disabled: true}}\n"
		"storage: {filesystem: {rootdirectory: %s/storage}}\n"
		"http: {addr: '127.0.0.1:%d', tls: {certificate: "
		"%s/server.cert,"
		" key: %s/server.key, clientcas: [%s/client.cert]}}\n",
		dir, registry.port[0], dir, dir, dir);
	(void)snprintf(conf, sizeof(conf), "%s/registry.yml", dir);
	write_text(conf, text, 0644);
	server_spawn(&registry, argv, NULL);
	wait_for_port(registry.port[0]);
	(void)snprintf(registry_host, sizeof(registry_host), "127.0.0.1:%d",
		registry.port[0]);
}

static int setup(void **state)
{
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0755), 0);
	assert_int_equal(setenv("HOME", dir, 1), 0);
	(void)unsetenv("XDG_CONFIG_HOME");
	make_certificate("server");
	make_certificate("client");
	make_certificate("other");
	nginx_start();
	registry_start();
	(void)snprintf(host, sizeof(host), "127.0.0.1:%d", nginx.port[0]);
	net = net_start();
	rt = runtime_start(1);
	return 0;
}

static int teardown(void **state)
{
	bc_net_destroy(net);
	runtime_stop(rt);
	server_stop(&nginx);
	server_stop(&registry);
	must_run("rm -rf %s", dir);
	return 0;
}

/* certs.d of a host, empty; its path. */
static const char *certs_of(const char *of)
{
	static char path[200];

	(void)snprintf(path, sizeof(path), "%s/.config/containers/certs.d/%s",
		dir, of);
	must_run("rm -rf '%s' && mkdir -p '%s'", path, path);
	return path;
}

static const char *fresh_certs(void)
{
	return certs_of(host);
}

/* What reading the file comes to. */
static int read_file(struct err *e)
{
	struct bc_source *s;
	char url[80];
	int rc;

	(void)snprintf(url, sizeof(url), "https://%s/f", host);
	rc = bc_http_source_open(net, NULL, url, 0, &s, e);
	if (rc < 0)
		return rc;
	rc = fetch_range(rt, s, 10, 200);
	bc_source_destroy(s);
	return rc;
}

static void every_authority_counts_and_the_certificate_is_shown(void **state)
{
	const char *certs = fresh_certs();
	struct err e = {0};

	/* The one that counts is neither the first nor the last. */
	must_run("cp %s/other.cert %s/a.crt; cp %s/server.cert %s/b.crt;"
		 "cp %s/client.cert %s/c.crt",
		dir, certs, dir, certs, dir, certs);
	must_run("cp %s/client.cert %s/client.key %s", dir, dir, certs);
	if (read_file(&e) != 0)
		fail_msg("%s", e.text);
}

static void without_its_authority_a_server_is_not_trusted(void **state)
{
	const char *certs = fresh_certs();
	struct err e = {0};

	must_run("cp %s/other.cert %s/a.crt", dir, certs);
	assert_int_equal(read_file(&e), -EKEYREJECTED);
}

static void a_server_that_wants_a_certificate_refuses_others(void **state)
{
	const char *certs = fresh_certs();
	struct err e = {0};

	must_run("cp %s/server.cert %s/b.crt", dir, certs);
	assert_true(read_file(&e) < 0);
	must_run("cp %s/other.cert %s/other.key %s", dir, dir, certs);
	assert_true(read_file(&e) < 0);
	/* Half of a pair is a mistake that is named. */
	must_run("rm %s/other.key", certs);
	assert_int_equal(read_file(&e), -EINVAL);
	assert_non_null(strstr(e.text, "no readable key"));
}

static void of_several_certificates_the_one_that_is_taken_counts(void **state)
{
	const char *certs = fresh_certs(), *place;
	const char *const places[] = {"a", "m", "z"};
	struct err e = {0};

	for (unsigned i = 0; i < 3; i++) {
		place = places[i];
		certs = fresh_certs();
		must_run("cp %s/server.cert %s/b.crt", dir, certs);
		for (unsigned k = 0; k < 4; k++)
			must_run("cp %s/other.cert %s/c%u.cert;"
				 "cp %s/other.key %s/c%u.key",
				dir, certs, k * 7, dir, certs, k * 7);
		/* Nobody has it yet. */
		assert_true(read_file(&e) < 0);
		must_run("cp %s/client.cert %s/%s.cert;"
			 "cp %s/client.key %s/%s.key",
			dir, certs, place, dir, certs, place);
		if (read_file(&e) != 0)
			fail_msg("%s: %s", place, e.text);
	}
	/* Any pair that is half is named. */
	must_run("rm %s/c14.key", certs);
	assert_int_equal(read_file(&e), -EINVAL);
	assert_non_null(strstr(e.text, "c14.cert"));
}

/* What asking the registry for a tag that it does not have comes to. */
static int ask_registry(struct err *e)
{
	struct bc_registry *r;
	struct digest d;
	int rc;

	*e = (struct err){0};
	rc = bc_registry_open(net, NULL, registry_host, "some/thing", &r, e);
	if (rc < 0)
		return rc;
	rc = bc_registry_resolve(r, "tag", &d, e);
	bc_registry_close(r);
	return rc;
}

static void a_refusal_in_the_handshake_leads_to_the_next_one(void **state)
{
	const char *certs = certs_of(registry_host);
	struct err e;

	must_run("cp %s/server.cert %s/s.crt;"
		 "cp %s/other.cert %s/a.cert; cp %s/other.key %s/a.key;"
		 "cp %s/other.cert %s/b.cert; cp %s/other.key %s/b.key",
		dir, certs, dir, certs, dir, certs, dir, certs, dir, certs);
	assert_int_not_equal(ask_registry(&e), -ENOENT);
	must_run("cp %s/client.cert %s/client.key %s", dir, dir, certs);
	if (ask_registry(&e) != -ENOENT)
		fail_msg("%s", e.text);
}

static void files_that_are_no_certificates_are_an_error(void **state)
{
	const char *certs = fresh_certs();
	struct err e = {0};

	must_run("echo nonsense >%s/a.crt", certs);
	assert_true(read_file(&e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			every_authority_counts_and_the_certificate_is_shown),
		cmocka_unit_test(without_its_authority_a_server_is_not_trusted),
		cmocka_unit_test(
			a_server_that_wants_a_certificate_refuses_others),
		cmocka_unit_test(
			of_several_certificates_the_one_that_is_taken_counts),
		cmocka_unit_test(
			a_refusal_in_the_handshake_leads_to_the_next_one),
		cmocka_unit_test(files_that_are_no_certificates_are_an_error),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
