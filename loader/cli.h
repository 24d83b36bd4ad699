/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one table of commands and one of options, from which
 * parsing, -o and --help come; the manual page is checked against them.
 * INIT_ONLY.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "loader/prefetch.h"
#include "loader/transport.h"
#include "runtime/base/buf.h"
#include "runtime/base/err.h"
#include "runtime/runtime.h"

/* One bit each: an option says in which commands it works. */
enum ld_cmd {
	LD_CMD_MOUNT = 1,
	LD_CMD_UMOUNT = 2,
	LD_CMD_STATUS = 4,
	LD_CMD_INSPECT = 8,
	LD_CMD_FETCH = 16,
	LD_CMD_CHECK = 32,
	LD_CMD_CACHE = 64,
};

/* Ways into the kernel; driver.h. */
enum ld_driver { LD_DRIVER_AUTO, LD_DRIVER_FUSE, LD_DRIVER_EROFS };

#define LD_CLI_MAX_OPTION 4352 /* of one option in -o, with the NUL */
#define LD_CLI_MAX_ARGS 64

/* What was asked for. Strings are owned, paths absolute. */
struct ld_cli {
	enum ld_cmd cmd;      /* 0 with help or version: of the program */
	bool is_mount_helper; /* called as mount.sluice by mount(8) */
	bool help, version;
	bool foreground, quiet, verbose, json, lazy, plain_http;
	bool dry_run; /* mount.sluice -f */
	char *log, *cache, *platform, *authfile, *cert_dir, *blobs;
	unsigned workers; /* 0: not said */
	enum rt_backend backend;
	enum ld_driver driver;
	enum ld_transport transport;
	uint32_t offline_ms; /* bc_registry_options */
	enum ld_prefetch_what prefetch;
	char *prefetch_from;    /* recorded:FILE */
	uint64_t prefetch_rate; /* bytes per second; 0: no limit */
	char *record;
	bool wait, all;
	uint64_t cache_size;   /* UINT64_MAX: no limit */
	uint64_t size;         /* of cache prune; UINT64_MAX: not said */
	uint64_t older_s;      /* the same; 0: not said */
	struct buf mount_opts; /* of -o, ours taken out; NUL-terminated */
	char *args[LD_CLI_MAX_ARGS];
	size_t arg_count;
};

struct ld_cli_option {
	const char *name; /* long */
	char letter;      /* 0: none */
	const char *arg;  /* what --help calls the value; NULL: a flag */
	unsigned cmds;    /* enum ld_cmd bits */
	const char *help; /* may hold newlines */
	size_t offset;    /* of a bool or char * in struct ld_cli */
	bool is_path;     /* made absolute */
	/* NULL: stored at offset. Else checks and stores the value. */
	int (*set)(struct ld_cli *c, const char *value, struct err *e);
};

struct ld_cli_command {
	const char *name;
	enum ld_cmd cmd;
	const char *args; /* "IMAGE DIR" */
	size_t min_args, max_args;
	const char *summary;
	const char *help;
};

/* Both end with an entry whose name is NULL. */
extern const struct ld_cli_option ld_cli_options[];
extern const struct ld_cli_command ld_cli_commands[];

/*
 * Parse; argv[0] ending in "mount.sluice" follows mount(8)'s helper protocol.
 * -EINVAL with ERR_USAGE, -ENOMEM. On failure *ret is empty but for
 * is_mount_helper, which decides the exit code.
 */
int ld_cli_parse(int argc, char **argv, struct ld_cli *ret, struct err *e);
void ld_cli_fini(struct ld_cli *c);
/* One name or name=value of -o, as ld_cli_parse does it. */
int ld_cli_mount_option(struct ld_cli *c, const char *option, struct err *e);
/* The text of --help: of cmd, or of the program if 0. Lines of 80 columns. */
void ld_cli_help(enum ld_cmd cmd, FILE *out);
/* A path from the current directory, which a daemon leaves; or a URL as it is.
 * New memory, NULL: out of memory. */
char *ld_cli_absolute(const char *path);
/* Rules between options; called by ld_cli_parse. */
int ld_cli_check(const struct ld_cli *c, struct err *e);
