/* SPDX-License-Identifier: Apache-2.0 */
/* The fields of a tar header and what becomes of them; see tar.h. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/tar_int.h"
#include "runtime/base/util.h"

/* ---- numbers ---- */

/* Two's complement, big endian; the highest bit only marks the encoding. */
static int number_base256(const uint8_t *p, size_t n, int64_t *ret)
{
	uint8_t flip = p[0] & 0x40 ? 0xff : 0;
	uint64_t v = 0;
	size_t i;
	uint8_t c;

	for (i = 0; i < n; i++) {
		c = p[i] ^ flip;
		if (i == 0)
			c &= 0x7f;
		if (v >> 56)
			return -EPROTO;
		v = v << 8 | c;
	}
	if (v >> 63)
		return -EPROTO;
	*ret = flip ? (int64_t)~v : (int64_t)v;
	return 0;
}

static bool is_filler(uint8_t c)
{
	return c == ' ' || c == '\0';
}

int tar_number(const uint8_t *p, size_t n, int64_t *ret)
{
	uint64_t v = 0;

	if (n > 0 && p[0] & 0x80)
		return number_base256(p, n, ret);
	while (n > 0 && is_filler(p[0])) {
		p++;
		n--;
	}
	while (n > 0 && is_filler(p[n - 1]))
		n--;
	for (; n > 0; p++, n--) {
		if (*p < '0' || *p > '7' || v >> 60)
			return -EPROTO;
		v = v << 3 | (uint64_t)(*p - '0');
	}
	*ret = (int64_t)v;
	return 0;
}

int tar_decimal(const char *p, size_t n, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i;

	if (n == 0)
		return -EPROTO;
	for (i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9' ||
			__builtin_mul_overflow(v, 10u, &v) ||
			add_overflows(v, (uint64_t)(p[i] - '0'), &v))
			return -EPROTO;
	}
	*ret = v;
	return 0;
}

/* ---- blocks ---- */

bool tar_is_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Old programs added the bytes as signed ones. */
bool tar_sum_is_right(const uint8_t *block)
{
	int64_t want, sum = 0, signed_sum = 0;
	size_t i;

	for (i = 0; i < LD_TAR_BLOCK; i++) {
		uint8_t c = i - TAR_SUM < TAR_ID_LEN ? ' ' : block[i];

		sum += c;
		signed_sum += (int8_t)c;
	}
	return tar_number(block + TAR_SUM, TAR_ID_LEN, &want) == 0 &&
	       (want == sum || want == signed_sum);
}

/* ---- names ---- */

static struct tar_text field_text(const uint8_t *p, size_t n)
{
	return (struct tar_text){.p = (const char *)p,
		.len = n ? strnlen((const char *)p, n) : 0}; /* p: NULL */
}

static bool has_prefix(const uint8_t *h)
{
	return memcmp(h + TAR_MAGIC,
		       "ustar\0"
		       "00",
		       8) == 0;
}

/* Prefix and name of the header, put together in t->name. */
static int header_path(struct ld_tar *t, struct tar_text *ret)
{
	const uint8_t *h = t->header;
	struct tar_text name = field_text(h + TAR_NAME, TAR_NAME_LEN);
	struct tar_text prefix;
	size_t max = TAR_PREFIX_LEN;
	int r;

	if (memcmp(h + TAR_STAR_TRAILER, "tar", 4) == 0)
		max = TAR_STAR_PREFIX_LEN; /* times lie behind it */
	prefix = field_text(h + TAR_PREFIX, max);
	*ret = name;
	if (!has_prefix(h) || prefix.len == 0)
		return 0;
	t->name.len = 0;
	r = buf_append(&t->name, prefix.p, prefix.len);
	if (r == 0)
		r = buf_append(&t->name, "/", 1);
	if (r == 0)
		r = buf_append(&t->name, name.p, name.len);
	*ret = (struct tar_text){
		.p = (const char *)t->name.data, .len = t->name.len};
	return r;
}

static int read_names(struct ld_tar *t, struct err *e)
{
	struct tar_text path, link;

	if (header_path(t, &path) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	link = field_text(t->header + TAR_LINK, TAR_NAME_LEN);
	if (t->x.path.p)
		path = t->x.path;
	if (t->x.sparse_name.p)
		path = t->x.sparse_name;
	if (t->x.link.p)
		link = t->x.link;
	if (t->has_name)
		path = field_text(t->long_name.data, t->long_name.len);
	if (t->has_link)
		link = field_text(t->long_link.data, t->long_link.len);
	t->entry.path = path.p;
	t->entry.path_len = path.len;
	t->entry.link = link.p;
	t->entry.link_len = link.len;
	if (path.len == 0)
		return tar_broken(t, e, "an entry has no name");
	return 0;
}

/* ---- attributes ---- */

static int read_id(struct ld_tar *t, size_t field, bool is_said, uint64_t said,
	uint32_t *ret, struct err *e)
{
	int64_t v = (int64_t)said;

	if (!is_said && tar_number(t->header + field, TAR_ID_LEN, &v) < 0)
		return tar_broken(t, e, "an owner is no number");
	if (v < 0 || v >= UINT32_MAX)
		return tar_broken(t, e, "there is no owner %lld", (long long)v);
	*ret = (uint32_t)v;
	return 0;
}

static int read_device(struct ld_tar *t, struct ld_attr *a, struct err *e)
{
	int64_t major, minor;

	if (tar_number(t->header + TAR_MAJOR, TAR_ID_LEN, &major) < 0 ||
		tar_number(t->header + TAR_MINOR, TAR_ID_LEN, &minor) < 0 ||
		major < 0 || major > UINT32_MAX || minor < 0 ||
		minor > UINT32_MAX)
		return tar_broken(t, e, "a device has no number");
	a->rdev_major = (uint32_t)major;
	a->rdev_minor = (uint32_t)minor;
	return 0;
}

static int read_mtime(struct ld_tar *t, struct ld_attr *a, struct err *e)
{
	a->mtime = t->x.mtime;
	a->mtime_ns = t->x.mtime_ns;
	if (t->x.has_mtime)
		return 0;
	if (tar_number(t->header + TAR_MTIME, TAR_NUM_LEN, &a->mtime) < 0)
		return tar_broken(t, e, "a time is no number");
	return 0;
}

static int read_attr(struct ld_tar *t, uint32_t format, struct err *e)
{
	struct ld_attr *a = &t->entry.attr;
	int64_t mode;
	int r;

	if (tar_number(t->header + TAR_MODE, TAR_ID_LEN, &mode) < 0)
		return tar_broken(t, e, "a mode is no number");
	a->mode = format | ((uint32_t)mode & 07777);
	r = read_id(t, TAR_UID, t->x.has_uid, t->x.uid, &a->uid, e);
	if (r == 0)
		r = read_id(t, TAR_GID, t->x.has_gid, t->x.gid, &a->gid, e);
	if (r == 0)
		r = read_mtime(t, a, e);
	if (r == 0 && (format == S_IFCHR || format == S_IFBLK))
		r = read_device(t, a, e);
	return r;
}

/* ---- the type ---- */

static int read_type(struct ld_tar *t, uint32_t *ret_format, struct err *e)
{
	struct ld_tar_entry *entry = &t->entry;
	uint8_t type = t->header[TAR_TYPE];

	switch (type) {
	case '\0':
		/* Before there was a type, a slash at the end was one. */
		if (entry->path[entry->path_len - 1] == '/') {
			entry->type = LD_TAR_DIR;
			*ret_format = S_IFDIR;
			return 0;
		}
		/* fall through */
	case '0':
	case '7': /* "contiguous" */
	case 'S': /* old GNU sparse */
		entry->type = LD_TAR_FILE;
		*ret_format = S_IFREG;
		return 0;
	case '1':
		entry->type = LD_TAR_LINK;
		*ret_format = S_IFREG;
		return 0;
	case '2':
		entry->type = LD_TAR_SYMLINK;
		*ret_format = S_IFLNK;
		return 0;
	case '5':
		entry->type = LD_TAR_DIR;
		*ret_format = S_IFDIR;
		return 0;
	case '3':
	case '4':
	case '6':
		entry->type = LD_TAR_NODE;
		*ret_format = type == '3'   ? S_IFCHR
		              : type == '4' ? S_IFBLK
		                            : S_IFIFO;
		return 0;
	default:
		return err_set(e, -EOPNOTSUPP,
			"'%.*s' in the tar is of the unknown type 0x%02x",
			tar_shown(entry->path_len), entry->path, type);
	}
}

int tar_header_read(struct ld_tar *t, uint64_t *ret_size, struct err *e)
{
	uint32_t format = 0;
	int64_t size;
	int r;

	t->entry = (struct ld_tar_entry){0};
	r = read_names(t, e);
	if (r == 0)
		r = read_type(t, &format, e);
	if (r == 0)
		r = read_attr(t, format, e);
	if (r < 0)
		return r;
	t->entry.xattrs = t->xattrs;
	t->entry.xattr_count = t->xattr_count;
	/* Only files have contents, whatever the field says. */
	*ret_size = 0;
	if (t->entry.type != LD_TAR_FILE)
		return 0;
	if (tar_number(t->header + TAR_SIZE, TAR_NUM_LEN, &size) < 0)
		return tar_broken(t, e, "the size of '%.*s' is no number",
			tar_shown(t->entry.path_len), t->entry.path);
	if (t->x.has_size)
		size = (int64_t)t->x.size;
	if (size < 0 || (uint64_t)size > LD_TAR_MAX_SIZE)
		return tar_broken(t, e, "'%.*s' has the size %lld",
			tar_shown(t->entry.path_len), t->entry.path,
			(long long)size);
	*ret_size = (uint64_t)size;
	t->entry.size = *ret_size;
	return 0;
}
