/* SPDX-License-Identifier: Apache-2.0 */
/* The files of registries.conf, in the order of podman; see registries.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/home.h"
#include "blobcache/registries.h"
#include "blobcache/toml.h"
#include "runtime/base/buf.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"

#define ETC "/etc/containers/registries.conf"
#define MAX_DROP_INS 256

/* -ENOENT: it is not there. */
static int add_file(struct bc_registries *r, const char *path, struct err *e)
{
	struct buf b;
	int rc;

	buf_init(&b, BC_TOML_MAX);
	rc = buf_read_file(&b, AT_FDCWD, path);
	if (rc == -ENOENT || rc == -ENOTDIR)
		rc = -ENOENT;
	else if (rc < 0)
		rc = err_sys(e, rc, "cannot read '%s'", path);
	else
		rc = bc_registries_add(
			r, b.data ? (const char *)b.data : "", b.len, path, e);
	buf_fini(&b);
	return rc;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The *.conf of d, sorted; *ret_n of them in names, owned by the caller. */
static int list_conf(DIR *d, char **names, size_t *ret_n)
{
	const struct dirent *de;
	size_t n = 0, len;

	*ret_n = 0;
	while ((de = readdir(d))) {
		len = strlen(de->d_name);
		if (len < 6 || strcmp(de->d_name + len - 5, ".conf") != 0)
			continue;
		if (n == MAX_DROP_INS)
			return -E2BIG;
		names[n] = mem_strdup(de->d_name);
		if (!names[n])
			return -ENOMEM;
		*ret_n = ++n;
	}
	qsort(names, n, sizeof(*names), compare);
	return 0;
}

static int add_named(struct bc_registries *r, const char *dir, const char *name,
	struct err *e)
{
	CLEANUP_FREE char *path = mem_printf("%s/%s", dir, name);
	int rc = path ? add_file(r, path, e)
	              : err_set(e, -ENOMEM, "out of memory");

	return rc == -ENOENT ? 0 : rc; /* it has just gone */
}

static int add_dir(struct bc_registries *r, const char *dir, struct err *e)
{
	char *names[MAX_DROP_INS];
	size_t n, i;
	DIR *d = opendir(dir);
	int rc;

	if (!d)
		return errno == ENOENT || errno == ENOTDIR
		               ? 0
		               : err_sys(e, -errno, "cannot read '%s'", dir);
	rc = list_conf(d, names, &n);
	(void)closedir(d); /* it was only read */
	if (rc < 0)
		(void)err_sys(e, rc, "cannot read '%s'", dir);
	for (i = 0; rc == 0 && i < n; i++)
		rc = add_named(r, dir, names[i], e);
	for (i = 0; i < n; i++)
		mem_free(names[i]);
	return rc;
}

/*
 * The file named by the environment counts, else the user's, else the system's.
 * A user's own file also hides the system's directory.
 */
static int add_all(struct bc_registries *r, struct err *e)
{
	const char *named = getenv("CONTAINERS_REGISTRIES_CONF");
	CLEANUP_FREE char *own = NULL;
	CLEANUP_FREE char *own_dir = NULL;
	bool is_own = false;
	int rc = bc_home_config("containers/registries.conf", &own);

	if (rc == 0) {
		own_dir = mem_printf("%s.d", own);
		rc = own_dir ? 0 : -ENOMEM;
	}
	if (rc == -ENOMEM)
		return err_set(e, rc, "out of memory");
	if (named && named[0]) {
		rc = add_file(r, named, e);
		if (rc == -ENOENT)
			return err_set(e, rc,
				"'%s', which CONTAINERS_REGISTRIES_CONF names, "
				"is not there",
				named);
	} else {
		rc = own ? add_file(r, own, e) : -ENOENT;
		is_own = rc == 0;
		if (rc == -ENOENT)
			rc = add_file(r, ETC, e);
	}
	if (rc == -ENOENT)
		rc = 0;
	if (rc == 0 && !is_own)
		rc = add_dir(r, ETC ".d", e);
	if (rc == 0 && own_dir)
		rc = add_dir(r, own_dir, e);
	return rc;
}

int bc_registries_load(struct bc_registries **ret, struct err *e)
{
	struct bc_registries *r = bc_registries_create();
	int rc = r ? add_all(r, e) : err_set(e, -ENOMEM, "out of memory");

	if (rc == 0)
		*ret = r;
	else
		bc_registries_destroy(r);
	return rc;
}

int bc_registries_find(const char *host, const char *repository,
	const char *reference, struct bc_endpoints *ret, struct err *e)
{
	struct bc_registries *r = NULL;
	int rc = bc_registries_load(&r, e);

	if (rc == 0)
		rc = bc_registries_choose(
			r, host, repository, reference, ret, e);
	bc_registries_destroy(r);
	return rc;
}
