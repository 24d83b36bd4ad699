/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the TOML reader: toml.c (tables), toml_value.c (values). PURE.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blobcache/toml.h"
#include "runtime/base/buf.h"

#define TOML_MAX_PARTS 8 /* of a dotted key */

struct toml {
	const char *p, *end;
	unsigned line;
	json_t *root, *table; /* of the keys that come; inside root */
	struct toml_mark *marks;
	size_t mark_count, mark_cap;
	struct err *e;
};

/* "a.b.c", taken apart. */
struct toml_key {
	char *part[TOML_MAX_PARTS]; /* owned */
	unsigned count;
};

/* ---- toml.c ---- */

/* The sentence with the line. The value is code. */
int toml_fail(struct toml *t, int code, const char *what);
/* The byte at p, 0 at the end. */
char toml_peek(const struct toml *t);
/* Blanks and tabs. */
void toml_skip_blanks(struct toml *t);
/* Also comments and line ends. */
int toml_skip_lines(struct toml *t);
/* A key, dotted or not; freed by toml_key_fini, also after a failure. */
int toml_read_key(struct toml *t, struct toml_key *k);
void toml_key_fini(struct toml_key *k);
/*
 * The table in which k's last part is to be set, below base; tables on the way
 * are made. -EPROTO: k is there already, or leads through something else.
 */
int toml_find_place(
	struct toml *t, json_t *base, const struct toml_key *k, json_t **ret);

/* ---- toml_value.c ---- */

/* A value; new reference. */
int toml_read_value(struct toml *t, json_t **ret);
/* "..." or '...', at its first quote; of one line only if is_key. */
int toml_read_string(struct toml *t, bool is_key, struct buf *out);
