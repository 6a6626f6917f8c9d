// SPDX-License-Identifier: Apache-2.0
//
// Groups of users, roles, and pools of VMs: what rights are given to, by and on.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "cli/table.h"

// ---- groups

int remote_group_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"GROUP", "groupid", CELL_TEXT},
        {"MEMBERS", "users", CELL_TEXT},
        {"NOTES", "comment", CELL_TEXT},
        {NULL, NULL, CELL_TEXT},
    };
    return remote_print_list(remote, NULL, columns, err, "/access/groups");
}

int remote_group_add(struct remote *remote, struct err *err)
{
    json_t *parameters = json_pack("{s:s}", "groupid", remote->words->operand[0]);
    remote_add_word(remote, parameters, "comment");
    return remote_call(remote, "POST", parameters, NULL, err, "/access/groups");
}

int remote_group_rm(struct remote *remote, struct err *err)
{
    char question[PATH_BYTES];
    snprintf(question, sizeof(question), "Remove the group %s with its rights?",
             remote->words->operand[0]);
    if (!remote_confirm(remote, question, err))
        return -1;
    return remote_call(remote, "DELETE", NULL, NULL, err, "/access/groups/%s",
                       remote->words->operand[0]);
}

int remote_group_join(struct remote *remote, struct err *err)
{
    for (int i = 1; i < remote->words->operands; i++)
        if (remote_call(remote, "PUT",
                        json_pack("{s:s, s:i}", "groups", remote->words->operand[0], "append", 1),
                        NULL, err, "/access/users/%s", remote->words->operand[i]))
            return -1;
    return 0;
}

// The list without one name, for a user's "a,b,c".
static json_t *without(const json_t *groups, const char *gone, bool *was)
{
    json_t *left = json_string("");
    size_t i;
    json_t *group;
    json_array_foreach(groups, i, group)
    {
        const char *name = json_string_value(group);
        if (name && !strcmp(name, gone))
            *was = true;
        else
            left = remote_list_add(left, name ? name : "");
    }
    return left;
}

static int leave(struct remote *remote, const char *user, const char *group, struct err *err)
{
    json_t *record = NULL;
    bool was = false;
    if (remote_call(remote, "GET", NULL, &record, err, "/access/users/%s", user))
        return -1;
    json_t *left = without(json_object_get(record, "groups"), group, &was);
    json_decref(record);
    if (was)
        return remote_call(remote, "PUT", json_pack("{s:o}", "groups", left), NULL, err,
                           "/access/users/%s", user);
    json_decref(left);
    return err_set(err, ERR_NOT_FOUND, "%s is not in the group %s; `wirt group list` tells who is",
                   user, group);
}

int remote_group_leave(struct remote *remote, struct err *err)
{
    for (int i = 1; i < remote->words->operands; i++)
        if (leave(remote, remote->words->operand[i], remote->words->operand[0], err))
            return -1;
    return 0;
}

// ---- roles

int remote_role_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"ROLE", "roleid", CELL_TEXT},
        {"BUILT IN", "special", CELL_FLAG},
        {"PRIVILEGES", "privs", CELL_TEXT},
        {NULL, NULL, CELL_TEXT},
    };
    return remote_print_list(remote, NULL, columns, err, "/access/roles");
}

// The operands from the second on, as "A,B".
static json_t *privileges(const struct cli_words *words)
{
    json_t *list = json_string("");
    for (int i = 1; i < words->operands; i++)
        list = remote_list_add(list, words->operand[i]);
    return list;
}

int remote_role_add(struct remote *remote, struct err *err)
{
    return remote_call(remote, "POST",
                       json_pack("{s:s, s:o}", "roleid", remote->words->operand[0], "privs",
                                 privileges(remote->words)),
                       NULL, err, "/access/roles");
}

int remote_role_set(struct remote *remote, struct err *err)
{
    return remote_call(remote, "PUT",
                       json_pack("{s:o, s:b}", "privs", privileges(remote->words), "append",
                                 cli_has(remote->words, "append")),
                       NULL, err, "/access/roles/%s", remote->words->operand[0]);
}

int remote_role_rm(struct remote *remote, struct err *err)
{
    char question[PATH_BYTES];
    snprintf(question, sizeof(question), "Remove the role %s, wherever it is given?",
             remote->words->operand[0]);
    if (!remote_confirm(remote, question, err))
        return -1;
    return remote_call(remote, "DELETE", NULL, NULL, err, "/access/roles/%s",
                       remote->words->operand[0]);
}

// ---- pools

int remote_pool_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"POOL", "poolid", CELL_TEXT}, {"NOTES", "comment", CELL_TEXT}, {NULL, NULL, CELL_TEXT}};
    return remote_print_list(remote, NULL, columns, err, "/pools");
}

int remote_pool_show(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"MEMBER", "id", CELL_TEXT},     {"NAME", "name", CELL_TEXT}, {"NODE", "node", CELL_TEXT},
        {"STATE", "status", CELL_STATE}, {NULL, NULL, CELL_TEXT},
    };
    json_t *pool = NULL;
    if (remote_call(remote, "GET", NULL, &pool, err, "/pools/%s", remote->words->operand[0]))
        return -1;
    remote_table(remote, json_object_get(pool, "members"), columns);
    json_decref(pool);
    return 0;
}

int remote_pool_add(struct remote *remote, struct err *err)
{
    json_t *parameters = json_pack("{s:s}", "poolid", remote->words->operand[0]);
    remote_add_word(remote, parameters, "comment");
    return remote_call(remote, "POST", parameters, NULL, err, "/pools");
}

int remote_pool_rm(struct remote *remote, struct err *err)
{
    return remote_call(remote, "DELETE", NULL, NULL, err, "/pools/%s", remote->words->operand[0]);
}

static int change_pool(struct remote *remote, bool gone, struct err *err)
{
    json_t *members = json_pack("{s:b}", "delete", gone);
    json_t *vms = json_string("");
    for (int i = 1; i < remote->words->operands; i++) {
        struct remote_guest guest;
        if (remote_find(remote, remote->words->operand[i], &guest, err)) {
            json_decref(vms);
            json_decref(members);
            return -1;
        }
        char number[16];
        snprintf(number, sizeof(number), "%d", guest.vmid);
        vms = remote_list_add(vms, number);
    }
    if (json_string_length(vms))
        json_object_set(members, "vms", vms);
    json_decref(vms);
    remote_add_word(remote, members, "storage");
    if (cli_has(remote->words, "move"))
        json_object_set_new(members, "allow-move", json_true());
    if (json_object_get(members, "vms") || json_object_get(members, "storage"))
        return remote_call(remote, "PUT", members, NULL, err, "/pools/%s",
                           remote->words->operand[0]);
    json_decref(members);
    return err_set(err, ERR_USAGE, "name VMs, or datastores by --storage");
}

int remote_pool_join(struct remote *remote, struct err *err)
{
    return change_pool(remote, false, err);
}

int remote_pool_leave(struct remote *remote, struct err *err)
{
    return change_pool(remote, true, err);
}
