/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing of the command line from the tables in cli_table.c, and of -o, where
 * every long option of mount works as name[=value] so that fstab can say it.
 */
#include "loader/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define USAGE(e, ...) err_set_kind(e, ERR_USAGE, -EINVAL, __VA_ARGS__)

/* Where the parser stands. */
struct args {
	int argc, next;
	char **argv;
	struct ld_cli *cli;
	const struct ld_cli_command *command; /* NULL until it was named */
};

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* ---- values ---- */

static bool is_url(const char *s)
{
	return strncmp(s, "http://", 7) == 0 || strncmp(s, "https://", 8) == 0;
}

/* The daemon leaves the current directory, so paths are resolved at once. */
char *ld_cli_absolute(const char *path)
{
	char cwd[4096];

	if (path[0] == '/' || is_url(path) || !getcwd(cwd, sizeof(cwd)))
		return mem_strdup(path);
	return mem_printf("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
}

static int store(struct ld_cli *c, const struct ld_cli_option *o,
	const char *value, struct err *e)
{
	char **where = (char **)(void *)((char *)c + o->offset);
	char *copy;

	if (o->set)
		return o->set(c, value, e);
	if (!o->arg) {
		*(bool *)((char *)c + o->offset) = true;
		return 0;
	}
	if (value[0] == '\0')
		return USAGE(e, "--%s needs a value", o->name);
	copy = o->is_path ? ld_cli_absolute(value) : mem_strdup(value);
	if (!copy)
		return out_of_memory(e);
	mem_free(*where);
	*where = copy;
	return 0;
}

/* The option of cmd with that long name, or NULL. */
static const struct ld_cli_option *find_long(
	enum ld_cmd cmd, const char *name, size_t len)
{
	const struct ld_cli_option *o;

	for (o = ld_cli_options; o->name; o++)
		if ((o->cmds & (unsigned)cmd) && strlen(o->name) == len &&
			memcmp(o->name, name, len) == 0)
			return o;
	return NULL;
}

static const struct ld_cli_option *find_letter(enum ld_cmd cmd, char letter)
{
	const struct ld_cli_option *o;

	for (o = ld_cli_options; o->name; o++)
		if ((o->cmds & (unsigned)cmd) && o->letter == letter)
			return o;
	return NULL;
}

/* ---- -o ---- */

/* What fstab and mount(8) say to others, or what is so anyway. */
static bool is_for_others(const char *option)
{
	static const char *const names[] = {"defaults", "nofail", "_netdev",
		"user", "users", "nouser", "owner", "group", "auto", "noauto",
		"rw", "ro"};
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(option, names[i]) == 0)
			return true;
	return strncmp(option, "x-", 2) == 0 || strncmp(option, "X-", 2) == 0 ||
	       strncmp(option, "user=", 5) == 0 ||
	       strncmp(option, "comment=", 8) == 0;
}

int ld_cli_mount_option(struct ld_cli *c, const char *option, struct err *e)
{
	const struct ld_cli_option *o;
	size_t n = strcspn(option, "=");
	int ret;

	if (is_for_others(option))
		return 0;
	o = find_long(LD_CMD_MOUNT, option, n);
	if (o && (o->letter == 'o' || o->letter == 'h'))
		o = NULL;
	if (o && o->arg && option[n] != '=')
		return USAGE(e, "-o %s needs a value", o->name);
	if (o && !o->arg && option[n] == '=')
		return USAGE(e, "-o %s takes no value", o->name);
	if (o)
		return store(c, o, option[n] ? option + n + 1 : "", e);
	ret = buf_printf(&c->mount_opts, "%s%s",
		c->mount_opts.len > 0 ? "," : "", option);
	if (ret == 0)
		ret = buf_terminate(&c->mount_opts);
	return ret < 0 ? out_of_memory(e) : 0;
}

/* ---- the words of the command line ---- */

static int add_argument(struct args *a, const char *word, struct err *e)
{
	struct ld_cli *c = a->cli;

	if (c->arg_count == a->command->max_args)
		return USAGE(e,
			"'%.200s' is one argument too many, see "
			"'sluice %s --help'",
			word, a->command->name);
	c->args[c->arg_count] = mem_strdup(word);
	if (!c->args[c->arg_count])
		return out_of_memory(e);
	c->arg_count++;
	return 0;
}

static int parse_long(struct args *a, const char *word, struct err *e)
{
	const char *name = word + 2, *value = "";
	size_t n = strcspn(name, "=");
	const struct ld_cli_option *o = find_long(a->cli->cmd, name, n);

	if (!o)
		return USAGE(e,
			"unknown option '%.100s', see 'sluice %s "
			"--help'",
			word, a->command->name);
	if (!o->arg && name[n])
		return USAGE(e, "--%s takes no value", o->name);
	if (o->arg && name[n])
		value = name + n + 1;
	else if (o->arg && a->next == a->argc)
		return USAGE(e, "--%s needs a value", o->name);
	else if (o->arg)
		value = a->argv[a->next++];
	return store(a->cli, o, value, e);
}

static int parse_letters(struct args *a, const char *word, struct err *e)
{
	const struct ld_cli_option *o;
	const char *p, *value;
	int ret;

	for (p = word + 1; *p; p++) {
		o = find_letter(a->cli->cmd, *p);
		if (!o)
			return USAGE(e,
				"unknown option '-%c', see 'sluice %s "
				"--help'",
				*p, a->command->name);
		value = p + 1;
		if (o->arg && !*value) {
			if (a->next == a->argc)
				return USAGE(e, "-%c needs a value", *p);
			value = a->argv[a->next++];
		}
		ret = store(a->cli, o, o->arg ? value : "", e);
		if (ret < 0 || o->arg)
			return ret;
	}
	return 0;
}

/* mount(8) calls: mount.sluice IMAGE DIR [-sfnv] [-N NS] [-o OPTS] [-t TYPE] */
static int parse_helper_letters(struct args *a, const char *word, struct err *e)
{
	const char *p, *value;

	for (p = word + 1; *p; p++) {
		if (strchr("sn", *p))
			continue; /* sloppy; no mtab: nothing to do */
		if (*p == 'f' || *p == 'v') {
			a->cli->dry_run |= *p == 'f';
			a->cli->verbose |= *p == 'v';
			continue;
		}
		if (!strchr("oNt", *p))
			return USAGE(e, "unknown option '-%c'", *p);
		value = p[1] ? p + 1 : NULL;
		if (!value && a->next == a->argc)
			return USAGE(e, "-%c needs a value", *p);
		if (!value)
			value = a->argv[a->next++];
		if (*p != 'o')
			return 0;
		return store(a->cli, find_letter(LD_CMD_MOUNT, 'o'), value, e);
	}
	return 0;
}

static int parse_words(struct args *a, struct err *e)
{
	bool only_arguments = false;
	const char *word;
	int ret = 0;

	while (ret == 0 && a->next < a->argc) {
		word = a->argv[a->next++];
		if (only_arguments || word[0] != '-' || word[1] == '\0')
			ret = add_argument(a, word, e);
		else if (strcmp(word, "--") == 0)
			only_arguments = true;
		else if (word[1] == '-')
			ret = parse_long(a, word, e);
		else if (a->cli->is_mount_helper)
			ret = parse_helper_letters(a, word, e);
		else
			ret = parse_letters(a, word, e);
		if (a->cli->help)
			return 0;
	}
	if (ret == 0 && a->cli->arg_count < a->command->min_args)
		ret = USAGE(e, "%s needs %s, see 'sluice %s --help'",
			a->command->name, a->command->args, a->command->name);
	return ret < 0 ? ret : ld_cli_check(a->cli, e);
}

static const struct ld_cli_command *find_command(const char *name)
{
	const struct ld_cli_command *c;

	for (c = ld_cli_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static int parse_command(struct args *a, struct err *e)
{
	const char *word;

	if (a->cli->is_mount_helper) {
		a->command = find_command("mount");
	} else if (a->next == a->argc) {
		return USAGE(e, "no command given, see 'sluice --help'");
	} else {
		word = a->argv[a->next++];
		if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
			a->cli->help = true;
			return 0;
		}
		if (strcmp(word, "--version") == 0) {
			a->cli->version = true;
			return 0;
		}
		a->command = find_command(word);
		if (!a->command)
			return USAGE(e,
				"unknown command '%.60s', see 'sluice "
				"--help'",
				word);
	}
	a->cli->cmd = a->command->cmd;
	return parse_words(a, e);
}

static bool is_mount_helper(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');

	return strcmp(slash ? slash + 1 : argv0, "mount.sluice") == 0;
}

int ld_cli_parse(int argc, char **argv, struct ld_cli *ret, struct err *e)
{
	struct ld_cli c = {.cache_size = UINT64_MAX,
		.size = UINT64_MAX,
		.offline_ms = UINT32_MAX};
	struct args a = {.argc = argc, .argv = argv, .next = 1, .cli = &c};
	int err;

	c.is_mount_helper = argc > 0 && is_mount_helper(argv[0]);
	buf_init(&c.mount_opts, LD_CLI_MAX_OPTION);
	err = buf_terminate(&c.mount_opts);
	if (err < 0)
		err = out_of_memory(e);
	else
		err = parse_command(&a, e);
	if (err < 0) {
		ld_cli_fini(&c);
		*ret = (struct ld_cli){.is_mount_helper = c.is_mount_helper};
		return err;
	}
	*ret = c;
	return 0;
}

void ld_cli_fini(struct ld_cli *c)
{
	size_t i;

	mem_free(c->log);
	mem_free(c->cache);
	mem_free(c->platform);
	mem_free(c->authfile);
	mem_free(c->cert_dir);
	mem_free(c->blobs);
	mem_free(c->prefetch_from);
	mem_free(c->record);
	for (i = 0; i < c->arg_count; i++)
		mem_free(c->args[i]);
	buf_fini(&c->mount_opts);
	*c = (struct ld_cli){.is_mount_helper = c->is_mount_helper};
}
