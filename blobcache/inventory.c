/* SPDX-License-Identifier: Apache-2.0 */
/* Walks through the cache directory; see inventory.h. */
#include "blobcache/inventory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobcache/store_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/util.h"

#define MAX_BLOBS (1u << 20)
#define MAX_PIN (4u << 20) /* bytes of a pin file */
#define ST_BLOCK 512       /* what st_blocks counts */

/* ---- directories ---- */

typedef int entry_fn(void *arg, const char *path, const char *name);

/* Each entry of the directory rel below the cache; none if it is not there. */
static int each_entry(
	struct bc_store *s, const char *rel, entry_fn *each, void *arg)
{
	char path[STORE_MAX_REL];
	struct dirent *de;
	int fd, n, r = 0;
	DIR *d;

	fd = openat(
		s->dirfd, rel, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		r = -errno;
		(void)close(fd); /* only read */
		return r;
	}
	while (r == 0 && (de = readdir(d)) != NULL) {
		n = snprintf(path, sizeof(path), "%s/%s", rel, de->d_name);
		if (de->d_name[0] != '.' && n > 0 && (size_t)n < sizeof(path))
			r = each(arg, path, de->d_name);
	}
	(void)closedir(d); /* only read */
	return r;
}

/* "<algo>/<hex>" at the end of path. */
static bool digest_of_path(const char *algo, const char *hex, struct digest *d)
{
	char text[DIGEST_MAX_TEXT + 1];
	int n = snprintf(text, sizeof(text), "%s:%s", algo, hex);

	return n > 0 && (size_t)n < sizeof(text) &&
	       digest_parse(text, (size_t)n, d) == 0;
}

/* ---- cache files ---- */

struct walk {
	struct bc_store *store;
	int (*each)(void *arg, const struct bc_inventory_blob *b,
		const struct bc_ready *bits);
	void *arg;
	char algo[16];
	struct bc_inventory_blob at;
};

static uint32_t count_bits(const struct bc_ready *r)
{
	uint32_t n = 0;
	size_t i;

	for (i = 0; i < r->words; i++)
		n += (uint32_t)__builtin_popcountll(atomic_load(&r->ready[i]));
	return n;
}

static uint32_t newest_stamp(const struct bc_ready *r)
{
	uint32_t i, newest = 0;

	for (i = 0; i < bc_ready_run_count(r->chunk_count); i++)
		newest = (uint32_t)max_u64(newest, bc_ready_stamp(r, i));
	return newest;
}

/* Of the file name in the directory w->at.dir; 0 if it is not there. */
static uint64_t bytes_on_disk(const struct walk *w, const char *name)
{
	char path[STORE_MAX_REL + 8];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", w->at.dir, name); /* fits */
	if (fstatat(w->store->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		st.st_blocks < 0)
		return 0;
	return (uint64_t)st.st_blocks * ST_BLOCK;
}

static bool has_no_files(const struct walk *w)
{
	char path[STORE_MAX_REL + 8];

	(void)snprintf(path, sizeof(path), "%s/ready", w->at.dir); /* fits */
	if (faccessat(w->store->dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	(void)snprintf(path, sizeof(path), "%s/data", w->at.dir); /* fits */
	return faccessat(w->store->dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
}

static int visit_map(void *arg, const char *path, const char *name)
{
	char rel[STORE_MAX_REL + 8];
	struct walk *w = arg;
	struct bc_ready bits;
	struct buf b;
	int r;

	if (!digest_of_path("sha256", name, &w->at.map_id))
		return 0;
	w->at.dir = (char *)path;
	w->at.chunk_count = w->at.ready_count = w->at.last_used = 0;
	w->at.is_sealed = false;
	if (has_no_files(w))
		return 0;
	(void)snprintf(rel, sizeof(rel), "%s/ready", path); /* fits */
	buf_init(&b, bc_ready_len(BC_MAX_CHUNKS));
	r = buf_read_file(&b, w->store->dirfd, rel);
	if (r == 0)
		r = bc_ready_peek(b.data, b.len, &w->at.map_id, &bits);
	w->at.is_torn = r < 0;
	w->at.bytes = bytes_on_disk(w, "data");
	if (r == 0) {
		w->at.chunk_count = bits.chunk_count;
		w->at.ready_count = count_bits(&bits);
		w->at.last_used = newest_stamp(&bits);
		w->at.is_sealed = bc_ready_is_sealed(&bits);
	}
	if (r != -ENOMEM)
		r = w->each(w->arg, &w->at, r == 0 ? &bits : NULL);
	buf_fini(&b);
	return r;
}

static int visit_blob(void *arg, const char *path, const char *name)
{
	struct walk *w = arg;

	if (!digest_of_path(w->algo, name, &w->at.blob))
		return 0;
	return each_entry(w->store, path, visit_map, w);
}

static int visit_algo(void *arg, const char *path, const char *name)
{
	struct walk *w = arg;
	int n = snprintf(w->algo, sizeof(w->algo), "%s", name);

	if (n < 0 || (size_t)n >= sizeof(w->algo))
		return 0;
	return each_entry(w->store, path, visit_blob, w);
}

int bc_inventory_walk(struct bc_store *s,
	int (*each)(void *arg, const struct bc_inventory_blob *b,
		const struct bc_ready *bits),
	void *arg)
{
	struct walk w = {.store = s, .each = each, .arg = arg};

	return each_entry(s, "blobs", visit_algo, &w);
}

int bc_inventory_add(struct bc_inventory *i, const struct bc_inventory_blob *b)
{
	void *blobs = i->blobs;
	int r;

	r = mem_grow(&blobs, &i->cap, i->count + 1, MAX_BLOBS, sizeof(*b));
	if (r < 0)
		return r;
	i->blobs = blobs;
	i->blobs[i->count] = *b;
	i->blobs[i->count].dir = mem_strdup(b->dir);
	if (!i->blobs[i->count].dir)
		return -ENOMEM;
	i->count++;
	return 0;
}

static int take_one(void *arg, const struct bc_inventory_blob *b,
	const struct bc_ready *bits)
{
	return bc_inventory_add(arg, b);
}

int bc_inventory_take(
	struct bc_store *s, struct bc_inventory *ret, struct err *e)
{
	struct bc_inventory i = {0};
	int r;

	r = bc_inventory_walk(s, take_one, &i);
	if (r < 0) {
		bc_inventory_fini(&i);
		i = (struct bc_inventory){0};
		(void)err_sys(
			e, r, "cannot look through the cache '%s'", s->path);
	}
	*ret = i;
	return r;
}

void bc_inventory_fini(struct bc_inventory *i)
{
	size_t k;

	for (k = 0; k < i->count; k++)
		mem_free(i->blobs[k].dir);
	mem_free(take_ptr(i->blobs));
	i->count = i->cap = 0;
}

/* ---- other digests ---- */

struct digests {
	struct bc_store *store;
	char algo[16];
	int (*each)(void *arg, const struct digest *d);
	void *arg;
};

static int visit_digest(void *arg, const char *path, const char *name)
{
	struct digests *w = arg;
	struct digest d;

	return digest_of_path(w->algo, name, &d) ? w->each(w->arg, &d) : 0;
}

static int visit_digests(void *arg, const char *path, const char *name)
{
	struct digests *w = arg;
	int n = snprintf(w->algo, sizeof(w->algo), "%s", name);

	if (n < 0 || (size_t)n >= sizeof(w->algo))
		return 0;
	return each_entry(w->store, path, visit_digest, w);
}

int bc_inventory_digests(struct bc_store *s, const char *top,
	int (*each)(void *arg, const struct digest *d), void *arg)
{
	struct digests w = {.store = s, .each = each, .arg = arg};

	return each_entry(s, top, visit_digests, &w);
}

/* ---- everything ---- */

int bc_store_usage(struct bc_store *s, uint64_t *ret, struct err *e)
{
	return bc_store_usage_of(s, ".", ret, e);
}

int bc_store_usage_of(
	struct bc_store *s, const char *sub, uint64_t *ret, struct err *e)
{
	char top[32 + STORE_MAX_REL];
	char *paths[] = {top, NULL};
	uint64_t sum = 0;
	FTSENT *at;
	FTS *fts;

	/* the directory itself, wherever we are now */
	(void)snprintf(top, sizeof(top), "/proc/self/fd/%d/%s", s->dirfd, sub);
	fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	if (!fts)
		return err_sys(e, -errno, "cannot look through the cache '%s'",
			s->path);
	while ((at = fts_read(fts)) != NULL)
		if ((at->fts_info == FTS_F || at->fts_info == FTS_D) &&
			at->fts_statp->st_blocks > 0)
			sum += (uint64_t)at->fts_statp->st_blocks * ST_BLOCK;
	(void)fts_close(fts); /* only read */
	*ret = sum;
	return 0;
}

/* ---- pins ---- */

struct pin_walk {
	struct bc_store *store;
	struct bc_pins *pins;
};

static int add_pin(struct bc_pins *p, const struct digest *d)
{
	void *blobs = p->blobs;
	int r;

	r = mem_grow(&blobs, &p->cap, p->count + 1, MAX_BLOBS, sizeof(*d));
	if (r < 0)
		return r;
	p->blobs = blobs;
	p->blobs[p->count++] = *d;
	return 0;
}

static int parse_pin(struct bc_pins *p, const char *s, size_t n)
{
	struct digest d;
	size_t len;
	int r = 0;

	while (r == 0 && n > 0) {
		const char *nl = memchr(s, '\n', n);

		len = nl ? (size_t)(nl - s) : n;
		if (digest_parse(s, len, &d) == 0)
			r = add_pin(p, &d);
		s += len + (nl ? 1 : 0);
		n -= len + (nl ? 1 : 0);
	}
	return r;
}

static int visit_image(void *arg, const char *path, const char *name)
{
	char rel[STORE_MAX_REL + 8];
	struct pin_walk *w = arg;
	struct buf b;
	int r;

	(void)snprintf(rel, sizeof(rel), "%s/pin", path); /* fits */
	buf_init(&b, MAX_PIN);
	r = buf_read_file(&b, w->store->dirfd, rel);
	if (r == 0)
		r = parse_pin(w->pins, (char *)b.data, b.len);
	else if (r == -ENOENT || r == -ENOTDIR)
		r = 0;
	buf_fini(&b);
	return r;
}

static int visit_image_algo(void *arg, const char *path, const char *name)
{
	struct pin_walk *w = arg;

	return each_entry(w->store, path, visit_image, w);
}

int bc_pins_load(struct bc_store *s, struct bc_pins *ret, struct err *e)
{
	struct bc_pins pins = {0};
	struct pin_walk w = {s, &pins};
	int r;

	r = each_entry(s, "images", visit_image_algo, &w);
	if (r < 0) {
		bc_pins_fini(&pins);
		return err_sys(
			e, r, "cannot read what is pinned in '%s'", s->path);
	}
	*ret = pins;
	return 0;
}

void bc_pins_fini(struct bc_pins *p)
{
	mem_free(take_ptr(p->blobs));
	p->count = p->cap = 0;
}

bool bc_pins_have(const struct bc_pins *p, const struct digest *blob)
{
	size_t i;

	for (i = 0; i < p->count; i++)
		if (digest_is_equal(&p->blobs[i], blob))
			return true;
	return false;
}
