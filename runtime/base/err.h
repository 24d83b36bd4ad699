/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An error: a negative errno for the program and one sentence for the person.
 *
 * Cold paths (command line, open, resolve, parse, mount) take a struct err as
 * their last parameter; hot paths return the code alone. A struct err holds no
 * heap memory, so it works when memory is short. Passing NULL is allowed. PURE.
 */
#pragma once

/* What went wrong, as scripts see it; the values are the exit codes. */
enum err_kind {
	ERR_FAILED = 1,
	ERR_USAGE = 2,
	ERR_NOT_FOUND = 3,   /* the image does not exist */
	ERR_REFUSED = 4,     /* access to the image was refused */
	ERR_BROKEN = 5,      /* the image breaks its format or its digest */
	ERR_UNSUPPORTED = 6, /* valid, but not supported here */
};

struct err {
	int code;           /* negative errno, 0 while nothing is set */
	enum err_kind kind; /* exit code */
	char text[500];     /* lower case, no full stop, no newline */
};

/*
 * Set e; the value is code. The kind follows from the code: -EBADMSG and
 * -EPROTO are ERR_BROKEN, -EOPNOTSUPP is ERR_UNSUPPORTED, the rest ERR_FAILED.
 *
 * A macro around a function, so that compilers and analysers see that what
 * comes back is the code that went in.
 */
#define err_set(e, code, ...) \
	__extension__({ \
		int code_ = (code); \
		err_put((e), code_, __VA_ARGS__); \
		code_; \
	})

/* The same with the kind given. */
#define err_set_kind(e, kind, code, ...) \
	__extension__({ \
		int code_ = (code); \
		err_put_kind((e), (kind), code_, __VA_ARGS__); \
		code_; \
	})

/* "<text>: <strerror(-code)>", for system calls; the value is code. */
#define err_sys(e, code, ...) \
	__extension__({ \
		int code_ = (code); \
		err_put_sys((e), code_, __VA_ARGS__); \
		code_; \
	})

/* What the macros call. */
void err_put(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void err_put_kind(struct err *e, enum err_kind kind, int code, const char *fmt,
	...) __attribute__((format(printf, 4, 5)));
void err_put_sys(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "<text>: " before what e says. Returns e->code (or -EIO if unset). */
int err_wrap(struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
