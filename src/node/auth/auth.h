// SPDX-License-Identifier: Apache-2.0
//
// Who somebody is: passwords, tickets, API tokens, second factors; and what they may do (rules.h).
//
// Owns these keys of the store: /user/ID, /group/ID, /role/ID, /acl/…, /token/USER!ID; and the node's signing key, a file in the state
// directory. A ticket is signed and says its user and time; it holds for two hours, as long as its user is enabled and has not changed
// the password or logged out everywhere since (the user's `epoch` is signed too). A token's secret is stored as its hash.
//
// Threads: any. Functions marked slow hash a password: not on the event loop.
#ifndef WIRT_NODE_AUTH_AUTH_H
#define WIRT_NODE_AUTH_AUTH_H

#include "node/auth/rules.h"

#define AUTH_TICKET_SECONDS 7200
#define AUTH_TICKET_BYTES   512
#define AUTH_CSRF_BYTES     64

struct auth;

// What PAM says of a user; the helper's business. 0, or -1 and *err.
typedef int auth_pam(void *user, const char *name, const char *password, struct err *err);

struct auth_options {
    struct store *store;    // borrowed
    const char *key_path;   // the signing key, made when missing
    const char *audit_path; // appended to
    auth_pam *pam;
    void *pam_user;
};
struct auth *auth_create(const struct auth_options *options, struct err *err);
void auth_destroy(struct auth *auth);

// Somebody known. `id` has the token's name behind a '!' when a token spoke.
struct auth_identity {
    char id[AUTH_ID_BYTES];
    char user[AUTH_ID_BYTES];
    bool token;
    bool superuser; // root@pam: not bound by what only root may do
};

// "name@pve" is "name@wirt"; a name without realm is of `realm`, or of pam. -1 when it is no name of a user.
int auth_canonical(const char *name, const char *realm, char id[AUTH_ID_BYTES], struct err *err);

// ---- Logging in. Slow.
struct auth_login {
    const char *user;      // canonical
    const char *password;  // or an earlier ticket of the same user
    const char *otp;       // or NULL
    const char *challenge; // the ticket that a first log-in without second factor gave, or NULL
    const char *address;   // for the limits
};
struct auth_ticket {
    char ticket[AUTH_TICKET_BYTES];
    char csrf[AUTH_CSRF_BYTES];
    bool needs_second_factor; // `ticket` is a challenge and good for nothing else
};
int auth_log_in(struct auth *auth, const struct auth_login *login, struct auth_ticket *ticket,
                struct err *err);
// Is this the user's password? Nothing else will do: no ticket, no one-time password. With the same limits.
int auth_confirm(struct auth *auth, const struct auth_login *login, struct err *err);
// All tickets that the user has end.
int auth_log_out(struct auth *auth, const char *user, struct err *err);
// The epoch of a user who is made now: no ticket of an earlier one of that name fits.
json_t *auth_first_epoch(void);

// ---- Knowing somebody again.
int auth_by_ticket(struct auth *auth, const char *ticket, struct auth_identity *who,
                   struct err *err);
int auth_by_token(struct auth *auth, const char *token, struct auth_identity *who,
                  struct err *err); // "user@realm!name=secret"
bool auth_csrf_valid(struct auth *auth, const struct auth_identity *who, const char *csrf);
void auth_root(struct auth_identity *who); // who came by the Unix socket as the node's owner

// A ticket for one purpose ("vnc:100"), good for `seconds` and, where the caller remembers it, once.
void auth_purpose_ticket(struct auth *auth, const char *user, const char *purpose,
                         char ticket[AUTH_TICKET_BYTES]);
bool auth_purpose_valid(struct auth *auth, const char *user, const char *purpose,
                        const char *ticket, unsigned seconds);

// ---- What one may.
privilege_set auth_privileges(struct auth *auth, const struct auth_identity *who, const char *path);
bool auth_may(struct auth *auth, const struct auth_identity *who, const char *path,
              const char *privilege);
// All paths at which this identity's privileges may differ, as {path: {privilege: 1}}.
json_t *auth_permissions(struct auth *auth, const char *id, const char *path);

// ---- Changing. All slow but the last.
int auth_set_password(struct auth *auth, const char *user, const char *password, struct err *err);
// The first administrator: the user with this password, Administrator on "/".
int auth_make_admin(struct auth *auth, const char *user, const char *password, struct err *err);
bool auth_has_admin(struct auth *auth);

// ---- One line of the audit log: who did what from where, with which parameters, and how it ended.
struct auth_act {
    const char *who, *address, *act, *result;
    json_t *params; // borrowed; or NULL
};
void auth_audit(struct auth *auth, const struct auth_act *act);

#endif
