/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of calls: call.c, call_say.c, call_remote.c. All ON_NET. */
#pragma once

#include "blobcache/call.h"
#include "blobcache/retry.h"

/* bc_call.state */
enum { C_NEW, C_SENT, C_AUTH, C_WAIT, C_END };

/* Go on with c: send it, or wait for what is missing. c may be gone then. */
void bc_call_send(struct bc_call *c);
/* End c with -ECANCELED or -ENOMEM. c may be gone then. */
void bc_call_end(struct bc_call *c, int result);

/* ---- sentences ---- */

/* "host[:port]" of the server that was spoken to; returns out. */
char *bc_call_host(const struct bc_call *c, char *out, size_t cap);
/* c->err for the verdict v on c's last answer; its code. */
int bc_call_say(struct bc_call *c, enum bc_verdict v);
/* c->err for a 401 or 403; -EACCES. */
int bc_call_say_refused(struct bc_call *c);
/*
 * The server cannot be reached: counted (status says offline), and, when it is
 * tried again, said in the log; once until the other.
 */
void bc_call_say_down(struct bc_call *c, bool is_retry);
/* It can be reached again. */
void bc_call_say_up(struct bc_call *c);
