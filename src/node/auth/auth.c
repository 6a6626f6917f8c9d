// SPDX-License-Identifier: Apache-2.0
//
// How it works: the rules are made anew after each commit that touches what they are read from, and replaced under the lock
// that who asks holds for a moment. Tickets need no memory of ours: they are checked by computing the signature again.
#define LOG_MODULE "auth"
#include "node/auth/auth.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/auth/limit.h"
#include "node/auth/secret.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/random.h"

#define FAILURES_USER    8
#define FAILURES_ADDRESS 40
#define LOCK_OUT_S       60
#define CHALLENGE_S      300

struct auth {
    // Constant.
    struct store *store;
    auth_pam *pam;
    void *pam_user;
    uint8_t key[SECRET_KEY_BYTES];
    int audit_fd;
    struct limit *by_user, *by_address;

    pthread_mutex_t lock;
    struct rules *rules;
};

static uint64_t now_s(void)
{
    return os_clock_wall_ns() / 1000000000u;
}

static json_t *get_user(struct auth *auth, const char *id)
{
    char key[AUTH_ID_BYTES + 8];
    snprintf(key, sizeof(key), "/user/%s", id);
    return store_get(auth->store, key, NULL);
}

// ---- Making it.

static int load_key(struct auth *auth, const char *path, struct err *err)
{
    size_t length = 0;
    if (!os_file_exists(path)) {
        os_random_bytes(auth->key, sizeof(auth->key));
        return os_file_write_whole(path, auth->key, sizeof(auth->key), 0600, err);
    }
    char *bytes = os_file_read_all(path, SECRET_KEY_BYTES, &length, err);
    if (!bytes)
        return -1;
    if (length == SECRET_KEY_BYTES)
        memcpy(auth->key, bytes, SECRET_KEY_BYTES);
    free(bytes);
    return length == SECRET_KEY_BYTES
               ? 0
               : err_set(err, ERR_INPUT, "'%s' is no signing key; remove it and a new one is made",
                         path);
}

// The rules are small next to what changes them: making them anew is simpler than changing them.
static void reload(void *user)
{
    struct auth *auth = user;
    struct rules *fresh = rules_load(auth->store);
    pthread_mutex_lock(&auth->lock);
    struct rules *old = auth->rules;
    auth->rules = fresh;
    pthread_mutex_unlock(&auth->lock);
    rules_destroy(old);
}

struct auth *auth_create(const struct auth_options *options, struct err *err)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        abort();
    *auth = (struct auth){.store = options->store,
                          .pam = options->pam,
                          .pam_user = options->pam_user,
                          .audit_fd = -1,
                          .by_user = limit_create(FAILURES_USER, LOCK_OUT_S),
                          .by_address = limit_create(FAILURES_ADDRESS, LOCK_OUT_S)};
    pthread_mutex_init(&auth->lock, NULL);
    if (load_key(auth, options->key_path, err)) {
        auth_destroy(auth);
        return NULL;
    }
    if (options->audit_path) {
        auth->audit_fd = os_file_open_append(options->audit_path, 0600, err);
        if (auth->audit_fd < 0) {
            auth_destroy(auth);
            return NULL;
        }
    }
    static const char *const prefixes[] = {"/user/", "/role/", "/acl/", "/token/", "/pool/"};
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        store_watch(auth->store, prefixes[i], reload, auth);
    reload(auth);
    return auth;
}

void auth_destroy(struct auth *auth)
{
    if (!auth)
        return;
    limit_destroy(auth->by_user);
    limit_destroy(auth->by_address);
    rules_destroy(auth->rules);
    os_file_close(&auth->audit_fd);
    pthread_mutex_destroy(&auth->lock);
    free(auth);
}

// ---- Names.

static bool valid_name(const char *name, size_t length)
{
    if (!length || length > 60)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._-+", name[i]))
            return false;
    return true;
}

int auth_canonical(const char *name, const char *realm, char id[AUTH_ID_BYTES], struct err *err)
{
    const char *at = strrchr(name, '@');
    size_t length = at ? (size_t)(at - name) : strlen(name);
    const char *of = at ? at + 1 : realm ? realm : "pam";
    if (!strcmp(of, "pve"))
        of = "wirt";
    if (!valid_name(name, length) || !valid_name(of, strlen(of)))
        return err_set(err, ERR_USAGE, "'%.80s' is not the name of a user, as name@realm", name);
    snprintf(id, AUTH_ID_BYTES, "%.*s@%s", (int)length, name, of);
    return 0;
}

// ---- Tickets: "PVE:user@realm:HEXTIME::signature", signed with the user's epoch.

static void sign_ticket(struct auth *auth, const char *kind, const char *user, uint64_t time_s,
                        json_int_t epoch, char signature[SECRET_SIGNATURE_BYTES])
{
    char text[AUTH_ID_BYTES + 256];
    snprintf(text, sizeof(text), "%s:%s:%08llX:%lld", kind, user, (unsigned long long)time_s,
             (long long)epoch);
    secret_sign(auth->key, text, signature);
}

static json_int_t epoch_of(const json_t *user)
{
    return json_integer_value(json_object_get(user, "epoch"));
}

static void make_ticket(struct auth *auth, const char *kind, const char *user, json_int_t epoch,
                        char ticket[AUTH_TICKET_BYTES])
{
    char signature[SECRET_SIGNATURE_BYTES];
    uint64_t time_s = now_s();
    sign_ticket(auth, kind, user, time_s, epoch, signature);
    snprintf(ticket, AUTH_TICKET_BYTES, "%s:%s:%08llX::%s", kind, user, (unsigned long long)time_s,
             signature);
}

static void make_csrf(struct auth *auth, const char *user, uint64_t time_s,
                      char csrf[AUTH_CSRF_BYTES])
{
    char signature[SECRET_SIGNATURE_BYTES];
    sign_ticket(auth, "csrf", user, time_s, 0, signature);
    snprintf(csrf, AUTH_CSRF_BYTES, "%08llX:%s", (unsigned long long)time_s, signature);
}

// Fresh enough, from a time that has been? A clock set back a little is forgiven.
static bool in_time(uint64_t time_s, unsigned seconds)
{
    uint64_t now = now_s();
    return time_s <= now + 300 && now <= time_s + seconds;
}

static int denied(struct err *err)
{
    return err_set(err, ERR_DENIED, "permission denied - invalid PVE ticket");
}

// Takes the ticket apart and checks its signature for `kind`; the user's own state is the caller's business.
static int open_ticket(struct auth *auth, const char *kind, const char *ticket, unsigned seconds,
                       char user[AUTH_ID_BYTES], struct err *err)
{
    char signature[SECRET_SIGNATURE_BYTES];
    size_t kind_length = strlen(kind);
    if (strlen(ticket) >= AUTH_TICKET_BYTES || strncmp(ticket, kind, kind_length) != 0 ||
        ticket[kind_length] != ':')
        return denied(err);
    const char *name = ticket + kind_length + 1;
    const char *colon = strchr(name, ':');
    if (!colon || (size_t)(colon - name) >= AUTH_ID_BYTES)
        return denied(err);
    snprintf(user, AUTH_ID_BYTES, "%.*s", (int)(colon - name), name);
    char *end;
    uint64_t time_s = strtoull(colon + 1, &end, 16);
    if (strncmp(end, "::", 2) != 0 || !in_time(time_s, seconds))
        return denied(err);
    json_t *record = get_user(auth, user);
    sign_ticket(auth, kind, user, time_s, epoch_of(record), signature);
    json_decref(record);
    return secret_equal(signature, end + 2) ? 0 : denied(err);
}

void auth_purpose_ticket(struct auth *auth, const char *user, const char *purpose,
                         char ticket[AUTH_TICKET_BYTES])
{
    char signature[SECRET_SIGNATURE_BYTES];
    uint64_t time_s = now_s();
    json_t *record = get_user(auth, user);
    sign_ticket(auth, purpose, user, time_s, epoch_of(record), signature);
    json_decref(record);
    snprintf(ticket, AUTH_TICKET_BYTES, "PVEVNC:%08llX::%s", (unsigned long long)time_s, signature);
}

bool auth_purpose_valid(struct auth *auth, const char *user, const char *purpose,
                        const char *ticket, unsigned seconds)
{
    char signature[SECRET_SIGNATURE_BYTES];
    if (strncmp(ticket, "PVEVNC:", 7) != 0)
        return false;
    char *end;
    uint64_t time_s = strtoull(ticket + 7, &end, 16);
    if (strncmp(end, "::", 2) != 0 || !in_time(time_s, seconds))
        return false;
    json_t *record = get_user(auth, user);
    sign_ticket(auth, purpose, user, time_s, epoch_of(record), signature);
    json_decref(record);
    return secret_equal(signature, end + 2);
}

// A user that is there, enabled and not expired. root@pam needs no record.
static int check_user(const char *id, const json_t *user, struct err *err)
{
    if (!user)
        return !strcmp(id, "root@pam") ? 0 : denied(err);
    const json_t *enable = json_object_get(user, "enable");
    json_int_t expire = json_integer_value(json_object_get(user, "expire"));
    if ((enable && !json_integer_value(enable)) || (expire && (uint64_t)expire <= now_s()))
        return denied(err);
    return 0;
}

static void set_identity(struct auth_identity *who, const char *user, const char *token)
{
    *who = (struct auth_identity){.token = token != NULL};
    snprintf(who->user, sizeof(who->user), "%s", user);
    snprintf(who->id, sizeof(who->id), "%s", token ? token : user);
    who->superuser = !strcmp(user, "root@pam") && !token;
}

void auth_root(struct auth_identity *who)
{
    set_identity(who, "root@pam", NULL);
}

int auth_by_ticket(struct auth *auth, const char *ticket, struct auth_identity *who,
                   struct err *err)
{
    char user[AUTH_ID_BYTES];
    if (open_ticket(auth, "PVE", ticket, AUTH_TICKET_SECONDS, user, err))
        return -1;
    json_t *record = get_user(auth, user);
    int result = check_user(user, record, err);
    json_decref(record);
    if (!result)
        set_identity(who, user, NULL);
    return result;
}

bool auth_csrf_valid(struct auth *auth, const struct auth_identity *who, const char *csrf)
{
    char expected[AUTH_CSRF_BYTES];
    char *end;
    uint64_t time_s = strtoull(csrf, &end, 16);
    if (*end != ':' || !in_time(time_s, AUTH_TICKET_SECONDS))
        return false;
    make_csrf(auth, who->user, time_s, expected);
    return secret_equal(expected, csrf);
}

int auth_by_token(struct auth *auth, const char *token, struct auth_identity *who, struct err *err)
{
    char id[AUTH_ID_BYTES], user[AUTH_ID_BYTES], key[AUTH_ID_BYTES + 8], hash[SECRET_HASH_BYTES];
    const char *mark = strchr(token, '!');
    const char *equals = mark ? strpbrk(mark, "=:") : NULL;
    if (!equals || mark - token >= 128 || equals - mark >= 60)
        return err_set(err, ERR_DENIED, "no such token");
    char name[AUTH_ID_BYTES];
    snprintf(name, sizeof(name), "%.*s", (int)(mark - token), token);
    if (auth_canonical(name, NULL, user, NULL))
        return err_set(err, ERR_DENIED, "no such token");
    snprintf(id, sizeof(id), "%.120s%.*s", user, (int)(equals - mark), mark);
    snprintf(key, sizeof(key), "/token/%s", id);
    json_t *record = store_get(auth->store, key, NULL), *owner = get_user(auth, user);
    const char *stored = json_string_value(json_object_get(record, "hash"));
    json_int_t expire = json_integer_value(json_object_get(record, "expire"));
    secret_hash(equals + 1, hash);
    // The comparison runs for a token that does not exist too.
    bool equal = secret_equal(hash, stored ? stored : "-") && stored;
    bool valid =
        equal && !(expire && (uint64_t)expire <= now_s()) && !check_user(user, owner, NULL);
    json_decref(record);
    json_decref(owner);
    if (!valid)
        return err_set(err, ERR_DENIED, "invalid token value!");
    set_identity(who, user, id);
    return 0;
}

// ---- Logging in.

static int check_password(struct auth *auth, const char *id, const json_t *user,
                          const char *password, struct err *err)
{
    const char *realm = strrchr(id, '@') + 1;
    if (!strcmp(realm, "pam")) {
        char name[AUTH_ID_BYTES];
        snprintf(name, sizeof(name), "%.*s", (int)(realm - 1 - id), id);
        if (!auth->pam)
            return err_set(err, ERR_DENIED, "the realm pam is not available");
        return auth->pam(auth->pam_user, name, password, err);
    }
    // A hash that nobody's password has, so that a name that does not exist takes as long.
    static const char nobody[] = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$"
                                 "X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7";
    const char *stored = json_string_value(json_object_get(user, "password"));
    bool right = secret_password_check(password, stored ? stored : nobody);
    return right && stored ? 0 : err_set(err, ERR_DENIED, "Authentication failed!");
}

// The step of a one-time password is remembered, so that it is used once.
static int check_totp(struct auth *auth, const char *id, const char *otp, struct err *err)
{
    char key[AUTH_ID_BYTES + 8];
    int64_t revision;
    snprintf(key, sizeof(key), "/user/%s", id);
    json_t *user = store_get(auth->store, key, &revision);
    const json_t *factors = json_object_get(user, "totp");
    size_t index;
    json_t *factor;
    int result = err_set(err, ERR_DENIED, "Authentication failed!");
    if (!strncmp(otp, "totp:", 5))
        otp += 5;
    json_array_foreach(factors, index, factor)
    {
        const char *secret = json_string_value(json_object_get(factor, "secret"));
        uint64_t step = secret ? secret_totp_check(secret, otp, now_s()) : 0;
        if (!step || step <= (uint64_t)json_integer_value(json_object_get(factor, "last")))
            continue;
        json_t *changed = json_deep_copy(user);
        json_t *mine = json_array_get(json_object_get(changed, "totp"), index);
        json_object_set_new(mine, "last", json_integer((json_int_t)step));
        struct store_txn txn;
        store_txn_begin(&txn);
        store_expect(&txn, key, revision); // two log-ins with the same digits: one wins
        store_put(&txn, key, changed);
        result = store_commit(auth->store, &txn, err);
        break;
    }
    json_decref(user);
    return result;
}

static int check_factors(struct auth *auth, const struct auth_login *login, json_t *user,
                         bool *second_missing, struct err *err)
{
    char of[AUTH_ID_BYTES];
    bool has_totp = json_array_size(json_object_get(user, "totp")) > 0;
    *second_missing = false;
    if (login->challenge) { // the password was checked when the challenge was given
        if (open_ticket(auth, "PVE!tfa", login->challenge, CHALLENGE_S, of, err))
            return -1;
        return strcmp(of, login->user) ? denied(err)
                                       : check_totp(auth, login->user, login->password, err);
    }
    if (!strncmp(login->password, "PVE:", 4) &&
        !open_ticket(auth, "PVE", login->password, AUTH_TICKET_SECONDS, of, NULL))
        return strcmp(of, login->user) ? denied(err) : 0; // renewal
    if (check_password(auth, login->user, user, login->password, err))
        return -1;
    if (has_totp && login->otp)
        return check_totp(auth, login->user, login->otp, err);
    *second_missing = has_totp;
    return 0;
}

static int check_limits(struct auth *auth, const struct auth_login *login, struct err *err)
{
    unsigned user = limit_wait_s(auth->by_user, login->user, now_s());
    unsigned address = limit_wait_s(auth->by_address, login->address, now_s());
    unsigned wait = user > address ? user : address;
    return wait ? err_set(err, ERR_DENIED, "too many failed log-ins, try again in %u s", wait) : 0;
}

static void tell_log_in(struct auth *auth, const struct auth_login *login, const char *result)
{
    auth_audit(auth, &(struct auth_act){.who = login->user,
                                        .address = login->address,
                                        .act = "log in",
                                        .result = result});
}

static void note_failure(struct auth *auth, const struct auth_login *login, struct err *err)
{
    limit_failed(auth->by_user, login->user, now_s());
    limit_failed(auth->by_address, login->address, now_s());
    tell_log_in(auth, login, err->text);
    if (err->code == ERR_DENIED)
        err_set(err, ERR_DENIED, "Authentication failed!"); // which part was wrong is ours to know
}

int auth_confirm(struct auth *auth, const struct auth_login *login, struct err *err)
{
    if (check_limits(auth, login, err))
        return -1;
    json_t *user = get_user(auth, login->user);
    int result = check_password(auth, login->user, user, login->password, err);
    if (result)
        note_failure(auth, login, err);
    json_decref(user);
    return result;
}

int auth_log_in(struct auth *auth, const struct auth_login *login, struct auth_ticket *ticket,
                struct err *err)
{
    if (check_limits(auth, login, err))
        return -1;
    json_t *user = get_user(auth, login->user);
    bool second_missing;
    int result = check_factors(auth, login, user, &second_missing, err);
    if (!result)
        result = check_user(login->user, user, err);
    if (result) {
        note_failure(auth, login, err);
    } else {
        *ticket = (struct auth_ticket){.needs_second_factor = second_missing};
        make_ticket(auth, second_missing ? "PVE!tfa" : "PVE", login->user, epoch_of(user),
                    ticket->ticket);
        make_csrf(auth, login->user, now_s(), ticket->csrf);
        if (!second_missing)
            limit_succeeded(auth->by_user, login->user);
        tell_log_in(auth, login, second_missing ? "second factor wanted" : "OK");
    }
    json_decref(user);
    return result;
}

// ---- What one may.

privilege_set auth_privileges(struct auth *auth, const struct auth_identity *who, const char *path)
{
    pthread_mutex_lock(&auth->lock);
    privilege_set set = rules_privileges(auth->rules, who->id, path);
    pthread_mutex_unlock(&auth->lock);
    return set;
}

bool auth_may(struct auth *auth, const struct auth_identity *who, const char *path,
              const char *privilege)
{
    return (auth_privileges(auth, who, path) & privilege_find(privilege)) != 0;
}

json_t *auth_permissions(struct auth *auth, const char *id, const char *path)
{
    static const char *const always[] = {"/",    "/access",  "/nodes", "/pool",
                                         "/sdn", "/storage", "/vms"};
    json_t *object = json_object();
    pthread_mutex_lock(&auth->lock);
    const char *const *paths = rules_paths(auth->rules);
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]) && !path; i++) {
        privilege_set set = rules_privileges(auth->rules, id, always[i]);
        if (set)
            json_object_set_new(object, always[i], privilege_object(set));
    }
    for (; paths && *paths && !path; paths++) {
        privilege_set set = rules_privileges(auth->rules, id, *paths);
        if (set)
            json_object_set_new(object, *paths, privilege_object(set));
    }
    if (path)
        json_object_set_new(object, path,
                            privilege_object(rules_privileges(auth->rules, id, path)));
    pthread_mutex_unlock(&auth->lock);
    return object;
}

// ---- Changing.

json_t *auth_first_epoch(void)
{
    return json_integer((json_int_t)(os_clock_wall_ns() / 1000000u));
}

static void next_epoch(json_t *user)
{
    json_int_t before = epoch_of(user);
    json_t *now = auth_first_epoch();
    json_object_set_new(
        user, "epoch",
        json_integer(json_integer_value(now) > before ? json_integer_value(now) : before + 1));
    json_decref(now);
}

int auth_log_out(struct auth *auth, const char *user, struct err *err)
{
    char key[AUTH_ID_BYTES + 8];
    int64_t revision;
    struct store_txn txn;
    snprintf(key, sizeof(key), "/user/%s", user);
    json_t *old = store_get(auth->store, key, &revision);
    // root@pam is there without a record.
    json_t *changed = old ? json_deep_copy(old) : json_pack("{s:i}", "enable", 1);
    next_epoch(changed);
    store_txn_begin(&txn);
    store_expect(&txn, key, old ? revision : 0);
    store_put(&txn, key, changed);
    json_decref(old);
    return store_commit(auth->store, &txn, err);
}

static int put_password(struct auth *auth, const char *id, const char *password, bool make,
                        struct store_txn *txn, struct err *err)
{
    char stored[SECRET_PASSWORD_BYTES], key[AUTH_ID_BYTES + 8];
    snprintf(key, sizeof(key), "/user/%s", id);
    json_t *old = get_user(auth, id);
    if (!old && !make)
        return err_set(err, ERR_NOT_FOUND, "no such user ('%s')", id);
    if (secret_password_hash(password, stored, err)) {
        json_decref(old);
        return -1;
    }
    json_t *user = old ? json_deep_copy(old) : json_pack("{s:i}", "enable", 1);
    json_object_set_new(user, "password", json_string(stored));
    next_epoch(user);
    json_decref(old);
    store_put(txn, key, user);
    return 0;
}

int auth_set_password(struct auth *auth, const char *user, const char *password, struct err *err)
{
    struct store_txn txn;
    store_txn_begin(&txn);
    if (put_password(auth, user, password, false, &txn, err)) {
        store_txn_abandon(&txn);
        return -1;
    }
    return store_commit(auth->store, &txn, err);
}

int auth_make_admin(struct auth *auth, const char *user, const char *password, struct err *err)
{
    char key[AUTH_ID_BYTES + 64];
    struct store_txn txn;
    store_txn_begin(&txn);
    if (put_password(auth, user, password, true, &txn, err)) {
        store_txn_abandon(&txn);
        return -1;
    }
    snprintf(key, sizeof(key), "/acl//|user|%s|Administrator", user);
    store_put(&txn, key,
              json_pack("{s:s, s:s, s:s, s:s, s:i}", "path", "/", "type", "user", "ugid", user,
                        "roleid", "Administrator", "propagate", 1));
    return store_commit(auth->store, &txn, err);
}

bool auth_has_admin(struct auth *auth)
{
    struct store_list list;
    store_list(auth->store, "/acl//|user|", &list);
    bool any = list.count > 0;
    store_list_free(&list);
    return any;
}

void auth_audit(struct auth *auth, const struct auth_act *act)
{
    if (auth->audit_fd < 0)
        return;
    json_t *line = json_pack("{s:I, s:s, s:s, s:s, s:s, s:O*}", "time", (json_int_t)now_s(), "user",
                             act->who, "from", act->address, "act", act->act, "result", act->result,
                             "params", json_object_size(act->params) ? act->params : NULL);
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    if (!text || os_file_append_line(auth->audit_fd, text))
        log_error("the audit log cannot be written");
    free(text);
    json_decref(line);
}
