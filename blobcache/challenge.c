/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Challenges; see challenge.h.
 *
 * The grammar is ambiguous: a comma separates both parameters and challenges.
 * A word followed by '=' and a value is a parameter; any other word is the
 * scheme of a new challenge. What follows a scheme without '=' (token68) is
 * stepped over.
 */
#include "blobcache/challenge.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define CHALLENGE_MAX_BYTES 65536

struct cursor {
	const char *p, *end;
};

struct value {
	char text[BC_CHALLENGE_MAX_VALUE];
	size_t len;
};

static bool is_token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

/* Servers also leave these unquoted, in URLs. */
static bool is_value_char(char c)
{
	return is_token_char(c) || (c != '\0' && strchr(":/?@=;()[]{}<>", c));
}

static void skip_spaces(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
		c->p++;
}

static void skip_separators(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == ','))
		c->p++;
}

static size_t take_token(struct cursor *c, const char **ret)
{
	*ret = c->p;
	while (c->p < c->end && is_token_char(*c->p))
		c->p++;
	return (size_t)(c->p - *ret);
}

static int value_add(struct value *v, char ch)
{
	if ((unsigned char)ch < ' ' || ch == 0x7f ||
		v->len + 1 >= sizeof(v->text))
		return -EPROTO;
	v->text[v->len++] = ch;
	v->text[v->len] = '\0';
	return 0;
}

static int take_quoted(struct cursor *c, struct value *v)
{
	c->p++;
	while (c->p < c->end && *c->p != '"') {
		if (*c->p == '\\' && ++c->p == c->end)
			return -EPROTO;
		if (value_add(v, *c->p++) < 0)
			return -EPROTO;
	}
	if (c->p == c->end)
		return -EPROTO;
	c->p++;
	return 0;
}

static int take_value(struct cursor *c, struct value *v)
{
	v->len = 0;
	v->text[0] = '\0';
	if (c->p < c->end && *c->p == '"')
		return take_quoted(c, v);
	while (c->p < c->end && is_value_char(*c->p))
		if (value_add(v, *c->p++) < 0)
			return -EPROTO;
	return 0;
}

static int keep(char *to, size_t cap, const struct value *v)
{
	if (to[0])
		return 0; /* the first one counts */
	if (v->len >= cap)
		return -EPROTO;
	memcpy(to, v->text, v->len + 1);
	return 0;
}

static bool is_word(const char *s, size_t n, const char *word)
{
	return n == strlen(word) && strncasecmp(s, word, n) == 0;
}

enum scheme { SCHEME_NONE, SCHEME_BASIC, SCHEME_BEARER, SCHEME_OTHER };

static int take_parameter(struct bc_challenge *r, enum scheme scheme,
	const char *name, size_t n, const struct value *v)
{
	if (scheme == SCHEME_NONE)
		return -EPROTO;
	if (scheme != SCHEME_BEARER)
		return 0;
	if (is_word(name, n, "realm"))
		return keep(r->realm, sizeof(r->realm), v);
	if (is_word(name, n, "service"))
		return keep(r->service, sizeof(r->service), v);
	if (is_word(name, n, "scope"))
		return keep(r->scope, sizeof(r->scope), v);
	if (is_word(name, n, "error"))
		return keep(r->error, sizeof(r->error), v);
	return 0;
}

/* A new challenge; SCHEME_OTHER for a Bearer after a complete one. */
static enum scheme begin_scheme(
	struct bc_challenge *r, const char *name, size_t n)
{
	if (is_word(name, n, "Basic")) {
		r->has_basic = true;
		return SCHEME_BASIC;
	}
	if (!is_word(name, n, "Bearer"))
		return SCHEME_OTHER;
	if (r->has_bearer && r->realm[0])
		return SCHEME_OTHER;
	r->has_bearer = true;
	r->service[0] = r->scope[0] = r->error[0] = '\0';
	return SCHEME_BEARER;
}

/* Behind a scheme: "token68" stands where a parameter could. */
static void skip_token68(struct cursor *c)
{
	struct cursor at = *c;
	const char *name;

	skip_spaces(&at);
	if (at.p == c->p || at.p == at.end)
		return;
	(void)take_token(&at, &name);
	while (at.p < at.end && *at.p == '/') {
		at.p++;
		(void)take_token(&at, &name);
	}
	while (at.p < at.end && *at.p == '=')
		at.p++;
	skip_spaces(&at);
	/* A parameter has its value behind one '='. */
	if (at.p == at.end || *at.p == ',')
		*c = at;
}

static int parse_item(
	struct cursor *c, struct bc_challenge *r, enum scheme *scheme)
{
	struct cursor after;
	struct value v;
	const char *name;
	size_t n;

	n = take_token(c, &name);
	if (n == 0)
		return -EPROTO;
	after = *c;
	skip_spaces(&after);
	if (after.p < after.end && *after.p == '=') {
		after.p++;
		skip_spaces(&after);
		*c = after;
		if (take_value(c, &v) < 0)
			return -EPROTO;
		return take_parameter(r, *scheme, name, n, &v);
	}
	*scheme = begin_scheme(r, name, n);
	if (*scheme != SCHEME_BEARER)
		skip_token68(c);
	return 0;
}

int bc_challenge_parse(const char *s, size_t n, struct bc_challenge *ret)
{
	struct cursor c = {.p = s, .end = s + n};
	enum scheme scheme = SCHEME_NONE;

	*ret = (struct bc_challenge){0};
	if (n > CHALLENGE_MAX_BYTES)
		return -EPROTO;
	for (;;) {
		skip_separators(&c);
		if (c.p == c.end)
			break;
		if (parse_item(&c, ret, &scheme) < 0) {
			*ret = (struct bc_challenge){0};
			return -EPROTO;
		}
	}
	if (ret->has_bearer && !ret->realm[0])
		ret->has_bearer = false;
	return 0;
}
