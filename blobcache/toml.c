/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TOML reader: lines, keys and tables; see toml.h.
 *
 * How a table came to be decides what may be added to it, so that is noted
 * beside the tree (marks). What has no mark came as a value and is closed.
 */
#include "blobcache/toml.h"

#include <errno.h>

#include "blobcache/toml_int.h"
#include "runtime/base/mem.h"

#define MAX_MARKS 1024

enum mark_kind {
	CLOSED,   /* a value: no mark */
	IMPLICIT, /* on the way to a [header] */
	HEADER,   /* a [header] of its own, or an item of [[headers]] */
	DOTTED,   /* on the way of a dotted key */
	LIST,     /* the array of [[headers]] */
};

struct toml_mark {
	const json_t *of;
	enum mark_kind kind;
};

int toml_fail(struct toml *t, int code, const char *what)
{
	return err_set(t->e, code, "line %u: %s", t->line, what);
}

static int no_memory(struct toml *t)
{
	return err_set(t->e, -ENOMEM, "out of memory");
}

char toml_peek(const struct toml *t)
{
	return (char)(t->p < t->end ? *t->p : 0);
}

void toml_skip_blanks(struct toml *t)
{
	while (t->p < t->end && (*t->p == ' ' || *t->p == '\t'))
		t->p++;
}

/* A comment, if there is one, up to its line's end. */
static int skip_comment(struct toml *t)
{
	if (toml_peek(t) != '#')
		return 0;
	for (; t->p < t->end && *t->p != '\n'; t->p++) {
		if (*t->p == '\r' && t->p + 1 < t->end && t->p[1] == '\n')
			return 0;
		if (((unsigned char)*t->p < ' ' && *t->p != '\t') ||
			*t->p == 127)
			return toml_fail(
				t, -EPROTO, "a control character in a comment");
	}
	return 0;
}

/* One line end. False: there is none. */
static bool skip_line_end(struct toml *t)
{
	if (t->p < t->end && *t->p == '\n')
		t->p++;
	else if (t->end - t->p >= 2 && t->p[0] == '\r' && t->p[1] == '\n')
		t->p += 2;
	else
		return false;
	t->line++;
	return true;
}

int toml_skip_lines(struct toml *t)
{
	int rc;

	do {
		toml_skip_blanks(t);
		rc = skip_comment(t);
	} while (rc == 0 && skip_line_end(t));
	return rc;
}

/* ---- keys ---- */

static bool is_bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '_' || c == '-';
}

void toml_key_fini(struct toml_key *k)
{
	while (k->count > 0)
		mem_free(k->part[--k->count]);
}

static int read_part(struct toml *t, char **ret)
{
	const char *from = t->p;
	struct buf b;
	int rc;

	if (toml_peek(t) == '"' || toml_peek(t) == '\'') {
		buf_init(&b, 0);
		rc = toml_read_string(t, true, &b);
		if (rc == 0)
			*ret = mem_strndup(b.data ? (char *)b.data : "", b.len);
		buf_fini(&b);
		if (rc < 0)
			return rc;
		return *ret ? 0 : no_memory(t);
	}
	while (t->p < t->end && is_bare(*t->p))
		t->p++;
	if (t->p == from)
		return toml_fail(t, -EPROTO, "a key is expected");
	*ret = mem_strndup(from, (size_t)(t->p - from));
	return *ret ? 0 : no_memory(t);
}

int toml_read_key(struct toml *t, struct toml_key *k)
{
	int rc;

	k->count = 0;
	for (;;) {
		toml_skip_blanks(t);
		if (k->count == TOML_MAX_PARTS)
			return toml_fail(t, -E2BIG, "a key has too many parts");
		rc = read_part(t, &k->part[k->count]);
		if (rc < 0)
			return rc;
		k->count++;
		toml_skip_blanks(t);
		if (toml_peek(t) != '.')
			return 0;
		t->p++;
	}
}

/* ---- tables ---- */

static struct toml_mark *mark_of(const struct toml *t, const json_t *j)
{
	for (size_t i = t->mark_count; i > 0; i--)
		if (t->marks[i - 1].of == j)
			return &t->marks[i - 1];
	return NULL;
}

static enum mark_kind kind_of(const struct toml *t, const json_t *j)
{
	const struct toml_mark *m = mark_of(t, j);

	return m ? m->kind : CLOSED;
}

static int add_mark(struct toml *t, const json_t *j, enum mark_kind kind)
{
	int rc = mem_grow((void **)&t->marks, &t->mark_cap, t->mark_count + 1,
		MAX_MARKS, sizeof(*t->marks));

	if (rc == -ENOMEM)
		return no_memory(t);
	if (rc < 0)
		return toml_fail(t, rc, "too many tables");
	t->marks[t->mark_count++] = (struct toml_mark){j, kind};
	return 0;
}

/* A new member of an object, or item of an array (name NULL). Takes v. */
static int attach(struct toml *t, json_t *to, const char *name, json_t *v,
	enum mark_kind kind)
{
	int rc;

	if (!v)
		return no_memory(t);
	rc = name ? json_object_set_new_nocheck(to, name, v)
	          : json_array_append_new(to, v);
	if (rc != 0)
		return no_memory(t);
	return add_mark(t, v, kind);
}

int toml_find_place(
	struct toml *t, json_t *base, const struct toml_key *k, json_t **ret)
{
	json_t *at = base, *next;
	int rc;

	for (unsigned i = 0; i + 1 < k->count; i++) {
		next = json_object_get(at, k->part[i]);
		if (!next) {
			rc = attach(t, at, k->part[i], json_object(), DOTTED);
			if (rc < 0)
				return rc;
			next = json_object_get(at, k->part[i]);
		} else if (kind_of(t, next) != DOTTED) {
			return toml_fail(t, -EPROTO,
				"a dotted key leads into what is there "
				"already");
		}
		at = next;
	}
	if (json_object_get(at, k->part[k->count - 1]))
		return toml_fail(t, -EPROTO, "a key is there twice");
	*ret = at;
	return 0;
}

/* The table at part of a header, on the way to its last one. */
static int step_into(struct toml *t, json_t **at, const char *part)
{
	json_t *next = json_object_get(*at, part);
	int rc;

	if (!next) {
		rc = attach(t, *at, part, json_object(), IMPLICIT);
		if (rc < 0)
			return rc;
		next = json_object_get(*at, part);
	}
	if (kind_of(t, next) == CLOSED)
		return toml_fail(
			t, -EPROTO, "a table leads into what is there already");
	if (json_is_array(next))
		next = json_array_get(next, json_array_size(next) - 1);
	*at = next;
	return 0;
}

static int open_list_item(struct toml *t, json_t *at, const char *name)
{
	json_t *list = json_object_get(at, name);
	int rc;

	if (!list) {
		rc = attach(t, at, name, json_array(), LIST);
		if (rc < 0)
			return rc;
		list = json_object_get(at, name);
	}
	if (kind_of(t, list) != LIST)
		return toml_fail(t, -EPROTO,
			"a list of tables has the name of something else");
	rc = attach(t, list, NULL, json_object(), HEADER);
	if (rc == 0)
		t->table = json_array_get(list, json_array_size(list) - 1);
	return rc;
}

static int open_table(struct toml *t, json_t *at, const char *name)
{
	json_t *table = json_object_get(at, name);
	struct toml_mark *m;
	int rc;

	if (!table) {
		rc = attach(t, at, name, json_object(), HEADER);
		if (rc < 0)
			return rc;
		t->table = json_object_get(at, name);
		return 0;
	}
	m = mark_of(t, table);
	if (!m || m->kind != IMPLICIT)
		return toml_fail(t, -EPROTO, "a table is there twice");
	m->kind = HEADER;
	t->table = table;
	return 0;
}

/* "[a.b]" or "[[a.b]]", behind its first bracket. */
static int read_header(struct toml *t)
{
	bool is_list = toml_peek(t) == '[';
	json_t *at = t->root;
	struct toml_key k;
	int rc;

	if (is_list)
		t->p++;
	rc = toml_read_key(t, &k);
	for (unsigned i = 0; rc == 0 && i + 1 < k.count; i++)
		rc = step_into(t, &at, k.part[i]);
	for (int i = 0; rc == 0 && i <= is_list; i++)
		if (toml_peek(t) == ']')
			t->p++;
		else
			rc = toml_fail(t, -EPROTO, "']' is expected");
	if (rc == 0 && is_list)
		rc = open_list_item(t, at, k.part[k.count - 1]);
	else if (rc == 0)
		rc = open_table(t, at, k.part[k.count - 1]);
	toml_key_fini(&k);
	return rc;
}

static int read_pair(struct toml *t)
{
	json_t *place = NULL, *v = NULL;
	struct toml_key k;
	int rc = toml_read_key(t, &k);

	if (rc == 0)
		rc = toml_find_place(t, t->table, &k, &place);
	if (rc == 0 && toml_peek(t) != '=')
		rc = toml_fail(t, -EPROTO, "'=' is expected behind a key");
	if (rc == 0) {
		t->p++;
		toml_skip_blanks(t);
		rc = toml_read_value(t, &v);
	}
	if (rc == 0 &&
		json_object_set_new_nocheck(place, k.part[k.count - 1], v) != 0)
		rc = no_memory(t);
	toml_key_fini(&k);
	return rc;
}

/* ---- the document ---- */

/* Length of the sequence at p, 0: not UTF-8 (RFC 3629). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t c = p[0];
	size_t n;

	if (c < 0x80)
		return 1;
	n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	if (c < 0xc2 || c > 0xf4 || n > left)
		return 0;
	c &= 0x7fu >> n;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	return n;
}

static bool is_utf8(const char *s, size_t n)
{
	size_t k;

	for (size_t i = 0; i < n; i += k) {
		k = utf8_length((const unsigned char *)s + i, n - i);
		if (k == 0)
			return false;
	}
	return true;
}

static int read_document(struct toml *t)
{
	int rc = toml_skip_lines(t);

	while (rc == 0 && t->p < t->end) {
		if (*t->p == '[') {
			t->p++;
			rc = read_header(t);
		} else {
			rc = read_pair(t);
		}
		toml_skip_blanks(t);
		if (rc == 0)
			rc = skip_comment(t);
		if (rc == 0 && t->p < t->end && !skip_line_end(t))
			rc = toml_fail(
				t, -EPROTO, "the end of the line is expected");
		if (rc == 0)
			rc = toml_skip_lines(t);
	}
	return rc;
}

int bc_toml_parse(const char *s, size_t n, json_t **ret, struct err *e)
{
	struct toml t = {.p = s, .end = s + n, .line = 1, .e = e};
	int rc;

	if (n > BC_TOML_MAX)
		return err_set(e, -E2BIG, "more than %u bytes", BC_TOML_MAX);
	if (!is_utf8(s, n))
		return err_set(e, -EPROTO, "not valid UTF-8");
	t.root = t.table = json_object();
	rc = t.root ? add_mark(&t, t.root, HEADER) : no_memory(&t);
	if (rc == 0)
		rc = read_document(&t);
	mem_free(t.marks);
	if (rc == 0)
		*ret = t.root;
	else
		json_decref(t.root);
	return rc;
}
