/* SPDX-License-Identifier: Apache-2.0 */
/* Loads libraries; see late_lib.h. */
#include "runtime/base/late_lib.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/log.h"

#define LOG_TOPIC "library"

bool late_lib_load(struct late_lib *l, void *table)
{
	void *dl = dlopen(l->soname, RTLD_LAZY), *f;
	size_t i;

	if (!dl)
		dl = dlopen(l->path, RTLD_LAZY);
	for (i = 0; dl && i < l->entry_count; i++) {
		f = dlsym(dl, l->entries[i].name);
		if (!f)
			break;
		memcpy((char *)table + l->entries[i].at, &f, sizeof(f));
	}
	l->is_loaded = dl && i == l->entry_count;
	if (l->is_loaded)
		return true;
	(void)snprintf(l->why, sizeof(l->why), "%s", dlerror()); /* cut: fine */
	log_error("cannot load %s: %s", l->topic, l->why);
	return false;
}
