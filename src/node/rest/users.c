// SPDX-License-Identifier: Apache-2.0
//
// /access/users, /access/groups, /access/tfa: users with their tokens and second factors, groups.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/auth/secret.h"
#include "node/rest/rest.h"
#include "os/clock.h"

#define KEY_BYTES (AUTH_ID_BYTES + 80)

static const char *const plain_fields[] = {"email", "firstname", "lastname", "comment", "keys"};

static int user_key(struct api_call *call, char id[AUTH_ID_BYTES], char key[KEY_BYTES],
                    struct err *err)
{
    if (auth_canonical(api_string(call, "userid"), NULL, id, err))
        return -1;
    snprintf(key, KEY_BYTES, "/user/%s", id);
    return 0;
}

static int no_user(const char *id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no such user ('%s')", id);
}

// ---- Tokens of a user.

static json_t *token_facts(const json_t *token)
{
    json_t *row =
        json_pack("{s:I, s:I}", "privsep", (json_int_t)api_param_integer(token, "privsep", 1),
                  "expire", (json_int_t)api_param_integer(token, "expire", 0));
    if (json_object_get(token, "comment"))
        json_object_set(row, "comment", json_object_get(token, "comment"));
    return row;
}

// As a list with `tokenid`, or as an object by it.
static json_t *tokens_of(struct node *node, const char *id, bool list)
{
    struct store_list found;
    char prefix[KEY_BYTES];
    json_t *tokens = list ? json_array() : json_object();
    snprintf(prefix, sizeof(prefix), "/token/%s!", id);
    store_list(node->store, prefix, &found);
    for (size_t i = 0; i < found.count; i++) {
        const char *name = found.entries[i].key + strlen(prefix);
        json_t *row = token_facts(found.entries[i].value);
        if (list) {
            json_object_set_new(row, "tokenid", json_string(name));
            json_array_append_new(tokens, row);
        } else {
            json_object_set_new(tokens, name, row);
        }
    }
    store_list_free(&found);
    return tokens;
}

static int get_tokens(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES], key[KEY_BYTES];
    if (user_key(call, id, key, err))
        return -1;
    call->data = tokens_of(rest_node(call), id, true);
    return 0;
}

static int token_key(struct api_call *call, char full[KEY_BYTES], char key[KEY_BYTES],
                     struct err *err)
{
    char id[AUTH_ID_BYTES];
    if (user_key(call, id, key, err))
        return -1;
    snprintf(full, KEY_BYTES, "%.120s!%s", id, api_string(call, "tokenid"));
    snprintf(key, KEY_BYTES, "/token/%.200s", full);
    return 0;
}

static int no_token(const char *full, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no such token '%.150s'", full);
}

static int get_token(struct api_call *call, struct err *err)
{
    char full[KEY_BYTES], key[KEY_BYTES];
    if (token_key(call, full, key, err))
        return -1;
    json_t *token = store_get(rest_node(call)->store, key, NULL);
    if (!token)
        return no_token(full, err);
    call->data = token_facts(token);
    json_decref(token);
    return 0;
}

static void set_token_fields(struct api_call *call, json_t *token)
{
    if (json_object_get(call->params, "privsep"))
        json_object_set_new(token, "privsep", json_integer(api_boolean(call, "privsep")));
    if (json_object_get(call->params, "expire"))
        json_object_set(token, "expire", json_object_get(call->params, "expire"));
    if (api_string(call, "comment"))
        json_object_set(token, "comment", json_object_get(call->params, "comment"));
}

static int post_token(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES], full[KEY_BYTES], key[KEY_BYTES], hash[SECRET_HASH_BYTES];
    char secret[SECRET_UUID_BYTES];
    struct store_txn txn;
    struct node *node = rest_node(call);
    if (user_key(call, id, key, err))
        return -1;
    json_t *user = store_get(node->store, key, NULL);
    json_decref(user);
    if (!user && strcmp(id, "root@pam") != 0)
        return no_user(id, err);
    if (token_key(call, full, key, err))
        return -1;
    secret_uuid(secret);
    secret_hash(secret, hash);
    json_t *token = json_pack("{s:s, s:i, s:i}", "hash", hash, "privsep", 1, "expire", 0);
    set_token_fields(call, token);
    json_t *info = token_facts(token);
    store_txn_begin(&txn);
    store_expect(&txn, key, 0);
    store_put(&txn, key, token);
    if (store_commit(node->store, &txn, err)) {
        json_decref(info);
        return err->code == ERR_BUSY ? api_refuse(call, err, "tokenid", "Token already exists.")
                                     : -1;
    }
    call->data = json_pack("{s:s, s:s, s:o}", "full-tokenid", full, "value", secret, "info", info);
    return 0;
}

static int put_token(struct api_call *call, struct err *err)
{
    char full[KEY_BYTES], key[KEY_BYTES];
    if (token_key(call, full, key, err))
        return -1;
    json_t *token = store_get(rest_node(call)->store, key, NULL);
    if (!token)
        return no_token(full, err);
    json_t *changed = json_copy(token);
    json_decref(token);
    set_token_fields(call, changed);
    call->data = token_facts(changed);
    return store_put_now(rest_node(call)->store, key, changed, err);
}

static int delete_token(struct api_call *call, struct err *err)
{
    char full[KEY_BYTES], key[KEY_BYTES];
    if (token_key(call, full, key, err))
        return -1;
    json_t *token = store_get(rest_node(call)->store, key, NULL);
    json_decref(token);
    if (!token)
        return no_token(full, err);
    return rest_forget_rights(rest_node(call), "token", "ugid", full, err)
               ? -1
               : store_delete_now(rest_node(call)->store, key, err);
}

// ---- Users.

static json_t *user_facts(const json_t *user)
{
    json_t *row =
        json_pack("{s:I, s:I}", "enable", (json_int_t)api_param_integer(user, "enable", 1),
                  "expire", (json_int_t)api_param_integer(user, "expire", 0));
    for (size_t i = 0; i < sizeof(plain_fields) / sizeof(plain_fields[0]); i++)
        if (json_object_get(user, plain_fields[i]))
            json_object_set(row, plain_fields[i], json_object_get(user, plain_fields[i]));
    return row;
}

static json_t *joined_groups(const json_t *user)
{
    char text[4096] = "";
    size_t used = 0, index;
    json_t *group;
    json_array_foreach(json_object_get(user, "groups"), index, group) if (used < sizeof(text) - 80)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", used ? "," : "",
                                 json_string_value(group));
    return json_string(text);
}

static int get_users(struct api_call *call, struct err *err)
{
    struct store_list list;
    struct node *node = rest_node(call);
    (void)err;
    bool all = rest_may(call, "/access", "User.Modify|Sys.Audit");
    call->data = json_array();
    store_list(node->store, "/user/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *id = list.entries[i].key + strlen("/user/");
        if (!all && strcmp(id, call->who.user) != 0)
            continue;
        json_t *row = user_facts(list.entries[i].value);
        bool enabled = api_param_integer(row, "enable", 1) != 0;
        if (json_object_get(call->params, "enabled") && enabled != api_boolean(call, "enabled")) {
            json_decref(row);
            continue;
        }
        json_object_set_new(row, "userid", json_string(id));
        json_object_set_new(row, "realm-type", json_string(strstr(id, "@pam") ? "pam" : "pve"));
        if (api_boolean(call, "full")) {
            json_object_set_new(row, "groups", joined_groups(list.entries[i].value));
            json_object_set_new(row, "tokens", tokens_of(node, id, true));
        }
        json_array_append_new(call->data, row);
    }
    store_list_free(&list);
    return 0;
}

static int get_user(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES], key[KEY_BYTES];
    if (user_key(call, id, key, err))
        return -1;
    json_t *user = store_get(rest_node(call)->store, key, NULL);
    if (!user)
        return no_user(id, err);
    const json_t *groups = json_object_get(user, "groups");
    call->data = user_facts(user);
    json_object_set_new(call->data, "groups", groups ? json_deep_copy(groups) : json_array());
    json_object_set_new(call->data, "tokens", tokens_of(rest_node(call), id, false));
    json_decref(user);
    return 0;
}

static void group_permission(const char *value, char *expression, size_t size)
{
    snprintf(expression, size, "/access/groups/%s User.Modify", value);
}

// Does the access list let the group's members change it?
static bool changes_rights(struct api_call *call, const char *group)
{
    struct store_list list;
    bool found = false;
    store_list(rest_node(call)->store, "/acl/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const json_t *acl = list.entries[i].value;
        const char *path = api_param_string(acl, "path");
        privilege_set set = 0;
        if (!strcmp(api_param_string(acl, "type"), "group") &&
            !strcmp(api_param_string(acl, "ugid"), group) &&
            (!strcmp(path, "/") || !strcmp(path, "/access")) &&
            rest_find_role(call, api_param_string(acl, "roleid"), &set))
            found |= (set & privilege_find("Permissions.Modify")) != 0;
    }
    store_list_free(&list);
    return found;
}

static int check_group(struct api_call *call, const char *group, struct err *err)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof(key), "/group/%.60s", group);
    json_t *found = store_get(rest_node(call)->store, key, NULL);
    json_decref(found);
    if (!found)
        return api_refuse(call, err, "groups", "group '%s' does not exist", group);
    return changes_rights(call, group) &&
                   !api_permitted(call, "/access Permissions.Modify | / Permissions.Modify", err)
               ? -1
               : 0;
}

static int set_user_fields(struct api_call *call, json_t *user, struct err *err)
{
    for (size_t i = 0; i < sizeof(plain_fields) / sizeof(plain_fields[0]); i++)
        if (api_string(call, plain_fields[i]))
            json_object_set(user, plain_fields[i], json_object_get(call->params, plain_fields[i]));
    if (json_object_get(call->params, "enable"))
        json_object_set_new(user, "enable", json_integer(api_boolean(call, "enable")));
    if (json_object_get(call->params, "expire"))
        json_object_set(user, "expire", json_object_get(call->params, "expire"));
    const json_t *given = json_object_get(call->params, "groups");
    if (!given)
        return 0;
    json_t *groups = api_boolean(call, "append") && json_object_get(user, "groups")
                         ? json_deep_copy(json_object_get(user, "groups"))
                         : json_array();
    size_t index;
    json_t *group;
    json_array_foreach(given, index, group)
    {
        if (check_group(call, json_string_value(group), err)) {
            json_decref(groups);
            return -1;
        }
        json_array_append(groups, group);
    }
    json_object_set_new(user, "groups", groups);
    return 0;
}

static int post_user(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES], key[KEY_BYTES], stored[SECRET_PASSWORD_BYTES];
    struct store_txn txn;
    if (user_key(call, id, key, err))
        return -1;
    json_t *user =
        json_pack("{s:i, s:i, s:o}", "enable", 1, "expire", 0, "epoch", auth_first_epoch());
    const char *password = api_string(call, "password");
    if (set_user_fields(call, user, err) ||
        (password && secret_password_hash(password, stored, err))) {
        json_decref(user);
        return -1;
    }
    if (password)
        json_object_set_new(user, "password", json_string(stored));
    store_txn_begin(&txn);
    store_expect(&txn, key, 0);
    store_put(&txn, key, user);
    if (!store_commit(rest_node(call)->store, &txn, err))
        return 0;
    return err->code == ERR_BUSY ? err_set(err, ERR_EXISTS, "user '%s' already exists", id) : -1;
}

static int put_user(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES], key[KEY_BYTES];
    int64_t revision;
    struct store_txn txn;
    if (user_key(call, id, key, err))
        return -1;
    json_t *user = store_get(rest_node(call)->store, key, &revision);
    if (!user)
        return no_user(id, err);
    json_t *changed = json_deep_copy(user);
    json_decref(user);
    if (set_user_fields(call, changed, err)) {
        json_decref(changed);
        return -1;
    }
    store_txn_begin(&txn);
    store_expect(&txn, key, revision);
    store_put(&txn, key, changed);
    return store_commit(rest_node(call)->store, &txn, err);
}

// With its tokens, and what the access list says of them.
static int delete_user(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES], key[KEY_BYTES], prefix[KEY_BYTES];
    struct store_list tokens, acls;
    struct store_txn txn;
    struct node *node = rest_node(call);
    if (user_key(call, id, key, err))
        return -1;
    json_t *user = store_get(node->store, key, NULL);
    json_decref(user);
    if (!user)
        return no_user(id, err);
    store_txn_begin(&txn);
    store_delete(&txn, key);
    snprintf(prefix, sizeof(prefix), "/token/%s!", id);
    store_list(node->store, prefix, &tokens);
    for (size_t i = 0; i < tokens.count; i++)
        store_delete(&txn, tokens.entries[i].key);
    store_list_free(&tokens);
    store_list(node->store, "/acl/", &acls);
    for (size_t i = 0; i < acls.count; i++) {
        const char *who = api_param_string(acls.entries[i].value, "ugid");
        const char *type = api_param_string(acls.entries[i].value, "type");
        size_t n = strlen(id);
        if (who && type && strcmp(type, "group") != 0 && !strncmp(who, id, n) &&
            (!who[n] || who[n] == '!'))
            store_delete(&txn, acls.entries[i].key);
    }
    store_list_free(&acls);
    return store_commit(node->store, &txn, err);
}

// ---- Groups.

static void group_key(struct api_call *call, char key[KEY_BYTES])
{
    snprintf(key, KEY_BYTES, "/group/%s", api_string(call, "groupid"));
}

static json_t *members_of(struct node *node, const char *group)
{
    struct store_list list;
    json_t *members = json_array();
    store_list(node->store, "/user/", &list);
    for (size_t i = 0; i < list.count; i++) {
        size_t index;
        json_t *one;
        json_array_foreach(json_object_get(list.entries[i].value, "groups"), index,
                           one) if (!strcmp(json_string_value(one), group))
            json_array_append_new(members, json_string(list.entries[i].key + strlen("/user/")));
    }
    store_list_free(&list);
    return members;
}

static int get_groups(struct api_call *call, struct err *err)
{
    struct store_list list;
    (void)err;
    call->data = json_array();
    store_list(rest_node(call)->store, "/group/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.entries[i].key + strlen("/group/");
        char path[KEY_BYTES];
        snprintf(path, sizeof(path), "/access/groups/%s", name);
        if (!rest_may(call, path, "Sys.Audit|Group.Allocate|User.Modify"))
            continue;
        json_t *members = json_pack("{s:o}", "groups", members_of(rest_node(call), name));
        json_t *row = json_pack("{s:s, s:o}", "groupid", name, "users", joined_groups(members));
        json_decref(members);
        if (json_object_get(list.entries[i].value, "comment"))
            json_object_set(row, "comment", json_object_get(list.entries[i].value, "comment"));
        json_array_append_new(call->data, row);
    }
    store_list_free(&list);
    return 0;
}

static json_t *find_group(struct api_call *call, char key[KEY_BYTES], struct err *err)
{
    group_key(call, key);
    json_t *group = store_get(rest_node(call)->store, key, NULL);
    if (!group)
        err_set(err, ERR_NOT_FOUND, "group '%s' does not exist", api_string(call, "groupid"));
    return group;
}

static int get_group(struct api_call *call, struct err *err)
{
    char key[KEY_BYTES];
    json_t *group = find_group(call, key, err);
    if (!group)
        return -1;
    call->data =
        json_pack("{s:o}", "members", members_of(rest_node(call), api_string(call, "groupid")));
    if (json_object_get(group, "comment"))
        json_object_set(call->data, "comment", json_object_get(group, "comment"));
    json_decref(group);
    return 0;
}

static int put_group(struct api_call *call, struct err *err)
{
    char key[KEY_BYTES];
    bool post = !strcmp(call->endpoint->method, "POST");
    json_t *group = find_group(call, key, err);
    json_decref(group);
    if (post && group)
        return err_set(err, ERR_EXISTS, "group '%s' already exists", api_string(call, "groupid"));
    if (!post && !group)
        return -1;
    const char *comment = api_string(call, "comment");
    return store_put_now(rest_node(call)->store, key, json_pack("{s:s*}", "comment", comment), err);
}

static int take_out(struct store *store, const struct store_entry *user, const char *group,
                    struct err *err)
{
    struct store_txn txn;
    json_t *changed = json_deep_copy(user->value);
    json_t *groups = json_object_get(changed, "groups");
    for (size_t i = json_array_size(groups); i-- > 0;)
        if (!strcmp(json_string_value(json_array_get(groups, i)), group))
            json_array_remove(groups, i);
    if (json_equal(changed, user->value)) {
        json_decref(changed);
        return 0;
    }
    store_txn_begin(&txn);
    store_expect(&txn, user->key, user->revision);
    store_put(&txn, user->key, changed);
    return store_commit(store, &txn, err);
}

// First what it gives, then its members, then itself: whoever makes one of that name later makes an empty one without rights.
static int delete_group(struct api_call *call, struct err *err)
{
    char key[KEY_BYTES];
    struct store_list users;
    struct node *node = rest_node(call);
    const char *name = api_string(call, "groupid");
    json_t *group = find_group(call, key, err);
    json_decref(group);
    if (!group || rest_forget_rights(node, "group", "ugid", name, err))
        return -1;
    int result = 0;
    store_list(node->store, "/user/", &users);
    for (size_t i = 0; i < users.count && !result; i++)
        result = take_out(node->store, &users.entries[i], name, err);
    store_list_free(&users);
    return result ? -1 : store_delete_now(node->store, key, err);
}

// `wirt init` while wirtd runs.
static int post_init(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES];
    if (auth_canonical(api_string(call, "userid"), NULL, id, err))
        return -1;
    return auth_make_admin(rest_node(call)->auth, id, api_string(call, "password"), err);
}

// The first administrator, made by whoever can read the node's log, where the token was printed.
static int post_setup(struct api_call *call, struct err *err)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    struct node *node = rest_node(call);
    char id[AUTH_ID_BYTES];
    if (auth_canonical(api_string(call, "userid"), "wirt", id, err))
        return -1;
    if (strcmp(strchr(id, '@'), "@wirt") != 0)
        return api_refuse(call, err, "userid", "it is of the realm wirt, as root@wirt");
    pthread_mutex_lock(&once);
    int result = -1;
    if (!node->setup_token[0] || auth_has_admin(node->auth) ||
        !secret_equal(node->setup_token, api_string(call, "onetime")))
        api_refuse(call, err, "onetime", "it is wrong, or was used");
    else
        result = auth_make_admin(node->auth, id, api_string(call, "password"), err);
    if (!result)
        node->setup_token[0] = 0;
    pthread_mutex_unlock(&once);
    return result;
}

// ---- Second factors.

static int get_tfa(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES], key[KEY_BYTES];
    if (user_key(call, id, key, err))
        return -1;
    json_t *user = store_get(rest_node(call)->store, key, NULL);
    size_t index;
    json_t *factor;
    call->data = json_array();
    json_array_foreach(json_object_get(user, "totp"), index, factor) json_array_append_new(
        call->data,
        json_pack("{s:O, s:s, s:O, s:i}", "id", json_object_get(factor, "id"), "type", "totp",
                  "description", json_object_get(factor, "description"), "enable", 1));
    json_decref(user);
    return 0;
}

static int change_factors(struct api_call *call,
                          json_t *(*change)(struct api_call *, const json_t *), struct err *err)
{
    char id[AUTH_ID_BYTES], key[KEY_BYTES];
    int64_t revision;
    struct store_txn txn;
    if (user_key(call, id, key, err))
        return -1;
    json_t *user = store_get(rest_node(call)->store, key, &revision);
    if (!user)
        return no_user(id, err);
    json_t *changed = json_deep_copy(user);
    json_object_set_new(changed, "totp", change(call, json_object_get(user, "totp")));
    bool same = json_array_size(json_object_get(changed, "totp")) ==
                json_array_size(json_object_get(user, "totp"));
    json_decref(user);
    if (same) {
        json_decref(changed);
        return err_set(err, ERR_NOT_FOUND, "second factor '%s' does not exist",
                       api_string(call, "id"));
    }
    store_txn_begin(&txn);
    store_expect(&txn, key, revision);
    store_put(&txn, key, changed);
    return store_commit(rest_node(call)->store, &txn, err);
}

static json_t *with_factor(struct api_call *call, const json_t *factors)
{
    json_t *all = factors ? json_deep_copy(factors) : json_array();
    const char *about = api_string(call, "description");
    json_array_append_new(all, json_pack("{s:O, s:O, s:s, s:i}", "id",
                                         json_object_get(call->params, "id"), "secret",
                                         json_object_get(call->params, "secret"), "description",
                                         about ? about : "", "last", 0));
    return all;
}

static json_t *without_factor(struct api_call *call, const json_t *factors)
{
    json_t *all = json_array();
    size_t index;
    json_t *factor;
    json_array_foreach(factors, index, factor) if (strcmp(api_param_string(factor, "id"),
                                                          api_string(call, "id")) != 0)
        json_array_append(all, factor);
    return all;
}

// The secret comes with a code that it makes, so that nobody is locked out by a mistake. "otpauth://…?secret=X" is taken too.
static int post_tfa(struct api_call *call, struct err *err)
{
    char id[SECRET_UUID_BYTES], secret[128];
    const char *given = api_string(call, "totp"), *at = strstr(given, "secret=");
    at = at ? at + 7 : given;
    snprintf(secret, sizeof(secret), "%.*s", (int)strcspn(at, "&"), at);
    const char *code = api_string(call, "value");
    if (!secret_totp_check(secret, code ? code : "", os_clock_wall_ns() / 1000000000u))
        return api_refuse(call, err, "value", "the code is not the one that this secret makes now");
    secret_uuid(id);
    json_object_set_new(call->params, "id", json_string(id));
    json_object_set_new(call->params, "secret", json_string(secret));
    if (change_factors(call, with_factor, err))
        return -1;
    call->data = json_pack("{s:s}", "id", id);
    return 0;
}

static int delete_tfa(struct api_call *call, struct err *err)
{
    return change_factors(call, without_factor, err);
}

// ---- The table.

#define USER_FIELDS                                                                                \
    {.name = "enable", .type = API_BOOLEAN, .optional = true, .about = "may log in"},              \
        {.name = "expire",                                                                         \
         .type = API_INTEGER,                                                                      \
         .optional = true,                                                                         \
         .min = 0,                                                                                 \
         .max = INT64_MAX,                                                                         \
         .about = "seconds since 1970; 0: never"},                                                 \
        {.name = "email",                                                                          \
         .type = API_STRING,                                                                       \
         .optional = true,                                                                         \
         .max = 254,                                                                               \
         .about = "mail address"},                                                                 \
        {.name = "firstname",                                                                      \
         .type = API_STRING,                                                                       \
         .optional = true,                                                                         \
         .max = 1024,                                                                              \
         .about = "first name"},                                                                   \
        {.name = "lastname",                                                                       \
         .type = API_STRING,                                                                       \
         .optional = true,                                                                         \
         .max = 1024,                                                                              \
         .about = "last name"},                                                                    \
        {.name = "comment", .type = API_STRING, .optional = true, .max = 2048, .about = "a note"}, \
        {.name = "keys", .type = API_STRING, .optional = true, .max = 1024, .about = "kept"},      \
    {                                                                                              \
        .name = "groups", .type = API_LIST, .optional = true, .max = 60,                           \
        .format = &rest_format_id, .about = "its groups", .permission_of = group_permission,       \
        .permission_told = "/access/groups/GROUP User.Modify of each; of one that may change the " \
                           "access list, Permissions.Modify on /access, too"                       \
    }
#define P_USERID(ABOUT)                                                                            \
    {                                                                                              \
        .name = "userid", .type = API_STRING, .max = 120, .format = &rest_format_userid,           \
        .about = (ABOUT)                                                                           \
    }
#define P_PASSWORD(OPTIONAL, ABOUT)                                                                \
    {                                                                                              \
        .name = "password", .type = API_STRING, .optional = (OPTIONAL), .min = 8, .max = 64,       \
        .secret = true, .about = (ABOUT)                                                           \
    }
#define TOKEN_FIELDS                                                                               \
    {.name = "privsep",                                                                            \
     .type = API_BOOLEAN,                                                                          \
     .optional = true,                                                                             \
     .about = "its own entries in the access list count too"},                                     \
        {.name = "expire",                                                                         \
         .type = API_INTEGER,                                                                      \
         .optional = true,                                                                         \
         .min = 0,                                                                                 \
         .max = INT64_MAX,                                                                         \
         .about = "seconds since 1970; 0: never"},                                                 \
    {                                                                                              \
        .name = "comment", .type = API_STRING, .optional = true, .max = 2048, .about = "a note"    \
    }
#define SELF "self(userid) | /access User.Modify & below(userid)"
#define LOOK "self(userid) | /access User.Modify"
#define USER                                                                                       \
    "{enable:bool, expire:int, email?:string, firstname?:string, lastname?:string, "               \
    "comment?:string, keys?:string, *}"
#define TOKEN "{privsep:int, expire:int, comment?:string, tokenid?:string}"

const struct endpoint rest_access_users[] = {
    {.method = "GET",
     .path = "/access/users",
     .about = "Users.",
     .permission = "user",
     .filter = "self(userid) | /access User.Modify|Sys.Audit",
     .returns = "[" USER "]",
     .handler = get_users,
     .params = (const struct api_param[]){{.name = "full",
                                           .type = API_BOOLEAN,
                                           .optional = true,
                                           .about = "with groups and tokens"},
                                          {.name = "enabled",
                                           .type = API_BOOLEAN,
                                           .optional = true,
                                           .about = "only those who may log in, or may not"},
                                          {.name = NULL}}},
    {.method = "POST",
     .path = "/access/users",
     .about = "Make a user.",
     .permission = "/access User.Modify & /access/realm Realm.AllocateUser",
     .returns = "null",
     .slow = true,
     .handler = post_user,
     .params = (const struct api_param[]){P_USERID("name@realm"),
                                          P_PASSWORD(true, "the first password"),
                                          USER_FIELDS,
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/access/users/{userid}",
     .about = "A user.",
     .permission = LOOK " | /access Sys.Audit",
     .returns = USER,
     .handler = get_user},
    {.method = "PUT",
     .path = "/access/users/{userid}",
     .about = "Change a user.",
     .permission = "/access User.Modify & below(userid)",
     .returns = "null",
     .handler = put_user,
     .params = (const struct api_param[]){USER_FIELDS,
                                          {.name = "append",
                                           .type = API_BOOLEAN,
                                           .optional = true,
                                           .about = "groups come beside those it has"},
                                          {.name = NULL}}},
    {.method = "DELETE",
     .path = "/access/users/{userid}",
     .about = "Remove a user, its tokens and what the access list says of it.",
     .permission = "/access User.Modify & below(userid)",
     .returns = "null",
     .handler = delete_user},
    {.method = "GET",
     .path = "/access/users/{userid}/token",
     .about = "A user's tokens.",
     .permission = LOOK,
     .returns = "[" TOKEN "]",
     .handler = get_tokens},
    {.method = "GET",
     .path = "/access/users/{userid}/token/{tokenid}",
     .about = "A token.",
     .permission = LOOK,
     .returns = TOKEN,
     .handler = get_token},
    {.method = "POST",
     .path = "/access/users/{userid}/token/{tokenid}",
     .about = "Make a token; its secret is shown this once.",
     .permission = SELF,
     .returns = "{full-tokenid:string, value:string, info:{*}}",
     .handler = post_token,
     .params = (const struct api_param[]){TOKEN_FIELDS, {.name = NULL}}},
    {.method = "PUT",
     .path = "/access/users/{userid}/token/{tokenid}",
     .about = "Change a token.",
     .permission = SELF,
     .returns = TOKEN,
     .handler = put_token,
     .params = (const struct api_param[]){TOKEN_FIELDS, {.name = NULL}}},
    {.method = "DELETE",
     .path = "/access/users/{userid}/token/{tokenid}",
     .about = "Remove a token, and what the access list says of it.",
     .permission = SELF,
     .returns = "null",
     .handler = delete_token},
    {.method = "POST",
     .path = "/access/init",
     .about = "Make an administrator, or give one a new password.",
     .permission = "root",
     .returns = "null",
     .slow = true,
     .handler = post_init,
     .params = (const struct api_param[]){P_USERID("name@wirt"),
                                          P_PASSWORD(false, "its password"),
                                          {.name = NULL}}},
    {.method = "POST",
     .path = "/access/setup",
     .about = "Make the first administrator, with the one-time token that is printed to the log "
              "while there is none.",
     .permission = "world",
     .returns = "null",
     .slow = true,
     .handler = post_setup,
     .params = (const struct api_param[]){{.name = "onetime",
                                           .type = API_STRING,
                                           .max = 64,
                                           .secret = true,
                                           .about = "the token"},
                                          P_USERID("name@wirt"),
                                          P_PASSWORD(false, "its password"),
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/access/groups",
     .about = "Groups.",
     .permission = "user",
     .filter = "/access/groups/{groupid} Sys.Audit|Group.Allocate|User.Modify",
     .returns = "[{groupid:string, users:string, comment?:string}]",
     .handler = get_groups},
    {.method = "POST",
     .path = "/access/groups",
     .about = "Make a group.",
     .permission = "/access/groups Group.Allocate",
     .returns = "null",
     .handler = put_group,
     .params = (const struct api_param[]){{.name = "groupid",
                                           .type = API_STRING,
                                           .max = 60,
                                           .format = &rest_format_id,
                                           .about = "its name"},
                                          {.name = "comment",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 2048,
                                           .about = "a note"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/access/groups/{groupid}",
     .about = "A group.",
     .permission = "/access/groups/{groupid} Sys.Audit|Group.Allocate",
     .returns = "{members:[string], comment?:string}",
     .handler = get_group},
    {.method = "PUT",
     .path = "/access/groups/{groupid}",
     .about = "Change a group.",
     .permission = "/access/groups Group.Allocate",
     .returns = "null",
     .handler = put_group,
     .params = (const struct api_param[]){{.name = "comment",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 2048,
                                           .about = "a note"},
                                          {.name = NULL}}},
    {.method = "DELETE",
     .path = "/access/groups/{groupid}",
     .about = "Remove a group: its members leave it, and what the access list says of it goes.",
     .permission = "/access/groups Group.Allocate",
     .returns = "null",
     .handler = delete_group},
    {.method = "GET",
     .path = "/access/tfa/{userid}",
     .about = "A user's second factors.",
     .permission = LOOK,
     .returns = "[{id:string, type:string, description:string, enable:bool}]",
     .handler = get_tfa},
    {.method = "POST",
     .path = "/access/tfa/{userid}",
     .about = "Add a second factor.",
     .permission = SELF,
     .returns = "{id:string}",
     .handler = post_tfa,
     .params =
         (const struct api_param[]){
             {.name = "type", .type = API_STRING, .values = "totp", .about = "of which kind"},
             {.name = "totp",
              .type = API_STRING,
              .max = 512,
              .secret = true,
              .about = "the secret in base32, or an otpauth URL"},
             {.name = "value",
              .type = API_STRING,
              .max = 16,
              .secret = true,
              .about = "a code that the secret makes now"},
             {.name = "description",
              .type = API_STRING,
              .optional = true,
              .max = 255,
              .about = "a note"},
             {.name = NULL}}},
    {.method = "DELETE",
     .path = "/access/tfa/{userid}/{id}",
     .about = "Remove a second factor.",
     .permission = SELF,
     .returns = "null",
     .handler = delete_tfa,
     .params =
         (const struct api_param[]){{.name = "id", .type = API_STRING, .max = 64, .about = "which"},
                                    {.name = NULL}}},
    {.method = NULL},
};
