/* SPDX-License-Identifier: Apache-2.0 */
/* A registry's client in tests: its home, logins, and one blob. */
#pragma once

#include "blobcache/registry.h"
#include "runtime/base/util.h"
#include "tests/lib/fetching.h"

/* "user:pass word", as in the fault server. */
#define USER_AUTH "dXNlcjpwYXNzIHdvcmQ="

/* Make dir, a template, and let nothing of this machine's user be found. */
static inline void home_make(char *dir)
{
	assert_non_null(mkdtemp(dir));
	assert_int_equal(setenv("HOME", dir, 1), 0);
	assert_int_equal(setenv("XDG_RUNTIME_DIR", dir, 1), 0);
	(void)unsetenv("XDG_CONFIG_HOME");
	(void)unsetenv("DOCKER_CONFIG");
	(void)unsetenv("REGISTRY_AUTH_FILE");
}

/* A file in dir by which USER_AUTH is for the registry at port; its path. */
static inline const char *login_file(const char *dir, int port)
{
	static char path[300];
	char text[200];

	(void)snprintf(path, sizeof(path), "%s/login.json", dir);
	(void)snprintf(text, sizeof(text),
		"{\"auths\":{\"127.0.0.1:%d\":{\"auth\":\"%s\"}}}", port,
		USER_AUTH);
	write_text(path, text, 0600);
	return path;
}

static inline struct bc_registry *registry_at(struct bc_net *net,
	const struct bc_registry_options *o, int port, const char *name)
{
	struct bc_registry *r;
	struct err e = {0};
	char host[40];

	(void)snprintf(host, sizeof(host), "127.0.0.1:%d", port);
	if (bc_registry_open(net, o, host, name, &r, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

/* A blob of a fault server's registry: any digest is there. */
struct remote {
	struct bc_registry *r;
	struct bc_source *s;
};

static inline struct remote remote_open(struct bc_net *net,
	const struct bc_registry_options *o, int port, const char *name)
{
	struct remote m = {registry_at(net, o, port, name), NULL};
	struct digest d;
	struct err e = {0};

	assert_int_equal(digest_of(DIGEST_SHA256, "x", 1, &d), 0);
	assert_int_equal(bc_registry_source(m.r, &d, SIZE, &m.s, &e), 0);
	return m;
}

static inline void remote_close(struct remote *m)
{
	bc_source_destroy(m->s);
	bc_registry_close(m->r);
}
