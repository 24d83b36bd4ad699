/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands. Each takes a parsed command line and gives 0 or a negative
 * errno with the sentence to be printed; e->text stays empty when everything
 * was said already (the daemon told its parent). On the program's first thread;
 * BLOCKING.
 */
#pragma once

#include "loader/cli.h"
#include "runtime/base/err.h"

/*
 * One command each: what the command line asked for, done. 0, or -errno with
 * the sentence and the exit code in e. The main thread, once.
 */
int ld_cmd_mount(struct ld_cli *c, struct err *e);
int ld_cmd_umount(struct ld_cli *c, struct err *e);
int ld_cmd_status(struct ld_cli *c, struct err *e);
int ld_cmd_inspect(struct ld_cli *c, struct err *e);
int ld_cmd_fetch(struct ld_cli *c, struct err *e);
int ld_cmd_check(struct ld_cli *c, struct err *e);
int ld_cmd_cache(struct ld_cli *c, struct err *e);
