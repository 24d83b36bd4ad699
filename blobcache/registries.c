/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registries.conf: which entry a name matches, and where that leads; see
 * registries.h. What is read is checked when it is added, so that choosing can
 * rely on types.
 */
#include "blobcache/registries.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blobcache/auth_file.h"
#include "blobcache/toml.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"

#define MAX_ENTRIES 4096
#define MAX_NAME 512
#define DOCKER_NAME "docker.io"
#define DOCKER_API "registry-1.docker.io"

struct entry {
	json_t *table; /* a reference */
	char *prefix, *path;
};

struct bc_registries {
	struct entry *entries;
	size_t count, cap;
	json_t *helpers; /* a reference; NULL: none are named */
};

/* ---- what was read ---- */

static const char *text_of(const json_t *table, const char *key)
{
	const char *s = json_string_value(json_object_get(table, key));

	return s ? s : "";
}

static bool is_set(const json_t *table, const char *key)
{
	return json_is_true(json_object_get(table, key));
}

static int wrong(struct err *e, const char *path, const char *what)
{
	return err_set(e, -EINVAL, "'%s': %s", path, what);
}

static int check_types(const json_t *table, const char *path, struct err *e)
{
	static const char *const strings[] = {
		"prefix", "location", "pull-from-mirror"};
	static const char *const bools[] = {
		"insecure", "blocked", "mirror-by-digest-only"};
	char text[100];
	const json_t *v;

	for (unsigned i = 0; i < 3; i++) {
		v = json_object_get(table, strings[i]);
		if (v && !json_is_string(v)) {
			(void)snprintf(text, sizeof(text),
				"'%s' of a registry is no string", strings[i]);
			return wrong(e, path, text);
		}
		v = json_object_get(table, bools[i]);
		if (v && !json_is_boolean(v)) {
			(void)snprintf(text, sizeof(text),
				"'%s' of a registry is neither true nor false",
				bools[i]);
			return wrong(e, path, text);
		}
	}
	return 0;
}

/* "host[:port][/name...]", without scheme or what ends a URL's path. */
static bool is_location(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n >= MAX_NAME || s[0] == '/')
		return false;
	return !strstr(s, "://") && !strpbrk(s, "?#@% \t\r\n\\");
}

static int check_location(const char *s, const char *path, struct err *e)
{
	if (is_location(s))
		return 0;
	return err_set(e, -EINVAL,
		"'%s': the location '%.100s' is not 'host[:port][/path]' "
		"without a scheme",
		path, s);
}

static int check_mirror(
	const json_t *m, bool by_digest_only, const char *path, struct err *e)
{
	const char *pull;
	int rc;

	if (!json_is_object(m))
		return wrong(e, path, "a mirror is no table");
	rc = check_types(m, path, e);
	if (rc == 0)
		rc = check_location(text_of(m, "location"), path, e);
	if (rc < 0)
		return rc;
	pull = text_of(m, "pull-from-mirror");
	if (pull[0] && by_digest_only)
		return wrong(e, path,
			"'mirror-by-digest-only' and 'pull-from-mirror' "
			"exclude each other");
	if (pull[0] && strcmp(pull, "all") != 0 &&
		strcmp(pull, "digest-only") != 0 &&
		strcmp(pull, "tag-only") != 0)
		return wrong(e, path,
			"'pull-from-mirror' takes all, digest-only or "
			"tag-only");
	return 0;
}

static int check_registry(const json_t *table, const char *path, struct err *e)
{
	const char *prefix, *location;
	const json_t *mirrors, *m;
	size_t i;
	int rc;

	if (!json_is_object(table))
		return wrong(e, path, "a registry is no table");
	rc = check_types(table, path, e);
	if (rc < 0)
		return rc;
	prefix = text_of(table, "prefix");
	location = text_of(table, "location");
	if (!prefix[0] && !location[0])
		return wrong(e, path,
			"a registry has neither a prefix nor a location");
	if (!location[0] && strncmp(prefix, "*.", 2) != 0)
		return wrong(e, path, "a registry has no location");
	if (location[0])
		rc = check_location(location, path, e);
	mirrors = json_object_get(table, "mirror");
	if (rc == 0 && mirrors && !json_is_array(mirrors))
		return wrong(e, path, "'mirror' is no list of tables");
	for (i = 0; rc == 0 && i < json_array_size(mirrors); i++) {
		m = json_array_get(mirrors, i);
		rc = check_mirror(
			m, is_set(table, "mirror-by-digest-only"), path, e);
	}
	return rc;
}

/* ---- version 1 ---- */

/* The names in [registries.SECTION]; NULL in ret: none. Borrowed. */
static int v1_names(const json_t *root, const char *section, const char *path,
	const json_t **ret, struct err *e)
{
	const json_t *v1 = json_object_get(root, "registries");
	const json_t *table = json_object_get(v1, section);
	const json_t *names = json_object_get(table, "registries");
	size_t i;

	*ret = NULL;
	if ((v1 && !json_is_object(v1)) || (table && !json_is_object(table)))
		return wrong(e, path, "'registries' is no table of tables");
	if (names && !json_is_array(names))
		return wrong(e, path, "'registries' is no list of names");
	for (i = 0; i < json_array_size(names); i++)
		if (!json_is_string(json_array_get(names, i)))
			return wrong(e, path, "'registries' names no strings");
	if (json_array_size(names) > 0)
		*ret = names;
	return 0;
}

/* key becomes true of those that names has. -ENOMEM. */
static int v1_set(json_t *list, const json_t *names, const char *key)
{
	size_t i, k;

	if (json_array_size(names) > MAX_ENTRIES)
		return -E2BIG;
	for (i = 0; i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		json_t *r = NULL;

		for (k = 0; !r && k < json_array_size(list); k++) {
			r = json_array_get(list, k);
			if (strcmp(text_of(r, "location"), name) != 0)
				r = NULL;
		}
		if (!r) {
			r = json_pack("{s:s}", "location", name);
			if (json_array_append_new(list, r) < 0)
				return -ENOMEM;
		}
		if (json_object_set_new(r, key, json_true()) < 0)
			return -ENOMEM;
	}
	return 0;
}

/*
 * Write what is of version 1 as [[registry]] tables. Where short names are
 * looked for does not matter: ours are never short.
 */
static int translate_v1(json_t *root, const char *path, struct err *e)
{
	const json_t *search, *insecure, *block;
	json_t *list;
	int rc = v1_names(root, "search", path, &search, e);

	if (rc == 0)
		rc = v1_names(root, "insecure", path, &insecure, e);
	if (rc == 0)
		rc = v1_names(root, "block", path, &block, e);
	if (rc < 0 || (!search && !insecure && !block))
		return rc;
	if (json_object_get(root, "registry") ||
		json_object_get(root, "unqualified-search-registries"))
		return wrong(e, path,
			"[registries] of version 1 and keys of version 2 "
			"exclude each other");
	list = json_array();
	rc = list ? v1_set(list, insecure, "insecure") : -ENOMEM;
	if (rc == 0)
		rc = v1_set(list, block, "blocked");
	if (rc == 0 && json_object_set(root, "registry", list) < 0)
		rc = -ENOMEM;
	json_decref(list);
	if (rc == -E2BIG)
		return wrong(e, path, "too many registries");
	return rc < 0 ? err_set(e, rc, "out of memory") : 0;
}

static int check_helpers(const json_t *list, const char *path, struct err *e)
{
	size_t i;

	if (list && !json_is_array(list))
		return wrong(e, path, "'credential-helpers' is no list");
	for (i = 0; i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (!s || !bc_helper_name_is_ok(s))
			return wrong(e, path,
				"'credential-helpers' has what is no name of "
				"a helper");
	}
	return 0;
}

static int check_document(const json_t *root, const char *path, struct err *e)
{
	const json_t *list = json_object_get(root, "registry");
	size_t i;
	int rc = check_helpers(
		json_object_get(root, "credential-helpers"), path, e);

	if (rc < 0)
		return rc;
	if (list && !json_is_array(list))
		return wrong(e, path, "'registry' is no list of tables");
	for (i = 0; rc == 0 && i < json_array_size(list); i++)
		rc = check_registry(json_array_get(list, i), path, e);
	return rc;
}

/* ---- adding ---- */

/* Without slashes at its end; new memory. */
static char *trimmed(const char *s)
{
	size_t n = strlen(s);

	while (n > 0 && s[n - 1] == '/')
		n--;
	return mem_strndup(s, n);
}

static void entry_fini(struct entry *n)
{
	json_decref(n->table);
	mem_free(n->prefix);
	mem_free(n->path);
}

static void drop_from(struct bc_registries *r, size_t first)
{
	while (r->count > first)
		entry_fini(&r->entries[--r->count]);
}

static int append(struct bc_registries *r, json_t *table, const char *path)
{
	const char *prefix = text_of(table, "prefix");
	struct entry n = {0};
	int rc = mem_grow((void **)&r->entries, &r->cap, r->count + 1,
		MAX_ENTRIES, sizeof(*r->entries));

	if (rc < 0)
		return rc;
	n.prefix = trimmed(prefix[0] ? prefix : text_of(table, "location"));
	n.path = mem_strdup(path);
	if (!n.prefix || !n.path) {
		mem_free(n.prefix);
		mem_free(n.path);
		return -ENOMEM;
	}
	n.table = json_incref(table);
	r->entries[r->count++] = n;
	return 0;
}

/*
 * Of one file the first entry with a prefix counts, of several files the last
 * file's. Entries [0, old) are from earlier files.
 */
static void replace_same(struct bc_registries *r, size_t old)
{
	size_t kept = 0;

	for (size_t i = 0; i < r->count; i++) {
		bool is_replaced = false;

		for (size_t k = old; i < old && k < r->count; k++)
			is_replaced |= strcmp(r->entries[i].prefix,
					       r->entries[k].prefix) == 0;
		if (is_replaced)
			entry_fini(&r->entries[i]);
		else
			r->entries[kept++] = r->entries[i];
	}
	r->count = kept;
}

int bc_registries_add(struct bc_registries *r, const char *text, size_t n,
	const char *path, struct err *e)
{
	size_t old = r->count, i;
	json_t *root, *list;
	int rc = bc_toml_parse(text, n, &root, e);

	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		if (e) {
			e->code = -EINVAL;
			e->kind = ERR_FAILED;
			(void)err_wrap(e, "'%s'", path);
		}
		return -EINVAL;
	}
	rc = translate_v1(root, path, e);
	if (rc == 0)
		rc = check_document(root, path, e);
	list = json_object_get(root, "registry");
	for (i = 0; rc == 0 && i < json_array_size(list); i++) {
		rc = append(r, json_array_get(list, i), path);
		if (rc == -ENOMEM)
			rc = err_set(e, rc, "out of memory");
		else if (rc < 0)
			rc = wrong(e, path, "too many registries");
	}
	if (rc == 0)
		replace_same(r, old);
	else
		drop_from(r, old);
	if (rc == 0 && json_object_get(root, "credential-helpers")) {
		json_decref(r->helpers);
		r->helpers = json_incref(
			json_object_get(root, "credential-helpers"));
	}
	json_decref(root);
	return rc;
}

struct bc_registries *bc_registries_create(void)
{
	return mem_zalloc(sizeof(struct bc_registries));
}

void bc_registries_destroy(struct bc_registries *r)
{
	if (!r)
		return;
	drop_from(r, 0);
	json_decref(r->helpers);
	mem_free(r->entries);
	mem_free(r);
}

const char *bc_registries_helper(const struct bc_registries *r, size_t i)
{
	return json_string_value(json_array_get(r->helpers, i));
}

/* ---- choosing ---- */

void bc_endpoints_fini(struct bc_endpoints *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		mem_free(p->list[i].host);
		mem_free(p->list[i].repository);
		mem_free(p->list[i].ns);
	}
	p->count = 0;
}

/* How many bytes of ref does the prefix stand for? 0: it does not match. */
static size_t match(const char *ref, const char *prefix)
{
	const char *at;
	size_t n = strlen(prefix);

	if (strncmp(prefix, "*.", 2) == 0) {
		at = strstr(ref, prefix + 1);
		if (!at || memchr(ref, '/', (size_t)(at - ref)))
			return 0;
		n = (size_t)(at - ref) + n - 1;
	} else if (strncmp(ref, prefix, n) != 0) {
		return 0;
	}
	return ref[n] == '\0' || strchr(":/@", ref[n]) ? n : 0;
}

static const struct entry *best_match(
	const struct bc_registries *r, const char *ref, size_t *ret_len)
{
	const struct entry *best = NULL;
	size_t n;

	*ret_len = 0;
	for (size_t i = 0; i < r->count; i++) {
		n = match(ref, r->entries[i].prefix);
		if (n <= *ret_len)
			continue;
		best = &r->entries[i];
		*ret_len = n;
	}
	return best;
}

/* The name without what stands behind it; false: that was replaced, too. */
static bool cut_reference(char *name, const char *reference)
{
	size_t n = strlen(name), k = strlen(reference);

	if (n < k || strcmp(name + n - k, reference) != 0)
		return false;
	name[n - k] = '\0';
	return true;
}

/* Add what "host/repository" in name says. */
static int add_endpoint(struct bc_endpoints *p, const char *name,
	const struct bc_endpoint *how, struct err *e)
{
	const char *slash = strchr(name, '/');
	struct bc_endpoint *n = &p->list[p->count];
	size_t host_len = slash ? (size_t)(slash - name) : 0;
	bool is_docker;

	if (!slash || host_len == 0 || !slash[1])
		return err_set(e, -EINVAL,
			"registries.conf leads to '%.200s', which names no "
			"repository",
			name);
	if (p->count == BC_MAX_ENDPOINTS)
		return err_set(e, -E2BIG,
			"registries.conf has more than %d mirrors for one name",
			BC_MAX_ENDPOINTS - 1);
	is_docker = host_len == strlen(DOCKER_NAME) &&
	            memcmp(name, DOCKER_NAME, host_len) == 0;
	*n = *how;
	n->ns = how->ns ? mem_strdup(how->ns) : NULL;
	n->host = is_docker ? mem_strdup(DOCKER_API)
	                    : mem_strndup(name, host_len);
	n->repository = is_docker && !strchr(slash + 1, '/')
	                        ? mem_printf("library%s", slash)
	                        : mem_strdup(slash + 1);
	p->count++;
	if (!n->host || !n->repository || (how->ns && !n->ns))
		return err_set(e, -ENOMEM, "out of memory");
	return 0;
}

/* What stands for the prefix in ref is replaced by location ("": nothing is) */
static int add_location(struct bc_endpoints *p, const char *location,
	const char *ref, size_t matched, const char *reference,
	struct bc_endpoint *how, struct err *e)
{
	CLEANUP_FREE char *to = trimmed(location);
	CLEANUP_FREE char *name = NULL;
	const char *path = strchr(ref, '/'), *own;

	if (to)
		name = location[0] ? mem_printf("%s%s", to, ref + matched)
		                   : mem_strdup(ref);
	if (!name)
		return err_set(e, -ENOMEM, "out of memory");
	own = strchr(name, '/');
	/* Elsewhere a mirror knows by the path whose names it has. */
	if (how->is_mirror && own && path && strcmp(own, path) == 0) {
		how->ns = mem_strndup(ref, (size_t)(path - ref));
		if (!how->ns)
			return err_set(e, -ENOMEM, "out of memory");
	}
	if (!cut_reference(name, reference))
		return err_set_kind(e, ERR_UNSUPPORTED, -EINVAL,
			"registries.conf replaces a tag or digest by "
			"'%.200s', which is not supported",
			location);
	return add_endpoint(p, name, how, e);
}

/* Does a mirror serve this reference at all? */
static bool is_wanted(const char *pull, bool is_digest)
{
	return !(is_digest && strcmp(pull, "tag-only") == 0);
}

static int add_mirrors(struct bc_endpoints *p, const struct entry *n,
	const char *ref, size_t matched, const char *reference, struct err *e)
{
	const json_t *mirrors = json_object_get(n->table, "mirror");
	bool by_digest_only = is_set(n->table, "mirror-by-digest-only");
	const json_t *m;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < json_array_size(mirrors); i++) {
		const char *pull;
		struct bc_endpoint how = {.is_mirror = true};

		m = json_array_get(mirrors, i);
		pull = text_of(m, "pull-from-mirror");
		if (!is_wanted(pull, reference[0] == '@'))
			continue;
		how.is_insecure = is_set(m, "insecure");
		how.digests_only =
			by_digest_only || strcmp(pull, "digest-only") == 0;
		rc = add_location(p, text_of(m, "location"), ref, matched,
			reference, &how, e);
		mem_free(how.ns);
	}
	return rc;
}

int bc_registries_choose(const struct bc_registries *r, const char *host,
	const char *repository, const char *reference, struct bc_endpoints *ret,
	struct err *e)
{
	CLEANUP_FREE char *ref = mem_printf("%s/%s%s",
		strcmp(host, DOCKER_API) == 0 ? DOCKER_NAME : host, repository,
		reference);
	struct bc_endpoint how = {0};
	struct bc_endpoints p = {.count = 0};
	const struct entry *n;
	size_t matched;
	int rc;

	if (!ref)
		return err_set(e, -ENOMEM, "out of memory");
	n = best_match(r, ref, &matched);
	if (n && is_set(n->table, "blocked"))
		return err_set_kind(e, ERR_REFUSED, -EACCES,
			"'%s/%s' is blocked by '%s' in '%s'", host, repository,
			n->prefix, n->path);
	rc = n ? add_mirrors(&p, n, ref, matched, reference, e) : 0;
	how.is_insecure = n && is_set(n->table, "insecure");
	if (rc == 0)
		rc = add_location(&p, n ? text_of(n->table, "location") : "",
			ref, matched, reference, &how, e);
	if (rc < 0)
		bc_endpoints_fini(&p);
	else
		*ret = p;
	return rc;
}
