/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole layers that other tools made: each is loaded from its blob, every group
 * decodes, every chunk has its digest, every file the digest that the TOC says.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <zstd.h>

#include "blobcache/decode.h"
#include "loader/layer.h"
#include "loader/manifest.h"
#include "loader/toc_fetch.h"
#include "loader/toc_footer.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "tests/async/engines.h"

static const char *const samples[] = {"edge-zstdchunked",
	"edge-zstdchunked-new", "edge-zstdchunked-stargz", "edge-estargz"};

/* A layer under test. */
struct loaded {
	char path[PATH_MAX]; /* of the blob */
	struct bc_source *src;
	struct buf blob; /* its bytes */
	struct ld_layer layer;
	struct bc_map map;
	uint8_t *group; /* the group decoded last */
	uint32_t group_index;
};

/* ---- from a folder to layers ---- */

static void blob_path(char *out, const char *sample, const struct digest *d)
{
	char hex[2 * DIGEST_MAX_BYTES + 1];

	(void)snprintf(out, PATH_MAX, "%s/tests/samples/oci/%s/blobs/sha256/%s",
		getenv("SLUICE_SOURCE_ROOT"), sample, digest_hex(d, hex));
}

static void read_path(const char *path, struct buf *out)
{
	buf_init(out, 64u << 20);
	if (buf_read_file(out, AT_FDCWD, path))
		fail_msg("cannot read %s", path);
}

static void read_manifest(const char *sample, struct ld_manifest *ret)
{
	char path[PATH_MAX];
	struct digest d;
	struct buf b;
	struct err e = {0};
	json_t *index;
	const char *text = NULL;

	(void)snprintf(path, sizeof(path), "%s/tests/samples/oci/%s/index.json",
		getenv("SLUICE_SOURCE_ROOT"), sample);
	read_path(path, &b);
	index = json_loadb((char *)b.data, b.len, 0, NULL);
	(void)json_unpack(index, "{s[{ss}]}", "manifests", "digest", &text);
	assert_non_null(text);
	assert_int_equal(digest_parse(text, strlen(text), &d), 0);
	json_decref(index);
	buf_fini(&b);
	blob_path(path, sample, &d);
	read_path(path, &b);
	if (ld_manifest_parse((char *)b.data, b.len, "", ret, &e))
		fail_msg("%s", e.text);
	buf_fini(&b);
}

static void load_layer(struct rt *rt, const char *sample,
	const struct ld_layer_desc *d, struct loaded *l)
{
	struct err e = {0};

	*l = (struct loaded){.group_index = UINT32_MAX};
	blob_path(l->path, sample, &d->digest);
	read_path(l->path, &l->blob);
	if (bc_source_file_open(l->path, &l->src, &e) ||
		ld_layer_load(rt, d, l->src, NULL, &l->layer, &e))
		fail_msg("%s", e.text);
	if (bc_map_from_bytes(l->layer.map.data, l->layer.map.len, &l->map, &e))
		fail_msg("%s", e.text);
	buf_init(&l->layer.map, 0);
}

static void unload_layer(struct loaded *l)
{
	bc_source_destroy(l->src);
	buf_fini(&l->blob);
	bc_map_close(&l->map);
	mem_free(l->group);
	ld_layer_fini(&l->layer);
}

/* ---- the bytes ---- */

/* The bytes of chunk i; valid until another group is asked for. */
static const uint8_t *chunk_bytes(struct loaded *l, uint32_t i)
{
	const struct bc_chunk *c = &l->map.chunks[i];
	const struct bc_group *g = &l->map.groups[c->group];

	if (l->group_index != c->group) {
		mem_free(l->group);
		l->group = mem_alloc(g->dec_len);
		assert_non_null(l->group);
		assert_true(range_fits(g->src_off, g->src_len, l->blob.len));
		assert_int_equal(bc_decode((enum bc_codec)g->codec,
					 l->blob.data + g->src_off, g->src_len,
					 l->map.ctx + g->ctx_off, g->ctx_len,
					 l->group, g->dec_len),
			0);
		l->group_index = c->group;
	}
	return l->group + c->group_off;
}

static void verify_chunks(struct loaded *l)
{
	const struct bc_chunk *c;
	struct digest d;

	assert_true(l->map.chunk_count > 0);
	for (uint32_t i = 0; i < l->map.chunk_count; i++) {
		c = &l->map.chunks[i];
		d = (struct digest){.algo = c->algo};
		memcpy(d.bytes, c->digest, sizeof(c->digest));
		assert_int_equal(
			digest_check(&d, chunk_bytes(l, i), c->len), 0);
	}
}

static void hash_zeros(struct digest_ctx *h, uint64_t len)
{
	static const uint8_t zeros[65536];
	uint64_t n;

	for (; len > 0; len -= n) {
		n = min_u64(len, sizeof(zeros));
		assert_int_equal(digest_ctx_update(h, zeros, n), 0);
	}
}

/* Device bytes [off, end) into h: chunks, and zeros between them. */
static void hash_device(
	struct loaded *l, uint64_t off, uint64_t end, struct digest_ctx *h)
{
	const struct bc_chunk *c;
	uint32_t i = bc_map_find(&l->map, off);
	uint64_t n;

	for (; off < end; off += n) {
		c = i < l->map.chunk_count ? &l->map.chunks[i] : NULL;
		if (!c || c->dev_off > off) {
			n = min_u64(end, c ? c->dev_off : end) - off;
			hash_zeros(h, n);
			continue;
		}
		/* A file ends with a chunk of its own. */
		assert_int_equal(c->dev_off, off);
		n = c->len;
		assert_true(off + n <= end);
		assert_int_equal(digest_ctx_update(h, chunk_bytes(l, i), n), 0);
		i++;
	}
}

static void hash_file(
	struct loaded *l, const struct ld_inode *f, struct digest *ret)
{
	struct digest_ctx *h;
	uint64_t at = 0;

	assert_int_equal(digest_ctx_create(DIGEST_SHA256, &h), 0);
	for (uint32_t i = 0; i < f->extent_count; i++) {
		const struct ld_extent *x = &f->extents[i];

		hash_zeros(h, x->file_off - at);
		hash_device(l, x->dev_off, x->dev_off + x->len, h);
		at = x->file_off + x->len;
	}
	hash_zeros(h, f->size - at);
	assert_int_equal(digest_ctx_final(h, ret), 0);
	digest_ctx_destroy(h);
}

/* ---- the TOC, read a second time and whole ---- */

static json_t *read_toc(const struct loaded *l, const struct ld_layer_desc *d)
{
	struct ld_toc_place p;
	uint8_t *json;
	size_t len;
	json_t *toc;

	if (d->toc_is_estargz) {
		assert_int_equal(ld_toc_footer_estargz(l->blob.data,
					 l->blob.len, l->blob.len, &p, NULL),
			0);
		assert_int_equal(toc_inflate_estargz(l->blob.data + p.off,
					 p.len, &json, &len, NULL),
			0);
	} else {
		len = d->toc_raw_len;
		json = mem_alloc(len);
		assert_int_equal(ZSTD_decompress(json, len,
					 l->blob.data + d->toc_off, d->toc_len),
			len);
	}
	toc = json_loadb((char *)json, len, 0, NULL);
	assert_non_null(toc);
	mem_free(json);
	return toc;
}

static void verify_files(struct loaded *l, const struct ld_layer_desc *d)
{
	json_t *toc = read_toc(l, d), *entry;
	const char *name, *text;
	struct ld_inode *f;
	struct digest want, have;
	unsigned count = 0;
	size_t i;

	json_array_foreach(json_object_get(toc, "entries"), i, entry)
	{
		text = json_string_value(json_object_get(entry, "digest"));
		name = json_string_value(json_object_get(entry, "name"));
		if (!text ||
			json_integer_value(json_object_get(entry, "size")) == 0)
			continue;
		f = ld_tree_find(l->layer.tree, name, strlen(name));
		if (!f) {
			assert_non_null(strstr(name, ".landmark"));
			continue;
		}
		assert_int_equal(digest_parse(text, strlen(text), &want), 0);
		hash_file(l, f, &have);
		if (!digest_is_equal(&want, &have))
			fail_msg("'%s' has other bytes", name);
		count++;
	}
	assert_true(count > 0);
	json_decref(toc);
}

static void samples_body(struct rt *rt)
{
	struct ld_manifest m;
	struct loaded l;

	for (size_t s = 0; s < ARRAY_LEN(samples); s++) {
		read_manifest(samples[s], &m);
		assert_int_equal(m.layer_count, 3);
		for (size_t i = 0; i < m.layer_count; i++) {
			load_layer(rt, samples[s], &m.layers[i], &l);
			verify_chunks(&l);
			verify_files(&l, &m.layers[i]);
			unload_layer(&l);
		}
		ld_manifest_fini(&m);
	}
}

static void every_layer_of_the_samples_is_read_whole(void **state)
{
	on_engines(1, samples_body);
}

/* ---- footers, and what must not load ---- */

static void footer_body(struct rt *rt)
{
	struct ld_manifest m;
	struct loaded with, without;
	struct ld_layer_desc *d;

	for (size_t s = 0; s < 2; s++) {
		read_manifest(samples[s], &m);
		d = &m.layers[2];
		load_layer(rt, samples[s], d, &with);
		d->toc_off = d->toc_len = d->toc_raw_len = 0;
		load_layer(rt, samples[s], d, &without);
		assert_true(digest_is_equal(&with.map.id, &without.map.id));
		unload_layer(&with);
		unload_layer(&without);
		ld_manifest_fini(&m);
	}
}

static void without_a_position_the_footer_says_where_the_toc_is(void **state)
{
	on_engines(1, footer_body);
}

static void must_not_load(struct rt *rt, const struct ld_layer_desc *d,
	const char *path, int code, const char *says)
{
	struct bc_source *src;
	struct ld_layer l;
	struct err e = {0};
	int r;

	assert_int_equal(bc_source_file_open(path, &src, NULL), 0);
	r = ld_layer_load(rt, d, src, NULL, &l, &e);
	if (r != code || !strstr(e.text, says))
		fail_msg("%d '%s', not '%s'", r, e.text, says);
	bc_source_destroy(src);
}

static void refused_body(struct rt *rt)
{
	struct ld_manifest m;
	struct ld_layer_desc d;
	char path[PATH_MAX];

	for (size_t s = 0; s < ARRAY_LEN(samples); s++) {
		read_manifest(samples[s], &m);
		d = m.layers[1];
		blob_path(path, samples[s], &d.digest);
		d.toc.bytes[0] ^= 1;
		must_not_load(
			rt, &d, path, -EBADMSG, "does not have the digest");
		d = m.layers[1];
		d.size -= 1;
		d.toc_len = 0;
		must_not_load(rt, &d, path, -EPROTO, "footer");
		d = m.layers[1];
		d.toc.algo = DIGEST_NONE;
		must_not_load(rt, &d, path, -EOPNOTSUPP,
			"TOC digest in the manifest");
		ld_manifest_fini(&m);
	}
	read_manifest(samples[0], &m);
	d = m.layers[1];
	blob_path(path, samples[0], &d.digest);
	d.toc_off++;
	must_not_load(rt, &d, path, -EBADMSG, "does not have the digest");
	d = m.layers[1];
	d.toc_off = d.size;
	must_not_load(rt, &d, path, -EPROTO, "outside the blob");
	d = m.layers[1];
	d.toc_raw_len--;
	must_not_load(rt, &d, path, -EPROTO, "does not decompress");
	d.toc_raw_len += 2;
	must_not_load(rt, &d, path, -EPROTO, "does not decompress");
	d.toc_raw_len = 200u << 20;
	must_not_load(rt, &d, path, -E2BIG, "longer than 150 MiB");
	ld_manifest_fini(&m);
	read_manifest("edge-gzip", &m);
	d = m.layers[0];
	blob_path(path, "edge-gzip", &d.digest);
	must_not_load(rt, &d, path, -EOPNOTSUPP, "is tar+gzip");
	ld_manifest_fini(&m);
}

static void what_the_manifest_does_not_vouch_for_is_refused(void **state)
{
	on_engines(1, refused_body);
}

static void external_body(struct rt *rt)
{
	static const uint8_t footer[] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff,
		21, 0, 'S', 'G', 17, 0, 'S', 'T', 'A', 'R', 'G', 'Z', 'E', 'X',
		'T', 'E', 'R', 'N', 'A', 'L', 'T', 'O', 'C', 1, 0, 0, 0xff,
		0xff, 0, 0, 0, 0, 0, 0, 0, 0};
	static char type[] = "application/vnd.oci.image.layer.v1.tar+gzip";
	const struct ld_layer_desc d = {.digest = {.algo = DIGEST_SHA256},
		.toc = {.algo = DIGEST_SHA256},
		.toc_is_estargz = true,
		.media_type = type};
	char path[] = "/tmp/sluice-test-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(
		write(fd, footer, sizeof(footer)), (ssize_t)sizeof(footer));
	must_not_load(rt, &d, path, -EOPNOTSUPP, "TOC is in another image");
	(void)unlink(path);
	(void)close(fd);
}

static void an_external_toc_is_refused_by_name(void **state)
{
	on_engines(1, external_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_layer_of_the_samples_is_read_whole),
		cmocka_unit_test(
			without_a_position_the_footer_says_where_the_toc_is),
		cmocka_unit_test(
			what_the_manifest_does_not_vouch_for_is_refused),
		cmocka_unit_test(an_external_toc_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
