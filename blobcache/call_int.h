/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of calls: call*.c. All ON_NET. */
#pragma once

#include "blobcache/call.h"
#include "blobcache/retry.h"

/* bc_call.state */
enum { C_NEW, C_TURN, C_SENT, C_AUTH, C_WAIT, C_END };

/* Go on with c: send it, or wait for what is missing. c may be gone then. */
void bc_call_send(struct bc_call *c);
/* End c with -ECANCELED or -ENOMEM. c may be gone then. */
void bc_call_end(struct bc_call *c, int result);

/* ---- where redirects led ---- */

/* What is known at c's server; NULL: nothing is kept. */
struct bc_target *bc_target_of(struct bc_call *c);
/*
 * The target was known and has expired: one call asks the server for it, all
 * others that want it wait. True: c has to wait.
 */
bool bc_target_wait(struct bc_call *c);
/* c knows the way, or will not: those that waited for it go on, all at once. */
void bc_target_release(struct bc_call *c);
/* What c used has expired. */
void bc_target_forget(struct bc_call *c);
/* What c was led to works. */
void bc_target_remember(struct bc_call *c);
/* A demand waits for what c waits for: who finds it hurries. */
void bc_call_hurry(struct bc_call *c);
/* Start over at the server itself. */
void bc_call_go_home(struct bc_call *c);

/* ---- the way from server to server ---- */

/* c's server for a new round; c goes home to it. */
void bc_route_choose(struct bc_call *c);
/*
 * c has failed at its server with *v, c->err says how. True: c has another one
 * now. False: all have failed; *v and c->err are those of the last server of
 * the route, which counts.
 */
bool bc_route_next(struct bc_call *c, enum bc_verdict *v);
/* c was answered well. */
void bc_route_works(struct bc_call *c);

/* ---- client certificates ---- */

/* c is about to be sent: what it shows from now on. */
void bc_pair_note(struct bc_call *c);
/*
 * c has failed with v: has its server perhaps refused the certificate? True:
 * another one is shown now, each once for a call; send c again.
 */
bool bc_pair_next(struct bc_call *c, enum bc_verdict v);
/* c's server has let it in. */
void bc_pair_works(struct bc_call *c);

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
