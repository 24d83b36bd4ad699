/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FUSE daemon that does no work: what FUSE itself costs.
 *
 *   bare_fuse TREE DIR THREADS
 *
 * Shows the names and attributes of TREE at DIR; every file reads as zeros.
 * Each thread has a clone of the descriptor, on which it blocks, and answers
 * what it read before it reads again: no queue, no lock, no look-up that
 * costs. Needs root; ends when DIR is unmounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/bench/bare_tree.h"

#define MAX_PAGES 256
#define MAX_READ (MAX_PAGES * 4096)
#define REQUEST_SIZE (64 * 1024)
#define DIR_SIZE (64 * 1024)
#define MAX_THREADS 64
#define FOR_EVER (1u << 30) /* seconds */

static struct bare_tree tree;
static char zeros[MAX_READ]; /* never written */

struct loop {
	int fd;
	char request[REQUEST_SIZE];
	char dir[DIR_SIZE];
};

static void reply(struct loop *l, const struct fuse_in_header *in, int error,
	const void *data, size_t len)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + (error ? 0 : len)),
		.error = -error,
		.unique = in->unique,
	};
	struct iovec iov[2] = {
		{&out, sizeof(out)}, {(void *)data, error ? 0 : len}};

	/* An interrupted request is gone; nobody else could be told. */
	if (writev(l->fd, iov, 2) < 0 && errno != ENOENT)
		perror("reply");
}

static void fill_entry(struct fuse_entry_out *e, const struct bare_node *n)
{
	*e = (struct fuse_entry_out){
		.nodeid = n->attr.ino,
		.entry_valid = FOR_EVER,
		.attr_valid = FOR_EVER,
		.attr = n->attr,
	};
}

static void answer_init(struct loop *l, const struct fuse_in_header *in)
{
	const struct fuse_init_in *want = (const void *)(in + 1);
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = want->max_readahead,
		.flags = want->flags &
	                 (FUSE_ASYNC_READ | FUSE_DO_READDIRPLUS |
				 FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
				 FUSE_NO_OPEN_SUPPORT | FUSE_PARALLEL_DIROPS |
				 FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS |
				 FUSE_NO_OPENDIR_SUPPORT),
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = 4096,
		.time_gran = 1,
		.max_pages = MAX_PAGES,
	};

	reply(l, in, 0, &out, sizeof(out));
}

static void answer_lookup(
	struct loop *l, const struct fuse_in_header *in, struct bare_node *dir)
{
	struct bare_node *n =
		bare_tree_child(&tree, dir, (const char *)(in + 1));
	struct fuse_entry_out out = {.entry_valid = FOR_EVER};

	/* node 0: that there is none may be remembered */
	if (n)
		fill_entry(&out, n);
	reply(l, in, 0, &out, sizeof(out));
}

static void answer_readdir(
	struct loop *l, const struct fuse_in_header *in, struct bare_node *dir)
{
	const struct fuse_read_in *want = (const void *)(in + 1);
	size_t head = in->opcode == FUSE_READDIRPLUS
	                      ? FUSE_NAME_OFFSET_DIRENTPLUS
	                      : FUSE_NAME_OFFSET;
	size_t room = want->size < DIR_SIZE ? want->size : DIR_SIZE;
	size_t used = 0, len, size;
	struct fuse_dirent *d;
	struct bare_node *n;

	for (uint64_t i = want->offset; i < dir->count; i++) {
		n = &tree.nodes[dir->first + i];
		len = strlen(n->name);
		size = FUSE_DIRENT_ALIGN(head + len);
		if (used + size > room)
			break;
		memset(l->dir + used, 0, size);
		d = (void *)(l->dir + used);
		if (in->opcode == FUSE_READDIRPLUS) {
			fill_entry((void *)d, n);
			d = &((struct fuse_direntplus *)(void *)d)->dirent;
		}
		d->ino = n->attr.ino;
		d->off = i + 1;
		d->namelen = (uint32_t)len;
		d->type = n->attr.mode >> 12;
		memcpy(d->name, n->name, len);
		used += size;
	}
	reply(l, in, 0, l->dir, used);
}

static void answer_read(
	struct loop *l, const struct fuse_in_header *in, struct bare_node *n)
{
	const struct fuse_read_in *want = (const void *)(in + 1);
	uint64_t left =
		want->offset < n->attr.size ? n->attr.size - want->offset : 0;
	size_t len = want->size < MAX_READ ? want->size : MAX_READ;

	reply(l, in, 0, zeros, len < left ? len : (size_t)left);
}

static void answer_node(
	struct loop *l, const struct fuse_in_header *in, struct bare_node *n)
{
	struct fuse_attr_out attr = {.attr_valid = FOR_EVER, .attr = n->attr};

	switch (in->opcode) {
	case FUSE_LOOKUP:
		answer_lookup(l, in, n);
		break;
	case FUSE_GETATTR:
		reply(l, in, 0, &attr, sizeof(attr));
		break;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		answer_readdir(l, in, n);
		break;
	case FUSE_READ:
		answer_read(l, in, n);
		break;
	case FUSE_READLINK:
		if (n->target)
			reply(l, in, 0, n->target, strlen(n->target));
		else
			reply(l, in, EINVAL, NULL, 0);
		break;
	default:
		/* opens and xattrs, too: the kernel does without from now on */
		reply(l, in, ENOSYS, NULL, 0);
	}
}

static void answer(struct loop *l)
{
	const struct fuse_in_header *in = (const void *)l->request;
	struct fuse_statfs_out fs = {.st = {.bsize = 4096, .namelen = 255}};
	struct bare_node *n = bare_tree_node(&tree, in->nodeid);

	switch (in->opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	case FUSE_INIT:
		answer_init(l, in);
		break;
	case FUSE_STATFS:
		reply(l, in, 0, &fs, sizeof(fs));
		break;
	default:
		if (n)
			answer_node(l, in, n);
		else
			reply(l, in, ENOENT, NULL, 0);
	}
}

static void *run(void *arg)
{
	struct loop *l = arg;
	ssize_t n;

	for (;;) {
		n = read(l->fd, l->request, sizeof(l->request));
		if (n >= (ssize_t)sizeof(struct fuse_in_header))
			answer(l);
		else if (n < 0 && errno != EINTR && errno != ENOENT)
			break; /* ENODEV: unmounted */
	}
	return NULL;
}

static struct loop *loop_make(int session)
{
	struct loop *l = calloc(1, sizeof(*l));
	uint32_t old = (uint32_t)session;

	bare_need(l != NULL, "memory");
	l->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	bare_need(l->fd >= 0, "/dev/fuse");
	if (session >= 0)
		bare_need(ioctl(l->fd, FUSE_DEV_IOC_CLONE, &old) == 0,
			"clone of /dev/fuse");
	return l;
}

int main(int argc, char **argv)
{
	pthread_t threads[MAX_THREADS];
	struct loop *first;
	unsigned long count;
	char opts[128];

	count = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	if (count == 0 || count > MAX_THREADS) {
		(void)fprintf(stderr, "usage: bare_fuse TREE DIR THREADS\n");
		return 2;
	}
	bare_tree_load(&tree, argv[1]);
	first = loop_make(-1);
	(void)snprintf(opts, sizeof(opts),
		"fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,"
		"allow_other,max_read=%d",
		first->fd, MAX_READ);
	bare_need(mount("bare", argv[2], "fuse.bare",
			  MS_RDONLY | MS_NOSUID | MS_NODEV, opts) == 0,
		argv[2]);
	for (unsigned long i = 0; i < count; i++)
		bare_need(pthread_create(&threads[i], NULL, run,
				  i ? loop_make(first->fd) : first) == 0,
			"thread");
	for (unsigned long i = 0; i < count; i++)
		(void)pthread_join(threads[i], NULL);
	return 0;
}
