/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What does the index of an image cost?
 *
 *   bench_index [ENTRIES [LAYERS]]
 *
 * Builds a tree of ENTRIES (100000) files in directories of 100, writes its
 * index in both block sizes, opens it and finds every file; then writes LAYERS
 * (20) layers that share half of their names and merges them. Each measurement
 * is a process of its own, so that its peak of memory is its own.
 */
#include <stdio.h>
#include <stdlib.h>
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
	uint64_t build_ns, write_ns, merge_ns, bytes, entries;
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

static void open_index(struct buf *b, struct ld_index *ret)
{
	struct err e = {0};

	need(ld_index_from_bytes(b->data, b->len, ret, &e) == 0, e.text);
}

static void write_one(unsigned entries, unsigned bits, struct figures *f)
{
	uint64_t start = clock_ns();
	struct ld_tree *t = make_tree(0, entries, bits);
	struct ld_index x;
	struct err e = {0};
	struct buf b;

	f->build_ns = clock_ns() - start;
	buf_init(&b, UINT64_C(1) << 31);
	start = clock_ns();
	need(ld_index_write(t, bits, &b, &e) == 0, e.text);
	f->write_ns = clock_ns() - start;
	open_index(&b, &x);
	f->bytes = b.len;
	f->entries = x.inode_count;
	ld_index_close(&x);
	buf_fini(&b);
	ld_tree_destroy(t);
}

/* Each layer has the upper half of the one below, and as much again. */
static void merge_many(unsigned entries, unsigned layers, struct figures *f)
{
	unsigned count = entries / layers * 2, k;
	static const struct ld_index *list[MAX_LAYERS];
	static struct ld_index x[MAX_LAYERS];
	static struct buf bytes[MAX_LAYERS];
	struct ld_tree *t, *out;
	struct err e = {0};
	uint64_t start = clock_ns();
	struct buf b;

	for (k = 0; k < layers; k++) {
		t = make_tree(k * (count / 2), count, 12);
		buf_init(&bytes[k], UINT64_C(1) << 31);
		need(ld_index_write(t, 12, &bytes[k], &e) == 0, e.text);
		ld_tree_destroy(t);
		open_index(&bytes[k], &x[k]);
		list[k] = &x[k];
	}
	f->build_ns = clock_ns() - start;
	start = clock_ns();
	need(ld_tree_create(&out) == 0, "no memory");
	need(ld_merge(list, layers, out, &e) == 0, e.text);
	f->merge_ns = clock_ns() - start;
	start = clock_ns();
	buf_init(&b, UINT64_C(1) << 31);
	need(ld_index_write(out, 12, &b, &e) == 0, e.text);
	f->write_ns = clock_ns() - start;
	f->bytes = b.len;
	ld_tree_destroy(out);
	buf_fini(&b);
	for (k = 0; k < layers; k++) {
		ld_index_close(&x[k]);
		buf_fini(&bytes[k]);
	}
}

static void print(const char *what, const struct figures *f, long peak_kib)
{
	(void)printf("| %s | %.3f s | %.3f s | %.3f s | %.1f MiB | %.0f MiB "
		     "|\n",
		what, (double)f->build_ns / 1e9, (double)f->merge_ns / 1e9,
		(double)f->write_ns / 1e9, (double)f->bytes / (1 << 20),
		(double)peak_kib / 1024);
}

/* In a child; the figures come through a pipe, the peak with its end. */
static void measure(const char *what, unsigned entries, unsigned layers,
	unsigned block_bits)
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
		if (layers > 1)
			merge_many(entries, layers, &f);
		else
			write_one(entries, block_bits, &f);
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

static unsigned number(const char *s, unsigned least, unsigned most)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	need(*s && !*end && n >= least && n <= most, "a number is no use");
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	unsigned entries = argc > 1 ? number(argv[1], 1000, 4000000) : 100000;
	unsigned layers = argc > 2 ? number(argv[2], 2, MAX_LAYERS) : 20;
	char name[80];

	(void)printf("%u files\n\n| what | trees or layers made | merged | "
		     "written | index | most memory |\n|---|---|---|---|---|---"
		     "|\n",
		entries);
	measure("blocks of 4096", entries, 1, 12);
	measure("blocks of 512", entries, 1, 9);
	(void)snprintf(name, sizeof(name), "%u layers merged", layers);
	measure(name, entries, layers, 12);
	return 0;
}
