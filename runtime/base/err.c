/* SPDX-License-Identifier: Apache-2.0 */
/* Error values with a sentence; see err.h. */
#include "runtime/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum err_kind kind_of(int code)
{
	switch (code) {
	case -EBADMSG:
	case -EPROTO:
		return ERR_BROKEN;
	case -EOPNOTSUPP:
		return ERR_UNSUPPORTED;
	default:
		return ERR_FAILED;
	}
}

/* A sentence is one line, whatever a server or a file put into it. */
static void make_one_line(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = ' ';
}

__attribute__((format(printf, 4, 0))) static void put_v(struct err *e,
	enum err_kind kind, int code, const char *fmt, va_list ap)
{
	if (!e)
		return;
	e->code = code;
	e->kind = kind;
	(void)vsnprintf(e->text, sizeof(e->text), fmt, ap); /* may be cut */
	make_one_line(e->text);
}

void err_put(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_v(e, kind_of(code), code, fmt, ap);
	va_end(ap);
}

void err_put_kind(
	struct err *e, enum err_kind kind, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_v(e, kind, code, fmt, ap);
	va_end(ap);
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char old[sizeof(e->text)];
	size_t n;
	va_list ap;

	if (!e)
		return -EIO;
	if (!e->code) {
		e->code = -EIO;
		e->kind = ERR_FAILED;
	}
	memcpy(old, e->text, sizeof(old));
	va_start(ap, fmt);
	(void)vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	if (old[0])
		(void)snprintf(e->text + n, sizeof(e->text) - n, ": %s", old);
	make_one_line(e->text);
	return e->code;
}

void err_put_sys(struct err *e, int code, const char *fmt, ...)
{
	char why[96];
	size_t n;
	va_list ap;

	if (!e)
		return;
	va_start(ap, fmt);
	put_v(e, kind_of(code), code, fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	(void)snprintf(e->text + n, sizeof(e->text) - n, ": %s",
		strerror_r(-code, why, sizeof(why)));
}
