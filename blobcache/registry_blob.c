/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small blobs of a registry, read as a whole: configs, bootstraps, TOCs.
 *
 * A new connection begins slowly and grows with each round trip: over a far
 * link one of them is busy for many round trips with what the link carries in a
 * moment. There a blob comes in parts, over several connections, which are then
 * also there for what is read next. Who ignores ranges sends it as a whole.
 */
#include <errno.h>

#include "blobcache/registry_int.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define MAX_SMALL_BLOB (64u << 20)
#define FAR_US 8000
#define MAX_PARTS 6
#define PART_BYTES (48u << 10) /* at least */

/* One try: its calls, over the whole or each over a part. */
struct get {
	struct bc_call calls[MAX_PARTS];
	unsigned count;
};

static unsigned count_parts(struct bc_registry *r, uint64_t size)
{
	if (atomic_load(&r->wait_us) < FAR_US || size < 2 * PART_BYTES)
		return 1;
	return (unsigned)min_u64(size / PART_BYTES, MAX_PARTS);
}

/* Into buf. The first error of its calls. */
static int run_get(struct bc_registry *r, struct get *g, const char *path,
	uint64_t size, uint32_t distrusted, uint8_t *buf)
{
	uint64_t from, to = 0;
	unsigned i;

	for (i = 0; i < g->count; i++) {
		from = to;
		to = size * (i + 1) / g->count;
		g->calls[i] = (struct bc_call){
			.route = &r->route,
			.method = "GET",
			.path = path,
			.distrusted = distrusted,
			.has_range = g->count > 1,
			.ranges_only = g->count > 1,
			.off = from,
			.total = size,
			.buf = buf + from,
			.len = to - from,
			.patience_ms = (uint32_t)min_u64(
				r->offline_ms, BC_COLD_PATIENCE_MS),
		};
	}
	bc_call_run_all(g->calls, g->count);
	for (i = 0; i < g->count; i++)
		if (g->calls[i].result < 0)
			return g->calls[i].result;
	return 0;
}

/* What the failed call says. */
static int pass_on(const struct get *g, struct err *e)
{
	unsigned i = 0;

	while (g->calls[i].result == 0)
		i++;
	if (e)
		*e = g->calls[i].err;
	return g->calls[i].err.code;
}

static int take_blob(struct bc_registry *r, const struct digest *d,
	const struct get *g, const struct buf *out, uint64_t size,
	struct err *e)
{
	char text[DIGEST_MAX_TEXT];

	if (g->count == 1 && g->calls[0].t.body_len != size)
		return err_set(e, -EPROTO,
			"blob '%s' of '%s' is shorter than "
			"its descriptor says",
			digest_text(d, text), r->route.label);
	if (digest_check(d, out->data, size) < 0)
		return err_set(e, -EBADMSG,
			"what '%s' sent for blob '%s' has another digest",
			r->route.label, digest_text(d, text));
	return 0;
}

/* -EOPNOTSUPP: not in parts. */
static int get_blob(struct bc_registry *r, const struct digest *d,
	uint64_t size, unsigned parts, uint32_t *distrusted, struct buf *out,
	struct err *e)
{
	struct get g = {.count = parts};
	CLEANUP_FREE char *path = NULL;
	char text[DIGEST_MAX_TEXT];
	unsigned i;
	int rc;

	out->len = 0;
	path = mem_printf("/blobs/%s", digest_text(d, text));
	if (!path || buf_reserve(out, size + 1) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	rc = run_get(r, &g, path, size, *distrusted, out->data);
	for (i = 0; i < g.count && rc != -EOPNOTSUPP; i++)
		*distrusted |= 1u << g.calls[i].at;
	if (rc == 0)
		rc = take_blob(r, d, &g, out, size, e);
	else if (rc == -ENOENT)
		rc = err_set_kind(e, ERR_NOT_FOUND, rc, "'%s' has no blob '%s'",
			r->route.label, text);
	else
		rc = pass_on(&g, e);
	if (rc == 0)
		out->len = size;
	for (i = 0; i < g.count; i++)
		bc_call_fini(&g.calls[i]);
	return rc;
}

int bc_registry_blob(struct bc_registry *r, const struct digest *d,
	uint64_t size, struct buf *out, struct err *e)
{
	unsigned parts = count_parts(r, size);
	char text[DIGEST_MAX_TEXT];
	uint32_t distrusted = 0;
	int rc = -EBADMSG;

	if (size > MAX_SMALL_BLOB)
		return err_set(e, -E2BIG,
			"blob '%s' is larger than the %u MiB allowed here",
			digest_text(d, text), MAX_SMALL_BLOB >> 20);
	for (unsigned i = 0;
		(rc == -EBADMSG || rc == -EPROTO) && i < r->route.count; i++) {
		rc = get_blob(r, d, size, parts, &distrusted, out, e);
		if (rc == -EOPNOTSUPP && parts > 1) {
			parts = 1;
			rc = get_blob(r, d, size, parts, &distrusted, out, e);
		}
	}
	return rc;
}
