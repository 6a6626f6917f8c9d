// SPDX-License-Identifier: Apache-2.0
//
// /access: tickets, permissions, realms, roles, the access list.
#include <stdio.h>
#include <string.h>

#include "node/rest/rest.h"

// ---- Tickets.

static json_t *capabilities(struct node *node, const char *user)
{
    static const struct {
        const char *name, *path;
    } groups[] = {{"access", "/access"},   {"dc", "/"},     {"nodes", "/nodes"},
                  {"storage", "/storage"}, {"vms", "/vms"}, {"sdn", "/sdn"}};
    struct auth_identity who = {0};
    json_t *cap = json_object();
    snprintf(who.id, sizeof(who.id), "%s", user);
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
        json_object_set_new(cap, groups[i].name,
                            privilege_object(auth_privileges(node->auth, &who, groups[i].path)));
    return cap;
}

static int post_ticket(struct api_call *call, struct err *err)
{
    char user[AUTH_ID_BYTES];
    struct auth_ticket ticket;
    struct node *node = rest_node(call);
    call->status = 401;
    if (auth_canonical(api_string(call, "username"), api_string(call, "realm"), user, NULL))
        return err_set(err, ERR_DENIED, "Authentication failed!");
    struct auth_login login = {.user = user,
                               .password = api_string(call, "password"),
                               .otp = api_string(call, "otp"),
                               .challenge = api_string(call, "tfa-challenge"),
                               .address = call->address};
    if (auth_log_in(node->auth, &login, &ticket, err))
        return -1;
    call->status = 0;
    call->data = json_pack("{s:s, s:s, s:s, s:s}", "username", user, "ticket", ticket.ticket,
                           "CSRFPreventionToken", ticket.csrf, "clustername", node->name);
    if (ticket.needs_second_factor)
        json_object_set_new(call->data, "NeedTFA", json_integer(1));
    else
        json_object_set_new(call->data, "cap", capabilities(node, user));
    return 0;
}

static int get_ticket(struct api_call *call, struct err *err)
{
    (void)call;
    (void)err;
    return 0;
}

static int delete_ticket(struct api_call *call, struct err *err)
{
    return auth_log_out(rest_node(call)->auth, call->who.user, err);
}

static int get_permissions(struct api_call *call, struct err *err)
{
    char id[AUTH_ID_BYTES];
    const char *user = api_string(call, "userid"), *path = api_string(call, "path");
    if (!user) {
        call->data = auth_permissions(rest_node(call)->auth, call->who.id, path);
        return 0;
    }
    const char *mark = strchr(user, '!');
    char name[AUTH_ID_BYTES];
    snprintf(name, sizeof(name), "%.*s", mark ? (int)(mark - user) : 120, user);
    if (auth_canonical(name, NULL, id, err))
        return -1;
    if (mark)
        strncat(id, mark, sizeof(id) - strlen(id) - 1);
    call->data = auth_permissions(rest_node(call)->auth, id, path);
    return 0;
}

static int put_password(struct api_call *call, struct err *err)
{
    char user[AUTH_ID_BYTES];
    struct node *node = rest_node(call);
    if (auth_canonical(api_string(call, "userid"), NULL, user, err))
        return -1;
    if (strcmp(strchr(user, '@'), "@wirt") != 0)
        return api_refuse(call, err, "userid", "passwords of this realm are not ours to change");
    // Who changes the own password shows the present one; who holds User.Modify changes others' anyway.
    const char *present = api_string(call, "confirmation-password");
    struct auth_login login = {.user = user, .password = present, .address = call->address};
    if (!present && !rest_may(call, "/access", "User.Modify"))
        return api_refuse(call, err, "confirmation-password", "the present password is missing");
    if (!strcmp(user, call->who.user) && present && auth_confirm(node->auth, &login, err))
        return -1;
    return auth_set_password(node->auth, user, api_string(call, "password"), err);
}

// ---- Realms.

static const struct {
    const char *realm, *type, *comment;
} realms[] = {{"pam", "pam", "Linux PAM standard authentication"},
              {"wirt", "pve", "wirt's own users"},
              {"pve", "pve", "the same, under the name that other programs know"}};

static int get_domains(struct api_call *call, struct err *err)
{
    (void)err;
    call->data = json_array();
    for (size_t i = 0; i < sizeof(realms) / sizeof(realms[0]); i++) {
        json_t *row = json_pack("{s:s, s:s, s:s}", "realm", realms[i].realm, "type", realms[i].type,
                                "comment", realms[i].comment);
        if (i == 1)
            json_object_set_new(row, "default", json_integer(1));
        json_array_append_new(call->data, row);
    }
    return 0;
}

static int get_domain(struct api_call *call, struct err *err)
{
    for (size_t i = 0; i < sizeof(realms) / sizeof(realms[0]); i++)
        if (!strcmp(realms[i].realm, api_string(call, "realm"))) {
            call->data =
                json_pack("{s:s, s:s}", "type", realms[i].type, "comment", realms[i].comment);
            return 0;
        }
    return err_set(err, ERR_NOT_FOUND, "domain '%s' does not exist", api_string(call, "realm"));
}

// ---- Roles.

static void role_key(const char *role, char key[128])
{
    snprintf(key, 128, "/role/%.100s", role);
}

static json_t *role_row(const char *name, const char *privs, privilege_set set, bool special)
{
    char list[4096] = "";
    size_t used = 0;
    for (unsigned i = 0; !privs && i < privilege_count(); i++)
        if (set >> i & 1)
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? "," : "",
                                     privilege_name(i));
    json_t *row = json_pack("{s:s, s:s}", "roleid", name, "privs", privs ? privs : list);
    if (special)
        json_object_set_new(row, "special", json_integer(1));
    return row;
}

static int get_roles(struct api_call *call, struct err *err)
{
    struct store_list list;
    (void)err;
    call->data = json_array();
    for (unsigned i = 0; i < role_builtin_count(); i++) {
        struct role role;
        role_builtin(i, &role);
        json_array_append_new(call->data, role_row(role.name, NULL, role.privileges, true));
    }
    store_list(rest_node(call)->store, "/role/", &list);
    for (size_t i = 0; i < list.count; i++)
        json_array_append_new(call->data,
                              role_row(list.entries[i].key + strlen("/role/"),
                                       api_param_string(list.entries[i].value, "privs"), 0, false));
    store_list_free(&list);
    return 0;
}

bool rest_find_role(struct api_call *call, const char *name, privilege_set *set)
{
    char key[128];
    if (role_builtin_find(name, set))
        return true;
    role_key(name, key);
    json_t *role = store_get(rest_node(call)->store, key, NULL);
    bool found = role && !privilege_parse(api_param_string(role, "privs"), set, NULL);
    json_decref(role);
    return found;
}

static int get_role(struct api_call *call, struct err *err)
{
    privilege_set set;
    if (!rest_find_role(call, api_string(call, "roleid"), &set))
        return err_set(err, ERR_NOT_FOUND, "role '%s' does not exist", api_string(call, "roleid"));
    call->data = privilege_object(set);
    return 0;
}

static int put_role(struct api_call *call, struct err *err)
{
    char key[128];
    privilege_set set;
    const char *name = api_string(call, "roleid"), *privs = api_string(call, "privs");
    bool post = !strcmp(call->endpoint->method, "POST");
    if (privilege_parse(privs ? privs : "", &set, err))
        return api_refuse(call, err, "privs", "%s", err->text);
    privilege_set old;
    if (post && rest_find_role(call, name, &old))
        return err_set(err, ERR_EXISTS, "role '%s' already exists", name);
    if (!post && (role_builtin_find(name, &old) || !rest_find_role(call, name, &old)))
        return err_set(err, ERR_NOT_FOUND, "role '%s' does not exist, or is every node's", name);
    role_key(name, key);
    if (api_boolean(call, "append"))
        set |= old;
    json_t *row = role_row(name, NULL, set, false);
    json_t *value = json_pack("{s:O}", "privs", json_object_get(row, "privs"));
    json_decref(row);
    return store_put_now(rest_node(call)->store, key, value, err);
}

int rest_forget_rights(struct node *node, const char *type, const char *member, const char *value,
                       struct err *err)
{
    struct store_list acls;
    int result = 0;
    store_list(node->store, "/acl/", &acls);
    for (size_t i = 0; i < acls.count && !result; i++) {
        const char *has = api_param_string(acls.entries[i].value, member);
        const char *kind = api_param_string(acls.entries[i].value, "type");
        if (has && !strcmp(has, value) && (!type || (kind && !strcmp(kind, type))))
            result = store_delete_now(node->store, acls.entries[i].key, err);
    }
    store_list_free(&acls);
    return result;
}

// First what it gives, then itself: whoever makes one of that name later makes a new one.
static int delete_role(struct api_call *call, struct err *err)
{
    char key[128];
    role_key(api_string(call, "roleid"), key);
    json_t *role = store_get(rest_node(call)->store, key, NULL);
    json_decref(role);
    if (!role)
        return err_set(err, ERR_NOT_FOUND, "role '%s' does not exist", api_string(call, "roleid"));
    if (rest_forget_rights(rest_node(call), NULL, "roleid", api_string(call, "roleid"), err))
        return -1;
    return store_delete_now(rest_node(call)->store, key, err);
}

// ---- The access list.

static int get_acl(struct api_call *call, struct err *err)
{
    struct store_list list;
    (void)err;
    call->data = json_array();
    store_list(rest_node(call)->store, "/acl/", &list);
    for (size_t i = 0; i < list.count; i++)
        json_array_append(call->data, list.entries[i].value);
    store_list_free(&list);
    return 0;
}

static void acl_step(struct store_txn *txn, const char *path, const char *type, const char *who,
                     const char *role, bool propagate, bool remove)
{
    char key[1024];
    snprintf(key, sizeof(key), "/acl/%s|%s|%s|%s", path, type, who, role);
    if (remove)
        store_delete(txn, key);
    else
        store_put(txn, key,
                  json_pack("{s:s, s:s, s:s, s:s, s:i}", "path", path, "type", type, "ugid", who,
                            "roleid", role, "propagate", (int)propagate));
}

// Rights are given to those who are there: else whoever gets the name later would have them.
static bool is_there(struct api_call *call, const char *type, const char *id)
{
    char key[AUTH_ID_BYTES + 80];
    snprintf(key, sizeof(key), "/%s/%s", type, id);
    json_t *record = store_get(rest_node(call)->store, key, NULL);
    json_decref(record);
    return record || (!strcmp(type, "user") && !strcmp(id, "root@pam"));
}

// One of `users`, `groups`, `tokens`, each with each role.
static int acl_steps(struct api_call *call, struct store_txn *txn, const char *param,
                     const char *type, struct err *err)
{
    size_t i, j;
    json_t *who, *role;
    privilege_set set;
    json_array_foreach(json_object_get(call->params, param), i, who)
    {
        char id[AUTH_ID_BYTES + 64];
        const char *text = json_string_value(who), *mark = strchr(text, '!');
        char name[AUTH_ID_BYTES];
        snprintf(name, sizeof(name), "%.*s", mark ? (int)(mark - text) : 120, text);
        if (!strcmp(type, "group"))
            snprintf(id, sizeof(id), "%s", text);
        else if (auth_canonical(name, NULL, id, err))
            return -1;
        if (mark && strcmp(type, "group") != 0)
            strncat(id, mark, 60);
        if (!api_boolean(call, "delete") && !is_there(call, type, id))
            return api_refuse(call, err, param, "%s '%s' does not exist", type, id);
        json_array_foreach(json_object_get(call->params, "roles"), j, role)
        {
            if (!rest_find_role(call, json_string_value(role), &set))
                return api_refuse(call, err, "roles", "role '%s' does not exist",
                                  json_string_value(role));
            acl_step(txn, api_string(call, "path"), type, id, json_string_value(role),
                     api_boolean(call, "propagate"), api_boolean(call, "delete"));
        }
    }
    return 0;
}

// Nobody gives away what he does not have.
static int check_giving(struct api_call *call, struct err *err)
{
    size_t i;
    json_t *role;
    const char *path = api_string(call, "path");
    privilege_set have = auth_privileges(rest_node(call)->auth, &call->who, path), set;
    if (api_boolean(call, "delete") || rest_may(call, "/access", "Permissions.Modify"))
        return 0;
    json_array_foreach(
        json_object_get(call->params, "roles"), i,
        role) if (rest_find_role(call, json_string_value(role), &set) &&
                  (set & ~have)) return err_set(err, ERR_DENIED,
                                                "Permission check failed (%s, %s, the role %s has "
                                                "privileges that you "
                                                "have not there)",
                                                call->who.id, path, json_string_value(role));
    return 0;
}

static int put_acl(struct api_call *call, struct err *err)
{
    struct store_txn txn;
    store_txn_begin(&txn);
    if (check_giving(call, err) || acl_steps(call, &txn, "users", "user", err) ||
        acl_steps(call, &txn, "groups", "group", err) ||
        acl_steps(call, &txn, "tokens", "token", err)) {
        store_txn_abandon(&txn);
        return -1;
    }
    if (!txn.count)
        return err_set(err, ERR_USAGE, "either 'users', 'groups' or 'tokens' is required");
    return store_commit(rest_node(call)->store, &txn, err);
}

// ---- The table.

#define P_ROLEID                                                                                   \
    {                                                                                              \
        .name = "roleid", .type = API_STRING, .max = 60, .format = &rest_format_id,                \
        .about = "its name"                                                                        \
    }

const struct endpoint rest_access[] = {
    {.method = "GET",
     .path = "/access/ticket",
     .about = "Nothing, for pages that look whether it is there.",
     .permission = "world",
     .returns = "null",
     .handler = get_ticket},
    {.method = "DELETE",
     .path = "/access/ticket",
     .about = "Log out everywhere: all tickets of the caller end. Tokens stay.",
     .permission = "user",
     .returns = "null",
     .handler = delete_ticket},
    {.method = "POST",
     .path = "/access/ticket",
     .about = "Log in: a ticket for the cookie PVEAuthCookie, and a token against forged requests.",
     .permission = "world",
     .slow = true,
     .handler = post_ticket,
     .returns = "{ticket:string, CSRFPreventionToken:string, username:string, clustername:string, "
                "cap?:any, NeedTFA?:int}",
     .params =
         (const struct api_param[]){
             {.name = "username", .type = API_STRING, .max = 120, .about = "name, or name@realm"},
             {.name = "password",
              .type = API_STRING,
              .max = 1024,
              .secret = true,
              .about = "the password, or an earlier ticket, or totp:CODE with a challenge"},
             {.name = "realm",
              .type = API_STRING,
              .optional = true,
              .max = 60,
              .about = "when the name has none"},
             {.name = "otp",
              .type = API_STRING,
              .optional = true,
              .max = 64,
              .secret = true,
              .about = "one-time password"},
             {.name = "tfa-challenge",
              .type = API_STRING,
              .optional = true,
              .max = AUTH_TICKET_BYTES,
              .secret = true,
              .about = "the ticket that a first log-in gave"},
             {.name = "new-format", .type = API_BOOLEAN, .optional = true, .about = "accepted"},
             {.name = "path",
              .type = API_STRING,
              .optional = true,
              .max = 256,
              .about = "accepted"},
             {.name = "privs",
              .type = API_STRING,
              .optional = true,
              .max = 256,
              .about = "accepted"},
             {.name = NULL}}},
    {.method = "GET",
     .path = "/access/permissions",
     .about = "What one may, by path.",
     .permission = "user",
     .returns = "{*}",
     .handler = get_permissions,
     .params = (const struct api_param[]){{.name = "userid",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 190,
                                           .permission = "own(userid) | /access Sys.Audit",
                                           .about = "a user or token; oneself when not given"},
                                          {.name = "path",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 200,
                                           .format = &rest_format_path,
                                           .about = "only there"},
                                          {.name = NULL}}},
    {.method = "PUT",
     .path = "/access/password",
     .about = "Change a password.",
     .permission = "self(userid) | /access User.Modify & below(userid)",
     .returns = "null",
     .slow = true,
     .handler = put_password,
     .params =
         (const struct api_param[]){
             {.name = "userid",
              .type = API_STRING,
              .max = 120,
              .format = &rest_format_userid,
              .about = "whose"},
             {.name = "password",
              .type = API_STRING,
              .min = 8,
              .max = 64,
              .secret = true,
              .about = "the new one"},
             {.name = "confirmation-password",
              .type = API_STRING,
              .optional = true,
              .max = 64,
              .secret = true,
              .about = "the present one; needed for one's own, but by who has User.Modify"},
             {.name = NULL}}},
    {.method = "GET",
     .path = "/access/domains",
     .about = "Realms.",
     .permission = "world",
     .returns = "[{realm:string, type:string, comment:string, default?:int}]",
     .handler = get_domains},
    {.method = "GET",
     .path = "/access/domains/{realm}",
     .about = "A realm.",
     .permission = "/access Sys.Audit|Realm.Allocate",
     .returns = "{type:string, comment:string}",
     .handler = get_domain},
    {.method = "GET",
     .path = "/access/roles",
     .about = "Roles.",
     .permission = "user",
     .returns = "[{roleid:string, privs:string, special?:int}]",
     .handler = get_roles},
    {.method = "POST",
     .path = "/access/roles",
     .about = "Make a role.",
     .permission = "/access Sys.Modify",
     .returns = "null",
     .handler = put_role,
     .params = (const struct api_param[]){P_ROLEID,
                                          {.name = "privs",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 4096,
                                           .about = "privileges, separated by commas"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/access/roles/{roleid}",
     .about = "A role's privileges.",
     .permission = "user",
     .returns = "{*}",
     .handler = get_role},
    {.method = "PUT",
     .path = "/access/roles/{roleid}",
     .about = "Change a role.",
     .permission = "/access Sys.Modify",
     .returns = "null",
     .handler = put_role,
     .params = (const struct api_param[]){{.name = "privs",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 4096,
                                           .about = "privileges, separated by commas"},
                                          {.name = "append",
                                           .type = API_BOOLEAN,
                                           .optional = true,
                                           .about = "beside those that it has"},
                                          {.name = NULL}}},
    {.method = "DELETE",
     .path = "/access/roles/{roleid}",
     .about = "Remove a role, and what the access list says of it.",
     .permission = "/access Sys.Modify",
     .returns = "null",
     .handler = delete_role},
    {.method = "GET",
     .path = "/access/acl",
     .about = "The access list.",
     .permission = "/access Sys.Audit|Permissions.Modify",
     .returns = "[{path:string, type:string, ugid:string, roleid:string, propagate:bool}]",
     .handler = get_acl},
    {.method = "PUT",
     .path = "/access/acl",
     .about = "Add to the access list, or take from it.",
     .permission = "{path} Permissions.Modify",
     .also = "who has not Permissions.Modify on /access gives only roles whose privileges he has "
             "on the path",
     .returns = "null",
     .handler = put_acl,
     .params =
         (const struct api_param[]){
             {.name = "path",
              .type = API_STRING,
              .max = 200,
              .format = &rest_format_path,
              .about = "where"},
             {.name = "roles", .type = API_LIST, .about = "which roles"},
             {.name = "users", .type = API_LIST, .optional = true, .about = "to these users"},
             {.name = "groups", .type = API_LIST, .optional = true, .about = "to these groups"},
             {.name = "tokens", .type = API_LIST, .optional = true, .about = "to these tokens"},
             {.name = "propagate", .type = API_BOOLEAN, .fallback = "1", .about = "below it too"},
             {.name = "delete", .type = API_BOOLEAN, .optional = true, .about = "take them away"},
             {.name = NULL}}},
    {.method = NULL},
};
