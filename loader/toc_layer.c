/* SPDX-License-Identifier: Apache-2.0 */
/* A layer tree and a map from a TOC's entries; see toc_layer.h. */
#include "loader/toc_layer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "blobcache/base64.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

/* No EROFS device of 4096-byte blocks is larger. */
#define MAX_FILE_SIZE ((uint64_t)UINT32_MAX << 12)
/* Chunks that may be holes are compared with the digest of zeros: how long one
 * must be, and how many bytes are hashed for one layer. */
#define MIN_ZEROS_HASHED (16u << 20)
#define MAX_ZEROS_HASHED (4ull << 30)
/* Of names that are used with their layer's other paths. */
#define MAX_PATH_BYTES (1u << 20)
/* Names that mean something to us: not obeyed when a source says them. */
#define OUR_XATTRS "trusted.sluice."

int toc_layer_init(struct toc_layer *t, struct err *e)
{
	int r;

	*t = (struct toc_layer){0};
	buf_init(&t->path, MAX_PATH_BYTES);
	buf_init(&t->tmp, MAX_PATH_BYTES);
	r = ld_tree_create(&t->tree);
	return r ? err_set(e, r, "out of memory") : 0;
}

void toc_layer_fini(struct toc_layer *t)
{
	ld_tree_destroy(t->tree);
	buf_fini(&t->path);
	buf_fini(&t->tmp);
	mem_free(t->files);
	mem_free(t->chunks);
	mem_free(t->links);
	for (size_t i = 0; i < t->name_count; i++)
		mem_free(t->names[i].path);
	mem_free(t->names);
	*t = (struct toc_layer){0};
}

static const char *last_path(const struct toc_layer *t)
{
	return t->path.data ? (const char *)t->path.data : "";
}

/* ---- entries ---- */

static int add_xattr(struct toc_layer *t, struct ld_inode *i, const char *name,
	const json_t *value, struct err *e)
{
	uint8_t *bytes;
	size_t len;
	int r;

	if (!json_is_string(value))
		return err_set(e, -EPROTO,
			"xattr '%.200s' of '%.200s' is no string", name,
			last_path(t));
	r = bc_base64_decode(json_string_value(value),
		json_string_length(value), &bytes, &len);
	if (r)
		return err_set(e, r, "xattr '%.200s' of '%.200s' is no base64",
			name, last_path(t));
	r = ld_tree_set_xattr(t->tree, i, name, strlen(name), bytes, len, e);
	mem_free(bytes);
	return r;
}

static int add_xattrs(
	struct toc_layer *t, struct ld_inode *i, json_t *xattrs, struct err *e)
{
	const char *name;
	json_t *value;
	int r;

	json_object_foreach(xattrs, name, value)
	{
		/* Other systems' names are left out, as unpackers do. */
		if (!ld_xattr_name_is_known(name, strlen(name)) ||
			!strncmp(name, OUR_XATTRS, strlen(OUR_XATTRS)))
			continue;
		r = add_xattr(t, i, name, value, e);
		if (r)
			return r;
	}
	return 0;
}

static int add_file(struct toc_layer *t, struct ld_inode *i,
	const struct toc_entry *entry, bool *ret_has_data, struct err *e)
{
	void *files = t->files;
	int r;

	i->size = entry->size;
	if (entry->size == 0)
		return 0;
	if (entry->size > MAX_FILE_SIZE ||
		add_overflows(t->size_uncompressed, entry->size,
			&t->size_uncompressed))
		return err_set(e, -E2BIG, "'%.200s' is larger than 16 TiB",
			last_path(t));
	r = mem_grow(&files, &t->file_cap, t->file_count + 1, LD_MAX_ENTRIES,
		sizeof(*t->files));
	if (r)
		return err_set(e, r, "no memory for more files");
	t->files = files;
	t->files[t->file_count] = (struct toc_file){
		.inode = i, .size = entry->size, .first_chunk = t->chunk_count};
	i->user = toc_layer_user(t->file_count++, false);
	t->covered = 0;
	t->is_open = true;
	*ret_has_data = true;
	return 0;
}

static int add_inode(struct toc_layer *t, const struct toc_entry *entry,
	bool *ret_has_data, struct err *e)
{
	struct ld_inode *i;
	int r;

	r = ld_tree_add(
		t->tree, last_path(t), t->path.len, &entry->attr, &i, e);
	if (r)
		return r;
	if (entry->type == TOC_SYMLINK) {
		if (entry->link_len == 0)
			return err_set(e, -EPROTO,
				"the symlink '%.200s' has no target",
				last_path(t));
		r = ld_tree_set_symlink(
			t->tree, i, entry->link, entry->link_len, e);
	} else if (entry->type == TOC_REG) {
		r = add_file(t, i, entry, ret_has_data, e);
	}
	return r || !entry->xattrs ? r : add_xattrs(t, i, entry->xattrs, e);
}

/* ---- hard links ---- */

/* Remember that the entry's name stands for i until links are resolved. */
static int note_link_name(
	struct toc_layer *t, struct ld_inode *i, struct err *e)
{
	void *names = t->names;
	char *path;
	int r;

	r = mem_grow(&names, &t->name_cap, t->name_count + 1, LD_MAX_ENTRIES,
		sizeof(*t->names));
	if (r)
		return err_set(e, r, "no memory for more hard links");
	t->names = names;
	path = mem_strndup(last_path(t), t->path.len);
	if (!path)
		return err_set(e, -ENOMEM, "out of memory");
	t->names[t->name_count++] = (struct toc_link_name){
		.path = path, .len = t->path.len, .inode = i};
	return 0;
}

/* The target, cleaned in t->tmp, is not there (yet): an empty file waits. */
static int add_open_link(
	struct toc_layer *t, const struct toc_entry *entry, struct err *e)
{
	void *links = t->links;
	struct ld_inode *i;
	int r;

	r = mem_grow(&links, &t->link_cap, t->link_count + 1, LD_MAX_ENTRIES,
		sizeof(*t->links));
	if (r)
		return err_set(e, r, "no memory for more hard links");
	t->links = links;
	r = ld_tree_add(
		t->tree, last_path(t), t->path.len, &entry->attr, &i, e);
	if (!r)
		r = ld_tree_set_xattr(t->tree, i, LD_XATTR_LINK,
			strlen(LD_XATTR_LINK), t->tmp.data, t->tmp.len, e);
	if (r)
		return r;
	t->links[t->link_count] = (struct toc_link){.inode = i};
	i->user = toc_layer_user(t->link_count++, true);
	return note_link_name(t, i, e);
}

/* What a hard link may lead to in this layer. A whiteout is "not there". */
static int find_target(struct toc_layer *t, const char *path, size_t len,
	struct ld_inode **ret, struct err *e)
{
	struct ld_inode *i = ld_tree_find(t->tree, path, len);

	if (i && ld_inode_is_whiteout(i))
		i = NULL;
	if (i && S_ISDIR(i->attr.mode))
		return err_set(e, -EPROTO,
			"a hard link leads to the directory '%.200s'", path);
	*ret = i;
	return 0;
}

static int add_link(
	struct toc_layer *t, const struct toc_entry *entry, struct err *e)
{
	struct ld_inode *i;
	int r;

	r = toc_path_clean(entry->link, entry->link_len, &t->tmp, e);
	if (r)
		return r;
	if (t->tmp.len == 0 ||
		(t->tmp.len == t->path.len &&
			!memcmp(t->tmp.data, t->path.data, t->path.len)))
		return err_set(e, -EPROTO,
			"the hard link '%.200s' leads to itself or nowhere",
			last_path(t));
	r = find_target(t, (const char *)t->tmp.data, t->tmp.len, &i, e);
	if (r)
		return r;
	if (!i)
		return add_open_link(t, entry, e);
	r = ld_tree_link(t->tree, last_path(t), t->path.len, i, e);
	if (r || !toc_layer_is_link(i))
		return r;
	return note_link_name(t, i, e);
}

/* The link that i's own target is, or NULL and where the chain ends in *end. */
static int next_link(struct toc_layer *t, struct toc_link *l,
	struct toc_link **ret, struct ld_inode **end, struct err *e)
{
	const struct ld_xattr *x = ld_tree_xattr(l->inode, LD_XATTR_LINK);
	struct ld_inode *i;
	int r;

	/* The tree keeps no NUL behind values. */
	t->tmp.len = 0;
	r = buf_append(&t->tmp, x->value, x->value_len);
	if (!r)
		r = buf_terminate(&t->tmp);
	if (r)
		return err_set(e, r, "out of memory");
	r = find_target(t, (const char *)t->tmp.data, t->tmp.len, &i, e);
	if (r)
		return r;
	*ret = i && toc_layer_is_link(i) ? &t->links[toc_layer_index(i)] : NULL;
	*end = i ? i : l->inode;
	return 0;
}

/* Follow the chain from link at; every link on it learns where it ends. */
static int resolve_link(struct toc_layer *t, size_t at, struct err *e)
{
	struct toc_link *l = &t->links[at], *next;
	struct ld_inode *final = NULL, *end;
	int r;

	while (!final) {
		if (l->final) {
			final = l->final;
			break;
		}
		if (l->stamp == at + 1)
			return err_set(e, -EPROTO, "hard links form a circle");
		l->stamp = at + 1;
		r = next_link(t, l, &next, &end, e);
		if (r)
			return r;
		if (next)
			l = next;
		else
			final = end;
	}
	for (l = &t->links[at]; l && !l->final; l = next) {
		l->final = final;
		r = next_link(t, l, &next, &end, e);
		if (r)
			return r;
	}
	return 0;
}

static int resolve_links(struct toc_layer *t, struct err *e)
{
	struct toc_link_name *n;
	struct ld_inode *final;
	int r;

	for (size_t i = 0; i < t->link_count; i++) {
		r = resolve_link(t, i, e);
		if (r)
			return r;
	}
	for (size_t i = 0; i < t->name_count; i++) {
		n = &t->names[i];
		final = t->links[toc_layer_index(n->inode)].final;
		if (final == n->inode ||
			ld_tree_find(t->tree, n->path, n->len) != n->inode)
			continue;
		r = ld_tree_link(t->tree, n->path, n->len, final, e);
		if (r)
			return r;
	}
	return 0;
}

/* ---- files and their chunks ---- */

/* No more chunks for the open file: they must reach its end. */
static int end_file(struct toc_layer *t, struct err *e)
{
	struct toc_file *f;

	t->is_skipping = false;
	if (!t->is_open)
		return 0;
	t->is_open = false;
	f = &t->files[t->file_count - 1];
	f->chunk_count = t->chunk_count - f->first_chunk;
	if (t->covered != f->size)
		return err_set(e, -EPROTO,
			"the chunks of '%.200s' do not reach its end",
			last_path(t));
	return 0;
}

int toc_layer_skip(struct toc_layer *t, struct err *e)
{
	int r = end_file(t, e);

	t->is_skipping = true;
	return r;
}

static int add_chunk_name(struct toc_layer *t, const struct toc_entry *entry,
	bool *ret_has_data, struct err *e)
{
	int r;

	if (t->is_skipping)
		return 0;
	if (!t->is_open)
		return err_set(e, -EPROTO,
			"the chunk of '%.200s' follows no file", entry->name);
	if (entry->name_len > 0) {
		r = toc_path_clean(entry->name, entry->name_len, &t->tmp, e);
		if (r)
			return r;
		if (t->tmp.len != t->path.len ||
			memcmp(t->tmp.data, t->path.data, t->path.len) != 0)
			return err_set(e, -EPROTO,
				"the chunk of '%.200s' follows another file",
				entry->name);
	}
	*ret_has_data = true;
	return 0;
}

int toc_layer_add(struct toc_layer *t, const struct toc_entry *entry,
	bool *ret_has_data, struct err *e)
{
	bool is_whiteout = false;
	int r;

	*ret_has_data = false;
	if (entry->type == TOC_CHUNK)
		return add_chunk_name(t, entry, ret_has_data, e);
	r = end_file(t, e);
	if (!r)
		r = toc_path_clean(entry->name, entry->name_len, &t->path, e);
	if (r)
		return r;
	if (t->path.len == 0 && entry->type != TOC_DIR)
		return err_set(e, -EPROTO, "the root is no directory");
	if (t->path.len > 0)
		r = ld_tree_add_whiteout(
			t->tree, last_path(t), t->path.len, &is_whiteout, e);
	if (r)
		return r;
	t->is_skipping = is_whiteout;
	if (is_whiteout)
		return 0;
	t->entries++;
	if (entry->type == TOC_HARDLINK)
		return add_link(t, entry, e);
	return add_inode(t, entry, ret_has_data, e);
}

/* The digest that covers the len bytes at the entry's place in its file. */
static int choose_digest(struct toc_layer *t, const struct toc_entry *entry,
	bool is_whole, struct digest *ret, struct err *e)
{
	const struct digest *d = &entry->chunk_digest;

	if (is_whole && d->algo == DIGEST_NONE)
		d = &entry->digest;
	if (d->algo == DIGEST_NONE)
		return err_set(e, -EOPNOTSUPP,
			"no digest covers the chunk of '%.200s' at %llu",
			last_path(t), (unsigned long long)entry->chunk_offset);
	if (d->algo != DIGEST_SHA256 && d->algo != DIGEST_BLAKE3)
		return err_set(e, -EOPNOTSUPP,
			"'%.200s' has %s digests; sha256 and blake3 are "
			"supported",
			last_path(t), digest_algo_name(d->algo));
	if (is_whole && entry->digest.algo == d->algo &&
		!digest_is_equal(&entry->digest, d))
		return err_set(e, -EPROTO, "'%.200s' has two different digests",
			last_path(t));
	*ret = *d;
	return 0;
}

/*
 * 0: the chunk can be held. 1: nothing but zeros, which its digest proves: what
 * a sparse file may be, as one long chunk.
 */
static int check_length(struct toc_layer *t, const struct digest *digest,
	uint64_t len, uint64_t inner, struct err *e)
{
	int r;

	if (len >= MIN_ZEROS_HASHED &&
		len <= MAX_ZEROS_HASHED - t->zeros_hashed) {
		t->zeros_hashed += len;
		r = toc_digest_is_of_zeros(digest, len);
		if (r < 0)
			return err_set(e, r, "cannot compute a digest");
		if (r == 1)
			return 1;
	}
	if (len <= BC_MAX_CHUNK_LEN && inner <= BC_MAX_GROUP_LEN - len)
		return 0;
	return err_set_kind(e, ERR_UNSUPPORTED, -E2BIG,
		"a chunk of '%.200s' is longer than %u MiB, or begins behind "
		"as much in its group",
		last_path(t), BC_MAX_CHUNK_LEN >> 20);
}

static int push_chunk(
	struct toc_layer *t, const struct toc_chunk *c, struct err *e)
{
	void *chunks = t->chunks;
	int r;

	r = mem_grow(&chunks, &t->chunk_cap, t->chunk_count + 1, BC_MAX_CHUNKS,
		sizeof(*t->chunks));
	if (r)
		return err_set(e, r, "no memory for more chunks");
	t->chunks = chunks;
	t->chunks[t->chunk_count++] = *c;
	return 0;
}

int toc_layer_add_chunk(struct toc_layer *t, const struct toc_entry *entry,
	uint64_t src_off, uint64_t src_end, uint64_t inner, struct err *e)
{
	uint64_t size = t->files[t->file_count - 1].size;
	uint64_t left = size - t->covered;
	uint64_t len = entry->chunk_size > 0 ? entry->chunk_size : left;
	struct toc_chunk c = {
		.src_off = src_off, .src_end = src_end, .file_off = t->covered};
	struct digest digest = {0};
	int r;

	if (entry->chunk_offset != t->covered || len > left || len == 0)
		return err_set(e, -EPROTO,
			"the chunk of '%.200s' at %llu overlaps another or "
			"leaves a gap",
			last_path(t), (unsigned long long)entry->chunk_offset);
	t->covered += len;
	if (!entry->is_zeros) {
		r = choose_digest(t, entry, len == size, &digest, e);
		if (!r)
			r = check_length(t, &digest, len, inner, e);
		if (r < 0)
			return r;
		c.algo = (uint8_t)digest.algo;
		if (r == 1)
			c.algo = DIGEST_NONE;
	}
	if (c.algo != DIGEST_NONE) {
		c.len = (uint32_t)len;
		c.inner = (uint32_t)inner;
		memcpy(c.digest, digest.bytes, sizeof(c.digest));
	}
	return push_chunk(t, &c, e);
}

int toc_layer_finish(struct toc_layer *t, const struct ld_layer_desc *d,
	enum bc_codec codec, struct ld_layer *ret, struct err *e)
{
	struct buf map;
	int r;

	buf_init(&map, 0);
	r = end_file(t, e);
	if (!r)
		r = resolve_links(t, e);
	if (!r)
		r = toc_layout(t, d, codec, &map, e);
	if (r) {
		buf_fini(&map);
		return r;
	}
	ret->tree = t->tree;
	t->tree = NULL;
	ret->map = map;
	ret->entries = t->entries;
	ret->size_uncompressed = t->size_uncompressed;
	return 0;
}
