// SPDX-License-Identifier: Apache-2.0
//
// Datastores and what lies in them.
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "cli/remote/remote.h"
#include "cli/table.h"
#include "os/tty.h"

const char *remote_store(const struct remote *remote)
{
    const char *given = cli_word(remote->words, "storage");
    return given ? given : "local";
}

int remote_storage_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"NAME", "storage", CELL_TEXT},  {"NODE", "node", CELL_TEXT},
        {"STATE", "status", CELL_STATE}, {"USED", "disk", CELL_SIZE},
        {"OF", "maxdisk", CELL_SIZE},    {"KEEPS", "content", CELL_TEXT},
        {NULL, NULL, CELL_TEXT},
    };
    return remote_print_list(remote, json_pack("{s:s}", "type", "storage"), columns, err,
                             "/cluster/resources");
}

int remote_storage_content(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"VOLUME", "volid", CELL_TEXT},  {"CONTENT", "content", CELL_TEXT},
        {"FORMAT", "format", CELL_TEXT}, {"VM", "vmid", CELL_NUMBER},
        {"SIZE", "size", CELL_SIZE},     {"USED", "used", CELL_SIZE},
        {NULL, NULL, CELL_TEXT},
    };
    char node[NAME_BYTES];
    const char *content = cli_word(remote->words, "content");
    if (remote_node(remote, node, err))
        return -1;
    return remote_print_list(remote, content ? json_pack("{s:s}", "content", content) : NULL,
                             columns, err, "/nodes/%s/storage/%s/content", node,
                             remote_store(remote));
}

static void tell(void *user, uint64_t done, uint64_t total)
{
    char size[UNITS_SIZE_TEXT_BYTES];
    if (*(bool *)user)
        fprintf(stderr, "\rsent %s, %.0f %%\033[K", units_format_size(done, size),
                100.0 * (double)done / (double)total);
}

int remote_upload(struct remote *remote, const char *what, const char *node, const char *content,
                  const char *file, const char *name, struct err *err)
{
    char path[PATH_BYTES];
    bool terminal = os_tty_is_terminal(2);
    json_t *upid = NULL;
    snprintf(path, sizeof(path), "/nodes/%s/storage/%s/upload", node, remote_store(remote));
    int result =
        client_upload(remote->client, path, content, file, name, tell, &terminal, &upid, err);
    if (terminal)
        fputs("\r\033[K", stderr);
    if (!result && json_is_string(upid))
        result = remote_wait(remote, what, json_string_value(upid), false, err);
    json_decref(upid);
    return result;
}

// What a file is to be in the datastore, by its name.
static const char *content_of(const char *name)
{
    static const char *const by_suffix[][2] = {
        {".iso", "iso"},    {".qcow2", "import"}, {".raw", "import"},    {".vmdk", "import"},
        {".vdi", "import"}, {".vhdx", "import"},  {".yaml", "snippets"}, {".yml", "snippets"},
    };
    const char *suffix = strrchr(name, '.');
    for (size_t i = 0; suffix && i < sizeof(by_suffix) / sizeof(by_suffix[0]); i++)
        if (!strcmp(suffix, by_suffix[i][0]))
            return by_suffix[i][1];
    return NULL;
}

int remote_storage_upload(struct remote *remote, struct err *err)
{
    char node[NAME_BYTES];
    const char *file = remote->words->operand[0], *name = cli_word(remote->words, "name");
    const char *content = cli_word(remote->words, "content");
    const char *slash = strrchr(file, '/');
    if (!name)
        name = slash ? slash + 1 : file;
    if (!content && !(content = content_of(name)))
        return err_set(err, ERR_USAGE, "%s: say what it is by --content iso, import or snippets",
                       name);
    if (remote_node(remote, node, err))
        return -1;
    return remote_upload(remote, "upload", node, content, file, name, err);
}

int remote_storage_show(struct remote *remote, struct err *err)
{
    json_t *store = NULL;
    if (remote_call(remote, "GET", NULL, &store, err, "/storage/%s", remote->words->operand[0]))
        return -1;
    cli_facts_print(store, NULL, remote->json);
    remote->printed = true;
    json_decref(store);
    return 0;
}

int remote_storage_add(struct remote *remote, struct err *err)
{
    json_t *parameters = json_pack("{s:s, s:s, s:s}", "storage", remote->words->operand[0], "type",
                                   "dir", "path", remote->words->operand[1]);
    remote_add_word(remote, parameters, "content");
    remote_add_word(remote, parameters, "comment");
    remote_add_word(remote, parameters, "prune-backups");
    return remote_call(remote, "POST", parameters, NULL, err, "/storage");
}

int remote_storage_set(struct remote *remote, struct err *err)
{
    json_t *changes = remote_pairs(remote->words, 1, "KEY", err);
    if (!changes)
        return -1;
    remote_add_word(remote, changes, "delete");
    if (json_object_size(changes))
        return remote_call(remote, "PUT", changes, NULL, err, "/storage/%s",
                           remote->words->operand[0]);
    json_decref(changes);
    return err_set(err, ERR_USAGE, "nothing to change: give KEY=VALUE or --delete KEY");
}

static int forget_store(struct remote *remote, const char *store, struct err *err)
{
    char question[PATH_BYTES];
    json_t *record = NULL;
    if (remote_call(remote, "GET", NULL, &record, err, "/storage/%s", store))
        return err_wrap(err, "a volume is STORAGE:NAME (`wirt storage content` lists them), a "
                             "datastore a NAME of `wirt storage list`");
    json_decref(record);
    snprintf(question, sizeof(question), "Forget the datastore %s? Its files stay.", store);
    if (!remote_confirm(remote, question, err))
        return -1;
    return remote_call(remote, "DELETE", NULL, NULL, err, "/storage/%s", store);
}

int remote_storage_rm(struct remote *remote, struct err *err)
{
    char node[NAME_BYTES], question[PATH_BYTES];
    const char *volume = remote->words->operand[0], *colon = strchr(volume, ':');
    if (!colon)
        return forget_store(remote, volume, err);
    int store = (int)(colon - volume);
    snprintf(question, sizeof(question), "Delete %s?", volume);
    if (remote_node(remote, node, err) || !remote_confirm(remote, question, err))
        return -1;
    return remote_task(remote, "delete", "DELETE", NULL, err, "/nodes/%s/storage/%.*s/content/%s",
                       node, store, volume, volume);
}
