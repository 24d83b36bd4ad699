/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What does the index of an image cost?
 *
 *   bench_index [ENTRIES [LAYERS]]
 *
 * Builds a tree of ENTRIES (100000) files in directories of 100, writes its
 * index in both block sizes, opens it and finds every file; then writes LAYERS
 * (20) layers that share half of their names and merges them. As in a mount,
 * the layers' indexes are files, mapped, made before. Each step is a process of
 * its own, so that its memory is its own: "own" is what it holds at the end,
 * with nothing freed yet; "most" was ever resident, pages of mapped files and
 * the program counted.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/index.h"
#include "loader/merge.h"
#include "runtime/base/buf.h"
#include "runtime/base/clock.h"

enum { FILES_PER_DIR = 100, MAX_LAYERS = 500 };

/* What a measurement gives to the process that asked for it. */
struct figures {
	uint64_t build_ns, write_ns, merge_ns, bytes, own_kib;
};

/* What is measured, and where its layers lie. */
struct job {
	unsigned entries, layers, block_bits;
	int dirfd;
};

static void need(bool good, const char *what)
{
	if (good)
		return;
	(void)fprintf(stderr, "bench_index: %s\n", what);
	exit(1);
}

/* Files first to first + count, one extent each. */
static struct ld_tree *make_tree(
	unsigned first, unsigned count, unsigned block_bits)
{
	const struct ld_attr attr = {.mode = S_IFREG | 0644, .mtime = 1};
	struct ld_blob_ref blob = {.digest = {.algo = DIGEST_SHA256}};
	uint64_t off = 0;
	struct ld_inode *i;
	struct ld_tree *t;
	struct err e = {0};
	uint32_t slot;
	char path[128];
	unsigned k;
	int n;

	blob.digest.bytes[0] = (uint8_t)(first + 1);
	blob.device_size = (uint64_t)count << 13;
	need(ld_tree_create(&t) == 0, "no memory");
	need(ld_tree_add_blob(t, &blob, &slot) == 0, "no memory");
	for (k = first; k < first + count; k++) {
		n = snprintf(path, sizeof(path),
			"usr/lib/python3/package%u/module_%u.py",
			k / FILES_PER_DIR, k);
		need(ld_tree_add(t, path, (size_t)n, &attr, &i, &e) == 0,
			e.text);
		i->size = 5000;
		need(ld_tree_add_extent(t, i, 0, i->size, slot, off, &e) == 0,
			e.text);
		off += 1u << 13;
	}
	return t;
}

/* Memory of this process that is no file's, in KiB. */
static uint64_t own_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	uint64_t kib = 0;
	char line[256];

	need(f, "no /proc");
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "RssAnon:", 8) == 0)
			kib = strtoull(line + 8, NULL, 10);
	(void)fclose(f);
	return kib;
}

static void write_one(const struct job *j, struct figures *f)
{
	uint64_t start = clock_ns();
	struct ld_tree *t = make_tree(0, j->entries, j->block_bits);
	struct ld_index x;
	struct err e = {0};
	struct buf b;

	f->build_ns = clock_ns() - start;
	buf_init(&b, UINT64_C(1) << 31);
	start = clock_ns();
	need(ld_index_write(t, j->block_bits, &b, &e) == 0, e.text);
	f->write_ns = clock_ns() - start;
	f->own_kib = own_kib();
	need(ld_index_from_bytes(b.data, b.len, &x, &e) == 0, e.text);
	f->bytes = b.len;
	ld_index_close(&x);
	buf_fini(&b);
	ld_tree_destroy(t);
}

static void layer_name(unsigned k, char name[16])
{
	(void)snprintf(name, 16, "%u", k);
}

/* Each layer has the upper half of the one below, and as much again. */
static void make_layers(const struct job *j, struct figures *f)
{
	unsigned count = j->entries / j->layers * 2, k;
	uint64_t start = clock_ns();
	struct err e = {0};
	struct ld_tree *t;
	char name[16];
	struct buf b;
	int fd;

	for (k = 0; k < j->layers; k++) {
		t = make_tree(k * (count / 2), count, 12);
		buf_init(&b, UINT64_C(1) << 31);
		need(ld_index_write(t, 12, &b, &e) == 0, e.text);
		layer_name(k, name);
		fd = openat(
			j->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		need(fd >= 0 && write(fd, b.data, b.len) == (ssize_t)b.len,
			"a layer cannot be written");
		(void)close(fd); /* read again at once */
		f->bytes += b.len;
		ld_tree_destroy(t);
		buf_fini(&b);
	}
	f->build_ns = clock_ns() - start;
	f->own_kib = own_kib();
}

static void merge_many(const struct job *j, struct figures *f)
{
	static const struct ld_index *list[MAX_LAYERS];
	static struct ld_index x[MAX_LAYERS];
	uint64_t start = clock_ns();
	struct ld_tree *out;
	struct err e = {0};
	char name[16];
	struct buf b;
	unsigned k;

	for (k = 0; k < j->layers; k++) {
		layer_name(k, name);
		need(ld_index_open(j->dirfd, name, &x[k], &e) == 0, e.text);
		list[k] = &x[k];
	}
	need(ld_tree_create(&out) == 0, "no memory");
	need(ld_merge(list, j->layers, out, &e) == 0, e.text);
	f->merge_ns = clock_ns() - start;
	start = clock_ns();
	buf_init(&b, UINT64_C(1) << 31);
	need(ld_index_write(out, 12, &b, &e) == 0, e.text);
	f->write_ns = clock_ns() - start;
	f->own_kib = own_kib();
	f->bytes = b.len;
	ld_tree_destroy(out);
	buf_fini(&b);
	for (k = 0; k < j->layers; k++)
		ld_index_close(&x[k]);
}

static void print(const char *what, const struct figures *f, long peak_kib)
{
	(void)printf("| %s | %.3f s | %.3f s | %.3f s | %.1f MiB | %.0f MiB "
		     "| %.0f MiB |\n",
		what, (double)f->build_ns / 1e9, (double)f->merge_ns / 1e9,
		(double)f->write_ns / 1e9, (double)f->bytes / (1 << 20),
		(double)f->own_kib / 1024, (double)peak_kib / 1024);
}

/* In a child; the figures come through a pipe, the peak with its end. */
static void measure(const char *what, const struct job *j,
	void (*run)(const struct job *, struct figures *))
{
	struct figures f = {0};
	struct rusage usage;
	int fds[2], status;
	pid_t child;

	need(pipe(fds) == 0, "no pipe");
	(void)fflush(stdout);
	child = fork();
	need(child >= 0, "no process");
	if (child == 0) {
		run(j, &f);
		need(write(fds[1], &f, sizeof(f)) == sizeof(f), "no pipe");
		exit(0);
	}
	need(wait4(child, &status, 0, &usage) == child && status == 0,
		"a measurement has failed");
	need(read(fds[0], &f, sizeof(f)) == sizeof(f), "no figures");
	(void)close(fds[0]); /* pipes without data */
	(void)close(fds[1]);
	print(what, &f, usage.ru_maxrss);
}

/* In a folder that is gone afterwards. */
static void measure_layers(struct job *j)
{
	const char *parent = getenv("TMPDIR");
	char folder[4096], name[80];
	unsigned k;

	(void)snprintf(folder, sizeof(folder), "%s/bench_index.XXXXXX",
		parent ? parent : "/tmp");
	need(mkdtemp(folder), "no folder");
	j->dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(j->dirfd >= 0, "no folder");
	(void)snprintf(name, sizeof(name), "%u layers", j->layers);
	measure(name, j, make_layers);
	(void)snprintf(name, sizeof(name), "%u layers merged", j->layers);
	measure(name, j, merge_many);
	for (k = 0; k < j->layers; k++) {
		layer_name(k, name);
		(void)unlinkat(j->dirfd, name, 0); /* only litter */
	}
	(void)close(j->dirfd);
	(void)rmdir(folder);
}

static unsigned number(const char *s, unsigned least, unsigned most)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	need(*s && !*end && n >= least && n <= most, "a number is no use");
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	struct job j = {.block_bits = 12};

	j.entries = argc > 1 ? number(argv[1], 1000, 4000000) : 100000;
	j.layers = argc > 2 ? number(argv[2], 2, MAX_LAYERS) : 20;
	(void)printf("%u files\n\n| what | made | merged | written | index | "
		     "own | most |\n|---|---|---|---|---|---|---|\n",
		j.entries);
	measure("blocks of 4096", &j, write_one);
	j.block_bits = 9;
	measure("blocks of 512", &j, write_one);
	measure_layers(&j);
	return 0;
}
