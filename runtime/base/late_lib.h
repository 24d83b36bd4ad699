/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Libraries that are loaded when they are first needed: from a cold disk each
 * takes as long as much of what a start has to do, and most starts do without.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct late_entry {
	const char *name; /* a function of the library */
	size_t at;        /* where its address goes in the table */
};

/* A static object of its own, with its first five members set. */
struct late_lib {
	const char *topic;  /* for the log: "libzstd" */
	const char *soname; /* as the loader looks for it ... */
	const char *path;   /* ... or else: where the build found it */
	const struct late_entry *entries;
	size_t entry_count;
	/* private */
	bool is_loaded;
	char why[300];
};

/*
 * Fill the table with the addresses of all entries. False if one is missing,
 * which the log says; l->why has the reason. Call it once (pthread_once), after
 * that is_loaded and why may be read. ANY_THREAD.
 */
bool late_lib_load(struct late_lib *l, void *table);
