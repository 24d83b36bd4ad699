/* SPDX-License-Identifier: Apache-2.0 */
/* certs.d; see tls_dir.h. */
#include "blobcache/tls_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blobcache/home.h"
#include "runtime/base/buf.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"

#define MAX_ENTRIES 1000
#define MAX_PEM (4u << 20)
#define MAX_PAIRS 64

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n > k && strcmp(s + n - k, suffix) == 0;
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

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "x.cert" belongs with "x.key". */
static int add_pair(struct bc_net_pairs *p, const char *dir, const char *name,
	struct err *e)
{
	int n = (int)(strlen(name) - strlen(".cert"));
	char *cert = mem_printf("%s/%s", dir, name);
	char *key = mem_printf("%s/%.*s.key", dir, n, name);

	p->at[p->count].cert_file = cert;
	p->at[p->count++].key_file = key;
	if (!cert || !key)
		return -ENOMEM;
	if (access(key, R_OK) == 0)
		return 0;
	return err_set(e, -EINVAL,
		"client certificate '%s' has no readable key beside it", cert);
}

/* Those of the names, in their order. */
static int add_pairs(struct bc_net_tls *t, const char *dir, char **names,
	unsigned count, struct err *e)
{
	int rc = 0;

	if (count == 0)
		return 0;
	t->pairs =
		mem_zalloc(sizeof(*t->pairs) + count * sizeof(t->pairs->at[0]));
	if (!t->pairs)
		return -ENOMEM;
	qsort(names, count, sizeof(names[0]), compare_names);
	for (unsigned i = 0; rc == 0 && i < count; i++)
		rc = add_pair(t->pairs, dir, names[i], e);
	return rc;
}

static int keep_name(char **names, unsigned *count, const char *dir,
	const char *name, struct err *e)
{
	if (*count == MAX_PAIRS)
		return err_set(e, -E2BIG,
			"'%s' has more than %d client certificates", dir,
			MAX_PAIRS);
	names[*count] = mem_strdup(name);
	if (!names[*count])
		return -ENOMEM;
	++*count;
	return 0;
}

static int scan(DIR *d, const char *dir, struct bc_net_tls *t, struct err *e)
{
	char *names[MAX_PAIRS];
	unsigned count = 0;
	struct dirent *de;
	struct buf pem;
	int rc = 0, n = 0;

	buf_init(&pem, MAX_PEM);
	while (rc == 0 && n++ < MAX_ENTRIES && (de = readdir(d))) {
		if (has_suffix(de->d_name, ".crt"))
			rc = add_authority(&pem, dir, de->d_name, e);
		else if (has_suffix(de->d_name, ".cert"))
			rc = keep_name(names, &count, dir, de->d_name, e);
	}
	if (rc == 0)
		rc = add_pairs(t, dir, names, count, e);
	if (rc == 0 && pem.len > 0) {
		t->ca_pem = mem_strndup((char *)pem.data, pem.len);
		rc = t->ca_pem ? 0 : -ENOMEM;
	}
	while (count > 0)
		mem_free(names[--count]);
	buf_fini(&pem);
	return rc;
}

void bc_tls_fini(struct bc_net_tls *t)
{
	mem_free((char *)t->ca_pem);
	for (unsigned i = 0; t->pairs && i < t->pairs->count; i++) {
		mem_free(t->pairs->at[i].cert_file);
		mem_free(t->pairs->at[i].key_file);
	}
	mem_free(t->pairs);
	*t = (struct bc_net_tls){0};
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
