/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: what each word does, and how mistakes are answered. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "loader/cli.h"
#include "runtime/base/util.h"

#define MAX_WORDS 24

/* Words are parted by one blank. */
static int parse(const char *line, struct ld_cli *c, struct err *e)
{
	static char copy[8192];
	char *argv[MAX_WORDS + 1], *save = NULL, *w;
	int argc = 0;

	*e = (struct err){0};
	(void)snprintf(copy, sizeof(copy), "%s", line);
	for (w = strtok_r(copy, " ", &save); w && argc < MAX_WORDS;
		w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	return ld_cli_parse(argc, argv, c, e);
}

static void options_of_mount_are_read(void **state)
{
	struct ld_cli c;
	struct err e;

	assert_int_equal(
		parse("sluice mount -fv --cache /c --log=/l --workers 3 "
		      "--io-backend threads --driver fuse --transport dev "
		      "--prefetch=none --offline block --platform linux/arm64 "
		      "--plain-http --blobs http://h/b a.b/c /mnt",
			&c, &e),
		0);
	assert_int_equal(c.cmd, LD_CMD_MOUNT);
	assert_true(c.foreground && c.verbose && c.plain_http);
	assert_false(c.quiet || c.dry_run || c.is_mount_helper);
	assert_string_equal(c.cache, "/c");
	assert_string_equal(c.log, "/l");
	assert_string_equal(c.platform, "linux/arm64");
	assert_string_equal(c.blobs, "http://h/b");
	assert_int_equal(c.workers, 3);
	assert_int_equal(c.backend, RT_BACKEND_THREADS);
	assert_int_equal(c.arg_count, 2);
	assert_string_equal(c.args[0], "a.b/c");
	assert_string_equal(c.args[1], "/mnt");
	assert_string_equal((char *)c.mount_opts.data, "");
	ld_cli_fini(&c);
}

static void prefetch_says_what_how_fast_and_from_where(void **state)
{
	struct ld_cli c;
	struct err e;

	assert_int_equal(parse("sluice mount a.b/c /mnt", &c, &e), 0);
	assert_int_equal(c.prefetch, LD_PREFETCH_RECORDED);
	assert_null(c.prefetch_from);
	ld_cli_fini(&c);
	assert_int_equal(
		parse("sluice mount --prefetch recorded:/x/y --record /r "
		      "--prefetch-rate 10m a.b/c /mnt",
			&c, &e),
		0);
	assert_int_equal(c.prefetch, LD_PREFETCH_RECORDED);
	assert_string_equal(c.prefetch_from, "/x/y");
	assert_string_equal(c.record, "/r");
	assert_int_equal(c.prefetch_rate, 10 << 20);
	ld_cli_fini(&c);
	assert_int_equal(parse("sluice mount -o prefetch=recorded:/x "
			       "a.b/c /mnt -o prefetch=all,record=/r",
				 &c, &e),
		0);
	assert_int_equal(c.prefetch, LD_PREFETCH_ALL);
	assert_null(c.prefetch_from);
	assert_string_equal(c.record, "/r");
	ld_cli_fini(&c);
}

static void every_long_option_of_mount_works_in_dash_o(void **state)
{
	struct ld_cli c;
	struct err e;

	assert_int_equal(
		parse("sluice mount a.b/c /mnt -o rw,cache=/c\\,d,workers=2,"
		      "plain-http,verbose,allow_other,x-systemd.automount,"
		      "user=joe,nofail,_netdev,suid,blobs=/b=1 -oquux=1,,dev",
			&c, &e),
		0);
	assert_string_equal(c.cache, "/c,d");
	assert_string_equal(c.blobs, "/b=1");
	assert_int_equal(c.workers, 2);
	assert_true(c.plain_http && c.verbose);
	assert_string_equal(
		(char *)c.mount_opts.data, "allow_other,suid,quux=1,dev");
	ld_cli_fini(&c);
}

static void mount_helpers_follow_mount_8(void **state)
{
	struct ld_cli c;
	struct err e;

	assert_int_equal(parse("/sbin/mount.sluice a.b/c /mnt -sfn -v -o "
			       "rw,prefetch=none -N 7 -t sluice",
				 &c, &e),
		0);
	assert_int_equal(c.cmd, LD_CMD_MOUNT);
	assert_true(c.is_mount_helper && c.dry_run && c.verbose);
	assert_false(c.foreground);
	ld_cli_fini(&c);
	assert_int_not_equal(parse("mount.sluice a.b/c", &c, &e), 0);
	assert_true(c.is_mount_helper);
}

static void the_other_commands_are_read(void **state)
{
	struct ld_cli c;
	struct err e;

	assert_int_equal(parse("sluice umount -l /mnt", &c, &e), 0);
	assert_true(c.cmd == LD_CMD_UMOUNT && c.lazy);
	ld_cli_fini(&c);
	assert_int_equal(parse("sluice status --json", &c, &e), 0);
	assert_true(c.cmd == LD_CMD_STATUS && c.json && c.arg_count == 0);
	ld_cli_fini(&c);
	assert_int_equal(parse("sluice inspect -- -x", &c, &e), 0);
	assert_true(c.cmd == LD_CMD_INSPECT);
	assert_string_equal(c.args[0], "-x");
	ld_cli_fini(&c);
	assert_int_equal(
		parse("sluice fetch --wait --cache-size 20G /mnt", &c, &e), 0);
	assert_true(c.cmd == LD_CMD_FETCH && c.wait);
	assert_int_equal(c.cache_size, UINT64_C(20) << 30);
	ld_cli_fini(&c);
	assert_int_equal(parse("sluice cache prune --older 2w", &c, &e), 0);
	assert_int_equal(c.older_s, 14 * 86400);
	assert_true(c.size == UINT64_MAX && c.cache_size == UINT64_MAX);
	ld_cli_fini(&c);
	assert_int_equal(parse("sluice cache prune --size 0", &c, &e), 0);
	assert_int_equal(c.size, 0);
	ld_cli_fini(&c);
	assert_int_equal(parse("sluice cache prune a b c", &c, &e), 0);
	assert_int_equal(c.arg_count, 4);
	ld_cli_fini(&c);
	assert_int_equal(
		parse("sluice mount --cache-size 999T a b", &c, &e), 0);
	assert_int_equal(c.cache_size, UINT64_C(999) << 40);
	ld_cli_fini(&c);
	assert_int_equal(parse("sluice --version", &c, &e), 0);
	assert_true(c.version);
	ld_cli_fini(&c);
	assert_int_equal(parse("sluice mount --help", &c, &e), 0);
	assert_true(c.help && c.cmd == LD_CMD_MOUNT);
	ld_cli_fini(&c);
}

static void a_later_word_wins(void **state)
{
	struct ld_cli c;
	struct err e;

	assert_int_equal(
		parse("sluice mount --cache /a --cache /b x y", &c, &e), 0);
	assert_string_equal(c.cache, "/b");
	ld_cli_fini(&c);
}

static void paths_become_absolute_but_urls_stay(void **state)
{
	struct ld_cli c;
	struct err e;

	assert_int_equal(
		parse("sluice inspect --cache c --blobs https://h/x y", &c, &e),
		0);
	assert_true(c.cache[0] == '/');
	assert_string_equal(strrchr(c.cache, '/'), "/c");
	assert_string_equal(c.blobs, "https://h/x");
	ld_cli_fini(&c);
}

struct mistake {
	const char *line, *says;
	enum err_kind kind;
};

static const struct mistake mistakes[] = {
	{"sluice", "no command", ERR_USAGE},
	{"sluice frobnicate", "frobnicate", ERR_USAGE},
	{"sluice mount", "IMAGE DIR", ERR_USAGE},
	{"sluice mount a", "IMAGE DIR", ERR_USAGE},
	{"sluice mount a b c", "'c'", ERR_USAGE},
	{"sluice mount --no-such a b", "--no-such", ERR_USAGE},
	{"sluice mount -z a b", "-z", ERR_USAGE},
	{"sluice mount a b --cache", "needs a value", ERR_USAGE},
	{"sluice mount a b --cache=", "needs a value", ERR_USAGE},
	{"sluice mount a b -o", "needs a value", ERR_USAGE},
	{"sluice mount --plain-http=1 a b", "no value", ERR_USAGE},
	{"sluice mount -o plain-http=1 a b", "no value", ERR_USAGE},
	{"sluice mount -o cache a b", "needs a value", ERR_USAGE},
	{"sluice mount --io-backend magic a b", "magic", ERR_USAGE},
	{"sluice mount --workers 0 a b", "256", ERR_USAGE},
	{"sluice mount --workers 257 a b", "256", ERR_USAGE},
	{"sluice mount --workers 99999999999999999999999 a b", "256",
		ERR_USAGE},
	{"sluice mount --workers 2x a b", "2x", ERR_USAGE},
	{"sluice mount --driver x a b", "erofs", ERR_USAGE},
	{"sluice mount --prefetch some a b", "some", ERR_USAGE},
	{"sluice mount --prefetch recorded: a b", "recorded", ERR_USAGE},
	{"sluice mount --prefetch-rate 0 a b", "rate", ERR_USAGE},
	{"sluice mount --prefetch-rate 99999999T a b", "rate", ERR_USAGE},
	{"sluice mount --prefetch-rate 1X a b", "rate", ERR_USAGE},
	{"sluice mount --record= a b", "record", ERR_USAGE},
	{"sluice mount --offline maybe a b", "maybe", ERR_USAGE},
	{"sluice mount --offline 86401 a b", "86400", ERR_USAGE},
	{"sluice mount --offline -1 a b", "seconds", ERR_USAGE},
	{"sluice mount --cache-size much a b", "much", ERR_USAGE},
	{"sluice mount -q -v a b", "exclude", ERR_USAGE},
	{"sluice mount --transport uring --io-backend threads a b",
		"io-backend", ERR_USAGE},
	{"sluice mount --json a b", "--json", ERR_USAGE},
	{"sluice umount", "DIR", ERR_USAGE},
	{"sluice status --bad", "--bad", ERR_USAGE},
	{"mount.sluice a b -x", "-x", ERR_USAGE},
	{"sluice mount --transport both a b", "uring", ERR_USAGE},
	{"sluice cache", "ACTION", ERR_USAGE},
	{"sluice cache eat", "eat", ERR_USAGE},
	{"sluice cache ls a", "too many", ERR_USAGE},
	{"sluice cache pin", "needs an image", ERR_USAGE},
	{"sluice cache pin a b", "'b'", ERR_USAGE},
	{"sluice cache verify --json", "--json", ERR_USAGE},
	{"sluice cache du --all", "cache prune", ERR_USAGE},
	{"sluice cache prune --all a", "takes images", ERR_USAGE},
	{"sluice cache prune --older never", "never", ERR_USAGE},
	{"sluice cache prune --older 0d", "0d", ERR_USAGE},
	{"sluice cache prune --size 1KB", "1KB", ERR_USAGE},
	{"sluice fetch --all a", "--all", ERR_USAGE},
};

static void mistakes_are_named(void **state)
{
	const struct mistake *m;
	struct ld_cli c;
	struct err e;
	size_t i;

	for (i = 0; i < ARRAY_LEN(mistakes); i++) {
		m = &mistakes[i];
		if (parse(m->line, &c, &e) == 0)
			fail_msg("taken: %s", m->line);
		if (e.kind != m->kind || !strstr(e.text, m->says))
			fail_msg("%s: %s (%d)", m->line, e.text, (int)e.kind);
	}
}

static void a_very_long_option_is_refused(void **state)
{
	static char line[LD_CLI_MAX_OPTION + 100] = "sluice mount a b -o ";
	struct ld_cli c;
	struct err e;
	size_t n = strlen(line);

	memset(line + n, 'x', sizeof(line) - n - 1);
	assert_int_not_equal(parse(line, &c, &e), 0);
}

static void a_blank_is_no_unit_of_a_size(void **state)
{
	char *argv[] = {(char *)"sluice", (char *)"mount",
		(char *)"--cache-size", (char *)"5 ", (char *)"a", (char *)"b",
		NULL};
	struct ld_cli c;
	struct err e = {0};

	assert_int_equal(ld_cli_parse(6, argv, &c, &e), -EINVAL);
	assert_non_null(strstr(e.text, "'5 '"));
	argv[3] = (char *)"5m";
	assert_int_equal(ld_cli_parse(6, argv, &c, &e), 0);
	assert_int_equal(c.cache_size, 5 << 20);
	ld_cli_fini(&c);
}

static void help_fits_into_80_columns(void **state)
{
	const struct ld_cli_command *cmd = ld_cli_commands;
	enum ld_cmd which = 0;
	char text[8192], *line, *save = NULL;
	FILE *f;

	for (;;) {
		memset(text, 0, sizeof(text));
		f = fmemopen(text, sizeof(text) - 1, "w");
		assert_non_null(f);
		ld_cli_help(which, f);
		(void)fclose(f);
		assert_int_equal(strncmp(text, "usage: sluice", 13), 0);
		for (line = strtok_r(text, "\n", &save); line;
			line = strtok_r(NULL, "\n", &save))
			if (strlen(line) > 80)
				fail_msg("%zu columns: %s", strlen(line), line);
		if (!cmd->name)
			break;
		which = (cmd++)->cmd;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_of_mount_are_read),
		cmocka_unit_test(every_long_option_of_mount_works_in_dash_o),
		cmocka_unit_test(prefetch_says_what_how_fast_and_from_where),
		cmocka_unit_test(mount_helpers_follow_mount_8),
		cmocka_unit_test(the_other_commands_are_read),
		cmocka_unit_test(a_later_word_wins),
		cmocka_unit_test(paths_become_absolute_but_urls_stay),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(a_very_long_option_is_refused),
		cmocka_unit_test(a_blank_is_no_unit_of_a_size),
		cmocka_unit_test(help_fits_into_80_columns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
