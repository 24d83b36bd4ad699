/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests and configs; see manifest.h. The bytes have the digest that
 * somebody asked for, and still are a stranger's: every number and digest is
 * checked, counts are limited before anything is allocated for them.
 *
 * What a document is follows from its media type; the header of the answer and
 * the body must agree, and a body that could be read as both kinds is refused
 * (CVE-2021-41190).
 */
#include "loader/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "loader/manifest_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define DOCKER_V1 "application/vnd.docker.distribution.manifest.v1"

#define ZSTD_OLD "io.containers.zstd-chunked."
#define ZSTD_NEW "io.github.containers.zstd-chunked."
#define ESTARGZ_TOC "containerd.io/snapshot/stargz/toc.digest"
#define ESTARGZ_TOC_OF "containerd.io/snapshot/stargz/layer.digest"
#define NYDUS_BOOTSTRAP "containerd.io/snapshot/nydus-bootstrap"

#define MAX_BLOB_SIZE (UINT64_C(1) << 48)

enum doc_kind { DOC_MANIFEST, DOC_INDEX };

/* ---- reading JSON ---- */

const char *manifest_str(const json_t *obj, const char *key)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : "";
}

static bool starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int load(const char *json, size_t len, const char *what, json_t **ret,
	struct err *e)
{
	json_error_t je;
	json_t *root;

	if (len > LD_MAX_MANIFEST_BYTES)
		return err_set(e, -EPROTO,
			"the %s has %zu bytes, more than the limit of %u", what,
			len, LD_MAX_MANIFEST_BYTES);
	root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &je);
	if (!root && json_error_code(&je) == json_error_out_of_memory)
		return err_set(e, -ENOMEM, "out of memory");
	if (!root)
		return err_set(e, -EPROTO, "the %s is no valid JSON: %s", what,
			je.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(e, -EPROTO, "the %s is no JSON object", what);
	}
	*ret = root;
	return 0;
}

int manifest_descriptor(const json_t *d, const char *what,
	struct digest *ret_digest, uint64_t *ret_size, struct err *e)
{
	const char *text = manifest_str(d, "digest");
	const json_t *size = json_object_get(d, "size");
	json_int_t n = json_integer_value(size);

	if (!json_is_object(d))
		return err_set(e, -EPROTO, "%s has no descriptor", what);
	if (digest_parse(text, strlen(text), ret_digest) < 0 ||
		ret_digest->algo == DIGEST_BLAKE3)
		return err_set(e, -EPROTO,
			"%s has the digest '%.100s', which "
			"is none",
			what, text);
	if (!json_is_integer(size) || n < 0 || (uint64_t)n > MAX_BLOB_SIZE)
		return err_set(e, -EPROTO, "%s has no valid size", what);
	*ret_size = (uint64_t)n;
	return 0;
}

/* ---- which kind of document ---- */

static bool is_index_type(const char *t, size_t n)
{
	return (n == strlen(OCI_INDEX) && strncasecmp(t, OCI_INDEX, n) == 0) ||
	       (n == strlen(DOCKER_LIST) &&
		       strncasecmp(t, DOCKER_LIST, n) == 0);
}

static bool is_manifest_type(const char *t, size_t n)
{
	return (n == strlen(OCI_MANIFEST) &&
		       strncasecmp(t, OCI_MANIFEST, n) == 0) ||
	       (n == strlen(DOCKER_MANIFEST) &&
		       strncasecmp(t, DOCKER_MANIFEST, n) == 0);
}

/* A type of ours; servers that say "application/json" have said nothing. */
static bool is_known_type(const char *t, size_t n)
{
	return is_index_type(t, n) || is_manifest_type(t, n);
}

static int kind_of(const json_t *root, const char *header, enum doc_kind *ret,
	struct err *e)
{
	const char *body = manifest_str(root, "mediaType");
	size_t header_len = strcspn(header, "; \t"), n = strlen(body);
	bool has_manifests = json_object_get(root, "manifests") != NULL;
	bool has_layers = json_object_get(root, "layers") ||
	                  json_object_get(root, "config");
	const char *type = body;

	if (starts_with(header, DOCKER_V1) || json_object_get(root, "fsLayers"))
		return err_set(e, -EOPNOTSUPP,
			"Docker schema 1 manifests are not supported, push the "
			"image again with a newer tool");
	if (n > 0 && !is_known_type(body, n))
		return err_set(e, -EOPNOTSUPP,
			"the media type '%.120s' is not supported", body);
	if (n > 0 && is_known_type(header, header_len) &&
		(n != header_len || strncasecmp(body, header, n) != 0))
		return err_set(e, -EPROTO,
			"the server calls the manifest '%.*s', the manifest "
			"itself '%s'",
			(int)header_len, header, body);
	if (has_manifests && has_layers)
		return err_set(e, -EPROTO,
			"the manifest is an index and an image at once");
	if (n == 0 && is_known_type(header, header_len)) {
		type = header;
		n = header_len;
	}
	if (n == 0 && !has_manifests && !has_layers)
		return err_set(e, -EPROTO,
			"the manifest names neither layers nor manifests");
	*ret = has_manifests ? DOC_INDEX : DOC_MANIFEST;
	if (n > 0 && is_index_type(type, n) != (*ret == DOC_INDEX))
		return err_set(e, -EPROTO,
			"the manifest's contents do not fit its media type "
			"'%.*s'",
			(int)n, type);
	return 0;
}

/* ---- index or manifest ---- */

int ld_manifest_is_index(const char *json, size_t len, const char *media_type,
	const char *platform, struct digest *ret_next, struct err *e)
{
	struct digest next = {0};
	enum doc_kind kind;
	json_t *root;
	int ret;

	ret = load(json, len, "manifest", &root, e);
	if (ret < 0)
		return ret;
	ret = kind_of(root, media_type, &kind, e);
	if (ret == 0 && kind == DOC_INDEX) {
		ret = manifest_choose(root, platform, &next, e);
		if (ret == 0) {
			*ret_next = next;
			ret = 1;
		}
	}
	json_decref(root);
	return ret;
}

/* ---- layers ---- */

/* "a:b:c:d", decimal. */
static bool read_position(const char *s, uint64_t *ret, size_t count)
{
	uint64_t v;
	size_t i;

	for (i = 0; i < count; i++) {
		if (*s < '0' || *s > '9')
			return false;
		for (v = 0; *s >= '0' && *s <= '9'; s++) {
			if (v > MAX_BLOB_SIZE)
				return false;
			v = v * 10 + (uint64_t)(*s - '0');
		}
		ret[i] = v;
		if (*s != (i + 1 == count ? '\0' : ':'))
			return false;
		s++;
	}
	return true;
}

static int read_zstd_toc(const json_t *notes, const char *prefix, size_t i,
	struct ld_layer_desc *l, struct err *e)
{
	char key[80];
	const char *checksum, *position;
	uint64_t p[4];

	(void)snprintf(key, sizeof(key), "%smanifest-checksum", prefix);
	checksum = manifest_str(notes, key);
	(void)snprintf(key, sizeof(key), "%smanifest-position", prefix);
	position = manifest_str(notes, key);
	if (!checksum[0] || !position[0])
		return 0;
	if (digest_parse(checksum, strlen(checksum), &l->toc) < 0)
		return err_set(e, -EPROTO,
			"layer %zu: the annotation '%smanifest-checksum' is no "
			"digest",
			i + 1, prefix);
	if (!read_position(position, p, ARRAY_LEN(p)) || p[3] != 1)
		return err_set(e, -EPROTO,
			"layer %zu: the annotation '%s' is no position", i + 1,
			key);
	if (p[1] == 0 || !range_fits(p[0], p[1], l->size))
		return err_set(e, -EPROTO,
			"layer %zu: its table of contents lies outside the "
			"layer",
			i + 1);
	l->toc_off = p[0];
	l->toc_len = p[1];
	l->toc_raw_len = p[2];
	return 0;
}

/*
 * Which annotations count follows from the compression: a zstd layer may carry
 * eStargz' key too, over other bytes.
 */
static int read_toc(
	const json_t *notes, size_t i, struct ld_layer_desc *l, struct err *e)
{
	const char *toc;
	int ret;

	if (strstr(l->media_type, "zstd")) {
		ret = read_zstd_toc(notes, ZSTD_NEW, i, l, e);
		if (ret == 0 && l->toc.algo == DIGEST_NONE)
			ret = read_zstd_toc(notes, ZSTD_OLD, i, l, e);
		return ret;
	}
	toc = manifest_str(notes, ESTARGZ_TOC);
	if (!toc[0] || !strstr(l->media_type, "gzip"))
		return 0;
	if (digest_parse(toc, strlen(toc), &l->toc) < 0)
		return err_set(e, -EPROTO,
			"layer %zu: the annotation '" ESTARGZ_TOC
			"' is no digest",
			i + 1);
	l->toc_is_estargz = true;
	return 0;
}

/*
 * Foreign (nondistributable) layers name places outside of the registry. The
 * first one counts; what is no URL fails when it is asked.
 */
static int read_url(const json_t *d, struct ld_layer_desc *l, struct err *e)
{
	const json_t *urls = json_object_get(d, "urls");
	const char *url = json_string_value(json_array_get(urls, 0));

	if (!url || (!strstr(l->media_type, "nondistributable") &&
			    !strstr(l->media_type, ".foreign.")))
		return 0;
	l->url = mem_strdup(url);
	return l->url ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int read_layer(
	const json_t *d, size_t i, struct ld_layer_desc *l, struct err *e)
{
	const json_t *notes;
	const char *toc_of;
	char what[32];
	int ret;

	(void)snprintf(what, sizeof(what), "layer %zu", i + 1);
	ret = manifest_descriptor(d, what, &l->digest, &l->size, e);
	if (ret < 0)
		return ret;
	l->media_type = mem_strndup(manifest_str(d, "mediaType"), 255);
	if (!l->media_type)
		return err_set(e, -ENOMEM, "out of memory");
	ret = read_url(d, l, e);
	if (ret < 0)
		return ret;
	notes = json_object_get(d, "annotations");
	toc_of = manifest_str(notes, ESTARGZ_TOC_OF);
	(void)digest_parse(toc_of, strlen(toc_of), &l->toc_of);
	l->is_bootstrap =
		strcmp(manifest_str(notes, NYDUS_BOOTSTRAP), "true") == 0;
	return read_toc(notes, i, l, e);
}

/* The same blob must be the same layer wherever it is named. */
static int check_repeats(const struct ld_manifest *m, struct err *e)
{
	const struct ld_layer_desc *a, *b;
	size_t i, k;

	for (i = 1; i < m->layer_count; i++) {
		for (k = 0; k < i; k++) {
			a = &m->layers[k];
			b = &m->layers[i];
			if (!digest_is_equal(&a->digest, &b->digest))
				continue;
			if (a->size != b->size ||
				!digest_is_equal(&a->toc, &b->toc) ||
				a->toc_off != b->toc_off)
				return err_set(e, -EPROTO,
					"layers %zu and %zu are one blob "
					"described in two ways",
					k + 1, i + 1);
		}
	}
	return 0;
}

static int read_config_type(const json_t *config, struct err *e)
{
	const char *t = manifest_str(config, "mediaType");

	if (!t[0] || strcmp(t, OCI_CONFIG) == 0 ||
		strcmp(t, DOCKER_CONFIG) == 0)
		return 0;
	return err_set(e, -EOPNOTSUPP,
		"this is no container image but an artifact of type '%.120s'",
		t);
}

static int read_manifest(
	const json_t *root, struct ld_manifest *m, struct err *e)
{
	const json_t *layers = json_object_get(root, "layers");
	const json_t *config = json_object_get(root, "config");
	size_t i, n = json_array_size(layers);
	int ret;

	ret = read_config_type(config, e);
	if (ret < 0)
		return ret;
	if (manifest_str(root, "artifactType")[0] &&
		!manifest_str(config, "mediaType")[0])
		return err_set(e, -EOPNOTSUPP,
			"this is no container image but an artifact of type "
			"'%.120s'",
			manifest_str(root, "artifactType"));
	ret = manifest_descriptor(
		config, "the config", &m->config, &m->config_size, e);
	if (ret < 0)
		return ret;
	/* none at all is an empty root */
	if (!json_is_array(layers))
		return err_set(e, -EPROTO, "the manifest has no layers");
	if (n > LD_MAX_LAYERS)
		return err_set(e, -EPROTO,
			"the image has %zu layers, more than the limit of %d",
			n, LD_MAX_LAYERS);
	m->layers = mem_calloc(n, sizeof(*m->layers));
	if (!m->layers)
		return err_set(e, -ENOMEM, "out of memory");
	m->layer_count = n;
	for (i = 0; i < n && ret == 0; i++)
		ret = read_layer(
			json_array_get(layers, i), i, &m->layers[i], e);
	return ret < 0 ? ret : check_repeats(m, e);
}

int ld_manifest_parse(const char *json, size_t len, const char *media_type,
	struct ld_manifest *ret, struct err *e)
{
	struct ld_manifest m = {0};
	enum doc_kind kind;
	json_t *root;
	int err;

	err = load(json, len, "manifest", &root, e);
	if (err < 0)
		return err;
	err = kind_of(root, media_type, &kind, e);
	if (err == 0 && kind != DOC_MANIFEST)
		err = err_set(e, -EPROTO,
			"an image index where a manifest was expected");
	if (err == 0)
		err = read_manifest(root, &m, e);
	json_decref(root);
	if (err < 0) {
		ld_manifest_fini(&m);
		return err;
	}
	*ret = m;
	return 0;
}

static bool has_bootstrap(const struct ld_manifest *m)
{
	size_t i = 0;

	while (i < m->layer_count && !m->layers[i].is_bootstrap)
		i++;
	return i < m->layer_count;
}

int ld_manifest_apply_config(
	struct ld_manifest *m, const char *json, size_t len, struct err *e)
{
	const json_t *ids;
	const char *text;
	json_t *root;
	size_t i;
	int ret;

	ret = load(json, len, "image config", &root, e);
	if (ret < 0)
		return ret;
	ids = json_object_get(json_object_get(root, "rootfs"), "diff_ids");
	/* RAFS blobs are no tars: converters list there what they like */
	if (has_bootstrap(m))
		ids = NULL;
	/* without them the layers' DiffIDs stay unknown */
	if (ids && json_array_size(ids) != m->layer_count)
		ret = err_set(e, -EPROTO,
			"the config has %zu DiffIDs for %zu layers",
			json_array_size(ids), m->layer_count);
	for (i = 0; ids && ret == 0 && i < m->layer_count; i++) {
		text = json_string_value(json_array_get(ids, i));
		if (!text || digest_parse(text, strlen(text),
				     &m->layers[i].diff_id) < 0)
			ret = err_set(e, -EPROTO,
				"the config's DiffID %zu is no digest", i + 1);
	}
	json_decref(root);
	return ret;
}

void ld_manifest_fini(struct ld_manifest *m)
{
	size_t i;

	for (i = 0; i < m->layer_count; i++) {
		mem_free(m->layers[i].media_type);
		mem_free(m->layers[i].url);
	}
	mem_free(m->layers);
	*m = (struct ld_manifest){0};
}
