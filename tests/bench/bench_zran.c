/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far apart should the places of entry into a gzip stream be?
 *
 *   bench_zran FILE.gz...
 *
 * Close together, a read fetches and inflates little, and the windows of the
 * map are a large part of what is kept; far apart it is the other way round.
 * For each span, over all files: time to read them whole, size of the maps
 * beside the blobs, and what one read of 4 KiB somewhere fetches and takes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "blobcache/decode.h"
#include "blobcache/unpack.h"
#include "runtime/base/buf.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define MAX_FILE (UINT64_C(1) << 31)
#define READS 200
#define OUT_LEN (1u << 20)
#define STEP \
	UINT64_C(0x9e3779b97f4a7c15) /* spreads what it is multiplied by \
	                              */

struct figures {
	uint64_t blob, output, map; /* bytes */
	uint64_t groups;
	uint64_t unpack_ns;
	uint64_t reads, fetched, read_ns; /* of reads of 4 KiB */
};

static void need(bool good, const char *what)
{
	if (good)
		return;
	(void)fprintf(stderr, "bench_zran: %s\n", what);
	exit(1);
}

/* One chunk per group is enough to have a map; its digest is not looked at. */
static void end_group(struct bc_unpack *u, uint64_t *from, uint64_t to)
{
	struct digest d = {.algo = DIGEST_SHA256};
	uint64_t n;

	for (; *from < to; *from += n) {
		n = to - *from;
		if (n > BC_UNPACK_MAX_CHUNK)
			n = BC_UNPACK_MAX_CHUNK;
		need(bc_unpack_add_chunk(u, n, &d) == 0, "no memory");
	}
}

static void unpack(struct bc_unpack *u, const struct buf *blob)
{
	struct bc_unpack_io io = {.in = blob->data, .in_len = blob->len};
	uint8_t *out = mem_alloc(OUT_LEN);
	uint64_t from = 0;
	struct err e = {0};
	bool is_new, is_full;
	int r;

	need(out != NULL, "no memory");
	do {
		io.out = out;
		io.out_len = OUT_LEN;
		r = bc_unpack_step(u, &io, &is_new, &e);
		need(r == 0, e.text);
		is_full = io.out_len == 0;
		if (is_new)
			end_group(u, &from, bc_unpack_output(u));
	} while (io.in_len > 0 || is_full || is_new);
	need(bc_unpack_finish(u, &e) == 0, e.text);
	end_group(u, &from, bc_unpack_output(u));
	mem_free(out);
}

/* What the map makes of reads at random places. */
static void read_some(
	const struct bc_map *m, const struct buf *blob, struct figures *f)
{
	uint64_t start, off, last = m->chunks[m->chunk_count - 1].dev_off;
	const struct bc_group *g;
	uint32_t i, k;
	uint8_t *out;

	for (i = 0; i < READS; i++) {
		off = (i + 1) * STEP % last;
		k = bc_map_find(m, off);
		g = &m->groups[m->chunks[k].group];
		out = mem_alloc(g->dec_len);
		need(out != NULL, "no memory");
		start = clock_ns();
		need(bc_decode((enum bc_codec)g->codec, blob->data + g->src_off,
			     g->src_len, m->ctx + g->ctx_off, g->ctx_len, out,
			     g->dec_len) == 0,
			"a group cannot be decoded");
		f->read_ns += clock_ns() - start;
		f->fetched += g->src_len;
		f->reads++;
		mem_free(out);
	}
}

static void measure(const struct buf *blob, uint64_t span, struct figures *f)
{
	struct bc_unpack *u;
	struct bc_map m = {0};
	struct err e = {0};
	uint64_t start;
	struct buf map;

	need(bc_unpack_create(bc_packing_of(blob->data, blob->len), span, &u) ==
			0,
		"no memory");
	buf_init(&map, MAX_FILE);
	start = clock_ns();
	unpack(u, blob);
	f->unpack_ns += clock_ns() - start;
	need(bc_unpack_map(u, &map, &e) == 0, e.text);
	f->blob += blob->len;
	f->output += bc_unpack_output(u);
	f->map += map.len;
	need(bc_map_from_bytes(map.data, map.len, &m, &e) == 0, e.text);
	f->groups += m.group_count;
	if (m.chunk_count > 1)
		read_some(&m, blob, f);
	bc_map_close(&m);
	bc_unpack_destroy(u);
}

static void print(uint64_t span, const struct figures *f)
{
	uint64_t reads = f->reads ? f->reads : 1;

	(void)printf("| %.2f MiB | %.0f MB/s | %llu | %.2f MiB | %.2f %% "
		     "| %.0f KiB | %.2f ms |\n",
		(double)span / (1 << 20),
		(double)f->output * 1000 / (double)f->unpack_ns,
		(unsigned long long)f->groups, (double)f->map / (1 << 20),
		100.0 * (double)f->map / (double)f->blob,
		(double)f->fetched / (double)reads / 1024,
		(double)f->read_ns / (double)reads / 1e6);
}

int main(int argc, char **argv)
{
	static const uint64_t spans[] = {
		1u << 18, 1u << 19, 1u << 20, 2u << 20, 4u << 20, 8u << 20};
	struct figures f;
	struct buf blob;
	size_t k;
	int i;

	need(argc > 1, "name gzip files");
	(void)printf("| span | read whole | groups | maps | of the blobs | a "
		     "read fetches | and inflates for |\n"
		     "|---|---|---|---|---|---|---|\n");
	for (k = 0; k < sizeof(spans) / sizeof(spans[0]); k++) {
		f = (struct figures){0};
		for (i = 1; i < argc; i++) {
			buf_init(&blob, MAX_FILE);
			need(buf_read_file(&blob, AT_FDCWD, argv[i]) == 0,
				"cannot read a file");
			measure(&blob, spans[k], &f);
			buf_fini(&blob);
		}
		print(spans[k], &f);
	}
	return 0;
}
