/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE
 * SUPEROPTIONS"; blank, tab, newline and backslash in a word are \ooo. Later
 * lines lie on top of earlier ones.
 */
#include "loader/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/util.h"

struct word {
	const char *p;
	size_t len;
};

/* The next word of [*p, end); len 0 when there is none. */
static struct word next_word(const char **p, const char *end)
{
	struct word w;

	while (*p < end && **p == ' ')
		(*p)++;
	w.p = *p;
	while (*p < end && **p != ' ')
		(*p)++;
	w.len = (size_t)(*p - w.p);
	return w;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The character at *i of w; moves *i behind it. */
static char unescape(struct word w, size_t *i)
{
	const char *s = w.p + *i;

	if (s[0] == '\\' && w.len - *i >= 4 && is_octal(s[1]) &&
		is_octal(s[2]) && is_octal(s[3])) {
		*i += 4;
		return (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
			      (s[3] - '0'));
	}
	*i += 1;
	return s[0];
}

static bool word_is(struct word w, const char *text)
{
	size_t i = 0, k = 0;

	while (i < w.len) {
		if (text[k] == '\0' || unescape(w, &i) != text[k])
			return false;
		k++;
	}
	return text[k] == '\0';
}

static void copy_word(struct word w, char *out, size_t cap)
{
	size_t i = 0, k = 0;

	while (i < w.len && k + 1 < cap)
		out[k++] = unescape(w, &i);
	out[k] = '\0';
}

/* Digits up to a character of stop; false if there are none or too many. */
static bool read_number(struct word *w, char stop, unsigned *ret)
{
	unsigned v = 0;
	size_t i;

	for (i = 0; i < w->len && w->p[i] != stop; i++) {
		if (i == 9 || w->p[i] < '0' || w->p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(w->p[i] - '0');
	}
	if (i == 0)
		return false;
	*ret = v;
	w->p += i + (i < w->len);
	w->len -= i + (i < w->len);
	return true;
}

static bool read_line(const char *p, const char *end, const char *dir,
	struct ld_mountinfo *ret)
{
	unsigned dev_major, dev_minor;
	struct word dev, w;

	(void)next_word(&p, end); /* id */
	(void)next_word(&p, end); /* parent */
	dev = next_word(&p, end);
	(void)next_word(&p, end); /* root */
	w = next_word(&p, end);
	if ((dir && !word_is(w, dir)) || !read_number(&dev, ':', &dev_major) ||
		!read_number(&dev, ' ', &dev_minor))
		return false;
	do {
		w = next_word(&p, end);
	} while (w.len && !word_is(w, "-"));
	if (!w.len)
		return false;
	w = next_word(&p, end);
	if (!w.len)
		return false;
	ret->dev_major = dev_major;
	ret->dev_minor = dev_minor;
	copy_word(w, ret->fstype, sizeof(ret->fstype));
	copy_word(next_word(&p, end), ret->source, sizeof(ret->source));
	return true;
}

int ld_mountinfo_find(
	const char *text, size_t len, const char *dir, struct ld_mountinfo *ret)
{
	const char *p = text, *end = text + len, *nl;
	int rc = -ENOENT;

	while (p < end) {
		nl = memchr(p, '\n', (size_t)(end - p));
		if (!nl)
			nl = end;
		if (read_line(p, nl, dir, ret))
			rc = 0;
		p = nl + (nl < end);
	}
	return rc;
}

static int find_device(const char *text, size_t len, const char *dir,
	unsigned dev_major, unsigned dev_minor)
{
	const char *p = text, *end = text + len, *nl;
	struct ld_mountinfo m;

	for (; p < end; p = nl + (nl < end)) {
		nl = memchr(p, '\n', (size_t)(end - p));
		if (!nl)
			nl = end;
		if (read_line(p, nl, dir, &m) && m.dev_major == dev_major &&
			m.dev_minor == dev_minor)
			return 1;
	}
	return 0;
}

int ld_mountinfo_has(const char *dir, unsigned dev_major, unsigned dev_minor)
{
	struct buf b;
	int rc;

	buf_init(&b, LD_MOUNTINFO_MAX);
	rc = buf_read_file(&b, AT_FDCWD, "/proc/self/mountinfo");
	if (rc == 0)
		rc = find_device(
			(const char *)b.data, b.len, dir, dev_major, dev_minor);
	buf_fini(&b);
	return rc;
}

int ld_mountinfo_of(const char *dir, struct ld_mountinfo *ret)
{
	struct buf b;
	int rc;

	buf_init(&b, LD_MOUNTINFO_MAX);
	rc = buf_read_file(&b, AT_FDCWD, "/proc/self/mountinfo");
	if (rc == 0)
		rc = ld_mountinfo_find((const char *)b.data, b.len, dir, ret);
	buf_fini(&b);
	return rc;
}
