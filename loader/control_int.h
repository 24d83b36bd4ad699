/* SPDX-License-Identifier: Apache-2.0 */
/* What both sides of the control socket share. ONE_THREAD. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#include "loader/control.h"

#define CONTROL_RUN_VERSION 1
#define CONTROL_MAX_RUN_FILE (17u << 20) /* with an answer in it */
#define CONTROL_MAX_PLACES 3
#define CONTROL_PATH_LEN 108 /* what fits into a socket's address */

/* The directories to look in, best first; how many. */
size_t control_places(char ret[CONTROL_MAX_PLACES][CONTROL_PATH_LEN]);
/* A directory of ours that nobody else can write to. */
bool control_is_private_dir(const char *path);
/*
 * "<place>/<16 hex digits of the mount point's digest><suffix>". 0,
 * -ENAMETOOLONG or -errno.
 */
int control_name_in(const char *place, const char *dir, const char *suffix,
	char ret[CONTROL_PATH_LEN]);
/* What fd says; the caller frees it. 0, -EPROTO, -ENOMEM, -errno. */
int control_read_run_file(int fd, struct ld_run *ret);

/* For control_read_run_file to read. A new reference; NULL without memory. */
json_t *control_mount_json(const struct ld_mount_id *m);

/* path is shorter than CONTROL_PATH_LEN. */
struct sockaddr_un control_address_of(const char *path);
/* Neither side waits for ever for the other. */
void control_set_timeout(int fd, int seconds);
/* Everything, or -errno. BLOCKING as long as the timeout says. */
int control_send_all(int fd, const void *p, size_t n);
