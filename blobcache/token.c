/* SPDX-License-Identifier: Apache-2.0 */
/* Token questions and answers; see token.h. */
#include "blobcache/token.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "blobcache/base64.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"

#define MIN_LIFE_S 60
#define MAX_LIFE_S 86400
#define MAX_TOKEN 262144

static int add_escaped(struct buf *b, const char *s, size_t n)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~:/,";
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (s[i] && strchr(plain, s[i]))
			rc = buf_append(b, s + i, 1);
		else
			rc = buf_printf(b, "%%%02X", (unsigned char)s[i]);
	}
	return rc;
}

static int add_field(
	struct buf *b, const char *name, const char *value, size_t n)
{
	char before = b->len ? (char)b->data[b->len - 1] : '?';

	if (before != '?' && before != '&' && buf_append(b, "&", 1) < 0)
		return -ENOMEM;
	if (buf_printf(b, "%s=", name) < 0)
		return -ENOMEM;
	return add_escaped(b, value, n);
}

/* One parameter for each of several scopes. */
static int add_scopes(struct buf *b, const char *scope)
{
	int rc = 0;

	while (rc == 0 && *scope) {
		size_t n = strcspn(scope, " ");

		if (n > 0)
			rc = add_field(b, "scope", scope, n);
		scope += n + (scope[n] == ' ');
	}
	return rc;
}

static int add_default_scope(struct buf *b, const char *repository)
{
	char *scope = mem_printf("repository:%s:pull", repository);
	int rc = scope ? add_field(b, "scope", scope, strlen(scope)) : -ENOMEM;

	mem_free(scope);
	return rc;
}

/* The text of b; b is empty afterwards. NULL: out of memory. */
static char *buf_take_text(struct buf *b, int rc)
{
	char *s = NULL;

	if (rc == 0 && buf_terminate(b) == 0)
		s = mem_strdup((char *)b->data);
	if (b->data)
		explicit_bzero(b->data, b->len);
	buf_fini(b);
	return s;
}

char *bc_token_url(const struct bc_challenge *c, const char *repository,
	const struct bc_credentials *cred)
{
	struct buf b;
	int rc;

	buf_init(&b, 0);
	rc = buf_printf(&b, "%s%s", c->realm, strchr(c->realm, '?') ? "" : "?");
	if (rc == 0 && c->service[0])
		rc = add_field(&b, "service", c->service, strlen(c->service));
	if (rc == 0)
		rc = c->scope[0] ? add_scopes(&b, c->scope)
		                 : add_default_scope(&b, repository);
	if (rc == 0 && cred->user)
		rc = add_field(&b, "account", cred->user, strlen(cred->user));
	return buf_take_text(&b, rc);
}

char *bc_token_form(const struct bc_challenge *c, const char *repository,
	const char *identity_token)
{
	static const char fixed[] = "grant_type=refresh_token"
				    "&client_id=sluice"
				    "&access_type=offline";
	struct buf b;
	int rc;

	buf_init(&b, 0);
	rc = buf_append(&b, fixed, strlen(fixed));
	if (rc == 0)
		rc = add_field(&b, "service", c->service, strlen(c->service));
	if (rc == 0)
		rc = c->scope[0] ? add_field(&b, "scope", c->scope,
					   strlen(c->scope))
		                 : add_default_scope(&b, repository);
	if (rc == 0)
		rc = add_field(&b, "refresh_token", identity_token,
			strlen(identity_token));
	return buf_take_text(&b, rc);
}

char *bc_basic_header(const struct bc_credentials *cred)
{
	char *plain, *coded, *header = NULL;

	plain = mem_printf("%s:%s", cred->user ? cred->user : "",
		cred->password ? cred->password : "");
	if (!plain)
		return NULL;
	coded = bc_base64_encode(plain, strlen(plain));
	if (coded)
		header = mem_printf("Authorization: Basic %s", coded);
	explicit_bzero(plain, strlen(plain));
	mem_free(plain);
	if (coded)
		explicit_bzero(coded, strlen(coded));
	mem_free(coded);
	return header;
}

/* Visible ASCII only: nothing may end the header line. */
static bool is_token(const char *s)
{
	size_t n = strnlen(s, MAX_TOKEN + 1);

	if (n == 0 || n > MAX_TOKEN)
		return false;
	for (; *s; s++)
		if (*s <= ' ' || *s > '~')
			return false;
	return true;
}

int bc_token_parse(
	const char *json, size_t n, char **ret_header, uint64_t *ret_life_s)
{
	json_error_t why;
	json_t *root, *life;
	const char *token;
	double s = 0;
	int rc = -EPROTO;

	if (n > BC_TOKEN_MAX_BODY)
		return -EPROTO;
	root = json_loadb(json, n, 0, &why);
	token = json_string_value(json_object_get(root, "token"));
	if (!token || !token[0])
		token = json_string_value(
			json_object_get(root, "access_token"));
	life = json_object_get(root, "expires_in");
	if (json_is_number(life))
		s = json_number_value(life);
	if (token && is_token(token)) {
		*ret_header = mem_printf("Authorization: Bearer %s", token);
		rc = *ret_header ? 0 : -ENOMEM;
		*ret_life_s = !(s >= MIN_LIFE_S) ? MIN_LIFE_S
		              : s > MAX_LIFE_S   ? MAX_LIFE_S
		                                 : (uint64_t)s;
	}
	json_decref(root);
	return rc;
}
