/* SPDX-License-Identifier: Apache-2.0 */
/* The search for credentials; see credentials.h. */
#include "blobcache/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blobcache/helper.h"
#include "blobcache/home.h"
#include "blobcache/registries.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"

struct search {
	const char *host, *repository;
	const char *authfile; /* NULL: the usual ones */
	const atomic_bool *stop;
	struct bc_credentials *ret;
	char *words; /* looked_in */
	size_t cap;
};

static void say(struct search *s, const char *path, const char *why)
{
	size_t n = strlen(s->words);

	(void)snprintf(s->words + n, s->cap - n, "%s%s%s%s%s", n ? ", " : "",
		path, why ? " (" : "", why ? why : "", why ? ")" : "");
}

/* Unusable files and helpers are named and stepped over. */
static int ask_helper(struct search *s, const char *suffix, const char *server)
{
	struct err e = {0};
	int rc = bc_helper_get(
		suffix, server, s->stop, BC_HELPER_TIMEOUT_MS, s->ret, &e);

	if (rc == -ECANCELED || rc == -ENOMEM)
		return rc;
	say(s, "helper", rc == -ENOKEY || rc == 0 ? suffix : e.text);
	return 0;
}

static int use_entry(struct search *s, struct bc_auth_entry *entry)
{
	if (!entry->helper) {
		*s->ret = entry->cred;
		entry->cred = (struct bc_credentials){0};
		return 0;
	}
	return ask_helper(s, entry->helper, entry->server);
}

static const char *read_problem(int rc)
{
	switch (rc) {
	case -EACCES:
	case -EPERM:
		return "not readable";
	case -E2BIG:
		return "too large";
	case -EPROTO:
		return "broken";
	default:
		return "cannot be read";
	}
}

static int search_file(struct search *s, const char *path, bool is_flat)
{
	struct bc_auth_entry entry = {0};
	struct buf text;
	int rc;

	buf_init(&text, BC_AUTH_FILE_MAX);
	rc = buf_read_file(&text, AT_FDCWD, path);
	if (rc == 0)
		rc = bc_auth_file_find((const char *)text.data, text.len,
			is_flat, s->host, s->repository, &entry);
	if (text.data)
		explicit_bzero(text.data, text.len);
	buf_fini(&text);
	if (rc == -ENOMEM)
		return rc;
	say(s, path,
		rc == 0 || rc == -ENOENT || rc == -ENOTDIR ? NULL
							   : read_problem(rc));
	if (rc == 0)
		rc = use_entry(s, &entry);
	bc_auth_entry_fini(&entry);
	return rc == -ENOMEM || rc == -ECANCELED ? rc : 0;
}

static bool is_found(const struct search *s)
{
	return s->ret->user || s->ret->identity_token;
}

/* dir and the file in it; takes dir. */
static int search_in(
	struct search *s, char *dir, const char *name, bool is_flat)
{
	char *path;
	int rc;

	if (!dir)
		return -ENOMEM;
	path = mem_printf("%s/%s", dir, name);
	mem_free(dir);
	if (!path)
		return -ENOMEM;
	rc = search_file(s, path, is_flat);
	mem_free(path);
	return rc;
}

static char *run_dir(void)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	if (xdg && xdg[0] == '/')
		return mem_strdup(xdg);
	if (geteuid() == 0)
		return mem_strdup("/run");
	return mem_printf("/run/user/%u", (unsigned)geteuid());
}

static int search_containers(struct search *s)
{
	char *dir = NULL;
	int rc;

	/* Root's podman without a session. */
	if (geteuid() == 0) {
		rc = search_in(
			s, mem_strdup("/run/containers/0"), "auth.json", false);
		if (rc < 0 || is_found(s))
			return rc;
	}
	rc = search_in(s, run_dir(), "containers/auth.json", false);
	if (rc < 0 || is_found(s))
		return rc;
	rc = bc_home_config("containers", &dir);
	if (rc == -ENOENT)
		return 0; /* no home, no file */
	return rc < 0 ? rc : search_in(s, dir, "auth.json", false);
}

static int search_docker(struct search *s)
{
	const char *config = getenv("DOCKER_CONFIG");
	char *home = NULL;
	int rc = bc_home(&home);

	if (rc == -ENOMEM)
		return rc;
	if (config && config[0] == '/')
		rc = search_in(s, mem_strdup(config), "config.json", false);
	else if (home)
		rc = search_in(
			s, mem_strdup(home), ".docker/config.json", false);
	else
		rc = 0;
	if (rc < 0 || is_found(s) || !home) {
		mem_free(home);
		return rc < 0 ? rc : 0;
	}
	return search_in(s, home, ".dockercfg", true);
}

static int search_files(struct search *s)
{
	int rc;

	if (s->authfile)
		return search_file(s, s->authfile, false);
	rc = search_containers(s);
	if (rc < 0 || is_found(s))
		return rc;
	return search_docker(s);
}

static int search_named(struct search *s, const struct bc_registries *r)
{
	const char *name;
	int rc = 0;

	if (!r || !bc_registries_helper(r, 0))
		return search_files(s);
	for (size_t i = 0; rc == 0 && !is_found(s); i++) {
		name = bc_registries_helper(r, i);
		if (!name)
			break;
		rc = strcmp(name, BC_AUTH_FILES) == 0
		             ? search_files(s)
		             : ask_helper(s, name, bc_helper_server(s->host));
	}
	return rc;
}

int bc_credentials_find(const char *host, const char *repository,
	const char *authfile, const atomic_bool *stop,
	struct bc_credentials *ret, char *looked_in, size_t cap)
{
	const char *env = getenv("REGISTRY_AUTH_FILE");
	struct bc_registries *r = NULL;
	struct search s = {.host = host,
		.repository = repository,
		.authfile = authfile,
		.stop = stop,
		.ret = ret,
		.words = looked_in,
		.cap = cap};
	int rc;

	*ret = (struct bc_credentials){0};
	looked_in[0] = '\0';
	if (!authfile && env && env[0])
		s.authfile = env;
	rc = bc_registries_load(&r, NULL);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0)
		say(&s, "registries.conf", "cannot be used");
	rc = search_named(&s, r);
	bc_registries_destroy(r);
	return rc;
}
