/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of commands and options, how each value is checked, and --help. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loader/cli.h"
#include "loader/size.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define MOUNT LD_CMD_MOUNT
#define IMAGES (LD_CMD_MOUNT | LD_CMD_INSPECT | LD_CMD_FETCH | LD_CMD_CHECK)
#define CACHE LD_CMD_CACHE
#define ALL (IMAGES | LD_CMD_UMOUNT | LD_CMD_STATUS | CACHE)

#define MAX_WORKERS 256
#define MAX_OFFLINE_S 86400

static int bad_value(
	const char *option, const char *value, const char *want, struct err *e)
{
	return err_set_kind(e, ERR_USAGE, -EINVAL, "--%s takes %s, not '%.60s'",
		option, want, value);
}

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* Decimal digits only, at most max. */
static bool read_number(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (*s == '\0')
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
		if (v > max)
			return false;
	}
	*ret = v;
	return true;
}

/* A number of days, or with s, m, h, d or w behind it. */
static bool read_age(const char *s, uint64_t *ret)
{
	static const char letters[] = "smhdw";
	static const uint32_t seconds[] = {1, 60, 3600, 86400, 7 * 86400};
	size_t n = strspn(s, "0123456789");
	const char *letter = s[n] ? strchr(letters, s[n]) : letters + 3;
	char digits[10];
	uint64_t v;

	if (n >= sizeof(digits) || !letter || (s[n] && s[n + 1]))
		return false;
	memcpy(digits, s, n);
	digits[n] = '\0';
	if (!read_number(digits, UINT32_MAX, &v))
		return false;
	*ret = v * seconds[letter - letters];
	return true;
}

static int set_workers(struct ld_cli *c, const char *value, struct err *e)
{
	uint64_t n;

	if (!read_number(value, MAX_WORKERS, &n) || n == 0)
		return bad_value("workers", value, "a number from 1 to 256", e);
	c->workers = (unsigned)n;
	return 0;
}

static int set_backend(struct ld_cli *c, const char *value, struct err *e)
{
	if (is(value, "auto"))
		c->backend = RT_BACKEND_AUTO;
	else if (is(value, "uring"))
		c->backend = RT_BACKEND_URING;
	else if (is(value, "threads"))
		c->backend = RT_BACKEND_THREADS;
	else
		return bad_value(
			"io-backend", value, "auto, uring or threads", e);
	return 0;
}

static int set_driver(struct ld_cli *c, const char *value, struct err *e)
{
	if (is(value, "auto"))
		c->driver = LD_DRIVER_AUTO;
	else if (is(value, "fuse"))
		c->driver = LD_DRIVER_FUSE;
	else if (is(value, "erofs"))
		c->driver = LD_DRIVER_EROFS;
	else
		return bad_value("driver", value, "auto, fuse or erofs", e);
	return 0;
}

static int set_transport(struct ld_cli *c, const char *value, struct err *e)
{
	if (is(value, "auto"))
		c->transport = LD_TRANSPORT_AUTO;
	else if (is(value, "uring"))
		c->transport = LD_TRANSPORT_URING;
	else if (is(value, "dev"))
		c->transport = LD_TRANSPORT_DEV;
	else
		return bad_value("transport", value, "auto, uring or dev", e);
	return 0;
}

static int set_prefetch(struct ld_cli *c, const char *value, struct err *e)
{
	static const char from[] = "recorded:";
	char *file = NULL;

	if (is(value, "none")) {
		c->prefetch = LD_PREFETCH_NONE;
	} else if (is(value, "list")) {
		c->prefetch = LD_PREFETCH_LIST;
	} else if (is(value, "all")) {
		c->prefetch = LD_PREFETCH_ALL;
	} else if (is(value, "recorded")) {
		c->prefetch = LD_PREFETCH_RECORDED;
	} else if (strncmp(value, from, sizeof(from) - 1) == 0 &&
		   value[sizeof(from) - 1]) {
		c->prefetch = LD_PREFETCH_RECORDED;
		file = ld_cli_absolute(value + sizeof(from) - 1);
		if (!file)
			return err_set(e, -ENOMEM, "out of memory");
	} else {
		return bad_value("prefetch", value,
			"none, list, recorded, recorded:FILE or all", e);
	}
	mem_free(c->prefetch_from);
	c->prefetch_from = file;
	return 0;
}

static int set_prefetch_rate(struct ld_cli *c, const char *value, struct err *e)
{
	if (!ld_size_read(value, &c->prefetch_rate) || c->prefetch_rate == 0)
		return bad_value(
			"prefetch-rate", value, "bytes per second like 10M", e);
	return 0;
}

static int set_cache_size(struct ld_cli *c, const char *value, struct err *e)
{
	if (!ld_size_read(value, &c->cache_size))
		return bad_value("cache-size", value, "a size like 20G", e);
	return 0;
}

static int set_size(struct ld_cli *c, const char *value, struct err *e)
{
	if (!ld_size_read(value, &c->size))
		return bad_value("size", value, "a size like 20G", e);
	return 0;
}

static int set_older(struct ld_cli *c, const char *value, struct err *e)
{
	if (!read_age(value, &c->older_s) || c->older_s == 0)
		return bad_value(
			"older", value, "an age like 30d (s, m, h, d or w)", e);
	return 0;
}

static int set_offline(struct ld_cli *c, const char *value, struct err *e)
{
	uint64_t seconds;

	if (is(value, "block"))
		c->offline_ms = UINT32_MAX;
	else if (is(value, "eio"))
		c->offline_ms = 0;
	else if (read_number(value, MAX_OFFLINE_S, &seconds))
		c->offline_ms = (uint32_t)seconds * 1000;
	else
		return bad_value("offline", value,
			"block, eio or seconds (at most 86400)", e);
	return 0;
}

static int set_option(struct ld_cli *c, const char *value, struct err *e)
{
	char one[LD_CLI_MAX_OPTION];
	size_t n = 0;
	int ret = 0;

	/* as mount(8) has it: "\," is a comma in a value */
	for (;; value++) {
		if (n + 1 >= sizeof(one))
			return err_set_kind(e, ERR_USAGE, -EINVAL,
				"an option of -o is longer than %d bytes",
				LD_CLI_MAX_OPTION - 1);
		if (value[0] == '\\' && value[1] == ',') {
			one[n++] = *++value;
			continue;
		}
		if (value[0] && value[0] != ',') {
			one[n++] = value[0];
			continue;
		}
		one[n] = '\0';
		if (n > 0)
			ret = ld_cli_mount_option(c, one, e);
		if (ret < 0 || !value[0])
			return ret;
		n = 0;
	}
}

#define AT(field) offsetof(struct ld_cli, field)

const struct ld_cli_option ld_cli_options[] = {
	{"foreground", 'f', NULL, MOUNT, "stay in front, log to stderr",
		AT(foreground), false, NULL},
	{"log", 0, "FILE", MOUNT, "log to FILE instead of syslog", AT(log),
		true, NULL},
	{"cache", 0, "DIR", IMAGES | CACHE,
		"the cache directory; default: $SLUICE_CACHE, else\n"
		"/var/cache/sluice (root) or ~/.cache/sluice",
		AT(cache), true, NULL},
	{"cache-size", 0, "SIZE", MOUNT | LD_CMD_FETCH,
		"most bytes that the cache may take (20G); what was\n"
		"not used for longest makes room",
		0, false, set_cache_size},
	{"workers", 0, "N", MOUNT, "threads that serve requests", 0, false,
		set_workers},
	{"io-backend", 0, "ENGINE", MOUNT,
		"auto, uring or threads: how files are read", 0, false,
		set_backend},
	{"driver", 0, "DRIVER", MOUNT,
		"auto, fuse or erofs: who shows the tree, this program\n"
		"or the kernel (root, Linux 6.12)",
		0, false, set_driver},
	{"transport", 0, "WAY", MOUNT,
		"auto, uring or dev: how FUSE requests arrive", 0, false,
		set_transport},
	{"prefetch", 0, "WHAT", MOUNT,
		"none, list, recorded[:FILE] (default) or all: what is\n"
		"fetched before somebody asks for it",
		0, false, set_prefetch},
	{"prefetch-rate", 0, "RATE", MOUNT, "most bytes per second for that", 0,
		false, set_prefetch_rate},
	{"record", 0, "FILE", MOUNT, "write the order of first reads to FILE",
		AT(record), true, NULL},
	{"offline", 0, "POLICY", MOUNT,
		"block, eio or SECONDS: how long a read waits for a\n"
		"network that is gone; default: block, until it is back",
		0, false, set_offline},
	{"platform", 0, "P", IMAGES,
		"OS/ARCH[/VARIANT]; default: that of this machine",
		AT(platform), false, NULL},
	{"authfile", 0, "FILE", IMAGES, "credentials; default: the usual files",
		AT(authfile), true, NULL},
	{"cert-dir", 0, "DIR", IMAGES, "certificates for the registry",
		AT(cert_dir), true, NULL},
	{"plain-http", 0, NULL, IMAGES, "the registry speaks http, not https",
		AT(plain_http), false, NULL},
	{"blobs", 0, "PATH|URL", IMAGES,
		"where a bundle's blobs are; default: beside it", AT(blobs),
		true, NULL},
	{"option", 'o', "OPTS", MOUNT,
		"mount options, and every option above as NAME[=VALUE]", 0,
		false, set_option},
	{"lazy", 'l', NULL, LD_CMD_UMOUNT, "detach now, end when unused",
		AT(lazy), false, NULL},
	{"wait", 0, NULL, LD_CMD_FETCH, "of DIR: return when all is there",
		AT(wait), false, NULL},
	{"all", 0, NULL, LD_CMD_CHECK | CACHE,
		"check: also fetch what is missing; prune: everything", AT(all),
		false, NULL},
	{"size", 0, "SIZE", CACHE,
		"prune: until the cache takes no more than SIZE", 0, false,
		set_size},
	{"older", 0, "AGE", CACHE,
		"prune: what was not used for AGE (30d; s, m, h, d, w)", 0,
		false, set_older},
	{"json", 0, NULL, LD_CMD_STATUS | LD_CMD_INSPECT | CACHE,
		"JSON instead of text", AT(json), false, NULL},
	{"quiet", 'q', NULL, IMAGES, "errors only", AT(quiet), false, NULL},
	{"verbose", 'v', NULL, IMAGES, "say more", AT(verbose), false, NULL},
	{"help", 'h', NULL, ALL, "this text", AT(help), false, NULL},
	{NULL, 0, NULL, 0, NULL, 0, false, NULL},
};

const struct ld_cli_command ld_cli_commands[] = {
	{"mount", LD_CMD_MOUNT, "IMAGE DIR", 2, 2,
		"show an image as a file tree",
		"Mount IMAGE at DIR; its contents are fetched when they are "
		"read.\n"
		"IMAGE is [docker://]HOST[:PORT]/NAME[:TAG|@DIGEST], "
		"oci:PATH[:TAG], or the\n"
		"path or http(s) URL of a RAFS bootstrap."},
	{"umount", LD_CMD_UMOUNT, "DIR", 1, 1, "end a mount",
		"Unmount DIR; returns when the mount and its process are "
		"gone."},
	{"status", LD_CMD_STATUS, "[DIR]", 0, 1, "what a mount does",
		"Show the state and the counters of the mount at DIR, or list "
		"all mounts."},
	{"inspect", LD_CMD_INSPECT, "IMAGE", 1, 1,
		"the layers of an image and how they can be loaded",
		"Show the layers of IMAGE, their formats, and whether they can "
		"be loaded\n"
		"lazily and why."},
	{"fetch", LD_CMD_FETCH, "IMAGE|DIR", 1, 1,
		"the whole image into the cache",
		"Fetch all of IMAGE into the cache, or have the process that "
		"serves the mount\n"
		"at DIR do so."},
	{"check", LD_CMD_CHECK, "IMAGE", 1, 1,
		"verify what the cache has of an image",
		"Compare what the cache has of IMAGE with its digests. What is "
		"wrong is thrown\n"
		"away, and the exit code is 5."},
	{"cache", LD_CMD_CACHE, "ACTION [IMAGE...]", 1, LD_CLI_MAX_ARGS,
		"what the cache holds, and making room in it",
		"ls               the images, what is there of them, and when "
		"it was used\n"
		"du               what takes how much\n"
		"pin IMAGE        never evict its blobs\n"
		"unpin IMAGE      the opposite\n"
		"prune            what no image needs; with --size or --older "
		"also what was\n"
		"                 not used for longest; --all: everything; "
		"IMAGE...: these\n"
		"verify           compare everything with its digests"},
	{NULL, 0, NULL, 0, 0, NULL, NULL},
};

/* What cache can do, with how many images and which options. */
static const struct {
	const char *name;
	size_t min, max;
	bool takes_json, takes_prune;
} cache_actions[] = {
	{.name = "ls", .takes_json = true},
	{.name = "du", .takes_json = true},
	{.name = "pin", .min = 1, .max = 1},
	{.name = "unpin", .min = 1, .max = 1},
	{.name = "prune", .max = LD_CLI_MAX_ARGS, .takes_prune = true},
	{.name = "verify"},
};

static int check_cache(const struct ld_cli *c, struct err *e)
{
	bool has_prune = c->all || c->older_s || c->size != UINT64_MAX;
	size_t i, images = c->arg_count - 1;

	for (i = 0; i < ARRAY_LEN(cache_actions); i++)
		if (is(c->args[0], cache_actions[i].name))
			break;
	if (i == ARRAY_LEN(cache_actions))
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"cache knows ls, du, pin, unpin, prune and verify, not "
			"'%.60s'",
			c->args[0]);
	if (images < cache_actions[i].min)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"cache %s needs an image", c->args[0]);
	if (images > cache_actions[i].max)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"'%.200s' is one argument too many for cache %s",
			c->args[cache_actions[i].max + 1], c->args[0]);
	if (c->json && !cache_actions[i].takes_json)
		return err_set_kind(
			e, ERR_USAGE, -EINVAL, "--json is for cache ls and du");
	if (has_prune && !cache_actions[i].takes_prune)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"--size, --older and --all are for cache prune");
	if (has_prune && images > 0)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"cache prune takes images, or says which by --size, "
			"--older or --all");
	return 0;
}

int ld_cli_check(const struct ld_cli *c, struct err *e)
{
	if (c->quiet && c->verbose)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"--quiet and --verbose exclude each other");
	if (c->cmd == LD_CMD_CACHE)
		return check_cache(c, e);
	if (c->transport == LD_TRANSPORT_URING &&
		c->backend == RT_BACKEND_THREADS)
		return err_set_kind(e, ERR_USAGE, -EINVAL,
			"--transport=uring needs --io-backend=uring");
	return 0;
}

/* ---- help ---- */

#define HELP_COLUMN 26

static void print_option(const struct ld_cli_option *o, FILE *out)
{
	const char *s = o->help;
	int used, n;

	if (o->letter)
		used = fprintf(out, "  -%c, ", o->letter);
	else
		used = fprintf(out, "      ");
	used += fprintf(out, "--%s%s%s", o->name, o->arg ? " " : "",
		o->arg ? o->arg : "");
	for (;;) {
		n = (int)strcspn(s, "\n");
		(void)fprintf(out, "%*s%.*s\n",
			used < HELP_COLUMN ? HELP_COLUMN - used : 1, "", n, s);
		if (!s[n])
			return;
		s += n + 1;
		used = 0;
	}
}

static void print_program_help(FILE *out)
{
	const struct ld_cli_command *c;

	(void)fprintf(out,
		"usage: sluice COMMAND [OPTION...] [ARGUMENT...]\n\n"
		"Mount container images before they are downloaded.\n\n"
		"commands:\n");
	for (c = ld_cli_commands; c->name; c++)
		(void)fprintf(out, "  %-10s%s\n", c->name, c->summary);
	(void)fprintf(out,
		"\n'sluice COMMAND --help' shows the options of one.\n\n"
		"  -h, --help              this text\n"
		"      --version           version and what is built in\n");
}

void ld_cli_help(enum ld_cmd cmd, FILE *out)
{
	const struct ld_cli_command *c = ld_cli_commands;
	const struct ld_cli_option *o;

	while (c->name && c->cmd != cmd)
		c++;
	if (!c->name) {
		print_program_help(out);
		return;
	}
	(void)fprintf(out, "usage: sluice %s [OPTION...] %s\n\n%s\n\n", c->name,
		c->args, c->help);
	for (o = ld_cli_options; o->name; o++)
		if (o->cmds & (unsigned)cmd)
			print_option(o, out);
}
