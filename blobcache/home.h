/* SPDX-License-Identifier: Apache-2.0 */
/* Where a user's configuration lies (XDG base directories). */
#pragma once

/* $HOME, else the user database. New memory. -ENOENT, -ENOMEM. ANY_THREAD. */
int bc_home(char **ret);
/* $XDG_CONFIG_HOME/<name>, else ~/.config/<name>. The same. */
int bc_home_config(const char *name, char **ret);
