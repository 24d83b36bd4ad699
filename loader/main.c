/* SPDX-License-Identifier: Apache-2.0 */
/* The program: parse, run the command, say what went wrong, exit code. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>

#include "loader/cli.h"
#include "loader/cmd.h"
#include "loader/daemon.h"
#include "runtime/base/mem.h"

#define MOUNT_8_FAILED 32 /* mount(8)'s exit code for a failed mount */

static int run_command(struct ld_cli *c, struct err *e)
{
	if (c->help) {
		ld_cli_help(c->cmd, stdout);
		return 0;
	}
	if (c->version) {
		(void)printf("sluice %s\nio_uring: %s\n", SLUICE_VERSION,
			HAVE_URING ? "yes" : "no");
		return 0;
	}
	switch (c->cmd) {
	case LD_CMD_MOUNT:
		return ld_cmd_mount(c, e);
	case LD_CMD_UMOUNT:
		return ld_cmd_umount(c, e);
	case LD_CMD_STATUS:
		return ld_cmd_status(c, e);
	case LD_CMD_INSPECT:
		return ld_cmd_inspect(c, e);
	case LD_CMD_FETCH:
		return ld_cmd_fetch(c, e);
	case LD_CMD_CHECK:
		return ld_cmd_check(c, e);
	case LD_CMD_CACHE:
		return ld_cmd_cache(c, e);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct err e = {0};
	struct ld_cli c;
	int ret, code = 0;

	mem_setup();
	ld_daemon_fill_std_fds();
	(void)sigaction(SIGPIPE, &ignore, NULL);
	json_set_alloc_funcs(mem_alloc, mem_free);
	ret = ld_cli_parse(argc, argv, &c, &e);
	if (ret == 0)
		ret = run_command(&c, &e);
	if (ret < 0) {
		if (e.text[0])
			(void)fprintf(stderr, "sluice: %s\n", e.text);
		code = c.is_mount_helper ? MOUNT_8_FAILED : (int)e.kind;
		if (code == 0)
			code = ERR_FAILED;
	}
	ld_cli_fini(&c);
	/* a full disk behind stdout is a failure too */
	if (fflush(stdout) != 0 && code == 0)
		code = ERR_FAILED;
	return code;
}
