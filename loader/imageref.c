/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images, taken apart; see imageref.h. The grammar of registry names
 * is that of the OCI distribution spec; which part is the host is Docker's
 * rule: it holds a dot or a colon, or is "localhost".
 */
#include "loader/imageref.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/util.h"

#define PIN "#sha256="

#define BAD(e, ...) err_set_kind(e, ERR_USAGE, -EINVAL, __VA_ARGS__)

static bool has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

static bool is_digits(const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return n > 0;
}

/* src[0, n) into dst of size cap; -E2BIG. */
static int copy_n(char *dst, size_t cap, const char *src, size_t n)
{
	if (n >= cap)
		return -E2BIG;
	memcpy(dst, src, n);
	dst[n] = '\0';
	return 0;
}

/* One path component: [a-z0-9]+ parted by ".", "_", "__" or dashes. */
static bool is_component(const char *s, size_t n)
{
	size_t i = 0, start;

	for (;;) {
		start = i;
		while (i < n && is_lower_alnum(s[i]))
			i++;
		if (i == start)
			return false;
		if (i == n)
			return true;
		if (s[i] == '-') {
			while (i < n && s[i] == '-')
				i++;
		} else if (s[i] == '_') {
			i += i + 1 < n && s[i + 1] == '_' ? 2 : 1;
		} else if (s[i] == '.') {
			i++;
		} else {
			return false;
		}
	}
}

static bool is_repository(const char *s, size_t n)
{
	size_t i, start = 0;

	for (i = 0; i <= n; i++) {
		if (i < n && s[i] != '/')
			continue;
		if (!is_component(s + start, i - start))
			return false;
		start = i + 1;
	}
	return true;
}

static bool is_tag(const char *s, size_t n)
{
	size_t i;

	if (n == 0 || n > 128 || s[0] == '.' || s[0] == '-')
		return false;
	for (i = 0; i < n; i++)
		if (!is_alnum(s[i]) && !strchr("._-", s[i]))
			return false;
	return true;
}

/* A name, an IPv4 address or a bracketed IPv6 address, and maybe a port. */
static bool is_host(const char *s, size_t n)
{
	const char *name_end = memchr(s, ':', n);
	size_t i, name_len;

	if (n > 0 && s[0] == '[') {
		name_end = memchr(s, ']', n);
		if (!name_end || name_end == s + 1)
			return false;
		for (i = 1; s + i < name_end; i++)
			if (!is_alnum(s[i]) && !strchr(":.", s[i]))
				return false;
		name_end++;
		if (name_end == s + n)
			return true;
	} else {
		name_len = name_end ? (size_t)(name_end - s) : n;
		if (name_len == 0 || name_len > 253 || s[0] == '-' ||
			s[0] == '.')
			return false;
		for (i = 0; i < name_len; i++)
			if (!is_alnum(s[i]) && !strchr(".-", s[i]))
				return false;
		if (!name_end)
			return true;
	}
	n -= (size_t)(name_end - s);
	return n > 1 && n <= 6 && name_end[0] == ':' &&
	       is_digits(name_end + 1, n - 1);
}

/* Does the first component name a host? */
static bool looks_like_host(const char *s, size_t n)
{
	return memchr(s, '.', n) || memchr(s, ':', n) ||
	       (n == 9 && memcmp(s, "localhost", 9) == 0);
}

/* Cut "@digest" and ":tag" off the end of s[0, *n). */
static int cut_version(const char *s, size_t *n, struct ld_ref *r)
{
	const char *at = memchr(s, '@', *n), *colon;
	size_t i;

	if (at) {
		if (digest_parse(
			    at + 1, *n - (size_t)(at + 1 - s), &r->digest) < 0)
			return -EPROTO;
		*n = (size_t)(at - s);
	}
	colon = NULL;
	for (i = *n; i > 0 && s[i - 1] != '/'; i--)
		if (s[i - 1] == ':')
			colon = s + i - 1;
	if (colon) {
		i = *n - (size_t)(colon + 1 - s);
		if (!is_tag(colon + 1, i))
			return -EINVAL;
		(void)copy_n(r->tag, sizeof(r->tag), colon + 1, i);
		*n = (size_t)(colon - s);
	}
	return 0;
}

static int set_repository(struct ld_ref *r, const char *host, size_t host_len,
	const char *repo, size_t repo_len)
{
	bool is_hub =
		(host_len == 9 && memcmp(host, "docker.io", 9) == 0) ||
		(host_len == 15 && memcmp(host, "index.docker.io", 15) == 0);
	int n;

	if (is_hub) {
		host = "registry-1.docker.io";
		host_len = strlen(host);
	}
	if (copy_n(r->host, sizeof(r->host), host, host_len) < 0)
		return -E2BIG;
	n = snprintf(r->repository, sizeof(r->repository), "%s%.*s",
		is_hub && !memchr(repo, '/', repo_len) ? "library/" : "",
		(int)repo_len, repo);
	return n < 0 || (size_t)n >= sizeof(r->repository) ? -E2BIG : 0;
}

static void set_registry_canonical(struct ld_ref *r)
{
	char text[DIGEST_MAX_TEXT] = "";
	const char *host = r->host;

	if (strcmp(host, "registry-1.docker.io") == 0)
		host = "docker.io";
	if (r->digest.algo != DIGEST_NONE)
		(void)digest_text(&r->digest, text);
	(void)snprintf(r->canonical, sizeof(r->canonical), "%s/%s%s%s%s%s",
		host, r->repository, r->tag[0] ? ":" : "", r->tag,
		text[0] ? "@" : "", text);
}

static int parse_registry(
	const char *whole, const char *s, struct ld_ref *r, struct err *e)
{
	size_t n = strlen(s), host_len;
	const char *slash;
	int ret;

	ret = cut_version(s, &n, r);
	if (ret == -EPROTO)
		return BAD(e,
			"'%s': what follows '@' is no digest, write "
			"@sha256:<64 hex digits>",
			whole);
	if (ret < 0)
		return BAD(e,
			"'%s': the tag may hold letters, digits, '.', '_' and "
			"'-', at most 128",
			whole);
	slash = memchr(s, '/', n);
	host_len = slash ? (size_t)(slash - s) : n;
	if (!slash && looks_like_host(s, n))
		return BAD(e, "'%s' names no image, write '%.*s/NAME'", whole,
			(int)n, s);
	if (!slash || !looks_like_host(s, host_len)) {
		if (!is_repository(s, n))
			return BAD(e,
				"'%s' is no image name, write "
				"HOST[:PORT]/NAME[:TAG], oci:PATH[:TAG] or the "
				"path of a bundle",
				whole);
		return BAD(e,
			"'%s' names no registry, write 'docker.io/%s%s' for "
			"Docker's, or ./%s for a file",
			whole, slash ? "" : "library/", s, s);
	}
	if (!is_host(s, host_len))
		return BAD(e, "'%s': '%.*s' is no host name", whole,
			(int)host_len, s);
	n -= host_len + 1;
	if (!is_repository(slash + 1, n))
		return BAD(e,
			"'%s': the name '%.*s' may hold lower-case letters, "
			"digits, '.', '_', '-' and '/'",
			whole, (int)n, slash + 1);
	if (set_repository(r, s, host_len, slash + 1, n) < 0)
		return BAD(e, "'%s' is too long", whole);
	if (!r->tag[0] && r->digest.algo == DIGEST_NONE)
		(void)copy_n(r->tag, sizeof(r->tag), "latest", 6);
	r->kind = LD_REF_REGISTRY;
	set_registry_canonical(r);
	return 0;
}

/* path[0, n) made absolute into r->path. */
static int set_path(struct ld_ref *r, const char *path, size_t n, struct err *e)
{
	size_t used = 0;

	while (n > 2 && path[0] == '.' && path[1] == '/') {
		path += 2;
		n -= 2;
	}
	if (n == 0 || path[0] != '/') {
		if (!getcwd(r->path, sizeof(r->path)))
			return err_sys(
				e, -errno, "cannot tell the current directory");
		used = strlen(r->path);
		if (used > 1)
			r->path[used++] = '/';
	}
	if (copy_n(r->path + used, sizeof(r->path) - used, path, n) < 0)
		return BAD(e, "the path '%.60s...' is too long", path);
	return 0;
}

/* oci:PATH, oci:PATH:REFERENCE, oci:PATH@DIGEST */
static int parse_layout(const char *whole, struct ld_ref *r, struct err *e)
{
	const char *s = whole + strlen("oci:"), *at = strrchr(s, '@');
	const char *colon;
	size_t n = strlen(s), tag_len = 0, i;
	int ret;

	if (at && digest_parse(at + 1, strlen(at + 1), &r->digest) == 0)
		n = (size_t)(at - s);
	colon = memchr(s, ':', n);
	if (colon) {
		tag_len = n - (size_t)(colon + 1 - s);
		n = (size_t)(colon - s);
		if (tag_len == 0 || tag_len >= sizeof(r->tag))
			return BAD(e,
				"'%s': the tag behind the path has 1 to 128 "
				"characters",
				whole);
		for (i = 0; i < tag_len; i++)
			if (!is_alnum(colon[1 + i]) &&
				!strchr("-._:@/+", colon[1 + i]))
				return BAD(e, "'%s': a tag may not hold '%c'",
					whole, colon[1 + i]);
		(void)copy_n(r->tag, sizeof(r->tag), colon + 1, tag_len);
	}
	if (n == 0)
		return BAD(e, "'%s': write oci:PATH[:TAG]", whole);
	ret = set_path(r, s, n, e);
	if (ret < 0)
		return ret;
	r->kind = LD_REF_LAYOUT;
	(void)snprintf(r->canonical, sizeof(r->canonical), "oci:%s%s%s",
		r->path, r->tag[0] ? ":" : "", r->tag);
	return 0;
}

/* The length of s without "#sha256=HEX", which goes into r->digest. */
static int cut_pin(
	const char *s, size_t *ret_len, struct ld_ref *r, struct err *e)
{
	const char *pin = strstr(s, PIN);
	char text[DIGEST_MAX_TEXT];
	int n;

	*ret_len = strlen(s);
	if (!pin)
		return 0;
	n = snprintf(text, sizeof(text), "sha256:%s", pin + strlen(PIN));
	if (n < 0 || (size_t)n >= sizeof(text) ||
		digest_parse(text, (size_t)n, &r->digest) < 0)
		return BAD(e,
			"'%.*s': write 64 lower-case hex digits behind '" PIN
			"'",
			(int)strcspn(s, "?#"), s);
	*ret_len = (size_t)(pin - s);
	return 0;
}

static int parse_url(const char *s, struct ld_ref *r, struct err *e)
{
	const char *host, *end;
	size_t n, host_len;
	int ret;

	ret = cut_pin(s, &n, r, e);
	if (ret < 0)
		return ret;
	host = strstr(s, "//") + 2;
	host_len = strcspn(host, "/?#");
	if (memchr(host, '@', host_len))
		return BAD(e,
			"a URL with a user name in it is refused, it would be "
			"visible to everybody");
	if (!is_host(host, host_len))
		return BAD(e, "'%.*s' is no host name", (int)host_len, host);
	end = memchr(s, '#', n);
	if (end)
		return BAD(e,
			"'%.*s': only " PIN "HEX may follow the "
			"path of a bundle",
			(int)(end - s), s);
	if (copy_n(r->path, sizeof(r->path), s, n) < 0)
		return BAD(e, "'%.60s...' is too long", s);
	r->kind = LD_REF_BUNDLE_URL;
	/* a query may hold a signature: never shown */
	(void)snprintf(r->canonical, sizeof(r->canonical), "%.*s",
		(int)strcspn(r->path, "?"), r->path);
	return 0;
}

static int parse_path(const char *s, struct ld_ref *r, struct err *e)
{
	size_t n;
	int ret;

	ret = cut_pin(s, &n, r, e);
	if (ret == 0)
		ret = set_path(r, s, n, e);
	if (ret < 0)
		return ret;
	r->kind = LD_REF_BUNDLE;
	(void)snprintf(r->canonical, sizeof(r->canonical), "%s", r->path);
	return 0;
}

static bool is_existing_file(const char *s)
{
	struct stat st;
	struct ld_ref r = {0};
	char path[sizeof(r.path)];
	size_t n;

	if (cut_pin(s, &n, &r, NULL) < 0 ||
		copy_n(path, sizeof(path), s, n) < 0)
		return false;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int parse_any(const char *s, struct ld_ref *r, struct err *e)
{
	const char *scheme_end = strstr(s, "://");
	const char *p;

	if (s[0] == '\0')
		return BAD(e, "the image name is empty");
	for (p = s; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return BAD(
				e, "the image name holds a control character");
	if (has_prefix(s, "docker://"))
		return parse_registry(s, s + strlen("docker://"), r, e);
	if (has_prefix(s, "oci:"))
		return parse_layout(s, r, e);
	if (has_prefix(s, "http://") || has_prefix(s, "https://"))
		return parse_url(s, r, e);
	if (s[0] == '/' || s[0] == '.' || is_existing_file(s))
		return parse_path(s, r, e);
	if (scheme_end)
		return BAD(e,
			"'%.*s://' is not known, write docker://, oci:, "
			"http(s):// or a path",
			(int)(scheme_end - s), s);
	return parse_registry(s, s, r, e);
}

int ld_ref_parse(const char *s, struct ld_ref *ret, struct err *e)
{
	struct ld_ref r = {0};
	int err;

	err = parse_any(s, &r, e);
	if (err < 0)
		return err;
	*ret = r;
	return 0;
}
