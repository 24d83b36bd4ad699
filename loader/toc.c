/* SPDX-License-Identifier: Apache-2.0 */
/* The streaming reader over a TOC's entries; see toc.h. */
#include "loader/toc.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/util.h"

/* What the kernel's device numbers hold. */
#define MAX_MAJOR 0xfffu
#define MAX_MINOR 0xfffffu

void toc_reader_init(struct toc_reader *r, const void *json, size_t len)
{
	*r = (struct toc_reader){.p = json, .end = (const char *)json + len};
}

void toc_reader_fini(struct toc_reader *r)
{
	json_decref(r->entry);
	r->entry = NULL;
}

/* ---- the scanner: where things end, without reading them ---- */

static void skip_space(struct toc_reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' ||
					*r->p == '\n' || *r->p == '\r'))
		r->p++;
}

/* The next character that is no space; NUL at the end. */
static char peek(struct toc_reader *r)
{
	skip_space(r);
	return r->p < r->end ? *r->p : '\0';
}

static bool take(struct toc_reader *r, char c)
{
	if (peek(r) != c)
		return false;
	r->p++;
	return true;
}

/* r->p is behind the opening quote; goes behind the closing one. */
static bool skip_string(struct toc_reader *r)
{
	for (; r->p < r->end; r->p++) {
		if (*r->p == '"') {
			r->p++;
			return true;
		}
		if (*r->p == '\\' && ++r->p == r->end)
			return false;
	}
	return false;
}

static int broken(struct err *e)
{
	return err_set(e, -EPROTO, "the TOC is no whole JSON text");
}

static int skip_scalar(struct toc_reader *r, struct err *e)
{
	const char *start = r->p;

	while (r->p < r->end && !strchr(",:]}[{\" \t\r\n", *r->p))
		r->p++;
	return r->p > start ? 0 : broken(e);
}

/*
 * Go behind one value. Only strings and brackets are looked at: whatever is
 * used is read by the JSON library afterwards. max_marks 0: any number.
 */
static int skip_value(struct toc_reader *r, uint32_t max_marks, struct err *e)
{
	uint32_t marks = 0;
	unsigned depth = 0;
	char c;

	do {
		c = peek(r);
		if (c == '\0')
			return broken(e);
		if (c == '{' || c == '[') {
			if (++depth > TOC_MAX_DEPTH)
				return err_set(e, -E2BIG,
					"the TOC is nested deeper than %d",
					TOC_MAX_DEPTH);
			r->p++;
		} else if (c == '}' || c == ']') {
			if (depth-- == 0)
				return broken(e);
			r->p++;
		} else if (c == '"') {
			r->p++;
			if (!skip_string(r))
				return broken(e);
		} else if (c == ',' || c == ':') {
			if (depth == 0)
				return broken(e);
			r->p++;
			if (++marks > max_marks && max_marks > 0)
				return err_set(e, -E2BIG,
					"an entry of the TOC has more than %u "
					"values",
					max_marks);
		} else if (skip_scalar(r, e)) {
			return -EPROTO;
		}
	} while (depth > 0);
	return 0;
}

/* ---- the object around the entries ---- */

static bool key_is(const char *key, size_t len, const char *want)
{
	return len == strlen(want) && !memcmp(key, want, len);
}

/* One key and its value; stops inside the array of the entries. */
static int read_member(struct toc_reader *r, struct err *e)
{
	const char *key, *value;
	size_t len;
	int err;

	if (!take(r, '"'))
		return broken(e);
	key = r->p;
	if (!skip_string(r))
		return broken(e);
	len = (size_t)(r->p - key) - 1;
	if (!take(r, ':'))
		return broken(e);
	if (key_is(key, len, "entries") && peek(r) == '[') {
		if (r->had_entries)
			return err_set(
				e, -EPROTO, "it has two lists of entries");
		r->p++;
		r->had_entries = r->in_entries = r->is_first = true;
		return 0;
	}
	skip_space(r);
	value = r->p;
	err = skip_value(r, 0, e);
	if (err)
		return err;
	if (key_is(key, len, "version") &&
		!key_is(value, (size_t)(r->p - value), "1"))
		return err_set(
			e, -EOPNOTSUPP, "its TOC is of another version than 1");
	/* An empty list may have been written as null. */
	if (key_is(key, len, "entries") &&
		!key_is(value, (size_t)(r->p - value), "null"))
		return err_set(e, -EPROTO, "'entries' is no list");
	return 0;
}

/* To the first entry, or to the end of the text. 1: in the entries; 0: end. */
static int find_entries(struct toc_reader *r, struct err *e)
{
	bool is_first = !r->had_entries;
	int err;

	if (is_first && !take(r, '{'))
		return broken(e);
	while (!r->in_entries) {
		if (take(r, '}'))
			return peek(r) == '\0' && r->p == r->end ? 0
			                                         : broken(e);
		if (!is_first && !take(r, ','))
			return broken(e);
		is_first = false;
		err = read_member(r, e);
		if (err)
			return err;
	}
	return 1;
}

/* ---- one entry ---- */

static int get_string(const json_t *o, const char *key, const char **ret,
	size_t *ret_len, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	*ret = "";
	*ret_len = 0;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return err_set(e, -EPROTO, "'%s' is no string", key);
	*ret = json_string_value(v);
	*ret_len = json_string_length(v);
	return 0;
}

static int get_u64(const json_t *o, const char *key, uint64_t max,
	uint64_t *ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	*ret = 0;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_integer(v))
		return err_set(e, -EPROTO, "'%s' is no whole number", key);
	if (json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max)
		return err_set(e, -EPROTO, "'%s' is out of range", key);
	*ret = (uint64_t)json_integer_value(v);
	return 0;
}

static int get_digest(
	const json_t *o, const char *key, struct digest *ret, struct err *e)
{
	const char *s;
	size_t len;
	int r;

	*ret = (struct digest){0};
	r = get_string(o, key, &s, &len, e);
	if (r || len == 0)
		return r;
	if (digest_parse(s, len, ret))
		return err_set(e, -EPROTO, "'%s' is no digest", key);
	return 0;
}

static int get_type(const json_t *o, struct toc_entry *ret, struct err *e)
{
	static const struct {
		const char *name;
		enum toc_type type;
		uint32_t mode;
	} types[] = {
		{"reg", TOC_REG, S_IFREG},
		{"chunk", TOC_CHUNK, 0},
		{"dir", TOC_DIR, S_IFDIR},
		{"symlink", TOC_SYMLINK, S_IFLNK},
		{"hardlink", TOC_HARDLINK, S_IFREG},
		{"char", TOC_CHAR, S_IFCHR},
		{"block", TOC_BLOCK, S_IFBLK},
		{"fifo", TOC_FIFO, S_IFIFO},
	};
	const char *s;
	size_t len;
	int r;

	r = get_string(o, "type", &s, &len, e);
	if (r)
		return r;
	if (len == 0)
		return err_set(e, -EPROTO, "it has no type");
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (strcmp(s, types[i].name) != 0)
			continue;
		ret->type = types[i].type;
		ret->attr.mode = types[i].mode;
		return 0;
	}
	return err_set(e, -EOPNOTSUPP, "the type '%.32s' is not known", s);
}

static int get_attr(const json_t *o, struct toc_entry *ret, struct err *e)
{
	struct ld_attr *a = &ret->attr;
	uint64_t mode, uid, gid, major = 0, minor = 0;
	const char *time;
	size_t len;
	int r;

	r = get_u64(o, "mode", INT64_MAX, &mode, e);
	if (!r)
		r = get_u64(o, "uid", UINT32_MAX, &uid, e);
	if (!r)
		r = get_u64(o, "gid", UINT32_MAX, &gid, e);
	if (!r && (ret->type == TOC_CHAR || ret->type == TOC_BLOCK))
		r = get_u64(o, "devMajor", MAX_MAJOR, &major, e);
	if (!r && (ret->type == TOC_CHAR || ret->type == TOC_BLOCK))
		r = get_u64(o, "devMinor", MAX_MINOR, &minor, e);
	if (!r)
		r = get_string(o, "modtime", &time, &len, e);
	if (r)
		return r;
	if (len > 0 && toc_time_parse(time, len, &a->mtime, &a->mtime_ns))
		return err_set(e, -EPROTO, "'modtime' is no RFC 3339 time");
	a->mode |= (uint32_t)(mode & 07777);
	a->uid = (uint32_t)uid;
	a->gid = (uint32_t)gid;
	a->rdev_major = (uint32_t)major;
	a->rdev_minor = (uint32_t)minor;
	return 0;
}

static int get_place(const json_t *o, struct toc_entry *ret, struct err *e)
{
	const char *kind;
	size_t len;
	int r;

	r = get_u64(o, "size", INT64_MAX, &ret->size, e);
	if (!r)
		r = get_u64(o, "offset", INT64_MAX, &ret->offset, e);
	if (!r)
		r = get_u64(o, "endOffset", INT64_MAX, &ret->end_offset, e);
	if (!r)
		r = get_u64(o, "innerOffset", INT64_MAX, &ret->inner_offset, e);
	if (!r)
		r = get_u64(o, "chunkOffset", INT64_MAX, &ret->chunk_offset, e);
	if (!r)
		r = get_u64(o, "chunkSize", INT64_MAX, &ret->chunk_size, e);
	if (!r)
		r = get_digest(o, "digest", &ret->digest, e);
	if (!r)
		r = get_digest(o, "chunkDigest", &ret->chunk_digest, e);
	if (!r)
		r = get_string(o, "chunkType", &kind, &len, e);
	if (r)
		return r;
	ret->has_offset = json_object_get(o, "offset");
	ret->is_zeros = !strcmp(kind, "zeros");
	if (len > 0 && !ret->is_zeros)
		return err_set(e, -EOPNOTSUPP,
			"the chunk type '%.32s' is not known", kind);
	return 0;
}

static int get_entry(const json_t *o, struct toc_entry *ret, struct err *e)
{
	int r;

	r = get_string(o, "name", &ret->name, &ret->name_len, e);
	if (!r)
		r = get_type(o, ret, e);
	if (!r)
		r = get_string(o, "linkName", &ret->link, &ret->link_len, e);
	if (!r)
		r = get_attr(o, ret, e);
	if (!r)
		r = get_place(o, ret, e);
	if (r)
		return r;
	ret->xattrs = json_object_get(o, "xattrs");
	if (ret->xattrs && json_is_null(ret->xattrs))
		ret->xattrs = NULL;
	if (ret->xattrs && !json_is_object(ret->xattrs))
		return err_set(e, -EPROTO, "'xattrs' is no object");
	return 0;
}

static int load_entry(struct toc_reader *r, const char *start, struct err *e)
{
	json_error_t je;
	size_t len = (size_t)(r->p - start);

	json_decref(r->entry);
	r->entry = NULL;
	if (len > TOC_MAX_ENTRY_BYTES)
		return err_set(e, -E2BIG,
			"an entry of the TOC is longer than %u bytes",
			TOC_MAX_ENTRY_BYTES);
	r->entry = json_loadb(start, len, JSON_REJECT_DUPLICATES, &je);
	if (r->entry)
		return 0;
	if (json_error_code(&je) == json_error_out_of_memory)
		return err_set(e, -ENOMEM, "out of memory");
	return err_set(e, -EPROTO, "%s", je.text);
}

int toc_reader_next(struct toc_reader *r, struct toc_entry *ret, struct err *e)
{
	struct toc_entry entry = {0};
	const char *start;
	int err;

	if (!r->in_entries) {
		err = find_entries(r, e);
		if (err <= 0)
			return err;
	}
	if (take(r, ']')) {
		r->in_entries = false;
		return find_entries(r, e);
	}
	if (!r->is_first && !take(r, ','))
		return broken(e);
	r->is_first = false;
	if (peek(r) != '{')
		return broken(e);
	start = r->p;
	err = skip_value(r, TOC_MAX_ENTRY_MARKS, e);
	if (!err)
		err = load_entry(r, start, e);
	if (!err)
		err = get_entry(r->entry, &entry, e);
	if (err) {
		(void)err_wrap(e, "TOC entry %" PRIu64 " '%.200s'", r->count,
			entry.name ? entry.name : "");
		return err;
	}
	r->count++;
	*ret = entry;
	return 1;
}

int toc_path_clean(const char *path, size_t len, struct buf *out, struct err *e)
{
	const char *end = path + len, *p = path, *slash;
	size_t n;
	int r;

	out->len = 0;
	while (p < end) {
		slash = memchr(p, '/', (size_t)(end - p));
		n = (size_t)((slash ? slash : end) - p);
		if (n > LD_MAX_NAME || (n == 2 && !memcmp(p, "..", 2)))
			return err_set(e, -EPROTO,
				"'%.*s' has a component that is %s",
				(int)min_u64(len, 200), path,
				n == 2 ? "'..'" : "too long");
		if (n > 0 && !(n == 1 && *p == '.')) {
			r = out->len > 0 ? buf_append(out, "/", 1) : 0;
			if (!r)
				r = buf_append(out, p, n);
			if (r)
				return err_set(e, r, "'%.*s' is too long",
					(int)min_u64(len, 200), path);
		}
		p += n + 1;
	}
	r = buf_terminate(out);
	return r ? err_set(e, r, "out of memory") : 0;
}
