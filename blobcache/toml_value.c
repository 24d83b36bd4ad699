/* SPDX-License-Identifier: Apache-2.0 */
/* Values of TOML: strings, numbers, arrays and inline tables; see toml.h. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blobcache/toml_int.h"
#include "runtime/base/mem.h"

#define MAX_DEPTH 16
#define MAX_NUMBER 64

/* ---- strings ---- */

static int put(struct toml *t, struct buf *out, const void *p, size_t n)
{
	return buf_append(out, p, n) < 0
	               ? err_set(t->e, -ENOMEM, "out of memory")
	               : 0;
}

static int put_code_point(struct toml *t, struct buf *out, uint32_t c)
{
	unsigned char u[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return toml_fail(t, -EPROTO, "no such character");
	if (n == 1) {
		u[0] = (unsigned char)c;
	} else {
		for (size_t i = n - 1; i > 0; i--, c >>= 6)
			u[i] = (unsigned char)(0x80 | (c & 0x3f));
		u[0] = (unsigned char)((0xf00u >> n) | c);
	}
	return put(t, out, u, n);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int read_code_point(struct toml *t, struct buf *out, unsigned digits)
{
	uint32_t c = 0;

	for (unsigned i = 0; i < digits; i++) {
		int v = hex_digit(toml_peek(t));

		if (v < 0)
			return toml_fail(t, -EPROTO, "a hex digit is expected");
		c = c << 4 | (uint32_t)v;
		t->p++;
	}
	return put_code_point(t, out, c);
}

/* Behind a backslash at a line's end: all that is blank goes. */
static int skip_fold(struct toml *t)
{
	const char *from = t->p;

	toml_skip_blanks(t);
	if (toml_peek(t) != '\n' && toml_peek(t) != '\r')
		return toml_fail(t, -EPROTO, "an escape that does not exist");
	t->p = from;
	while (t->p < t->end && strchr(" \t\r\n", *t->p) && *t->p)
		t->line += *t->p++ == '\n';
	return 0;
}

static int read_escape(struct toml *t, bool is_multi, struct buf *out)
{
	static const char names[] = "btnfr\"\\", values[] = "\b\t\n\f\r\"\\";
	char c = toml_peek(t);
	const char *at = c ? strchr(names, c) : NULL;

	if (at) {
		t->p++;
		return put(t, out, &values[at - names], 1);
	}
	if (c == 'u' || c == 'U') {
		t->p++;
		return read_code_point(t, out, c == 'u' ? 4 : 8);
	}
	if (is_multi)
		return skip_fold(t);
	return toml_fail(t, -EPROTO, "an escape that does not exist");
}

static unsigned count_quotes(const struct toml *t, char quote)
{
	unsigned n = 0;

	while (n < 5 && t->p + n < t->end && t->p[n] == quote)
		n++;
	return n;
}

/* One character, which is no quote. */
static int read_char(struct toml *t, char quote, bool is_multi, struct buf *out)
{
	char c = *t->p;

	if (c == '\\' && quote == '"') {
		t->p++;
		return read_escape(t, is_multi, out);
	}
	if (c == '\n' && is_multi)
		t->line++;
	else if (c == '\r' && is_multi && t->p + 1 < t->end && t->p[1] == '\n')
		;
	else if (((unsigned char)c < ' ' && c != '\t') || c == 127)
		return toml_fail(t, -EPROTO, "a control character in a string");
	t->p++;
	return put(t, out, &c, 1);
}

int toml_read_string(struct toml *t, bool is_key, struct buf *out)
{
	char quote = *t->p;
	bool is_multi = !is_key && count_quotes(t, quote) >= 3;
	unsigned close = is_multi ? 3 : 1, n;
	int rc = 0;

	t->p += close;
	if (is_multi) {
		t->p += toml_peek(t) == '\r' && t->end - t->p > 1 &&
		        t->p[1] == '\n';
		if (toml_peek(t) == '\n') {
			t->p++;
			t->line++;
		}
	}
	while (rc == 0) {
		if (t->p == t->end)
			return toml_fail(t, -EPROTO, "a string has no end");
		n = *t->p == quote ? count_quotes(t, quote) : 0;
		if (n == 0) {
			rc = read_char(t, quote, is_multi, out);
			continue;
		}
		if (n >= close) {
			/* Up to two of them belong to what they end. */
			n = is_multi ? n : 1;
			rc = put(t, out, t->p, n - close);
			t->p += n;
			return rc;
		}
		rc = put(t, out, t->p, n);
		t->p += n;
	}
	return rc;
}

/* ---- numbers and truth ---- */

/* Digits of a base, each '_' between two of them. */
static bool are_digits(const char *s, size_t n, const char *allowed)
{
	bool was_digit = false;

	for (size_t i = 0; i < n; i++) {
		if (s[i] == '_' ? !was_digit : !s[i] || !strchr(allowed, s[i]))
			return false;
		was_digit = s[i] != '_';
	}
	return was_digit;
}

/* Without the underscores, for strtoll and strtod. */
static void copy_digits(const char *s, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] != '_')
			*out++ = s[i];
	*out = '\0';
}

/* All of these: 0, -EPROTO (no number), -ENOMEM. */
static int integer(const char *s, size_t n, int base, json_t **ret)
{
	char text[MAX_NUMBER + 1];
	long long v;

	copy_digits(s, n, text);
	errno = 0;
	v = strtoll(text, NULL, base);
	if (errno)
		return -EPROTO;
	*ret = json_integer(v);
	return *ret ? 0 : -ENOMEM;
}

/* The end of the digits at s + at. */
static size_t skip_digits(const char *s, size_t at, size_t n)
{
	while (at < n && strchr("0123456789_", s[at]))
		at++;
	return at;
}

/* ".5" and "e-7" behind the whole part. */
static bool is_fraction(const char *s, size_t n)
{
	size_t at = 0, end;

	if (s[0] == '.') {
		end = skip_digits(s, 1, n);
		if (!are_digits(s + 1, end - 1, "0123456789"))
			return false;
		at = end;
	}
	if (at == n)
		return true;
	if (s[at] != 'e' && s[at] != 'E')
		return false;
	at++;
	at += at < n && (s[at] == '+' || s[at] == '-');
	return are_digits(s + at, n - at, "0123456789");
}

static int decimal(const char *s, size_t n, json_t **ret)
{
	size_t sign = n > 0 && (s[0] == '+' || s[0] == '-');
	size_t whole = skip_digits(s, sign, n);
	char text[MAX_NUMBER + 1];
	double v;

	if (!are_digits(s + sign, whole - sign, "0123456789") ||
		(s[sign] == '0' && whole - sign > 1))
		return -EPROTO;
	if (whole == n)
		return integer(s, n, 10, ret);
	if (!is_fraction(s + whole, n - whole))
		return -EPROTO;
	copy_digits(s, n, text);
	v = strtod(text, NULL);
	if (!isfinite(v))
		return -EPROTO;
	*ret = json_real(v);
	return *ret ? 0 : -ENOMEM;
}

static int number(const char *s, size_t n, json_t **ret)
{
	static const struct {
		const char *prefix, *digits;
		int base;
	} bases[] = {{"0x", "0123456789abcdefABCDEF", 16},
		{"0o", "01234567", 8}, {"0b", "01", 2}};

	if (n == 0 || n > MAX_NUMBER)
		return -EPROTO;
	for (unsigned i = 0; n > 2 && i < 3; i++) {
		if (memcmp(s, bases[i].prefix, 2) != 0)
			continue;
		if (!are_digits(s + 2, n - 2, bases[i].digits))
			return -EPROTO;
		return integer(s + 2, n - 2, bases[i].base, ret);
	}
	return decimal(s, n, ret);
}

static int read_word(struct toml *t, json_t **ret)
{
	const char *s = t->p;
	size_t n;
	int rc = 0;

	while (t->p < t->end && *t->p && !strchr(",]}# \t\r\n", *t->p))
		t->p++;
	n = (size_t)(t->p - s);
	if (n == 4 && memcmp(s, "true", 4) == 0)
		*ret = json_true();
	else if (n == 5 && memcmp(s, "false", 5) == 0)
		*ret = json_false();
	else
		rc = number(s, n, ret);
	if (rc == -ENOMEM)
		return err_set(t->e, rc, "out of memory");
	if (rc < 0)
		return toml_fail(t, rc,
			"neither a string in quotes, nor a number, true or "
			"false");
	return 0;
}

static int read_scalar(struct toml *t, json_t **ret)
{
	struct buf b;
	int rc;

	if (toml_peek(t) != '"' && toml_peek(t) != '\'')
		return read_word(t, ret);
	buf_init(&b, 0);
	rc = toml_read_string(t, false, &b);
	if (rc == 0) {
		*ret = json_stringn_nocheck(
			b.data ? (char *)b.data : "", b.len);
		if (!*ret)
			rc = err_set(t->e, -ENOMEM, "out of memory");
	}
	buf_fini(&b);
	return rc;
}

/* ---- arrays and inline tables ---- */

/* One that is open. */
struct level {
	json_t *of;    /* not attached yet */
	json_t *place; /* table: where the value that comes belongs */
	char *name;    /* owned; its name there */
};

static int read_member(struct toml *t, struct level *l)
{
	struct toml_key k;
	int rc = toml_read_key(t, &k);

	if (rc == 0)
		rc = toml_find_place(t, l->of, &k, &l->place);
	if (rc == 0 && toml_peek(t) != '=')
		rc = toml_fail(t, -EPROTO, "'=' is expected behind a key");
	if (rc == 0) {
		t->p++;
		toml_skip_blanks(t);
		l->name = k.part[--k.count];
	}
	toml_key_fini(&k);
	return rc;
}

/* Inline tables are of one line. */
static int skip(struct toml *t, bool is_array)
{
	if (is_array)
		return toml_skip_lines(t);
	toml_skip_blanks(t);
	return 0;
}

/* To the next item, or the end. 1: an item comes; 0: it has ended. */
static int next_item(struct toml *t, struct level *l, bool is_first)
{
	bool is_array = json_is_array(l->of), may_end = true;
	char close = (char)(is_array ? ']' : '}');
	int rc = skip(t, is_array);

	if (rc == 0 && !is_first && toml_peek(t) == ',') {
		t->p++;
		rc = skip(t, is_array);
		may_end = is_array; /* only there a comma may be the last */
	} else if (rc == 0 && !is_first && toml_peek(t) != close) {
		return toml_fail(
			t, -EPROTO, "',' or a closing bracket is expected");
	}
	if (rc < 0)
		return rc;
	if (may_end && toml_peek(t) == close) {
		t->p++;
		return 0;
	}
	rc = is_array ? 0 : read_member(t, l);
	return rc < 0 ? rc : 1;
}

/* Takes v. */
static int attach(struct toml *t, struct level *l, json_t *v)
{
	int rc = json_is_array(l->of)
	                 ? json_array_append_new(l->of, v)
	                 : json_object_set_new_nocheck(l->place, l->name, v);

	mem_free(l->name);
	l->name = NULL;
	return rc == 0 ? 0 : err_set(t->e, -ENOMEM, "out of memory");
}

/* 1: a level was opened; 0: there is none. */
static int open_level(struct toml *t, struct level *l, unsigned *depth)
{
	char c = toml_peek(t);

	if (c != '[' && c != '{')
		return 0;
	if (*depth == MAX_DEPTH)
		return toml_fail(t, -E2BIG, "arrays or tables are too deep");
	t->p++;
	l[*depth] =
		(struct level){.of = c == '[' ? json_array() : json_object()};
	if (!l[*depth].of)
		return err_set(t->e, -ENOMEM, "out of memory");
	++*depth;
	return 1;
}

int toml_read_value(struct toml *t, json_t **ret)
{
	struct level l[MAX_DEPTH];
	unsigned depth = 0;
	json_t *v = NULL;
	int rc;

	do {
		rc = open_level(t, l, &depth);
		if (rc == 1) {
			rc = next_item(t, &l[depth - 1], true);
			v = rc == 0 ? l[--depth].of : NULL;
		} else if (rc == 0) {
			rc = read_scalar(t, &v);
		}
		/* v is complete: into what is open, which may end with it */
		while (rc == 0 && v && depth > 0) {
			rc = attach(t, &l[depth - 1], v);
			v = NULL;
			if (rc == 0)
				rc = next_item(t, &l[depth - 1], false);
			if (rc == 0)
				v = l[--depth].of;
		}
	} while (rc >= 0 && !v);
	while (depth > 0) {
		mem_free(l[--depth].name);
		json_decref(l[depth].of);
	}
	if (rc == 0)
		*ret = v;
	return rc < 0 ? rc : 0;
}
