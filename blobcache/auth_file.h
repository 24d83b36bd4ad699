/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an auth file says about one repository (containers-auth.json(5),
 * Docker's config.json, and the older flat .dockercfg). PURE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define BC_AUTH_FILE_MAX (1u << 20)

/* Owned strings, NULL: not given. All NULL: nothing is known. */
struct bc_credentials {
	char *user, *password;
	char *identity_token; /* for a refresh_token grant */
};

/* Wipes and frees. */
void bc_credentials_fini(struct bc_credentials *c);

struct bc_auth_entry {
	struct bc_credentials cred;
	char *helper; /* owned; the suffix of a credential helper to ask */
	char *server; /* owned; what to ask it for; set with helper */
};

/* Wipes the secrets and frees them; leaves an empty entry. */
void bc_auth_entry_fini(struct bc_auth_entry *e);

/*
 * Look up host ("registry:5000") and repository in n bytes of JSON. is_flat:
 * the older form. A helper of the host goes before a secret in the file, and
 * that before the default helper. 0 (ret may be empty), -EPROTO (no such file
 * format), -E2BIG, -ENOMEM.
 */
int bc_auth_file_find(const char *json, size_t n, bool is_flat,
	const char *host, const char *repository, struct bc_auth_entry *ret);
/* Letters, digits, '.', '_' and '-': a program name without a way to it. */
bool bc_helper_name_is_ok(const char *suffix);
/* What helpers know host as; perhaps host itself. */
const char *bc_helper_server(const char *host);
/* Parse what a helper prints. 0, -EPROTO, -ENOMEM. */
int bc_helper_answer_parse(
	const char *json, size_t n, struct bc_credentials *ret);
