/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges over HTTP from a server that misbehaves in every way that its head
 * lists (tests/lib/faultserver.py), and from nginx.
 */
#include "blobcache/registry.h"
#include "tests/lib/fetching.h"

static struct server faults;
static struct bc_net *net;
static struct rt *rt;

static int setup(void **state)
{
	faultserver_start(&faults, 0);
	net = net_start();
	rt = runtime_start(2);
	return 0;
}

static int teardown(void **state)
{
	bc_net_destroy(net);
	runtime_stop(rt);
	server_stop(&faults);
	return 0;
}

static const char *url_of(int which, const char *path)
{
	static char url[300];

	(void)snprintf(url, sizeof(url), "%s://127.0.0.1:%d%s",
		which == 2 ? "https" : "http", faults.port[which], path);
	return url;
}

static struct bc_source *open_source(const char *path, uint32_t offline_ms)
{
	struct bc_registry_options o = {.offline_ms = offline_ms};
	struct bc_source *s;
	struct err e = {0};

	if (bc_http_source_open(net, &o, url_of(0, path), SIZE, &s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

/* One range of path; its result. */
static int one_range(const char *path, uint64_t off, size_t len)
{
	struct bc_source *s = open_source(path, 1000);
	int rc = fetch_range(rt, s, off, len);

	bc_source_destroy(s);
	return rc;
}

static char *take_log(void)
{
	return fetch_text(net, faults.port[0], "/_log");
}

static void ranges_come_as_asked_for(void **state)
{
	struct bc_source *s = open_source("/ok/a", 0);

	assert_int_equal(fetch_range(rt, s, 0, 1), 0);
	assert_int_equal(fetch_range(rt, s, SIZE - 1, 1), 0);
	assert_int_equal(fetch_range(rt, s, 0, SIZE), 0);
	assert_int_equal(fetch_range(rt, s, 1000, 300000), 0);
	assert_int_equal(fetch_range(rt, s, SIZE - 1, 2), -EPROTO);
	assert_int_equal(fetch_range(rt, s, UINT64_MAX, 2), -EPROTO);
	bc_source_destroy(s);
}

static void the_size_is_asked_for_when_it_is_not_given(void **state)
{
	const char *const paths[] = {"/ok/size", "/whole/size", "/signed/size"};
	struct bc_source *s;
	struct err e = {0};

	for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
		assert_int_equal(bc_http_source_open(net, NULL,
					 url_of(0, paths[i]), 0, &s, &e),
			0);
		assert_int_equal(s->size, SIZE);
		assert_int_equal(fetch_range(rt, s, 5, 100), 0);
		bc_source_destroy(s);
	}
}

static void what_is_not_there_is_said_so(void **state)
{
	struct bc_source *s;
	struct err e = {0};

	assert_int_equal(one_range("/nothing", 0, 10), -ENOENT);
	assert_int_equal(bc_http_source_open(net, NULL,
				 url_of(0, "/nothing?secret"), 0, &s, &e),
		-ENOENT);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	assert_non_null(strstr(e.text, "/nothing' does not exist"));
	assert_null(strstr(e.text, "secret"));
	assert_int_equal(bc_http_source_open(net, NULL,
				 "http://me:secret@127.0.0.1/x", 0, &s, &e),
		-EINVAL);
	assert_null(strstr(e.text, "secret"));
	assert_int_equal(
		bc_http_source_open(net, NULL, "file:///etc/passwd", 0, &s, &e),
		-EINVAL);
}

static void answers_that_break_the_range_are_refused(void **state)
{
	assert_int_equal(one_range("/wrong-range/a", 10, 20), -EPROTO);
	assert_int_equal(one_range("/no-range-header/a", 10, 20), -EPROTO);
	assert_int_equal(one_range("/short/a", 10, 20), -EPROTO);
	assert_int_equal(one_range("/long/a", 10, 20), -EPROTO);
	assert_int_equal(one_range("/multipart/a", 10, 20), -EPROTO);
	assert_int_equal(one_range("/wrong-total/a", 10, 20), -EPROTO);
}

static void a_server_without_ranges_is_read_whole(void **state)
{
	struct bc_source *s = open_source("/whole/b", 1000);
	struct bc_net_stats before, after;

	assert_int_equal(fetch_range(rt, s, 0, SIZE), 0);
	assert_int_equal(fetch_range(rt, s, 500000, 1000), 0);
	bc_net_stats(net, &before);
	assert_int_equal(fetch_range(rt, s, 10, 1000), 0);
	bc_net_stats(net, &after);
	/* It is known now: one request, cut off behind the range. */
	assert_int_equal(after.requests - before.requests, 1);
	assert_true(after.body_bytes - before.body_bytes < SIZE);
	bc_source_destroy(s);
}

static void what_was_cut_off_is_resumed(void **state)
{
	char *log;

	forget_log(net, &faults);
	assert_int_equal(one_range("/cut/100000/1/a", 1000, 300000), 0);
	log = take_log();
	assert_non_null(strstr(log, "bytes=1000-300999"));
	assert_non_null(strstr(log, "bytes=101000-300999"));
	mem_free(log);
	assert_int_equal(one_range("/cut/10/3/b", 1000, 300000), 0);
	assert_int_equal(one_range("/cut/0/2/c", 1000, 300000), 0);
}

static void a_busy_server_is_asked_again(void **state)
{
	char *log;

	forget_log(net, &faults);
	assert_int_equal(one_range("/status/503/3/-/a", 0, 1000), 0);
	assert_int_equal(one_range("/status/429/1/1/b", 0, 1000), 0);
	assert_int_equal(one_range("/status/500/2/-/c", 0, 1000), 0);
	log = take_log();
	assert_int_equal(count_lines(log, "/status/503"), 4);
	assert_int_equal(count_lines(log, "/status/429"), 2);
	mem_free(log);
	assert_int_equal(one_range("/status/416/1/-/d", 0, 1000), -EPROTO);
	assert_int_equal(one_range("/status/403/1/-/e", 0, 1000), -EACCES);
	assert_int_equal(one_range("/status/401/1/-/e", 0, 1000), -EACCES);
	assert_int_equal(one_range("/status/418/1/-/f", 0, 1000), -EPROTO);
}

static void a_storm_is_survived_by_many_readers(void **state)
{
	struct bc_source *s[3] = {open_source("/status/503/20/-/storm", 30000),
		open_source("/cut/70000/20/storm", 30000),
		open_source("/status/429/20/0/storm", 30000)};
	struct fetching *g = mem_calloc(48, sizeof(*g));

	assert_non_null(g);
	for (unsigned i = 0; i < 48; i++)
		fetching_start(&g[i], rt, s[i % 3], i * 20000 % 900000,
			50000 + i * 1999);
	for (unsigned i = 0; i < 48; i++)
		assert_int_equal(fetching_end(&g[i]), 0);
	for (unsigned i = 0; i < 3; i++)
		bc_source_destroy(s[i]);
	mem_free(g);
}

static void redirects_are_followed_and_remembered(void **state)
{
	struct bc_source *s = open_source("/signed/a", 1000);
	char *log;

	forget_log(net, &faults);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fetch_range(rt, s, i * 1000, 1000), 0);
	log = take_log();
	assert_int_equal(count_lines(log, "GET 0 /signed/a"), 1);
	assert_int_equal(count_lines(log, "GET 1 /store/"), 3);
	mem_free(log);
	bc_source_destroy(s);
	assert_int_equal(one_range("/hops/5/a", 0, 1000), 0);
	assert_int_equal(one_range("/to/relative/a", 0, 1000), 0);
}

static void an_expired_redirect_is_asked_for_again(void **state)
{
	static const char *const codes[] = {"/_expire/403", "/_expire/410",
		"/_expire/400", "/_expire/401", "/_expire/404"};
	struct bc_source *s = open_source("/signed/b", 1000);
	static struct fetching g[64];

	assert_int_equal(fetch_range(rt, s, 0, 1000), 0);
	forget_log(net, &faults);
	for (unsigned i = 0; i < ARRAY_LEN(codes); i++) {
		mem_free(fetch_text(net, faults.port[0], codes[i]));
		for (unsigned k = 0; k < ARRAY_LEN(g); k++)
			fetching_start(&g[k], rt, s, k * 1000, 1000);
		for (unsigned k = 0; k < ARRAY_LEN(g); k++)
			assert_int_equal(fetching_end(&g[k]), 0);
		/* one of all finds the new way */
		assert_int_equal(asked(net, &faults, "GET 0 /signed/b"), 1);
	}
	bc_source_destroy(s);
}

/* Who waits for little gives a silent server 10 s. */
static void an_answer_that_stalls_is_asked_for_again(void **state)
{
	struct bc_source *s = open_source("/stall/70000/1/again", 1000);
	char *log;

	forget_log(net, &faults);
	assert_int_equal(fetch_range(rt, s, 1000, 300000), 0);
	log = take_log();
	assert_non_null(strstr(log, "bytes=71000-300999"));
	mem_free(log);
	bc_source_destroy(s);
}

static void bad_redirects_are_refused(void **state)
{
	assert_int_equal(one_range("/loop/a", 0, 10), -EPROTO);
	assert_int_equal(one_range("/hops/6/a", 0, 10), -EPROTO);
	assert_int_equal(one_range("/to/ftp/a", 0, 10), -EPROTO);
	assert_int_equal(one_range("/to/user/a", 0, 10), -EPROTO);
	assert_int_equal(one_range("/to/nowhere/a", 0, 10), -EPROTO);
}

static void certificates_are_checked(void **state)
{
	char dir[256], *slash;
	struct bc_registry_options o = {.cert_dir = dir};
	struct bc_source *s;
	struct err e = {0};

	assert_int_equal(
		bc_http_source_open(net, NULL, url_of(2, "/ok/a"), 0, &s, &e),
		-EKEYREJECTED);
	assert_non_null(strstr(e.text, "is not trusted"));
	(void)snprintf(dir, sizeof(dir), "%s", faults.crt);
	slash = strrchr(dir, '/');
	*slash = '\0';
	if (bc_http_source_open(net, &o, url_of(2, "/ok/a"), 0, &s, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(fetch_range(rt, s, 12345, 100000), 0);
	bc_source_destroy(s);
	assert_int_equal(bc_http_source_open(
				 net, &o, url_of(2, "/to/plain/a"), 0, &s, &e),
		-EPROTO);
	assert_non_null(strstr(e.text, "from https to http"));
}

static void a_dead_server_is_an_error_or_waited_for(void **state)
{
	int port = free_port();
	struct bc_registry_options o = {.offline_ms = 0};
	struct server late = {0};
	struct bc_source *s;
	struct fetching g[4];
	struct err e = {0};
	char url[100];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/ok/late", port);
	assert_int_equal(
		bc_http_source_open(net, &o, url, 0, &s, &e), -EHOSTUNREACH);
	assert_non_null(strstr(e.text, "(connection refused)"));
	assert_int_equal(bc_http_source_open(net, &o, url, SIZE, &s, &e), 0);
	assert_int_equal(fetch_range(rt, s, 0, 10), -ETIMEDOUT);
	bc_source_destroy(s);
	o.offline_ms = UINT32_MAX;
	assert_int_equal(bc_http_source_open(net, &o, url, SIZE, &s, &e), 0);
	for (unsigned i = 0; i < 4; i++)
		fetching_start(&g[i], rt, s, i * 1000, 1000);
	bc_source_cancel(s, &g[3].f);
	assert_int_equal(fetching_end(&g[3]), -ECANCELED);
	faultserver_start(&late, port);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fetching_end(&g[i]), 0);
	bc_source_destroy(s);
	server_stop(&late);
}

static void a_fetch_can_be_cancelled_at_any_time(void **state)
{
	struct bc_source *s[3] = {open_source("/stall/70000/1000/a", 1000),
		open_source("/status/503/1000/-/a", UINT32_MAX),
		open_source("/ok/a", 1000)};
	struct fetching g[3];
	int rc;

	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < 3; i++)
			fetching_start(&g[i], rt, s[i], 0, 500000);
		for (unsigned i = 0; i < 3; i++)
			bc_source_promote(s[i], &g[i].f);
		(void)poll(NULL, 0, (int)round);
		/* The third may have ended, or just end. */
		for (unsigned i = 0; i < 3; i++)
			bc_source_cancel(s[i], &g[i].f);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(fetching_end(&g[i]), -ECANCELED);
		rc = fetching_end(&g[2]);
		assert_true(rc == 0 || rc == -ECANCELED);
	}
	for (unsigned i = 0; i < 3; i++)
		bc_source_destroy(s[i]);
}

static void a_transfer_that_stalls_or_crawls_ends(void **state)
{
	static const char *const paths[] = {"/stall/10/1000/t", "/loris/t"};
	static uint8_t body[SIZE];
	struct bc_transfer t = {.method = "GET",
		.has_range = true,
		.range_len = SIZE,
		.range_total = SIZE,
		.buf = body,
		.buf_len = sizeof(body),
		.stall_timeout_ms = 300};

	for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
		t.url = url_of(0, paths[i]);
		assert_int_equal(bc_net_run(net, &t), -ETIME);
		assert_true(t.body_len < SIZE);
		bc_transfer_fini(&t);
	}
}

static void too_much_body_is_refused(void **state)
{
	uint8_t small[1000];
	struct buf grow;
	struct bc_transfer t = {.method = "GET",
		.url = url_of(0, "/ok/a"),
		.buf = small,
		.buf_len = sizeof(small)};

	assert_int_equal(bc_net_run(net, &t), -EPROTO);
	bc_transfer_fini(&t);
	buf_init(&grow, 5000);
	t.buf = NULL;
	t.grow = &grow;
	assert_int_equal(bc_net_run(net, &t), -E2BIG);
	bc_transfer_fini(&t);
	buf_fini(&grow);
}

static void no_memory_is_an_error_and_nothing_more(void **state)
{
	struct bc_source *s = open_source("/signed/memory", 1000);
	uint8_t bytes[1000];
	unsigned failed = 0;
	int rc;

	for (unsigned long n = 1; n < 40; n++) {
		mem_free(fetch_text(net, faults.port[0], "/_expire/403"));
		(void)mem_fail_nth(n, 0);
		rc = fetch_into(rt, s, 0, bytes, sizeof(bytes));
		(void)mem_fail_nth(0, 0);
		assert_true(rc == 0 || rc == -ENOMEM);
		failed += rc == -ENOMEM;
		assert_int_equal(fetch_range(rt, s, 1000, 1000), 0);
	}
	assert_true(failed > 5);
	bc_source_destroy(s);
}

static void note_end(struct bc_transfer *t)
{
	assert_int_equal(t->result, -ECANCELED);
	bc_transfer_fini(t);
}

static void destroying_ends_what_is_on_its_way(void **state)
{
	struct bc_transfer t[20] = {0};
	struct bc_net *own;
	struct err e = {0};
	char url[300];

	(void)snprintf(url, sizeof(url), "%s", url_of(0, "/stall/5/1000/d"));
	for (unsigned round = 0; round < 10; round++) {
		assert_int_equal(bc_net_create(NULL, &own, &e), 0);
		for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
			t[i] = (struct bc_transfer){.method = "GET",
				.url = url,
				.cls = i % 2 ? RT_PREFETCH : RT_DEMAND,
				.done = note_end};
			bc_net_start(own, &t[i]);
		}
		(void)poll(NULL, 0, (int)round * 5);
		bc_net_destroy(own);
		for (unsigned i = 0; i < ARRAY_LEN(t); i++)
			assert_int_equal(t[i].state, 4); /* it ended */
	}
}

static void proxies_come_from_the_environment(void **state)
{
	static const char *const names[] = {"http_proxy", "HTTP_PROXY"};
	struct bc_source *s;
	struct bc_net *own;
	struct err e = {0};
	char proxy[100], *log;

	(void)snprintf(
		proxy, sizeof(proxy), "http://127.0.0.1:%d", faults.port[1]);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(setenv(names[i], proxy, 1), 0);
		assert_int_equal(bc_net_create(NULL, &own, &e), 0);
		forget_log(net, &faults);
		assert_int_equal(
			bc_http_source_open(own, NULL,
				"http://nowhere.invalid/ok/proxied", 0, &s, &e),
			0);
		assert_int_equal(fetch_range(rt, s, 10, 1000), 0);
		bc_source_destroy(s);
		/* Our own loopback is never asked for through it. */
		assert_int_equal(bc_http_source_open(own, NULL,
					 url_of(0, "/ok/direct"), 0, &s, &e),
			0);
		bc_source_destroy(s);
		log = take_log();
		assert_int_equal(
			count_lines(log, "GET 1 http://nowhere.invalid/ok/"),
			2);
		assert_int_equal(count_lines(log, "GET 0 /ok/direct"), 1);
		mem_free(log);
		bc_net_destroy(own);
		assert_int_equal(unsetenv(names[i]), 0);
	}
}

static void no_proxy_names_who_is_asked_directly(void **state)
{
	struct bc_source *s;
	struct bc_net *own;
	struct err e = {0};
	char proxy[100], *log;

	(void)snprintf(
		proxy, sizeof(proxy), "http://127.0.0.1:%d", faults.port[1]);
	assert_int_equal(setenv("HTTP_PROXY", proxy, 1), 0);
	assert_int_equal(
		setenv("NO_PROXY", "other.invalid,.direct.invalid", 1), 0);
	assert_int_equal(bc_net_create(NULL, &own, &e), 0);
	forget_log(net, &faults);
	assert_true(
		bc_http_source_open(own, NULL,
			"http://a.direct.invalid/ok/direct", 0, &s, &e) < 0);
	assert_int_equal(
		bc_http_source_open(own, NULL,
			"http://nowhere.invalid/ok/proxied", 0, &s, &e),
		0);
	bc_source_destroy(s);
	log = take_log();
	assert_null(strstr(log, "direct"));
	assert_non_null(strstr(log, "GET 1 http://nowhere.invalid/ok/"));
	mem_free(log);
	bc_net_destroy(own);
	assert_int_equal(unsetenv("HTTP_PROXY"), 0);
	assert_int_equal(unsetenv("NO_PROXY"), 0);
}

/* nginx on two ports, the second with TLS and HTTP/2; a file "f" in dir. */
static void nginx_start(struct server *s, const char *dir)
{
	char conf[512], text[2048];
	char *argv[] = {(char *)"/usr/sbin/nginx", (char *)"-p", (char *)dir,
		(char *)"-c", conf, NULL};

	must_run("/usr/bin/python3 -c 'open(\"%s/f\",\"wb\").write("
		 "(bytes(range(251))*40000)[:9000000])'",
		dir);
	s->port[0] = free_port();
	s->port[1] = free_port();
	(void)snprintf(text, sizeof(text),
		"daemon off; master_process off; pid %s/pid;\n"
		"error_log /dev/null; events {}\n"
		"http { log_format p '$server_protocol'; access_log %s/log p;\n"
		"client_body_temp_path %s/b; proxy_temp_path %s/p;\n"
		"fastcgi_temp_path %s/c; uwsgi_temp_path %s/u;\n"
		"scgi_temp_path %s/s;\n"
		"ssl_certificate %s;\n"
		"ssl_certificate_key %.*s/server.pem;\n"
		"server { listen 127.0.0.1:%d; root %s; }\n"
		"server { listen 127.0.0.1:%d ssl http2; root %s; } }\n",
		dir, dir, dir, dir, dir, dir, dir, faults.crt,
		(int)(strrchr(faults.crt, '/') - faults.crt), faults.crt,
		s->port[0], dir, s->port[1], dir);
	(void)snprintf(conf, sizeof(conf), "%s/conf", dir);
	write_text(conf, text, 0644);
	server_spawn(s, argv, NULL);
	wait_for_port(s->port[0]);
	wait_for_port(s->port[1]);
}

static void nginx_reads(const char *scheme, int port)
{
	char url[100], cert_dir[256];
	struct bc_registry_options o = {.cert_dir = cert_dir};
	struct fetching g[16];
	struct bc_source *s;
	struct err e = {0};

	(void)snprintf(cert_dir, sizeof(cert_dir), "%s", faults.crt);
	*strrchr(cert_dir, '/') = '\0';
	(void)snprintf(url, sizeof(url), "%s://127.0.0.1:%d/f", scheme, port);
	assert_int_equal(bc_http_source_open(net, &o, url, 0, &s, &e), 0);
	assert_int_equal(s->size, 9000000);
	for (unsigned i = 0; i < 16; i++)
		fetching_start(&g[i], rt, s, i * 500000, 700000);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(fetching_end(&g[i]), 0);
	bc_source_destroy(s);
}

static void nginx_serves_ranges_over_both_versions_of_http(void **state)
{
	char dir[] = "/tmp/sluice-nginx-XXXXXX", path[300];
	struct server nginx = {0};
	struct buf log;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0755), 0);
	nginx_start(&nginx, dir);
	nginx_reads("http", nginx.port[0]);
	nginx_reads("https", nginx.port[1]);
	server_stop(&nginx);
	buf_init(&log, 0);
	(void)snprintf(path, sizeof(path), "%s/log", dir);
	assert_int_equal(buf_read_file(&log, AT_FDCWD, path), 0);
	assert_int_equal(buf_terminate(&log), 0);
	assert_int_equal(count_lines((char *)log.data, "HTTP/1.1\n"), 17);
	assert_int_equal(count_lines((char *)log.data, "HTTP/2.0\n"), 17);
	buf_fini(&log);
	must_run("rm -rf %s", dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_come_as_asked_for),
		cmocka_unit_test(the_size_is_asked_for_when_it_is_not_given),
		cmocka_unit_test(what_is_not_there_is_said_so),
		cmocka_unit_test(answers_that_break_the_range_are_refused),
		cmocka_unit_test(what_was_cut_off_is_resumed),
		cmocka_unit_test(a_busy_server_is_asked_again),
		cmocka_unit_test(a_storm_is_survived_by_many_readers),
		cmocka_unit_test(redirects_are_followed_and_remembered),
		cmocka_unit_test(an_expired_redirect_is_asked_for_again),
		cmocka_unit_test(an_answer_that_stalls_is_asked_for_again),
		cmocka_unit_test(bad_redirects_are_refused),
		cmocka_unit_test(certificates_are_checked),
		cmocka_unit_test(a_dead_server_is_an_error_or_waited_for),
		cmocka_unit_test(a_fetch_can_be_cancelled_at_any_time),
		cmocka_unit_test(a_transfer_that_stalls_or_crawls_ends),
		cmocka_unit_test(too_much_body_is_refused),
		cmocka_unit_test(no_memory_is_an_error_and_nothing_more),
		cmocka_unit_test(destroying_ends_what_is_on_its_way),
		cmocka_unit_test(proxies_come_from_the_environment),
		cmocka_unit_test(no_proxy_names_who_is_asked_directly),
		cmocka_unit_test(
			nginx_serves_ranges_over_both_versions_of_http),
		/* Last: the fault server then counts as one without ranges. */
		cmocka_unit_test(a_server_without_ranges_is_read_whole),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
