/* SPDX-License-Identifier: Apache-2.0 */
/* Home directories; see home.h. */
#include "blobcache/home.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/cleanup.h"
#include "runtime/base/mem.h"

int bc_home(char **ret)
{
	const char *home = getenv("HOME");
	struct passwd pw, *found = NULL;
	char scratch[2048];

	if (!home || home[0] != '/') {
		if (getpwuid_r(geteuid(), &pw, scratch, sizeof(scratch),
			    &found) != 0 ||
			!found)
			return -ENOENT;
		home = found->pw_dir;
	}
	*ret = mem_strdup(home);
	return *ret ? 0 : -ENOMEM;
}

int bc_home_config(const char *name, char **ret)
{
	const char *xdg = getenv("XDG_CONFIG_HOME");
	CLEANUP_FREE char *home = NULL;
	int rc;

	if (xdg && xdg[0] == '/') {
		*ret = mem_printf("%s/%s", xdg, name);
		return *ret ? 0 : -ENOMEM;
	}
	rc = bc_home(&home);
	if (rc < 0)
		return rc;
	*ret = mem_printf("%s/.config/%s", home, name);
	return *ret ? 0 : -ENOMEM;
}
