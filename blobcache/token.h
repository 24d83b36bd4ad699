/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a token server (the distribution project's token specification, and
 * its OAuth2 form for identity tokens): the texts of question and answer. PURE.
 */
#pragma once

#include <stdint.h>

#include "blobcache/auth_file.h"
#include "blobcache/challenge.h"

#define BC_TOKEN_MAX_BODY (1u << 20)

/*
 * The URL to GET: realm with service, scopes and account in its query. scope ""
 * in the challenge: pull of repository. New memory, NULL: out of memory.
 */
char *bc_token_url(const struct bc_challenge *c, const char *repository,
	const struct bc_credentials *cred);
/* The form to POST to realm for an identity token; new memory or NULL. */
char *bc_token_form(const struct bc_challenge *c, const char *repository,
	const char *identity_token);
/* "Authorization: Basic ..."; new memory or NULL. */
char *bc_basic_header(const struct bc_credentials *cred);
/*
 * The answer's token as "Authorization: Bearer ..." in new memory, and how many
 * seconds it lives (at least 60, at most a day). -EPROTO (no token, or one that
 * would break a header), -ENOMEM.
 */
int bc_token_parse(
	const char *json, size_t n, char **ret_header, uint64_t *ret_life_s);
