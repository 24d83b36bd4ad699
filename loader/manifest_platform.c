/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which manifest of an image index is for a platform (OCI image spec,
 * image-index.md): entries are scored, the best one wins.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "loader/manifest.h"
#include "loader/manifest_int.h"
#include "runtime/base/util.h"

#define ZSTD_TWIN "io.github.containers.compression.zstd"
#define NYDUS_ARTIFACT "application/vnd.nydus.image.manifest.v1+json"
#define NYDUS_FEATURE "nydus.remoteimage.v1"
#define ATTESTATION "vnd.docker.reference.type"
#define MAX_INDEX_ENTRIES 4096

struct platform {
	char os[32], arch[32], variant[32];
};

static int split_platform(const char *s, struct platform *p, struct err *e)
{
	char *parts[3] = {p->os, p->arch, p->variant};
	const char *whole = s;
	bool is_valid = true;
	size_t i = 0, n;

	*p = (struct platform){0};
	do {
		n = strcspn(s, "/");
		is_valid = i < ARRAY_LEN(parts) && n > 0 && n < sizeof(p->os);
		if (is_valid)
			memcpy(parts[i++], s, n);
		s += n;
	} while (is_valid && *s++ == '/');
	if (!is_valid || i < 2)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"the platform must be OS/ARCH[/VARIANT], not '%.60s'",
			whole);
	return 0;
}

int ld_platform_check(const char *s, struct err *e)
{
	struct platform p;

	return split_platform(s, &p, e);
}

/* "v7" is 7; 0 for none; -1 for what is no version. */
static int variant_number(const char *v)
{
	if (v[0] == '\0')
		return 0;
	if (v[0] == 'v' && v[1] >= '1' && v[1] <= '9' && v[2] == '\0')
		return v[1] - '0';
	return -1;
}

/*
 * How well a CPU of variant want runs code for variant have: 0 not at all, else
 * the higher the better. Newer CPUs run what was built for older ones.
 */
static int variant_score(const char *arch, const char *want, const char *have)
{
	int w = variant_number(want), h = variant_number(have);

	if (w < 0 || h < 0)
		return strcmp(want, have) == 0 ? 1 : 0;
	if (w == 0)
		w = strcmp(arch, "arm64") == 0 ? 8
		    : strcmp(arch, "arm") == 0 ? 7
		                               : 1;
	return h <= w ? 1 + h : 0;
}

enum { SCORE_ANY = 1, SCORE_FEATURES = 10, SCORE_MATCH = 100 };

/* Nydus' form of an image: for every system, and it loads lazily. */
static bool is_nydus(const json_t *features)
{
	const char *s = json_string_value(json_array_get(features, 0));

	return json_array_size(features) == 1 && s &&
	       strcmp(s, NYDUS_FEATURE) == 0;
}

/* 0: not for us. */
static int score(const json_t *d, const struct platform *want)
{
	const json_t *p = json_object_get(d, "platform");
	const json_t *notes = json_object_get(d, "annotations");
	const char *os = manifest_str(p, "os"),
		   *arch = manifest_str(p, "architecture");
	const char *artifact = manifest_str(d, "artifactType");
	const json_t *features = json_object_get(p, "os.features");
	bool is_twin = is_nydus(features) ||
	               strcmp(manifest_str(notes, ZSTD_TWIN), "true") == 0;
	int v;

	if (json_object_get(notes, ATTESTATION) ||
		(artifact[0] && strcmp(artifact, NYDUS_ARTIFACT) != 0))
		return 0;
	if (!p || (!os[0] && !arch[0]))
		return SCORE_ANY;
	if (strcmp(os, want->os) != 0 || strcmp(arch, want->arch) != 0)
		return 0;
	v = variant_score(
		want->arch, want->variant, manifest_str(p, "variant"));
	if (v == 0)
		return 0;
	/* another system's form of the same image: the last choice */
	if (json_array_size(features) > 0 && !is_nydus(features))
		return SCORE_FEATURES + v;
	return SCORE_MATCH + 2 * v + is_twin;
}

/* "linux/amd64, linux/arm64/v8", cut where it gets long. */
static void list_platforms(const json_t *entries, char *out, size_t cap)
{
	size_t i, used = 0;
	const json_t *p;
	const char *variant;
	int n;

	out[0] = '\0';
	for (i = 0; i < json_array_size(entries) && used < cap; i++) {
		p = json_object_get(json_array_get(entries, i), "platform");
		if (!p || strcmp(manifest_str(p, "os"), "unknown") == 0)
			continue;
		variant = manifest_str(p, "variant");
		n = snprintf(out + used, cap - used, "%s%.20s/%.20s%s%.20s",
			used ? ", " : "", manifest_str(p, "os"),
			manifest_str(p, "architecture"), variant[0] ? "/" : "",
			variant);
		used += n > 0 ? (size_t)n : 0;
	}
}

int manifest_choose(const json_t *root, const char *platform,
	struct digest *ret, struct err *e)
{
	const json_t *entries = json_object_get(root, "manifests"), *best;
	struct platform want;
	char have[200];
	size_t i, n = json_array_size(entries);
	uint64_t size;
	int s, best_score = 0;

	if (!json_is_array(entries) || n > MAX_INDEX_ENTRIES)
		return err_set(e, -EPROTO,
			"the image index has no list of at most %d manifests",
			MAX_INDEX_ENTRIES);
	if (split_platform(platform, &want, e) < 0)
		return -EINVAL;
	best = NULL;
	for (i = 0; i < n; i++) {
		s = score(json_array_get(entries, i), &want);
		if (s > best_score) {
			best_score = s;
			best = json_array_get(entries, i);
		}
	}
	if (!best) {
		list_platforms(entries, have, sizeof(have));
		return err_set_kind(e, ERR_NOT_FOUND, -ENOENT,
			"the image is not there for %s%s%s", platform,
			have[0] ? ", only for " : "", have);
	}
	if (manifest_descriptor(
		    best, "an entry of the image index", ret, &size, e) < 0)
		return -EPROTO;
	return 0;
}
