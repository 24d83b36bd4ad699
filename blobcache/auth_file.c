/* SPDX-License-Identifier: Apache-2.0 */
/* Auth files; see auth_file.h. */
#include "blobcache/auth_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "blobcache/base64.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* Docker Hub goes by many names; the last one is its helpers' key. */
static const char *const hub_names[] = {
	"docker.io",
	"index.docker.io",
	"registry-1.docker.io",
	"https://index.docker.io/v1/",
};

static void wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	mem_free(s);
}

void bc_credentials_fini(struct bc_credentials *c)
{
	wipe(c->user);
	wipe(c->password);
	wipe(c->identity_token);
	*c = (struct bc_credentials){0};
}

void bc_auth_entry_fini(struct bc_auth_entry *e)
{
	bc_credentials_fini(&e->cred);
	mem_free(e->helper);
	mem_free(e->server);
	*e = (struct bc_auth_entry){0};
}

bool bc_helper_name_is_ok(const char *suffix)
{
	size_t n = strnlen(suffix, 101);

	if (n == 0 || n > 100)
		return false;
	for (; *suffix; suffix++) {
		char c = *suffix;

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9') || c == '-' || c == '_' ||
			    c == '.'))
			return false;
	}
	return true;
}

static bool is_hub(const char *host)
{
	for (size_t i = 0; i < 3; i++)
		if (strcasecmp(host, hub_names[i]) == 0)
			return true;
	return false;
}

/* ---- entries ---- */

static int copy_string(const json_t *o, const char *key, char **ret)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (!s || !s[0])
		return 0;
	*ret = mem_strdup(s);
	return *ret ? 0 : -ENOMEM;
}

/* base64("user:password"); some writers leave NULs at its end. */
static int take_auth(const char *text, struct bc_credentials *c)
{
	uint8_t *plain;
	size_t n;
	const char *colon;
	int rc = bc_base64_decode(text, strlen(text), &plain, &n);

	if (rc < 0)
		return rc;
	colon = memchr(plain, ':', n);
	if (!colon || memchr(plain, '\0', (size_t)(colon - (char *)plain))) {
		rc = -EPROTO;
	} else {
		c->user = mem_strndup(
			(char *)plain, (size_t)(colon - (char *)plain));
		c->password = mem_strdup(colon + 1); /* up to the first NUL */
		rc = c->user && c->password ? 0 : -ENOMEM;
	}
	explicit_bzero(plain, n);
	mem_free(plain);
	return rc;
}

static int take_entry(const json_t *o, struct bc_credentials *c)
{
	const char *auth = json_string_value(json_object_get(o, "auth"));
	int rc = 0;

	if (auth && auth[0])
		rc = take_auth(auth, c);
	if (rc == 0 && !c->user)
		rc = copy_string(o, "username", &c->user);
	if (rc == 0 && !c->password)
		rc = copy_string(o, "password", &c->password);
	if (rc == 0)
		rc = copy_string(o, "identitytoken", &c->identity_token);
	return rc;
}

/* ---- which entry ---- */

/* "host/a/b/c", "host/a/b", "host/a", "host". */
static json_t *find_by_path(
	const json_t *auths, const char *host, const char *repository)
{
	CLEANUP_FREE char *key = mem_printf("%s/%s", host, repository);
	char *slash;
	json_t *o;

	while (key) {
		o = json_object_get(auths, key);
		if (json_is_object(o))
			return o;
		slash = strrchr(key, '/');
		if (!slash)
			break;
		*slash = '\0';
	}
	return NULL;
}

/* A key that is a URL (or any key of the flat form) counts by its host. */
static bool key_is_host(const char *key, bool is_flat, const char *host)
{
	const char *p = strstr(key, "://");
	size_t n;

	if (!p && !is_flat)
		return false;
	p = p ? p + 3 : key;
	n = strcspn(p, "/");
	return strlen(host) == n && strncasecmp(p, host, n) == 0;
}

static json_t *find_by_url(json_t *auths, bool is_flat, const char *host)
{
	const char *key;
	json_t *o;

	json_object_foreach(auths, key, o)
	{
		if (json_is_object(o) && key_is_host(key, is_flat, host))
			return o;
	}
	return NULL;
}

static json_t *find_entry(
	json_t *auths, bool is_flat, const char *host, const char *repository)
{
	json_t *o = find_by_path(auths, host, repository);

	for (size_t i = 0; !o && i < 3 && is_hub(host); i++)
		o = find_by_path(auths, hub_names[i], repository);
	if (!o)
		o = find_by_url(auths, is_flat, host);
	for (size_t i = 0; !o && i < 3 && is_hub(host); i++)
		o = find_by_url(auths, is_flat, hub_names[i]);
	return o;
}

static const char *host_helper(const json_t *helpers, const char *host)
{
	const char *s = json_string_value(json_object_get(helpers, host));

	for (size_t i = 0; !s && i < ARRAY_LEN(hub_names) && is_hub(host); i++)
		s = json_string_value(json_object_get(helpers, hub_names[i]));
	return s && s[0] ? s : NULL;
}

const char *bc_helper_server(const char *host)
{
	return is_hub(host) ? hub_names[ARRAY_LEN(hub_names) - 1] : host;
}

static int set_helper(
	struct bc_auth_entry *e, const char *suffix, const char *host)
{
	if (!bc_helper_name_is_ok(suffix))
		return -EPROTO;
	e->helper = mem_strdup(suffix);
	e->server = mem_strdup(bc_helper_server(host));
	return e->helper && e->server ? 0 : -ENOMEM;
}

static int find_in(json_t *root, bool is_flat, const char *host,
	const char *repository, struct bc_auth_entry *ret)
{
	json_t *auths = is_flat ? root : json_object_get(root, "auths");
	const char *helper = NULL;
	json_t *o;
	int rc;

	if (!is_flat)
		helper =
			host_helper(json_object_get(root, "credHelpers"), host);
	if (helper)
		return set_helper(ret, helper, host);
	o = find_entry(auths, is_flat, host, repository);
	rc = o ? take_entry(o, &ret->cred) : 0;
	if (rc < 0 || ret->cred.user || ret->cred.identity_token || is_flat)
		return rc;
	helper = json_string_value(json_object_get(root, "credsStore"));
	return helper && helper[0] ? set_helper(ret, helper, host) : 0;
}

static json_t *load(const char *json, size_t n)
{
	json_error_t why;

	return json_loadb(json, n, 0, &why); /* why might quote a secret */
}

int bc_auth_file_find(const char *json, size_t n, bool is_flat,
	const char *host, const char *repository, struct bc_auth_entry *ret)
{
	struct bc_auth_entry e = {0};
	json_t *root;
	int rc = -EPROTO;

	if (n > BC_AUTH_FILE_MAX)
		return -E2BIG;
	root = load(json, n);
	if (json_is_object(root))
		rc = find_in(root, is_flat, host, repository, &e);
	json_decref(root);
	if (rc < 0)
		bc_auth_entry_fini(&e);
	else
		*ret = e;
	return rc;
}

int bc_helper_answer_parse(
	const char *json, size_t n, struct bc_credentials *ret)
{
	struct bc_credentials c = {0};
	const char *user;
	json_t *root;
	int rc = -EPROTO;

	if (n > BC_AUTH_FILE_MAX)
		return -EPROTO;
	root = load(json, n);
	user = json_string_value(json_object_get(root, "Username"));
	if (user && json_is_string(json_object_get(root, "Secret"))) {
		if (strcmp(user, "<token>") == 0) {
			rc = copy_string(root, "Secret", &c.identity_token);
		} else {
			rc = copy_string(root, "Username", &c.user);
			if (rc == 0)
				rc = copy_string(root, "Secret", &c.password);
		}
	}
	json_decref(root);
	if (rc == 0 && c.user && !c.password)
		rc = -EPROTO;
	if (rc < 0)
		bc_credentials_fini(&c);
	else
		*ret = c;
	return rc;
}
