/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests over a real FUSE mount: a tree and a blob made here, the index and
 * the map of them, a source that can be held back, a mounted session.
 *
 * Everything lies in a directory of its own, and the mount in a mount namespace
 * of the test's own: nothing is left behind, whatever happens.
 */
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/fs.h"
#include "loader/mount.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"
#include "tests/async/engines.h"

#define BLOB_LEN (24u << 20)
#define GROUP_LEN (128u << 10)
#define MANY 10000 /* entries of the large directory */

/* ---- a source that holds fetches back until the gate opens ---- */

struct gate {
	struct bc_source src;
	struct bc_source *file; /* owned: where the bytes really are */
	pthread_mutex_t lock;   /* guards the rest */
	pthread_cond_t changed;
	bool open;
	unsigned asked, cancelled;
	struct bc_fetch *held[4096];
	unsigned held_count;
};

static inline struct gate *gate_of(struct bc_source *s)
{
	return container_of(s, struct gate, src);
}

static inline void gate_fetch(struct bc_source *s, struct bc_fetch *f)
{
	struct gate *g = gate_of(s);
	bool pass;

	pthread_mutex_lock(&g->lock);
	g->asked++;
	pass = g->open;
	if (!pass) {
		if (g->held_count == ARRAY_LEN(g->held))
			abort();
		g->held[g->held_count++] = f;
	}
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	if (pass)
		bc_source_fetch(g->file, f);
}

static inline void gate_cancelled(struct rt_task *t)
{
	struct bc_fetch *f = container_of(t, struct bc_fetch, task);

	f->result = -ECANCELED;
	f->done(f);
}

static inline void gate_cancel(struct bc_source *s, struct bc_fetch *f)
{
	struct gate *g = gate_of(s);
	bool was_held = false;
	unsigned i;

	pthread_mutex_lock(&g->lock);
	g->cancelled++;
	for (i = 0; i < g->held_count; i++)
		if (g->held[i] == f) {
			g->held[i] = g->held[--g->held_count];
			was_held = true;
			break;
		}
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	if (was_held) {
		f->task.run = gate_cancelled;
		rt_post(f->worker, &f->task);
	} else {
		bc_source_cancel(g->file, f);
	}
}

static inline void gate_destroy(struct bc_source *s)
{
	struct gate *g = gate_of(s);

	bc_source_destroy(g->file);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	mem_free(g);
}

static const struct bc_source_ops gate_ops = {
	gate_fetch, gate_cancel, NULL, gate_destroy};

static inline struct gate *gate_make(const char *path, bool open)
{
	struct gate *g = mem_zalloc(sizeof(*g));
	struct err e = {0};

	assert_non_null(g);
	assert_int_equal(bc_source_file_open(path, &g->file, &e), 0);
	g->src.ops = &gate_ops;
	g->src.size = g->file->size;
	g->open = open;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	return g;
}

static inline void gate_open(struct gate *g)
{
	struct bc_fetch *f;

	pthread_mutex_lock(&g->lock);
	g->open = true;
	while (g->held_count) {
		f = g->held[--g->held_count];
		pthread_mutex_unlock(&g->lock);
		bc_source_fetch(g->file, f);
		pthread_mutex_lock(&g->lock);
	}
	pthread_mutex_unlock(&g->lock);
}

/* Wait until so many fetches have been asked for since the beginning. */
static inline void gate_wait(struct gate *g, unsigned n)
{
	pthread_mutex_lock(&g->lock);
	while (g->asked < n)
		pthread_cond_wait(&g->changed, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static inline unsigned gate_asked(struct gate *g)
{
	unsigned n;

	pthread_mutex_lock(&g->lock);
	n = g->asked;
	pthread_mutex_unlock(&g->lock);
	return n;
}

/* ---- the watch ---- */

#define WATCH_S 120

/* The mount of the world that lives now. */
static char watched[80];

/*
 * A process that dies while it waits for its own mount stays for ever: it holds
 * the descriptor that would end its wait. So the connection is ended first.
 */
static inline void break_connection(void)
{
	if (watched[0])
		(void)umount2(watched, MNT_FORCE | MNT_DETACH);
	watched[0] = '\0';
}

/* The kernel's switch for FUSE over io_uring, while a test has it on. */
static int uring_setting = -1;
static char uring_before;

static inline void uring_switch_back(void)
{
	if (uring_setting < 0)
		return;
	(void)!pwrite(uring_setting, &uring_before, 1, 0);
	(void)close(uring_setting); /* unlocks */
	uring_setting = -1;
}

static inline void on_watch(int sig)
{
	static const char text[] = "a FUSE test hangs or was ended\n";

	break_connection();
	uring_switch_back();
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(1);
}

static inline void watch_start(const char *mnt)
{
	struct sigaction sa = {.sa_handler = on_watch};

	break_connection(); /* a test that failed leaves its world behind */
	(void)snprintf(watched, sizeof(watched), "%s", mnt);
	sigaction(SIGALRM, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	(void)alarm(WATCH_S);
}

static inline void watch_end(void)
{
	watched[0] = '\0';
	(void)alarm(0);
}

/* ---- the world ---- */

struct world {
	char dir[64], mnt[80], blob[80], cache[80];
	uint8_t *data; /* what the blob holds */
	struct ld_tree *tree;
	struct buf index;
	struct bc_store *store;
	struct ld_image image;
	struct ld_image_blob slot;
	struct gate *gate; /* the blob's */
	struct rt *rt;
	struct ld_session *s;
};

/* The byte at off of the blob: cheap, and different everywhere. */
static inline void make_data(uint8_t *p, size_t n)
{
	uint64_t x = 88172645463325252ull;
	size_t i;

	for (i = 0; i < n; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, &x, 8);
	}
}

static inline struct ld_inode *add_inode(struct world *w, const char *path,
	uint32_t mode, int64_t mtime, uint32_t ns)
{
	struct ld_attr a = {.mode = mode,
		.uid = 1000,
		.gid = 100000,
		.mtime = mtime,
		.mtime_ns = ns};
	struct ld_inode *i;

	assert_int_equal(
		ld_tree_add(w->tree, path, strlen(path), &a, &i, NULL), 0);
	return i;
}

static inline void add_extent(struct world *w, struct ld_inode *i,
	uint64_t file_off, uint64_t len, uint64_t dev_off)
{
	assert_int_equal(
		ld_tree_add_extent(w->tree, i, file_off, len, 0, dev_off, NULL),
		0);
	i->size = max_u64(i->size, file_off + len);
}

static inline void set_xattr(struct world *w, struct ld_inode *i,
	const char *name, const void *value, size_t len)
{
	assert_int_equal(ld_tree_set_xattr(w->tree, i, name, strlen(name),
				 value, len, NULL),
		0);
}

static inline void make_large_dir(struct world *w)
{
	char path[64];
	int i;

	(void)add_inode(w, "many", S_IFDIR | 0755, 5, 0);
	for (i = 0; i < MANY; i++) {
		(void)snprintf(path, sizeof(path), "many/entry-%05d", i);
		(void)add_inode(w, path, S_IFREG | 0644, i, (uint32_t)i);
	}
}

static inline void make_tree(struct world *w)
{
	static const char name[] = "a \\name\n\x01\xff\xfe";
	struct digest none = {.algo = DIGEST_SHA256};
	struct ld_blob_ref ref = {none, BLOB_LEN};
	char longest[LD_MAX_NAME + 1], target[LD_MAX_SYMLINK + 1];
	struct ld_inode *i;
	uint32_t slot;
	uint64_t k;

	assert_int_equal(ld_tree_create(&w->tree), 0);
	assert_int_equal(ld_tree_add_blob(w->tree, &ref, &slot), 0);
	(void)add_inode(w, "", S_IFDIR | 0755, 1700000000, 1);
	(void)add_inode(w, "empty", S_IFREG | 0644, 0, 0);
	i = add_inode(w, "small", S_IFREG | 04755, -7, 999999999);
	add_extent(w, i, 0, 10, 4096);
	set_xattr(w, i, "security.capability",
		"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	set_xattr(w, i, "trusted.t", "t", 1);
	set_xattr(w, i, "user.empty", "", 0);
	assert_int_equal(ld_tree_link(w->tree, "other", 5, i, NULL), 0);
	i = add_inode(w, "big", S_IFREG | 0644, 1ll << 33, 5);
	add_extent(w, i, 0, (16u << 20) + 77, 4u << 20);
	/* Pieces from everywhere, backwards, with holes between and behind. */
	i = add_inode(w, "pieces", S_IFREG | 0600, 1, 2);
	for (k = 0; k < 300; k++)
		if (k % 7)
			add_extent(w, i, k * 4096, 4096,
				(uint64_t)(BLOB_LEN - 4096) - k * 40960);
	i->size = 400 * 4096 + 5;
	i = add_inode(w, "hole", S_IFREG | 0600, 1, 2);
	i->size = 3u << 20;
	(void)add_inode(w, "d/e/f", S_IFDIR | 01777, 9, 9);
	i = add_inode(w, "d/null", S_IFCHR | 0666, 2, 0);
	i->attr.rdev_major = 1;
	i->attr.rdev_minor = 3;
	i = add_inode(w, "d/disk", S_IFBLK | 0660, 2, 0);
	i->attr.rdev_major = 259;
	i->attr.rdev_minor = 70000;
	(void)add_inode(w, "d/fifo", S_IFIFO | 0644, 2, 0);
	(void)add_inode(w, "d/socket", S_IFSOCK | 0755, 2, 0);
	(void)add_inode(w, name, S_IFREG | 0400, 2, 0);
	memset(longest, 'n', LD_MAX_NAME);
	longest[LD_MAX_NAME] = '\0';
	(void)add_inode(w, longest, S_IFREG | 0400, 2, 0);
	i = add_inode(w, "d/link", S_IFLNK | 0777, 3, 4);
	assert_int_equal(
		ld_tree_set_symlink(w->tree, i, "../small", 8, NULL), 0);
	i = add_inode(w, "d/long", S_IFLNK | 0777, 3, 4);
	memset(target, 't', LD_MAX_SYMLINK);
	assert_int_equal(
		ld_tree_set_symlink(w->tree, i, target, LD_MAX_SYMLINK, NULL),
		0);
	make_large_dir(w);
}

static inline struct bc_map make_map(const uint8_t *data)
{
	struct bc_map_builder *b;
	struct bc_map m;
	struct digest d;
	struct buf out;
	uint32_t group;
	uint64_t off;

	assert_int_equal(bc_map_builder_create(&b), 0);
	for (off = 0; off < BLOB_LEN; off += GROUP_LEN) {
		assert_int_equal(
			digest_of(DIGEST_SHA256, data + off, GROUP_LEN, &d), 0);
		assert_int_equal(bc_map_add_group(b, off, GROUP_LEN, GROUP_LEN,
					 BC_CODEC_NONE, NULL, 0, &group),
			0);
		assert_int_equal(
			bc_map_add_chunk(b, group, off, GROUP_LEN, 0, &d), 0);
	}
	buf_init(&out, 0);
	assert_int_equal(bc_map_finish(b, BLOB_LEN, BLOB_LEN, &out, NULL), 0);
	bc_map_builder_destroy(b);
	assert_int_equal(bc_map_from_bytes(out.data, out.len, &m, NULL), 0);
	return m;
}

static inline void write_file(const char *path, const uint8_t *p, size_t n)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	assert_int_equal(close(fd), 0);
}

/* How requests shall arrive in worlds made from now on; see fuse_ways.h. */
static const struct ld_transport_plan *world_plan;

static inline void world_mount(struct world *w, const char *opts)
{
	struct ld_mount_options mo = {
		.dir = w->mnt, .source = "image, with \\ comma", .opts = opts};
	struct ld_session_options so = {
		.rt = w->rt, .image = &w->image, .plan = world_plan};
	struct err e = {0};

	if (ld_mount(&mo, &so.fuse_fd, &e) < 0 ||
		ld_session_start(&so, &w->s, &e) < 0)
		fail_msg("%s", e.text);
}

static inline struct world *world_make(struct rt *rt, bool open)
{
	struct world *w = mem_zalloc(sizeof(*w));
	struct bc_blob_options bo = {.rt = rt};
	struct err e = {0};

	assert_non_null(w);
	w->rt = rt;
	strcpy(w->dir, "/tmp/fuse-test.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->mnt, sizeof(w->mnt), "%s/m", w->dir);
	(void)snprintf(w->blob, sizeof(w->blob), "%s/blob", w->dir);
	(void)snprintf(w->cache, sizeof(w->cache), "%s/cache", w->dir);
	assert_int_equal(mkdir(w->mnt, 0755), 0);
	watch_start(w->mnt);
	w->data = mem_alloc(BLOB_LEN);
	make_data(w->data, BLOB_LEN);
	write_file(w->blob, w->data, BLOB_LEN);
	make_tree(w);
	buf_init(&w->index, 0);
	if (ld_index_write(w->tree, 12, &w->index, &e) < 0 ||
		ld_index_from_bytes(
			w->index.data, w->index.len, &w->image.index, &e) < 0 ||
		bc_store_open(w->cache, &w->store, &e) < 0)
		fail_msg("%s", e.text);
	w->gate = gate_make(w->blob, open);
	bo.store = w->store;
	bo.map = make_map(w->data);
	bo.source = &w->gate->src;
	assert_int_equal(
		digest_of(DIGEST_SHA256, w->data, BLOB_LEN, &bo.digest), 0);
	if (bc_blob_open(&bo, &w->slot.blob, &e) < 0)
		fail_msg("%s", e.text);
	w->image.blobs = &w->slot;
	w->image.blob_count = 1;
	w->image.bytes_total = BLOB_LEN;
	world_mount(w, NULL);
	return w;
}

static inline void world_unmount(struct world *w)
{
	(void)umount2(w->mnt, MNT_DETACH);
	ld_session_stop(w->s);
	ld_session_destroy(w->s);
	w->s = NULL;
}

static inline void world_destroy(struct world *w)
{
	char cmd[100];

	if (w->s)
		world_unmount(w);
	watch_end();
	bc_blob_close(w->slot.blob);
	bc_store_close(w->store);
	ld_index_close(&w->image.index);
	buf_fini(&w->index);
	ld_tree_destroy(w->tree);
	mem_free(w->data);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf '%s'", w->dir);
	assert_int_equal(system(cmd), 0);
	mem_free(w);
}

/* What path of the mount is called from outside. */
static inline const char *at(struct world *w, const char *path)
{
	static _Thread_local char full[5000];

	(void)snprintf(full, sizeof(full), "%s/%s", w->mnt, path);
	return full;
}

/* What [off, off + len) of an inode must read as. */
static inline void expect_bytes(struct world *w, const struct ld_inode *i,
	uint64_t off, uint8_t *out, size_t len)
{
	uint64_t from, to;
	uint32_t k;

	memset(out, 0, len);
	for (k = 0; k < i->extent_count; k++) {
		const struct ld_extent *x = &i->extents[k];

		from = max_u64(x->file_off, off);
		to = min_u64(x->file_off + x->len, off + len);
		if (from < to)
			memcpy(out + (from - off),
				w->data + x->dev_off + (from - x->file_off),
				to - from);
	}
}

static inline struct ld_inode *inode_at(struct world *w, const char *path)
{
	struct ld_inode *i = ld_tree_find(w->tree, path, strlen(path));

	assert_non_null(i);
	return i;
}

static inline bool has_fuse(void)
{
	if (geteuid() == 0 && access("/dev/fuse", F_OK) == 0)
		return true;
	print_message("not run: no /dev/fuse, or not root\n");
	return false;
}

/* Mounts of this process are seen by nobody else. Before any thread. */
static inline void own_mounts(void)
{
	if (unshare(CLONE_NEWNS) == 0)
		(void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

#define run_fuse_tests(tests) \
	__extension__({ \
		int failed_ = 0; \
		if (has_fuse()) { \
			own_mounts(); \
			failed_ = cmocka_run_group_tests(tests, NULL, NULL); \
			break_connection(); \
			uring_switch_back(); \
		} \
		failed_; \
	})
