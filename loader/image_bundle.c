/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bundles: a RAFS bootstrap, in a file or behind http, and its blobs, each
 * named by its digest, in blobs/ beside it or where --blobs says. The bootstrap
 * is its own root of trust, unless #sha256= pins it; it names the digest of
 * every chunk.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "blobcache/registry.h"
#include "loader/image_int.h"
#include "loader/rafs.h"
#include "runtime/base/util.h"

#define MAX_URL 4400
#define MAX_WHERE (MAX_URL + 2 * DIGEST_MAX_BYTES + 2)

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static bool is_url(const char *s)
{
	return strncmp(s, "http://", 7) == 0 || strncmp(s, "https://", 8) == 0;
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A file or a URL as source; size as bc_http_source_open. */
static int open_source(struct image_job *j, const char *where, uint64_t size,
	struct bc_source **ret, struct err *e)
{
	struct bc_registry_options o = {
		.cert_dir = j->o->cert_dir,
		.offline_ms = j->o->offline_ms,
	};
	int err;

	if (is_url(where))
		return bc_http_source_open(j->net, &o, where, size, ret, e);
	err = bc_source_file_open(where, ret, e);
	if (err == -ENOENT)
		return err_set_kind(
			e, ERR_NOT_FOUND, err, "'%s' is not there", where);
	if (err == -EINVAL && is_dir(where))
		return err_set_kind(e, ERR_USAGE, err,
			"'%s' is a directory, name the bootstrap in it or "
			"write oci:PATH",
			where);
	return err;
}

/* ---- the bootstrap ---- */

static int read_whole(
	struct image_job *j, struct bc_source *s, struct buf *b, struct err *e)
{
	int ret;

	if (s->size > IMAGE_MAX_BOOTSTRAP)
		return err_set(e, -E2BIG,
			"the bootstrap has %llu bytes, more than the limit of "
			"%u",
			(unsigned long long)s->size, IMAGE_MAX_BOOTSTRAP);
	if (buf_reserve(b, s->size) < 0)
		return out_of_memory(e);
	ret = bc_source_read(j->rt, s, 0, b->data, s->size, e);
	if (ret == 0)
		b->len = s->size;
	return ret;
}

/*
 * The bootstrap's bytes, from a file of its own or from inside a blob. What
 * the bytes are shows in the first 8 KiB.
 */
static int read_bootstrap(
	struct image_job *j, struct buf *b, bool *ret_is_inline, struct err *e)
{
	struct bc_source *s;
	uint8_t head[8192];
	size_t n;
	int ret;

	ret = open_source(j, j->ref.path, 0, &s, e);
	if (ret < 0)
		return ret;
	n = (size_t)min_u64(s->size, sizeof(head));
	if (n == 0)
		ret = err_set(e, -EPROTO, "the bootstrap is empty");
	else
		ret = bc_source_read(j->rt, s, 0, head, n, e);
	if (ret == 0 && ld_rafs_recognise(head, n) != LD_FORMAT_UNKNOWN) {
		*ret_is_inline = false;
		ret = read_whole(j, s, b, e);
	} else if (ret == 0) {
		*ret_is_inline = true;
		ret = ld_rafs_read_inline(j->rt, s, b, e);
		if (ret == -ENOENT)
			ret = err_set(e, -EPROTO,
				"'%s' is no RAFS bootstrap and no blob that "
				"holds one",
				j->ref.canonical);
	}
	bc_source_destroy(s);
	return ret;
}

static int check_pin(struct image_job *j, const struct buf *b, struct err *e)
{
	struct digest *d = &j->image->digest;
	int ret;

	ret = digest_of(DIGEST_SHA256, b->data, b->len, d);
	if (ret < 0)
		return err_sys(e, ret, "cannot hash the bootstrap");
	if (j->ref.digest.algo != DIGEST_NONE &&
		!digest_is_equal(d, &j->ref.digest))
		return err_set(e, -EBADMSG,
			"the bootstrap '%s' does not have the digest behind "
			"'#sha256='",
			j->ref.canonical);
	return 0;
}

/* ---- blobs ---- */

/* Where blobs are: a directory or URL without the last '/'. */
static int blob_place(struct image_job *j, bool is_inline, char ret[MAX_URL])
{
	const char *path = j->ref.path, *slash;
	size_t n = strlen(path);

	if (j->o->blobs) {
		n = strlen(j->o->blobs);
		while (n > 1 && j->o->blobs[n - 1] == '/')
			n--;
		return snprintf(ret, MAX_URL, "%.*s", (int)n, j->o->blobs) <
		                       MAX_URL
		               ? 0
		               : -E2BIG;
	}
	/* a query signs one object, not those beside it */
	if (j->ref.kind == LD_REF_BUNDLE_URL)
		n = strcspn(path, "?");
	slash = memrchr(path, '/', n);
	n = slash ? (size_t)(slash - path) : 0;
	(void)snprintf(ret, MAX_URL, "%.*s%s", (int)n, path,
		is_inline ? "" : "/blobs");
	return 0;
}

static int where_is(struct image_job *j, const struct digest *d,
	char ret[MAX_WHERE], struct err *e)
{
	char place[MAX_URL], hex[2 * DIGEST_MAX_BYTES + 1];
	int err;

	err = blob_place(j, j->image->is_inline, place);
	if (err < 0)
		return err_set(e, err, "the path of the blobs is too long");
	(void)snprintf(ret, MAX_WHERE, "%s/%s", place, digest_hex(d, hex));
	return 0;
}

static int source_of_blob(struct image_job *j, struct ld_image_blob *b,
	uint64_t size, struct bc_source **ret, struct err *e)
{
	char where[MAX_WHERE];
	struct err why = {0};
	int err;

	err = where_is(j, &b->digest, where, e);
	if (err < 0)
		return err;
	err = open_source(j, b->is_own ? j->ref.path : where, size, ret, &why);
	if (err < 0) {
		if (e)
			*e = why;
		if (why.kind == ERR_NOT_FOUND && !j->o->blobs)
			return err_set_kind(e, why.kind, err,
				"blob '%s' is not there, say with --blobs "
				"where it is",
				where);
		return err;
	}
	return 0;
}

/*
 * How large a blob is at its place is said by nobody but the place: it is asked
 * to see whether the blob is there, and never written down, or one that has cut
 * blobs would spoil later mounts from a good one.
 */
static int find_blob(struct image_job *j, struct ld_image_blob *b,
	struct bc_source **ret, struct err *e)
{
	int err = source_of_blob(j, b, 0, ret, e);

	if (err == 0 && b->size == 0)
		b->size = (*ret)->size; /* only shown to people */
	return err;
}

static int find_known_blob(struct image_job *j, struct ld_image_blob *b,
	struct bc_source **ret, struct err *e)
{
	return source_of_blob(j, b, BC_SIZE_UNKNOWN, ret, e);
}

/* ---- bootstrap -> image ---- */

/* Bytes of a blob before there is an image, for the parser. */
static int read_blob(void *arg, const struct digest *d, uint64_t off,
	uint64_t len, struct buf *ret, struct err *e)
{
	struct image_job *j = arg;
	char where[MAX_WHERE];
	struct bc_source *s;
	int err = 0;

	if (d->algo != DIGEST_NONE)
		err = where_is(j, d, where, e);
	else if (!j->image->is_inline)
		err = err_set(e, -EPROTO,
			"broken RAFS bootstrap: it names no blob with its "
			"chunk tables");
	if (err == 0)
		err = open_source(j,
			d->algo != DIGEST_NONE ? where : j->ref.path, 0, &s, e);
	if (err < 0)
		return err;
	err = image_rafs_read(j, s, off, len, ret, e);
	bc_source_destroy(s);
	return err;
}

static int build(struct image_job *j, const struct buf *boot, struct err *e)
{
	const struct ld_rafs_reader reader = {
		.read = read_blob, .arg = j, .is_inline = j->image->is_inline};
	struct ld_rafs r = {0};
	struct bc_map *maps = NULL;
	struct buf index;
	int ret;

	ret = ld_rafs_parse(boot->data, boot->len, &reader, &r, e);
	if (ret < 0)
		return ret;
	buf_init(&index, IMAGE_MAX_INDEX);
	ret = image_rafs_list(j, &r, e);
	if (ret == 0)
		ret = image_rafs_take(j, &r, &index, &maps, e);
	if (ret == 0)
		ret = image_blobs_open(j, maps, find_blob, e);
	if (ret == 0)
		ret = image_rafs_save(j, &index, e);
	buf_fini(&index);
	ld_rafs_fini(&r);
	return ret;
}

/* 1 if the bootstrap was never prepared. */
static int prepare_from_record(struct image_job *j, struct err *e)
{
	struct bc_map *maps;
	int ret;

	ret = image_record_load(j, &maps);
	if (ret == -ENOENT)
		return 1;
	if (ret < 0)
		return out_of_memory(e);
	return image_blobs_open(j, maps, find_known_blob, e);
}

int image_bundle_prepare(struct image_job *j, struct err *e)
{
	struct buf boot;
	int ret;

	if (j->ref.digest.algo != DIGEST_NONE) {
		/* pinned: what was prepared before is not read again */
		j->image->digest = j->ref.digest;
		ret = prepare_from_record(j, e);
		if (ret <= 0)
			return ret;
	}
	buf_init(&boot, IMAGE_MAX_BOOTSTRAP);
	ret = read_bootstrap(j, &boot, &j->image->is_inline, e);
	if (ret == 0)
		ret = check_pin(j, &boot, e);
	if (ret == 0)
		ret = prepare_from_record(j, e);
	if (ret == 1)
		ret = build(j, &boot, e);
	buf_fini(&boot);
	return ret;
}

int image_bundle_inspect(struct image_job *j, struct err *e)
{
	struct ld_rafs_reader reader = {.read = read_blob, .arg = j};
	struct ld_rafs r = {0};
	struct buf boot;
	int ret;

	buf_init(&boot, IMAGE_MAX_BOOTSTRAP);
	ret = read_bootstrap(j, &boot, &j->image->is_inline, e);
	if (ret == 0)
		ret = check_pin(j, &boot, e);
	reader.is_inline = j->image->is_inline;
	if (ret == 0)
		ret = ld_rafs_parse(boot.data, boot.len, &reader, &r, e);
	if (ret == 0)
		ret = image_rafs_list(j, &r, e);
	ld_rafs_fini(&r);
	buf_fini(&boot);
	return ret;
}
