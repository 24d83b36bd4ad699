/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's overlayfs judges the merge: random layers are made twice, as
 * directories that overlayfs stacks and as layer indexes that we merge, and
 * both must show the same tree. Needs root; skipped elsewhere.
 *
 * Link counts are not compared: overlayfs shows those of the layer.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/lib/layers.h"

#include "runtime/base/util.h"

#define LAYERS 5
#define ROUNDS 60
#define DEPTH 4

struct judge {
	char dir[64]; /* a tmpfs */
	uint64_t seed;
	struct layer layers[LAYERS];
	unsigned id; /* of the next entry */
	char first_file[256];
	unsigned kinds[8]; /* how many of each kind were made */
};

static unsigned roll(struct judge *j, unsigned sides)
{
	j->seed = j->seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(j->seed >> 33) % sides;
}

static void real_path(
	const struct judge *j, unsigned layer, const char *path, char *ret)
{
	(void)snprintf(ret, 512, "%s/%u/%s", j->dir, layer, path);
}

/* ---- the same entry, in the layer's directory and in its tree ---- */

static void finish_real(const char *real, unsigned id, uint32_t mode)
{
	const struct timespec times[2] = {{.tv_sec = id}, {.tv_sec = id}};

	assert_int_equal(lchown(real, id, id), 0);
	if (!S_ISLNK(mode))
		assert_int_equal(chmod(real, mode & 07777), 0);
	assert_int_equal(
		utimensat(AT_FDCWD, real, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void make_file(struct judge *j, unsigned layer, const char *path)
{
	char real[512];
	int fd;

	real_path(j, layer, path, real);
	fd = open(real, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, j->id), 0);
	assert_int_equal(close(fd), 0);
	finish_real(real, j->id, S_IFREG | 0640);
	layer_step(&j->layers[layer], &(struct step){'f', path, 0, j->id});
	(void)snprintf(j->first_file, sizeof(j->first_file), "%s", path);
}

static void make_link(struct judge *j, unsigned layer, const char *path)
{
	char real[512];

	real_path(j, layer, path, real);
	assert_int_equal(symlink("a/b", real), 0);
	finish_real(real, j->id, S_IFLNK);
	layer_step(&j->layers[layer], &(struct step){'s', path, "a/b", j->id});
}

static void make_hard_link(struct judge *j, unsigned layer, const char *path)
{
	char real[512], target[512];

	if (!j->first_file[0]) {
		make_file(j, layer, path);
		return;
	}
	real_path(j, layer, path, real);
	real_path(j, layer, j->first_file, target);
	assert_int_equal(link(target, real), 0);
	layer_step(
		&j->layers[layer], &(struct step){'h', path, j->first_file, 0});
}

static void make_whiteout(struct judge *j, unsigned layer, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t dir_len = slash ? (size_t)(slash + 1 - path) : 0;
	char real[512], marked[300];

	real_path(j, layer, path, real);
	assert_int_equal(mknod(real, S_IFCHR, 0), 0);
	(void)snprintf(marked, sizeof(marked), "%.*s.wh.%s", (int)dir_len, path,
		path + dir_len);
	layer_step(&j->layers[layer], &(struct step){'w', marked, 0, 0});
}

static void make_opaque(struct judge *j, unsigned layer, const char *path)
{
	char real[512], marked[300];

	real_path(j, layer, path, real);
	assert_int_equal(
		lsetxattr(real, "trusted.overlay.opaque", "y", 1, 0), 0);
	(void)snprintf(marked, sizeof(marked), "%s/.wh..wh..opq", path);
	layer_step(&j->layers[layer], &(struct step){'w', marked, 0, 0});
}

/* A directory and, by chance, what is in it. */
static void make_dir(
	struct judge *j, unsigned layer, const char *path, unsigned depth)
{
	static const char names[] = "abcd";
	char real[512], child[256];
	unsigned kind, id = j->id;
	const char *n;

	real_path(j, layer, path, real);
	if (depth > 0)
		assert_int_equal(mkdir(real, 0700), 0);
	layer_step(&j->layers[layer], &(struct step){'d', path, 0, id});
	if (depth > 0 && roll(j, 6) == 0)
		make_opaque(j, layer, path);
	for (n = names; *n; n++) {
		(void)snprintf(child, sizeof(child), "%s%s%c", path,
			depth ? "/" : "", *n);
		j->id++;
		kind = roll(j, depth == 0 ? 6 : 8);
		j->kinds[kind]++;
		if (kind <= 2 && depth < DEPTH)
			make_dir(j, layer, child, depth + 1);
		else if (kind == 3)
			make_file(j, layer, child);
		else if (kind == 4)
			make_whiteout(j, layer, child);
		else if (kind == 5 && roll(j, 2))
			make_link(j, layer, child);
		else if (kind == 5)
			make_hard_link(j, layer, child);
	}
	finish_real(real, id, S_IFDIR | 0750);
}

/* ---- comparing ---- */

static int not_a_dot(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static void compare_inode(const char *real, const struct stat *st,
	const struct layer *merged, const struct ld_inode_view *v)
{
	char have[64];
	const char *target;
	size_t len;

	if (st->st_mode != v->attr.mode || st->st_uid != v->attr.uid ||
		st->st_mtim.tv_sec != v->attr.mtime)
		fail_msg("%s is %o of %u, not %o of %u", real, st->st_mode,
			st->st_uid, v->attr.mode, v->attr.uid);
	if (S_ISREG(st->st_mode))
		assert_int_equal(st->st_size, v->size);
	if (S_ISLNK(st->st_mode)) {
		assert_int_equal(
			ld_index_symlink(&merged->x, v, &target, &len), 0);
		assert_int_equal(readlink(real, have, sizeof(have)), len);
		assert_memory_equal(have, target, len);
	}
}

static void compare_dir(
	const char *real, const struct layer *merged, const char *path)
{
	struct ld_inode_view dir, v;
	struct dirent **names;
	char child_real[1024], child[600];
	struct stat st;
	uint64_t cookie = 0;
	struct ld_index_dirent d;
	int k, n, there = 0;

	assert_int_equal(index_find(&merged->x, path, &dir), 0);
	assert_int_equal(lstat(real, &st), 0);
	compare_inode(real, &st, merged, &dir);
	n = scandir(real, &names, not_a_dot, alphasort);
	assert_true(n >= 0);
	for (k = 0; k < n; k++) {
		(void)snprintf(child_real, sizeof(child_real), "%s/%s", real,
			names[k]->d_name);
		(void)snprintf(child, sizeof(child), "%s%s%s", path,
			*path ? "/" : "", names[k]->d_name);
		free(names[k]);
		/* A listing may name whiteouts that nothing can open. */
		if (lstat(child_real, &st) < 0 && errno == ENOENT)
			continue;
		there++;
		if (index_find(&merged->x, child, &v) < 0)
			fail_msg("%s is missing", child_real);
		if (S_ISDIR(st.st_mode))
			compare_dir(child_real, merged, child);
		else
			compare_inode(child_real, &st, merged, &v);
	}
	free(names);
	while (ld_index_next(&merged->x, &dir, cookie, &d) == 1) {
		cookie = d.cookie;
		there--;
	}
	if (there != -2)
		fail_msg("%s has %d entries too many", real, -2 - there);
}

/* ---- rounds ---- */

static bool can_mount(struct judge *j)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		return false;
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return false;
	assert_non_null(mkdtemp(j->dir));
	return mount("tmpfs", j->dir, "tmpfs", 0, NULL) == 0;
}

static void stack_layers(struct judge *j, const char *mnt)
{
	char options[1024] = "lowerdir=";
	size_t len = strlen(options);
	unsigned k;

	for (k = LAYERS; k-- > 0;)
		len += (size_t)snprintf(options + len, sizeof(options) - len,
			"%s/%u%s", j->dir, k, k ? ":" : "");
	if (mount("overlay", mnt, "overlay", MS_RDONLY, options) < 0)
		fail_msg("overlayfs: %s", strerror(errno));
}

static void one_round(struct judge *j, unsigned round)
{
	struct layer merged;
	struct err e = {0};
	/* What failed is below the mount point, which names the seed. */
	char path[512], mnt[100];
	unsigned k;

	j->seed = round;
	(void)snprintf(mnt, sizeof(mnt), "%s/seed-%u", j->dir, round);
	assert_int_equal(mount("tmpfs", j->dir, "tmpfs", 0, NULL), 0);
	assert_int_equal(mkdir(mnt, 0700), 0);
	for (k = 0; k < LAYERS; k++) {
		real_path(j, k, "", path);
		assert_int_equal(mkdir(path, 0700), 0);
		layer_start(&j->layers[k]);
		j->first_file[0] = '\0';
		j->id = (k + 1) * 1000;
		make_dir(j, k, "", 0);
		layer_finish(&j->layers[k]);
	}
	if (layer_merge(j->layers, LAYERS, &merged, &e) < 0)
		fail_msg("%s", e.text);
	stack_layers(j, mnt);
	compare_dir(mnt, &merged, "");
	assert_int_equal(umount(mnt), 0);
	assert_int_equal(umount(j->dir), 0);
	layer_free(&merged);
	for (k = 0; k < LAYERS; k++)
		layer_free(&j->layers[k]);
}

static void merged_layers_look_as_overlayfs_shows_them(void **state)
{
	struct judge j = {.dir = "/tmp/sluice-merge-XXXXXX"};
	unsigned round;

	if (!can_mount(&j))
		skip();
	for (round = 0; round < ROUNDS; round++)
		one_round(&j, round);
	assert_true(j.kinds[4] > 100);
	assert_int_equal(umount(j.dir), 0);
	assert_int_equal(rmdir(j.dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merged_layers_look_as_overlayfs_shows_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
