/* SPDX-License-Identifier: Apache-2.0 */
/* For tests over tests/samples/hostile: each file's name says how it ends. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/buf.h"

/* "x.EPROTO.json" gives -EPROTO. */
static inline int hostile_code(const char *name)
{
	static const struct {
		const char *word;
		int code;
	} codes[] = {{".ok", 0}, {".EPROTO", -EPROTO}, {".E2BIG", -E2BIG},
		{".EBADMSG", -EBADMSG}, {".EOPNOTSUPP", -EOPNOTSUPP},
		{".EINVAL", -EINVAL}, {".EIO", -EIO}, {".ENOSYS", -ENOSYS},
		{".ENAMETOOLONG", -ENAMETOOLONG}, {".ESTALE", -ESTALE},
		{".ENOTDIR", -ENOTDIR}, {".EISDIR", -EISDIR},
		{".EROFS", -EROFS}, {".ERANGE", -ERANGE},
		{".ENODATA", -ENODATA}, {".ENOENT", -ENOENT}};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strstr(name, codes[i].word))
			return codes[i].code;
	fail_msg("the name '%s' says no code", name);
	return 0;
}

/* What came out, with what sentence, must be what the name says. */
static inline void hostile_judge(const char *name, int r, const char *sentence)
{
	if (r != hostile_code(name))
		fail_msg("%s: %d '%s'", name, r, sentence);
	if (r < 0 && strlen(sentence) < 10)
		fail_msg("%s: the sentence is '%s'", name, sentence);
}

/* fn for each file of the folder, of which there must be some. */
static inline void hostile_files(const char *folder, unsigned at_least,
	void (*fn)(void *arg, int dir, const char *name), void *arg)
{
	const char *root = getenv("SLUICE_SOURCE_ROOT");
	char path[PATH_MAX];
	const struct dirent *d;
	unsigned count = 0;
	DIR *dir;

	assert_non_null(root);
	(void)snprintf(path, sizeof(path), "%s/tests/samples/hostile/%s", root,
		folder);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		fn(arg, dirfd(dir), d->d_name);
		count++;
	}
	(void)closedir(dir);
	assert_true(count >= at_least);
}

struct hostile_reader {
	void (*fn)(void *arg, const char *name, struct buf *b);
	void *arg;
};

static inline void hostile_read(void *arg, int dir, const char *name)
{
	const struct hostile_reader *r = arg;
	struct buf b;

	buf_init(&b, 1u << 20);
	assert_int_equal(buf_read_file(&b, dir, name), 0);
	r->fn(r->arg, name, &b);
	buf_fini(&b);
}

/* The same with the bytes of each file. */
static inline void hostile_each(const char *folder, unsigned at_least,
	void (*fn)(void *arg, const char *name, struct buf *b), void *arg)
{
	struct hostile_reader r = {fn, arg};

	hostile_files(folder, at_least, hostile_read, &r);
}
