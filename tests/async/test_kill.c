/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGKILL at any moment of the read path, many times over the same cache: what
 * its files say that they have is compared with the truth each time.
 */
#include <glob.h>

#include "runtime/runtime.h"
#include "tests/async/engines.h"
#include "tests/lib/http_world.h"

#define READERS 4
#define CHUNK (WORLD_GROUP / 2)
#define BITS_AT 4096 /* in a ready file; blobcache/README.md */

static struct server faults;
static char url[100];
static uint64_t seed;

static int setup(void **state)
{
	faultserver_start(&faults, 0);
	(void)snprintf(
		url, sizeof(url), "http://127.0.0.1:%d/ok/x", faults.port[0]);
	seed = test_seed();
	return 0;
}

static int teardown(void **state)
{
	server_stop(&faults);
	return 0;
}

static uint32_t next_random(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*s >> 33);
}

struct reader {
	struct http_world *w;
	uint64_t seed;
};

static void *read_randomly(void *arg)
{
	struct reader *r = arg;

	for (;;) {
		uint32_t off = next_random(&r->seed) % (WORLD_SIZE - 100000);
		uint32_t len = 1 + next_random(&r->seed) % 100000;

		if (world_read(r->w, off, len) != 0)
			_exit(2);
	}
	return NULL;
}

/* The child: reads until it is killed. */
static void victim(struct http_world *w)
{
	struct rt_options o = {.workers = 2};
	struct reader readers[READERS];
	pthread_t threads[READERS];
	struct err e = {0};

	if (bc_net_create(NULL, &w->net, &e) < 0 ||
		rt_create(&o, &w->rt, &e) < 0 || rt_start(w->rt, &e) < 0 ||
		world_open(w, url, 1000) != 0)
		_exit(3);
	for (unsigned i = 0; i < READERS; i++) {
		readers[i] = (struct reader){w, seed + i};
		if (pthread_create(
			    &threads[i], NULL, read_randomly, &readers[i]) != 0)
			_exit(4);
	}
	for (;;)
		(void)pause();
}

/* Chunks whose bit is set; each has to be the truth. */
static unsigned check_files(const char *dir)
{
	char pattern[100], path[600];
	struct buf ready, data;
	unsigned seen = 0;
	glob_t g;

	(void)snprintf(pattern, sizeof(pattern), "%s/blobs/*/*/*/ready", dir);
	if (glob(pattern, 0, NULL, &g) != 0)
		return 0;
	assert_int_equal(g.gl_pathc, 1);
	(void)snprintf(path, sizeof(path), "%.*sdata",
		(int)(strlen(g.gl_pathv[0]) - strlen("ready")), g.gl_pathv[0]);
	buf_init(&ready, 0);
	buf_init(&data, 0);
	assert_int_equal(buf_read_file(&ready, AT_FDCWD, g.gl_pathv[0]), 0);
	globfree(&g);
	if (buf_read_file(&data, AT_FDCWD, path) == 0 && ready.len > BITS_AT)
		for (unsigned c = 0; c < WORLD_SIZE / CHUNK; c++) {
			if (!(ready.data[BITS_AT + c / 8] >> c % 8 & 1))
				continue;
			assert_true(data.len >= (c + 1) * CHUNK);
			seen++;
			for (size_t i = c * CHUNK; i < (c + 1) * CHUNK; i++)
				if (data.data[i] != i % 251)
					fail_msg("chunk %u is wrong", c);
		}
	buf_fini(&ready);
	buf_fini(&data);
	return seen;
}

static void a_killed_process_leaves_only_the_truth(void **state)
{
	/* As long as the other soaks: a round is some thousand of their steps.
	 */
	unsigned long rounds = soak_count(20000) / 1000, seen = 0;
	struct http_world w;
	int status;
	pid_t pid;

	world_init(&w, NULL, NULL);
	for (unsigned long i = 0; i < rounds; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			victim(&w);
		}
		(void)poll(NULL, 0, (int)(next_random(&seed) % 60));
		(void)kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status))
			fail_msg("the child gave up: %d", WEXITSTATUS(status));
		seen += check_files(w.dir);
		if (i % 8 == 7)
			must_run("rm -rf %s/*", w.dir);
	}
	world_fini(&w);
	print_message(
		"counted: %lu kills, %lu chunks compared\n", rounds, seen);
	assert_true(seen > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_killed_process_leaves_only_the_truth),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
