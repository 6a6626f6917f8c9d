// SPDX-License-Identifier: Apache-2.0
//
// Users, tokens and rights.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "cli/table.h"

int remote_user_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"USER", "userid", CELL_TEXT},   {"ENABLED", "enable", CELL_FLAG},
        {"GROUPS", "groups", CELL_TEXT}, {"E-MAIL", "email", CELL_TEXT},
        {"NOTES", "comment", CELL_TEXT}, {NULL, NULL, CELL_TEXT},
    };
    return remote_print_list(remote, json_pack("{s:i}", "full", 1), columns, err, "/access/users");
}

int remote_user_add(struct remote *remote, struct err *err)
{
    const char *user = remote->words->operand[0];
    json_t *parameters = json_pack("{s:s}", "userid", user);
    remote_add_word(remote, parameters, "email");
    remote_add_word(remote, parameters, "comment");
    remote_add_word(remote, parameters, "groups");
    // A user of the machine (pam) has a password there.
    if (!strstr(user, "@pam")) {
        char *password = remote_secret(remote, "Password", err);
        if (!password) {
            json_decref(parameters);
            return -1;
        }
        json_object_set_new(parameters, "password", json_string(password));
        free(password);
    }
    return remote_call(remote, "POST", parameters, NULL, err, "/access/users");
}

int remote_user_set(struct remote *remote, struct err *err)
{
    json_t *changes = remote_pairs(remote->words, 1, "KEY", err);
    return changes ? remote_call(remote, "PUT", changes, NULL, err, "/access/users/%s",
                                 remote->words->operand[0])
                   : -1;
}

int remote_user_rm(struct remote *remote, struct err *err)
{
    if (!remote_confirm(remote, "Remove this user with all tokens and rights?", err))
        return -1;
    return remote_call(remote, "DELETE", NULL, NULL, err, "/access/users/%s",
                       remote->words->operand[0]);
}

int remote_user_password(struct remote *remote, struct err *err)
{
    char *password = remote_secret(remote, "New password", err);
    if (!password)
        return -1;
    json_t *parameters =
        json_pack("{s:s, s:s}", "userid", remote->words->operand[0], "password", password);
    free(password);
    return remote_call(remote, "PUT", parameters, NULL, err, "/access/password");
}

int remote_user_rights(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"PATH", "path", CELL_TEXT}, {"MAY", "privileges", CELL_TEXT}, {NULL, NULL, CELL_TEXT}};
    json_t *paths = NULL, *rights, *rows = json_array();
    json_t *query = json_pack("{s:s}", "userid", remote->words->operand[0]);
    const char *path, *privilege;
    json_t *propagated;
    if (remote_call(remote, "GET", query, &paths, err, "/access/permissions")) {
        json_decref(rows);
        return -1;
    }
    json_object_foreach(paths, path, rights)
    {
        json_t *list = json_string("");
        json_object_foreach(rights, privilege, propagated) list = remote_list_add(list, privilege);
        json_array_append_new(rows, json_pack("{s:s, s:o}", "path", path, "privileges", list));
    }
    json_decref(paths);
    remote_table(remote, rows, columns);
    json_decref(rows);
    return 0;
}

// ---- second factors: one's own is added on the web page, which shows the code to scan

int remote_factor_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"ID", "id", CELL_TEXT},
        {"KIND", "type", CELL_TEXT},
        {"NOTES", "description", CELL_TEXT},
        {NULL, NULL, CELL_TEXT},
    };
    return remote_print_list(remote, NULL, columns, err, "/access/tfa/%s",
                             remote->words->operand[0]);
}

int remote_factor_rm(struct remote *remote, struct err *err)
{
    if (!remote_confirm(remote, "Remove this second factor? The password alone is enough then.",
                        err))
        return -1;
    return remote_call(remote, "DELETE", NULL, NULL, err, "/access/tfa/%s/%s",
                       remote->words->operand[0], remote->words->operand[1]);
}

// ---- tokens

int remote_token_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"TOKEN", "tokenid", CELL_TEXT}, {"OWN RIGHTS", "privsep", CELL_FLAG},
        {"UNTIL", "expire", CELL_TIME},  {"NOTES", "comment", CELL_TEXT},
        {NULL, NULL, CELL_TEXT},
    };
    return remote_print_list(remote, NULL, columns, err, "/access/users/%s/token",
                             remote->words->operand[0]);
}

int remote_token_add(struct remote *remote, struct err *err)
{
    json_t *made = NULL,
           *parameters = json_pack("{s:b}", "privsep", !cli_has(remote->words, "all-rights"));
    remote_add_word(remote, parameters, "expire");
    remote_add_word(remote, parameters, "comment");
    if (remote_call(remote, "POST", parameters, &made, err, "/access/users/%s/token/%s",
                    remote->words->operand[0], remote->words->operand[1]))
        return -1;
    const char *id = json_string_value(json_object_get(made, "full-tokenid"));
    const char *value = json_string_value(json_object_get(made, "value"));
    if (remote->json)
        remote_json(remote, made);
    else
        printf("%s=%s\n", id ? id : "", value ? value : "");
    if (!remote->json)
        fputs("This is shown only now; the node keeps no copy.\n", stderr);
    json_decref(made);
    return 0;
}

int remote_token_rm(struct remote *remote, struct err *err)
{
    if (!remote_confirm(remote, "Remove this token?", err))
        return -1;
    return remote_call(remote, "DELETE", NULL, NULL, err, "/access/users/%s/token/%s",
                       remote->words->operand[0], remote->words->operand[1]);
}

// ---- rights

int remote_acl_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"PATH", "path", CELL_TEXT},   {"KIND", "type", CELL_TEXT},       {"TO", "ugid", CELL_TEXT},
        {"ROLE", "roleid", CELL_TEXT}, {"BELOW", "propagate", CELL_FLAG}, {NULL, NULL, CELL_TEXT},
    };
    return remote_print_list(remote, NULL, columns, err, "/access/acl");
}

// "/vms/web1" is "/vms/100": rights are kept by number, which a VM does not change.
static int acl_path(struct remote *remote, char path[PATH_BYTES], struct err *err)
{
    const char *given = remote->words->operand[0],
               *vm = strncmp(given, "/vms/", 5) ? "" : given + 5;
    struct remote_guest guest;
    snprintf(path, PATH_BYTES, "%s", given);
    if (!*vm || strspn(vm, "0123456789") == strlen(vm))
        return 0;
    if (remote_find(remote, vm, &guest, err))
        return -1;
    snprintf(path, PATH_BYTES, "/vms/%d", guest.vmid);
    return 0;
}

static int change_acl(struct remote *remote, bool gone, struct err *err)
{
    static const char *const kinds[][2] = {
        {"user", "users"}, {"group", "groups"}, {"token", "tokens"}};
    char path[PATH_BYTES];
    if (acl_path(remote, path, err))
        return -1;
    json_t *parameters =
        json_pack("{s:s, s:s, s:b}", "path", path, "roles", remote->words->operand[1], "propagate",
                  !cli_has(remote->words, "no-propagate"));
    bool any = false;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *who = cli_word(remote->words, kinds[i][0]);
        if (who)
            json_object_set_new(parameters, kinds[i][1], json_string(who));
        any |= who != NULL;
    }
    if (gone)
        json_object_set_new(parameters, "delete", json_true());
    if (any)
        return remote_call(remote, "PUT", parameters, NULL, err, "/access/acl");
    json_decref(parameters);
    return err_set(err, ERR_USAGE, "say to whom: --user, --group or --token");
}

int remote_acl_add(struct remote *remote, struct err *err)
{
    return change_acl(remote, false, err);
}

int remote_acl_rm(struct remote *remote, struct err *err)
{
    return change_acl(remote, true, err);
}
