// SPDX-License-Identifier: Apache-2.0
//
// Snapshots and backups.
#include <stdio.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "cli/table.h"

static const struct cli_column snapshot_columns[] = {
    {"NAME", "name", CELL_TEXT},    {"TAKEN", "snaptime", CELL_TIME},
    {"AFTER", "parent", CELL_TEXT}, {"NOTES", "description", CELL_TEXT},
    {NULL, NULL, CELL_TEXT},
};

int remote_snapshot_list(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    json_t *list = NULL;
    if (remote_find(remote, remote->words->operand[0], &guest, err) ||
        remote_call(remote, "GET", NULL, &list, err, "%s/snapshot", guest.path))
        return -1;
    // The last entry is the present state, which is no snapshot.
    size_t count = json_array_size(list);
    const char *last = json_string_value(json_object_get(json_array_get(list, count - 1), "name"));
    if (count && last && !strcmp(last, "current"))
        json_array_remove(list, count - 1);
    remote_table(remote, list, snapshot_columns);
    json_decref(list);
    return 0;
}

int remote_snapshot_create(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    const char *notes = cli_word(remote->words, "notes");
    if (remote_find(remote, remote->words->operand[0], &guest, err))
        return -1;
    json_t *parameters = json_pack("{s:s}", "snapname", remote->words->operand[1]);
    if (notes)
        json_object_set_new(parameters, "description", json_string(notes));
    return remote_task(remote, "snapshot", "POST", parameters, err, "%s/snapshot", guest.path);
}

int remote_snapshot_rm(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    if (remote_find(remote, remote->words->operand[0], &guest, err) ||
        !remote_confirm(remote, "Remove this snapshot?", err))
        return -1;
    return remote_task(remote, "remove snapshot", "DELETE", NULL, err, "%s/snapshot/%s", guest.path,
                       remote->words->operand[1]);
}

int remote_restore(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    char question[NAME_BYTES * 3];
    if (remote_find(remote, remote->words->operand[0], &guest, err))
        return -1;
    snprintf(question, sizeof(question), "Bring %s back to %.100s? What was written since is lost.",
             guest.name, remote->words->operand[1]);
    if (!remote_confirm(remote, question, err))
        return -1;
    return remote_task(remote, "restore", "POST", NULL, err, "%s/snapshot/%s/rollback", guest.path,
                       remote->words->operand[1]);
}

// ---- backups

int remote_backup_create(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    if (remote_find(remote, remote->words->operand[0], &guest, err))
        return -1;
    json_t *parameters = json_pack("{s:i, s:s, s:s, s:s}", "vmid", guest.vmid, "storage",
                                   remote_store(remote), "mode", "snapshot", "compress", "zstd");
    return remote_task(remote, "backup", "POST", parameters, err, "/nodes/%s/vzdump", guest.node);
}

int remote_backup_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"VOLUME", "volid", CELL_TEXT}, {"VM", "vmid", CELL_NUMBER}, {"MADE", "ctime", CELL_TIME},
        {"SIZE", "size", CELL_SIZE},    {NULL, NULL, CELL_TEXT},
    };
    struct remote_guest guest;
    char node[NAME_BYTES];
    json_t *query = json_pack("{s:s}", "content", "backup");
    bool one = remote->words->operands > 0;
    if (one ? remote_find(remote, remote->words->operand[0], &guest, err)
            : remote_node(remote, node, err)) {
        json_decref(query);
        return -1;
    }
    if (one)
        json_object_set_new(query, "vmid", json_integer(guest.vmid));
    return remote_print_list(remote, query, columns, err, "/nodes/%s/storage/%s/content",
                             one ? guest.node : node, remote_store(remote));
}

int remote_backup_restore(struct remote *remote, struct err *err)
{
    char node[NAME_BYTES];
    const char *id = cli_word(remote->words, "id");
    bool force = cli_has(remote->words, "force");
    struct remote_guest over;
    char number[16];
    json_t *next = NULL;
    if (remote_node(remote, node, err))
        return -1;
    if (id && force) { // the VM that is there, by name or number
        if (remote_find(remote, id, &over, err))
            return -1;
        snprintf(number, sizeof(number), "%d", over.vmid);
        id = number;
    }
    if (force && !remote_confirm(remote, "Replace the VM's configuration and disks?", err))
        return -1;
    if (!id && remote_call(remote, "GET", NULL, &next, err, "/cluster/nextid"))
        return -1;
    json_t *parameters = json_pack("{s:s, s:s, s:b}", "vmid", id ? id : json_string_value(next),
                                   "archive", remote->words->operand[0], "force", force);
    json_decref(next);
    return remote_task(remote, "restore", "POST", parameters, err, "/nodes/%s/qemu", node);
}
