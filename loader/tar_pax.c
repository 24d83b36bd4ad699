/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAX extended headers (POSIX.1-2017, pax, "pax Extended Header"): records
 * "LENGTH KEY=VALUE\n", of which the last one of a key counts. An empty value
 * takes a key back.
 */
#include <errno.h>
#include <string.h>

#include "loader/tar_int.h"
#include "runtime/base/mem.h"

#define XATTR_PREFIX "SCHILY.xattr."
#define NS_DIGITS 9

struct record {
	struct tar_text key, value;
};

typedef int take_fn(struct ld_tar *t, const struct record *r, struct err *e);

static int bad_value(struct ld_tar *t, const struct record *r, struct err *e)
{
	return tar_broken(t, e, "the PAX record '%.*s' has a bad value",
		tar_shown(r->key.len), r->key.p);
}

/* ---- values ---- */

/* Seconds, perhaps negative, perhaps with a fraction, which is cut. */
static int parse_time(struct tar_text v, int64_t *ret_sec, uint32_t *ret_ns)
{
	bool is_negative = v.len > 0 && v.p[0] == '-';
	const char *dot;
	uint64_t sec = 0;
	uint32_t ns = 0;
	size_t whole, i;

	if (is_negative) {
		v.p++;
		v.len--;
	}
	dot = memchr(v.p, '.', v.len);
	whole = dot ? (size_t)(dot - v.p) : v.len;
	if (tar_decimal(v.p, whole, &sec) < 0 || sec > INT64_MAX - 1)
		return -EPROTO;
	for (i = 0; dot && i < v.len - whole - 1; i++) {
		if (dot[1 + i] < '0' || dot[1 + i] > '9')
			return -EPROTO;
		if (i < NS_DIGITS)
			ns = ns * 10 + (uint32_t)(dot[1 + i] - '0');
	}
	for (; i < NS_DIGITS; i++)
		ns *= 10;
	*ret_sec = is_negative ? -(int64_t)sec : (int64_t)sec;
	*ret_ns = ns;
	if (is_negative && ns > 0) {
		*ret_sec -= 1;
		*ret_ns = 1000000000 - ns;
	}
	return 0;
}

static int take_number(struct ld_tar *t, const struct record *r, bool *ret_has,
	uint64_t *ret, struct err *e)
{
	*ret_has = r->value.len > 0;
	if (!*ret_has)
		return 0;
	if (tar_decimal(r->value.p, r->value.len, ret) < 0 || *ret > INT64_MAX)
		return bad_value(t, r, e);
	return 0;
}

static int take_text(struct ld_tar *t, const struct record *r,
	struct tar_text *ret, struct err *e)
{
	if (memchr(r->value.p, '\0', r->value.len))
		return bad_value(t, r, e);
	*ret = r->value;
	if (r->value.len == 0)
		ret->p = NULL;
	return 0;
}

static int take_path(struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_text(t, r, &t->x.path, e);
}

static int take_linkpath(
	struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_text(t, r, &t->x.link, e);
}

static int take_size(struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_number(t, r, &t->x.has_size, &t->x.size, e);
}

static int take_uid(struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_number(t, r, &t->x.has_uid, &t->x.uid, e);
}

static int take_gid(struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_number(t, r, &t->x.has_gid, &t->x.gid, e);
}

static int take_mtime(struct ld_tar *t, const struct record *r, struct err *e)
{
	t->x.has_mtime = r->value.len > 0;
	if (t->x.has_mtime &&
		parse_time(r->value, &t->x.mtime, &t->x.mtime_ns) < 0)
		return bad_value(t, r, e);
	return 0;
}

/* ---- sparse files ---- */

static int take_major(struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_number(t, r, &t->x.is_sparse, &t->x.major, e);
}

static int take_minor(struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_number(t, r, &t->x.is_sparse, &t->x.minor, e);
}

static int take_sparse_name(
	struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_text(t, r, &t->x.sparse_name, e);
}

static int take_real_size(
	struct ld_tar *t, const struct record *r, struct err *e)
{
	return take_number(t, r, &t->x.has_real_size, &t->x.real_size, e);
}

/* Format 0.0: offset and length are records of their own, many times. */
static int take_sparse_offset(
	struct ld_tar *t, const struct record *r, struct err *e)
{
	if (t->x.has_open_piece)
		return bad_value(t, r, e);
	t->x.is_sparse = true;
	return take_number(t, r, &t->x.has_open_piece, &t->x.open_off, e);
}

static int take_sparse_length(
	struct ld_tar *t, const struct record *r, struct err *e)
{
	uint64_t len = 0;
	bool has_len = false;
	int ret;

	ret = take_number(t, r, &has_len, &len, e);
	if (ret < 0)
		return ret;
	if (!t->x.has_open_piece || !has_len)
		return bad_value(t, r, e);
	t->x.has_open_piece = false;
	return tar_sparse_add(t, t->x.open_off, len, e);
}

/* Format 0.1: "offset,length,offset,length". */
static int take_sparse_map(
	struct ld_tar *t, const struct record *r, struct err *e)
{
	const char *p = r->value.p, *end = p + r->value.len, *comma;
	uint64_t off = 0, v;
	bool is_len = false;
	int ret;

	t->x.is_sparse = true;
	t->piece_count = 0;
	while (p < end) {
		comma = memchr(p, ',', (size_t)(end - p));
		if (!comma)
			comma = end;
		if (tar_decimal(p, (size_t)(comma - p), &v) < 0)
			return bad_value(t, r, e);
		ret = is_len ? tar_sparse_add(t, off, v, e) : 0;
		if (ret < 0)
			return ret;
		off = v;
		is_len = !is_len;
		p = comma + 1;
	}
	return is_len ? bad_value(t, r, e) : 0;
}

/* ---- xattrs ---- */

static int take_xattr(struct ld_tar *t, const struct record *r, struct err *e)
{
	void *xattrs = t->xattrs;
	struct ld_tar_xattr *x;

	if (mem_grow(&xattrs, &t->xattr_cap, t->xattr_count + 1, LD_TAR_MAX_PAX,
		    sizeof(*x)) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	t->xattrs = xattrs;
	x = &t->xattrs[t->xattr_count++];
	x->name = r->key.p + strlen(XATTR_PREFIX);
	x->name_len = r->key.len - strlen(XATTR_PREFIX);
	x->value = (const uint8_t *)r->value.p;
	x->value_len = r->value.len;
	return 0;
}

/* ---- records ---- */

static const struct {
	const char *key;
	take_fn *take;
} keys[] = {
	{"path", take_path},
	{"linkpath", take_linkpath},
	{"size", take_size},
	{"uid", take_uid},
	{"gid", take_gid},
	{"mtime", take_mtime},
	{"GNU.sparse.major", take_major},
	{"GNU.sparse.minor", take_minor},
	{"GNU.sparse.name", take_sparse_name},
	{"GNU.sparse.realsize", take_real_size},
	{"GNU.sparse.size", take_real_size},
	{"GNU.sparse.offset", take_sparse_offset},
	{"GNU.sparse.numbytes", take_sparse_length},
	{"GNU.sparse.map", take_sparse_map},
};

static int take_record(struct ld_tar *t, const struct record *r, struct err *e)
{
	size_t i, n = strlen(XATTR_PREFIX);

	if (r->key.len > n && memcmp(r->key.p, XATTR_PREFIX, n) == 0)
		return take_xattr(t, r, e);
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strlen(keys[i].key) == r->key.len &&
			memcmp(keys[i].key, r->key.p, r->key.len) == 0)
			return keys[i].take(t, r, e);
	return 0;
}

/* The record at *p, which ends before end; moves *p behind it. */
static int next_record(const char **p, const char *end, struct record *ret)
{
	const char *space, *equals, *stop;
	uint64_t len;

	space = memchr(*p, ' ', (size_t)(end - *p));
	if (!space || tar_decimal(*p, (size_t)(space - *p), &len) < 0)
		return -EPROTO;
	if (len > (size_t)(end - *p) || len < (size_t)(space - *p) + 3)
		return -EPROTO;
	stop = *p + len - 1;
	if (*stop != '\n')
		return -EPROTO;
	equals = memchr(space + 1, '=', (size_t)(stop - space - 1));
	if (!equals || equals == space + 1)
		return -EPROTO;
	ret->key = (struct tar_text){
		.p = space + 1, .len = (size_t)(equals - space - 1)};
	ret->value = (struct tar_text){
		.p = equals + 1, .len = (size_t)(stop - equals - 1)};
	*p = stop + 1;
	return 0;
}

int tar_pax_read(struct ld_tar *t, struct err *e)
{
	const char *p = (const char *)t->pax.data;
	const char *end = p ? p + t->pax.len : p;
	struct record r;
	int ret;

	t->x = (struct tar_pax){0};
	t->xattr_count = 0;
	t->piece_count = 0;
	while (p < end) {
		if (next_record(&p, end, &r) < 0)
			return tar_broken(
				t, e, "a PAX header has a broken record");
		ret = take_record(t, &r, e);
		if (ret < 0)
			return ret;
	}
	if (t->x.has_open_piece)
		return tar_broken(t, e, "a sparse map ends in a piece");
	if (t->x.is_sparse && t->x.major > 0) {
		if (t->x.major != 1 || t->x.minor != 0)
			return err_set(e, -EOPNOTSUPP,
				"the tar has sparse files of the unknown "
				"version %llu.%llu",
				(unsigned long long)t->x.major,
				(unsigned long long)t->x.minor);
		t->x.is_map_in_data = true;
	}
	return 0;
}
