/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a tree into memory, directory by directory. */
#include "tests/bench/bare_tree.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void bare_need(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static char *copy(const char *s)
{
	char *p = strdup(s);

	bare_need(p != NULL, "memory");
	return p;
}

static struct bare_node *append(struct bare_tree *t)
{
	if (t->count == t->room) {
		t->room = t->room * 2 + 1024;
		t->nodes = realloc(t->nodes, t->room * sizeof(*t->nodes));
		bare_need(t->nodes != NULL, "memory");
	}
	t->nodes[t->count] = (struct bare_node){0};
	return &t->nodes[t->count++];
}

static void take_attributes(struct bare_node *n, uint64_t id, const char *path)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t len;

	bare_need(lstat(path, &st) == 0, path);
	n->attr = (struct fuse_attr){
		.ino = id,
		.size = (uint64_t)st.st_size,
		.blocks = (uint64_t)st.st_blocks,
		.atime = (uint64_t)st.st_atim.tv_sec,
		.mtime = (uint64_t)st.st_mtim.tv_sec,
		.ctime = (uint64_t)st.st_ctim.tv_sec,
		.mode = st.st_mode,
		.nlink = (uint32_t)st.st_nlink,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.blksize = 4096,
	};
	if (!S_ISLNK(st.st_mode))
		return;
	len = readlink(path, target, sizeof(target) - 1);
	bare_need(len >= 0, path);
	target[len] = '\0';
	n->target = copy(target);
}

/* strcmp's order, which the look-up relies on, whatever the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_child(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

/* Append the children of node i; paths[] grows with the nodes. */
static char **load_children(struct bare_tree *t, char **paths, uint32_t i)
{
	struct dirent **list;
	struct bare_node *n;
	char *path;
	int count = scandir(paths[i], &list, is_child, by_name);

	bare_need(count >= 0, paths[i]);
	t->nodes[i].first = t->count;
	t->nodes[i].count = (uint32_t)count;
	for (int k = 0; k < count; k++) {
		bare_need(
			asprintf(&path, "%s/%s", paths[i], list[k]->d_name) > 0,
			"memory");
		n = append(t);
		n->name = copy(list[k]->d_name);
		take_attributes(n, t->count, path);
		paths = realloc(paths, t->room * sizeof(*paths));
		bare_need(paths != NULL, "memory");
		paths[t->count - 1] = path;
		free(list[k]);
	}
	free(list);
	return paths;
}

void bare_tree_load(struct bare_tree *t, const char *path)
{
	char **paths;

	*t = (struct bare_tree){0};
	take_attributes(append(t), FUSE_ROOT_ID, path);
	paths = calloc(t->room, sizeof(*paths));
	bare_need(paths != NULL, "memory");
	paths[0] = copy(path);
	for (uint32_t i = 0; i < t->count; i++) {
		if (S_ISDIR(t->nodes[i].attr.mode))
			paths = load_children(t, paths, i);
		free(paths[i]);
	}
	free(paths);
}

struct bare_node *bare_tree_node(struct bare_tree *t, uint64_t id)
{
	return id >= 1 && id <= t->count ? &t->nodes[id - 1] : NULL;
}

struct bare_node *bare_tree_child(
	struct bare_tree *t, struct bare_node *dir, const char *name)
{
	uint32_t low = dir->first, high = dir->first + dir->count, middle;
	int c;

	while (low < high) {
		middle = low + (high - low) / 2;
		c = strcmp(name, t->nodes[middle].name);
		if (c == 0)
			return &t->nodes[middle];
		if (c < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
