/* SPDX-License-Identifier: Apache-2.0 */
/* Status of a mount as JSON and as text; see status.h. */
#include "loader/status.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "loader/layer.h"
#include "loader/size.h"
#include "runtime/base/util.h"

/* The sums over all blobs. */
struct sums {
	uint64_t total, cached, hits, misses, verify_failures;
};

/* shown: of a blob that is cached as a whole; NULL: it is found out. */
static json_t *blob_json(
	const struct ld_image_blob *b, const uint64_t *shown, struct sums *sums)
{
	char digest[DIGEST_MAX_TEXT];
	struct bc_blob_stats s;
	uint64_t total, cached;

	bc_blob_stats(b->blob, &s);
	if (shown)
		total = cached = *shown;
	else
		bc_blob_wanted_bytes(b->blob, b->wanted, &total, &cached);
	sums->total += total;
	sums->cached += cached;
	sums->hits += s.hits;
	sums->misses += s.misses;
	sums->verify_failures += s.verify_failures;
	return json_pack("{s:s, s:s, s:b, s:s, s:I, s:I}", "digest",
		digest_text(&b->digest, digest), "format",
		ld_format_name(b->format), "lazy", (int)b->lazy, "why", b->why,
		"bytes_cached", (json_int_t)cached, "bytes_total",
		(json_int_t)total);
}

static int set_number(json_t *o, const char *key, uint64_t n)
{
	return json_object_set_new(o, key, json_integer((json_int_t)n));
}

static int set_string(json_t *o, const char *key, const char *s)
{
	return json_object_set_new(o, key, s ? json_string(s) : json_null());
}

static int set_identity(json_t *o, const struct ld_status_of *s)
{
	char digest[DIGEST_MAX_TEXT];
	int bad = 0;

	bad |= set_string(o, "image", s->image->name);
	bad |= set_string(o, "digest", digest_text(&s->image->digest, digest));
	bad |= set_string(o, "driver", s->driver);
	bad |= set_string(o, "driver_reason", s->driver_reason);
	bad |= set_string(o, "transport", s->transport);
	bad |= set_string(o, "transport_reason", s->transport_reason);
	bad |= set_string(o, "io_backend", rt_backend_name(rt_backend(s->rt)));
	bad |= set_string(o, "io_backend_reason", rt_backend_reason(s->rt));
	bad |= set_number(o, "pid", (uint64_t)getpid());
	bad |= set_number(o, "workers", rt_worker_count(s->rt));
	bad |= set_number(o, "entries", s->image->entries);
	return bad;
}

static int set_counters(
	json_t *o, const struct ld_status_of *s, const struct sums *sums)
{
	struct bc_net_stats net;
	struct ld_session_stats fs = {0};
	int bad = 0;

	bc_net_stats(s->net, &net);
	if (s->session)
		ld_session_stats(s->session, &fs);
	bad |= set_number(o, "bytes_total", sums->total);
	bad |= set_number(o, "bytes_compressed", s->image->bytes_compressed);
	bad |= set_number(o, "bytes_cached", sums->cached);
	bad |= json_object_set_new(
		o, "complete", json_boolean(sums->cached == sums->total));
	bad |= set_number(o, "bytes_fetched", net.body_bytes);
	bad |= set_number(o, "requests_http", net.requests);
	bad |= set_number(o, "reads", fs.reads);
	bad |= set_number(o, "read_hits", sums->hits);
	bad |= set_number(o, "read_misses", sums->misses);
	bad |= set_number(o, "read_errors", fs.read_errors);
	bad |= set_number(o, "verify_failures", sums->verify_failures);
	bad |= set_number(o, "retries", net.retries);
	bad |= json_object_set_new(o, "offline", json_boolean(net.offline));
	return bad;
}

json_t *ld_status_json(const struct ld_status_of *s)
{
	json_t *o = json_object(), *blobs = json_array();
	struct sums sums = {0};
	int bad = 0;
	size_t i;

	/* if it cannot be found out, everything counts */
	if (!s->shown)
		(void)ld_image_find_wanted(s->image);
	for (i = 0; i < s->image->blob_count; i++)
		bad |= json_array_append_new(
			blobs, blob_json(&s->image->blobs[i],
				       s->shown ? &s->shown[i] : NULL, &sums));
	bad |= set_identity(o, s);
	bad |= set_counters(o, s, &sums);
	bad |= json_object_set_new(o, "blobs", blobs);
	if (bad) {
		json_decref(o);
		return NULL;
	}
	return o;
}

int ld_status_forget_process(json_t *o)
{
	static const char *const keys[] = {"pid", "workers", "transport",
		"transport_reason", "io_backend", "io_backend_reason",
		"bytes_fetched", "requests_http", "reads", "read_hits",
		"read_misses", "read_errors", "verify_failures", "retries",
		"offline"};
	int bad = o ? 0 : -1;
	size_t i;

	for (i = 0; i < ARRAY_LEN(keys) && !bad; i++)
		bad = json_object_set_new(o, keys[i], json_null());
	return bad ? -ENOMEM : 0;
}

/* ---- text ---- */

static uint64_t number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static const char *string(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "-";
}

static void print_size(
	const json_t *o, const char *label, const char *key, FILE *out)
{
	char text[32];

	(void)fprintf(
		out, "%-12s %s\n", label, ld_size_text(number(o, key), text));
}

static void print_choice(const json_t *o, const char *label, const char *key,
	const char *reason, FILE *out)
{
	(void)fprintf(out, "%-12s %s (%s)\n", label, string(o, key),
		string(o, reason));
}

static void print_process(const json_t *o, FILE *out)
{
	print_choice(o, "transport", "transport", "transport_reason", out);
	print_choice(o, "engine", "io_backend", "io_backend_reason", out);
	(void)fprintf(out, "%-12s %" PRIu64 ", %" PRIu64 " workers\n",
		"process", number(o, "pid"), number(o, "workers"));
}

static void print_counters(const json_t *o, FILE *out)
{
	char fetched[32];

	(void)fprintf(out,
		"%-12s %s in %" PRIu64 " requests, %" PRIu64 " retries%s\n",
		"fetched", ld_size_text(number(o, "bytes_fetched"), fetched),
		number(o, "requests_http"), number(o, "retries"),
		json_is_true(json_object_get(o, "offline")) ? ", offline now"
							    : "");
	(void)fprintf(out,
		"%-12s %" PRIu64 ": %" PRIu64 " hits, %" PRIu64
		" misses, %" PRIu64 " errors, %" PRIu64
		" failed verifications\n",
		"reads", number(o, "reads"), number(o, "read_hits"),
		number(o, "read_misses"), number(o, "read_errors"),
		number(o, "verify_failures"));
}

void ld_status_print(const json_t *o, FILE *out)
{
	const json_t *blobs = json_object_get(o, "blobs"), *b;
	bool has_process = json_is_integer(json_object_get(o, "pid"));
	char cached[32], total[32];
	size_t i;

	(void)fprintf(out, "%-12s %s\n%-12s %s\n", "image", string(o, "image"),
		"digest", string(o, "digest"));
	print_choice(o, "driver", "driver", "driver_reason", out);
	if (has_process)
		print_process(o, out);
	else
		(void)fprintf(out, "%-12s none is needed\n", "process");
	(void)fprintf(
		out, "%-12s %" PRIu64 "\n", "entries", number(o, "entries"));
	print_size(o, "size", "bytes_total", out);
	print_size(o, "compressed", "bytes_compressed", out);
	(void)fprintf(out, "%-12s %s%s\n", "cached",
		ld_size_text(number(o, "bytes_cached"), cached),
		json_is_true(json_object_get(o, "complete")) ? ", complete"
							     : "");
	if (has_process)
		print_counters(o, out);
	for (i = 0; i < json_array_size(blobs); i++) {
		b = json_array_get(blobs, i);
		(void)fprintf(out, "blob %-7zu %.19s %s, %s of %s cached\n",
			i + 1, string(b, "digest"), string(b, "format"),
			ld_size_text(number(b, "bytes_cached"), cached),
			ld_size_text(number(b, "bytes_total"), total));
	}
}
