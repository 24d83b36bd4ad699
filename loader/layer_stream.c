/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming a layer: this thread fetches, hashes, unpacks; see layer_stream.h.
 */
#include "loader/layer_stream.h"

#include <errno.h>

#include "blobcache/part.h"
#include "blobcache/stream.h"
#include "blobcache/unpack.h"
#include "loader/layer_sink.h"
#include "runtime/base/log.h"

#define LOG_TOPIC "layer"
#define TAR_BLOCK_BITS 9
/* What comes with the first ranges is not worth a file. */
#define MIN_PART_SIZE (4u << 20)

struct streaming {
	const struct ld_layer_stream_options *o;
	struct bc_part part;
	bool has_failed; /* the source has */
	bool is_resumed; /* some bytes are those of an earlier try */
	struct bc_stream *stream;
	struct digest_ctx *blob_ctx;
	bool is_right; /* the blob's digest is what it should be */
	uint64_t done; /* bytes read */
	struct bc_unpack *unpack;
	struct layer_sink sink;
	enum bc_packing packing;
	/* the buffer of the sink that is being filled */
	uint8_t *room;
	size_t room_len;
	bool new_group;
};

/* ---- unpacking ---- */

/* Hand over what the buffer has. */
static void flush(struct streaming *s)
{
	if (s->room_len == 0)
		return;
	layer_sink_give(&s->sink, s->room_len, s->new_group);
	s->room = NULL;
	s->room_len = 0;
	s->new_group = false;
}

/* The sink's own error is told at its end. */
static int unpack_bytes(
	struct streaming *s, const uint8_t *p, size_t n, struct err *e)
{
	struct bc_unpack_io io = {.in = p, .in_len = n};
	bool new_group, is_full;
	int r;

	do {
		if (!s->room)
			s->room = layer_sink_room(&s->sink);
		if (!s->room)
			return -EPIPE;
		io.out = s->room + s->room_len;
		io.out_len = SINK_BUF_LEN - s->room_len;
		r = bc_unpack_step(s->unpack, &io, &new_group, e);
		if (r < 0)
			return r;
		s->room_len = SINK_BUF_LEN - io.out_len;
		is_full = io.out_len == 0;
		if (is_full || new_group)
			flush(s);
		s->new_group |= new_group;
	} while (io.in_len > 0 || is_full || new_group);
	return 0;
}

static int start(struct streaming *s, const uint8_t *p, size_t n, struct err *e)
{
	const struct ld_layer_desc *d = s->o->desc;
	enum digest_algo algo = d->diff_id.algo;
	int r;

	s->packing = bc_packing_of(p, n);
	r = bc_unpack_create(s->packing, BC_UNPACK_SPAN, &s->unpack);
	if (r < 0)
		return err_set(e, r, "out of memory");
	return layer_sink_start(&s->sink, s->o->store, s->unpack, &d->digest,
		algo == DIGEST_NONE ? DIGEST_SHA256 : algo, e);
}

/* All of the source through the blob's digest; what fits through the rest. */
static int read_all(struct streaming *s, struct err *e)
{
	struct err source_err = {0};
	const uint8_t *p;
	int broken = 0, r;
	size_t n;

	while ((r = bc_stream_next(s->stream, &p, &n, &source_err)) == 1) {
		r = digest_ctx_update(s->blob_ctx, p, n);
		if (r < 0)
			return err_sys(e, r, "cannot hash it");
		if (!s->unpack)
			broken = start(s, p, n, e);
		if (broken == 0)
			broken = unpack_bytes(s, p, n, e);
		/*
		 * Bytes that make no sense: go on to see whether they are the
		 * ones that were asked for. Anything else ends it here.
		 */
		if (broken < 0 && broken != -EPROTO && broken != -EPIPE)
			return broken;
		/* with other bytes at its beginning it may be whole */
		if (broken == -EPROTO && s->is_resumed)
			return broken;
		ld_progress_add(s->o->progress, n);
		s->done += n;
	}
	s->has_failed = r < 0;
	if (r < 0 && e)
		*e = source_err;
	return r < 0 ? r : broken;
}

/* ---- judging ---- */

static int check_blob(struct streaming *s, struct err *e)
{
	struct digest d;
	int r = digest_ctx_final(s->blob_ctx, &d);

	if (r < 0)
		return err_sys(e, r, "cannot hash it");
	s->is_right = digest_is_equal(&d, &s->o->desc->digest);
	if (s->is_right)
		return 0;
	return err_set(e, -EBADMSG,
		"its bytes do not have its digest: the registry or the network "
		"has changed them");
}

static int check_tar(
	const struct ld_layer_desc *d, const struct digest *tar, struct err *e)
{
	char want[DIGEST_MAX_TEXT], got[DIGEST_MAX_TEXT];

	if (d->diff_id.algo == DIGEST_NONE || digest_is_equal(tar, &d->diff_id))
		return 0;
	return err_set(e, -EBADMSG,
		"its tar has the DiffID '%s', the image's config says '%s'",
		digest_text(tar, got), digest_text(&d->diff_id, want));
}

static void describe(const struct streaming *s, struct ld_layer *l)
{
	l->block_bits = TAR_BLOCK_BITS;
	l->lazy = bc_unpack_is_random(s->unpack);
	switch (s->packing) {
	case BC_PACKING_GZIP:
		l->format = LD_FORMAT_TAR_GZIP;
		l->why = "it was read whole once; its checkpoints allow to "
			 "fetch parts of it";
		break;
	case BC_PACKING_ZSTD:
		l->format = LD_FORMAT_TAR_ZSTD;
		l->why = "it was read whole once; its frames can be fetched "
			 "alone";
		break;
	case BC_PACKING_NONE:
		l->format = LD_FORMAT_TAR;
		l->why = "it was read whole once; any part of it can be "
			 "fetched";
		break;
	}
	if (!l->lazy)
		l->why = "its packing has no places of entry: what goes out of "
			 "the cache comes back only by reading all of it again";
}

/* Nothing to read: no device, and a map of nothing. */
static int make_empty_map(
	const struct streaming *s, struct buf *map, struct err *e)
{
	struct bc_map_builder *b;
	int r = bc_map_builder_create(&b);

	if (r < 0)
		return err_set(e, r, "out of memory");
	r = bc_map_finish(b, 0, s->o->desc->size, map, e);
	bc_map_builder_destroy(b);
	return r;
}

static int make_layer(struct streaming *s, struct ld_layer *l, struct err *e)
{
	int r;

	r = ld_tar_layer_finish(&s->sink.tar, l, e);
	if (r < 0)
		return r;
	if (ld_tree_blob_count(l->tree) == 0)
		r = make_empty_map(s, &l->map, e);
	else
		r = bc_unpack_map(s->unpack, &l->map, e);
	if (r < 0)
		return r;
	describe(s, l);
	if (ld_tree_blob_count(l->tree) == 0)
		return 0;
	if (!l->lazy && !s->sink.spool.store)
		return err_set(e, -ENOSPC,
			"it can be read only from the cache, which has no room "
			"for it");
	l->spool = s->sink.spool;
	s->sink.spool = (struct bc_spool){.fd = -1};
	return 0;
}

static int stream(struct streaming *s, struct ld_layer *ret, struct err *e)
{
	struct ld_layer l = {0};
	int r, judged;

	buf_init(&l.map, 0);
	r = read_all(s, e);
	if (r < 0 && r != -EPROTO && r != -EPIPE)
		return r;
	/* wrong bytes explain everything else */
	judged = check_blob(s, e);
	if (judged < 0 || r == -EPROTO)
		return judged < 0 ? judged : r;
	if (!s->unpack)
		return err_set(e, -EPROTO, "it is empty");
	if (r == 0)
		r = bc_unpack_finish(s->unpack, e);
	if (r < 0 && r != -EPIPE)
		return r;
	flush(s);
	r = layer_sink_end(&s->sink, &l.diff_id, e);
	if (r == 0)
		r = check_tar(s->o->desc, &l.diff_id, e);
	if (r == 0)
		r = make_layer(s, &l, e);
	if (r < 0)
		ld_layer_fini(&l);
	else
		*ret = l;
	return r;
}

/* ---- tries ---- */

/* Nothing may come of it but the error of having nothing. */
static void open_part(struct streaming *s)
{
	const struct ld_layer_desc *d = s->o->desc;

	s->part = (struct bc_part){.fd = -1};
	if (s->o->source->is_local || d->size < MIN_PART_SIZE)
		return;
	/* without one, the next try begins anew, and that is all */
	(void)bc_part_open(s->o->store, &d->digest, d->size, &s->part);
	s->is_resumed = s->part.len > 0;
}

/* Other bytes would do better, or the same ones. */
static bool is_of_bytes(const struct streaming *s, int r)
{
	return r == -EBADMSG ||
	       (!s->has_failed && (r == -EPROTO || r == -EOPNOTSUPP));
}

static int try(struct streaming *s, struct ld_layer *ret, struct err *e)
{
	const struct ld_layer_desc *d = s->o->desc;
	int r;

	r = digest_ctx_create(d->digest.algo, &s->blob_ctx);
	if (r == 0)
		r = bc_stream_open(
			s->o->rt, s->o->source, d->size, &s->part, &s->stream);
	if (r < 0)
		(void)err_sys(e, r, "cannot begin to read it");
	else
		r = stream(s, ret, e);
	bc_stream_close(s->stream);
	layer_sink_fini(&s->sink);
	bc_unpack_destroy(s->unpack);
	digest_ctx_destroy(s->blob_ctx);
	return r;
}

int ld_layer_stream(const struct ld_layer_stream_options *o,
	struct ld_layer *ret, struct err *e)
{
	struct streaming s = {.o = o};
	char id[DIGEST_MAX_TEXT];
	int r;

	open_part(&s);
	ld_progress_begin(
		o->progress, &o->desc->digest, o->desc->size, s.part.len);
	r = try(&s, ret, e);
	if (is_of_bytes(&s, r) && s.is_resumed && !s.is_right) {
		log_info("what was kept of layer '%s' is of no use, it is read "
			 "from its beginning",
			digest_text(&o->desc->digest, id));
		ld_progress_back(o->progress, s.done);
		bc_part_drop(&s.part);
		s = (struct streaming){.o = o};
		open_part(&s);
		r = try(&s, ret, e);
	}
	ld_progress_end(o->progress);
	if (r == 0 || is_of_bytes(&s, r))
		bc_part_drop(&s.part);
	else
		bc_part_keep(&s.part);
	if (r < 0)
		(void)err_wrap(
			e, "layer '%s'", digest_text(&o->desc->digest, id));
	return r;
}
