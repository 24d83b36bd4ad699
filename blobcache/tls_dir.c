/* SPDX-License-Identifier: Apache-2.0 */
/* certs.d; see tls_dir.h. */
#include "blobcache/tls_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "blobcache/home.h"
#include "runtime/base/buf.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define LOG_TOPIC "http"

#define MAX_ENTRIES 1000
#define MAX_PEM (4u << 20)

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n > k && strcmp(s + n - k, suffix) == 0;
}

/* *to becomes the first name in order of strcmp. 0 or -ENOMEM. */
static int keep_first(const char **to, const char *name)
{
	char *copy;

	if (*to && strcmp(*to, name) <= 0)
		return 0;
	copy = mem_strdup(name);
	if (!copy)
		return -ENOMEM;
	mem_free((char *)*to);
	*to = copy;
	return 0;
}

/* What dir/name holds goes to pem, with a line end. */
static int add_authority(
	struct buf *pem, const char *dir, const char *name, struct err *e)
{
	CLEANUP_FREE char *path = mem_printf("%s/%s", dir, name);
	struct buf one;
	int rc;

	buf_init(&one, MAX_PEM);
	rc = path ? buf_read_file(&one, AT_FDCWD, path) : -ENOMEM;
	if (rc == 0)
		rc = buf_append(pem, one.data ? (char *)one.data : "", one.len);
	if (rc == 0)
		rc = buf_append(pem, "\n", 1);
	buf_fini(&one);
	if (rc < 0 && rc != -ENOMEM)
		(void)err_sys(e, rc, "cannot read '%s'", path);
	return rc;
}

static int scan(DIR *d, const char *dir, struct bc_net_tls *t, struct err *e)
{
	struct dirent *de;
	struct buf pem;
	int rc = 0, n = 0, certs = 0;

	buf_init(&pem, MAX_PEM);
	while (rc == 0 && n++ < MAX_ENTRIES && (de = readdir(d))) {
		if (has_suffix(de->d_name, ".crt"))
			rc = add_authority(&pem, dir, de->d_name, e);
		else if (has_suffix(de->d_name, ".cert") && ++certs)
			rc = keep_first(&t->cert_file, de->d_name);
	}
	if (rc == 0 && certs > 1)
		log_warn("'%s' has %d client certificates, only the first one "
			 "('%s') is shown",
			dir, certs, t->cert_file);
	if (rc == 0 && pem.len > 0) {
		t->ca_pem = mem_strndup((char *)pem.data, pem.len);
		rc = t->ca_pem ? 0 : -ENOMEM;
	}
	buf_fini(&pem);
	return rc;
}

static int make_path(const char *dir, const char **name)
{
	char *full;

	if (!*name)
		return 0;
	full = mem_printf("%s/%s", dir, *name);
	mem_free((char *)*name);
	*name = full;
	return full ? 0 : -ENOMEM;
}

void bc_tls_fini(struct bc_net_tls *t)
{
	mem_free((char *)t->ca_pem);
	mem_free((char *)t->cert_file);
	mem_free((char *)t->key_file);
	*t = (struct bc_net_tls){0};
}

/* "x.cert" belongs with "x.key". */
static int find_key(struct bc_net_tls *t, struct err *e)
{
	size_t n;

	if (!t->cert_file)
		return 0;
	n = strlen(t->cert_file) - strlen(".cert");
	t->key_file = mem_printf("%.*s.key", (int)n, t->cert_file);
	if (!t->key_file)
		return -ENOMEM;
	if (access(t->key_file, R_OK) != 0)
		return err_set(e, -EINVAL,
			"client certificate '%s' has no readable key beside it",
			t->cert_file);
	return 0;
}

/* -ENOENT: no such directory. */
static int look(const char *dir, struct bc_net_tls *ret, struct err *e)
{
	struct bc_net_tls t = {0};
	DIR *d = opendir(dir);
	int rc;

	if (!d)
		return err_sys(e, errno == EACCES ? -EACCES : -ENOENT,
			"cannot read certificate directory '%s'", dir);
	rc = scan(d, dir, &t, e);
	(void)closedir(d); /* it was only read */
	if (rc == 0)
		rc = make_path(dir, &t.cert_file);
	if (rc == 0)
		rc = find_key(&t, e);
	if (rc < 0) {
		bc_tls_fini(&t);
		return rc == -ENOMEM ? err_set(e, rc, "out of memory") : rc;
	}
	*ret = t;
	return 0;
}

static int look_in(const char *base, const char *host, struct bc_net_tls *ret,
	struct err *e)
{
	CLEANUP_FREE char *dir = NULL;

	if (!base)
		return -ENOENT;
	dir = mem_printf("%s/certs.d/%s", base, host);
	if (!dir)
		return err_set(e, -ENOMEM, "out of memory");
	return look(dir, ret, e);
}

int bc_tls_dir_find(const char *dir, const char *host, struct bc_net_tls *ret,
	struct err *e)
{
	CLEANUP_FREE char *config = NULL;
	int rc;

	if (dir)
		return look(dir, ret, e);
	*ret = (struct bc_net_tls){0};
	rc = bc_home_config("containers", &config);
	if (rc == -ENOMEM)
		return err_set(e, rc, "out of memory");
	rc = look_in(config, host, ret, e);
	if (rc == -ENOENT || rc == -EACCES)
		rc = look_in("/etc/containers", host, ret, e);
	if (rc == -ENOENT || rc == -EACCES)
		rc = look_in("/etc/docker", host, ret, e);
	return rc == -ENOENT || rc == -EACCES ? 0 : rc;
}
