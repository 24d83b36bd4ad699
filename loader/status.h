/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mount says of itself: one JSON object whose keys stay, and the same as
 * text for people.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "blobcache/net.h"
#include "loader/fs.h"
#include "loader/image.h"
#include "runtime/runtime.h"

/* Everything borrowed. */
struct ld_status_of {
	struct ld_image *image;
	const struct ld_session *session; /* NULL: nothing is served */
	struct rt *rt;
	struct bc_net *net;
	/* ld_image_shown_bytes, where all is cached; NULL: look at the index */
	const uint64_t *shown;
	const char *driver, *driver_reason;
	const char *transport, *transport_reason;
};

/* A new reference; NULL without memory. One thread at a time. */
json_t *ld_status_json(const struct ld_status_of *s);
/* Null for whatever only a process knows. 0 or -ENOMEM, also of o. */
int ld_status_forget_process(json_t *o);
/* For people, from that object. */
void ld_status_print(const json_t *o, FILE *out);
