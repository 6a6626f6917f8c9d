// SPDX-License-Identifier: Apache-2.0
//
// Backups: making them (vzdump), what stands in one, notes, protection and pruning. Restoring is creating a VM with `archive` (qemu.c).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/guest/property.h"
#include "node/rest/bulk.h"
#include "os/directory.h"
#include "os/file.h"

// ---- Pruning: which of a guest's backups go. Newest first, each rule keeps the newest of so many of its periods.

// By how many digits of YYYYMMDDHH a period is told.
enum { EACH = 0, YEAR = 4, MONTH = 6, DAY = 8, HOUR = 10, WEEK = 100 };

static const struct rule {
    const char *name;
    int period;
} rules[] = {{"keep-last", EACH},   {"keep-hourly", HOUR},   {"keep-daily", DAY},
             {"keep-weekly", WEEK}, {"keep-monthly", MONTH}, {"keep-yearly", YEAR}};
#define RULE_COUNT (sizeof(rules) / sizeof(rules[0]))

static void period_of(const struct rule *rule, const json_t *row, char text[32])
{
    time_t time = (time_t)api_param_integer(row, "ctime", 0);
    struct tm tm;
    gmtime_r(&time, &tm);
    if (rule->period == WEEK) {
        strftime(text, 32, "%GW%V", &tm);
        return;
    }
    strftime(text, 32, "%Y%m%d%H", &tm);
    text[rule->period] = 0;
}

static void keep_by(json_t *rows, const struct rule *rule, long count)
{
    char last[32] = "none";
    size_t index;
    json_t *row;
    json_array_foreach(rows, index, row)
    {
        char period[32];
        period_of(rule, row, period);
        if (count <= 0)
            return;
        if (rule->period != EACH && !strcmp(period, last))
            continue;
        snprintf(last, sizeof(last), "%s", period);
        // What an earlier rule keeps counts for that one alone.
        if (!strcmp(api_param_string(row, "mark"), "remove")) {
            json_object_set_new(row, "mark", json_string("keep"));
            count--;
        }
    }
}

static int by_age(const void *a, const void *b)
{
    json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "ctime"));
    json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "ctime"));
    return x < y ? 1 : -(x > y);
}

// The backups of one guest, newest first, each with its mark.
static json_t *mark_guest(const json_t *content, int64_t vmid, const json_t *keep)
{
    size_t count = 0, index;
    json_t *row, *rows = json_array();
    json_t **sorted = calloc(json_array_size(content) + 1, sizeof(json_t *));
    if (!sorted)
        abort();
    json_array_foreach(content, index, row) if (api_param_integer(row, "vmid", 0) == vmid)
        sorted[count++] = row;
    qsort(sorted, count, sizeof(*sorted), by_age);
    for (size_t i = 0; i < count; i++) {
        bool guarded = api_param_integer(sorted[i], "protected", 0) != 0;
        json_array_append_new(rows, json_pack("{s:O, s:O, s:I, s:s, s:s}", "volid",
                                              json_object_get(sorted[i], "volid"), "ctime",
                                              json_object_get(sorted[i], "ctime"), "vmid",
                                              (json_int_t)vmid, "type", "qemu", "mark",
                                              guarded ? "protected" : "remove"));
    }
    free(sorted);
    const char *all = api_param_string(keep, "keep-all");
    bool keep_all = (all && !strcmp(all, "1")) || !json_object_size(keep);
    for (size_t i = 0; i < RULE_COUNT; i++) {
        const char *number = api_param_string(keep, rules[i].name);
        keep_by(rows, &rules[i], keep_all ? 1L << 30 : number ? strtol(number, NULL, 10) : 0);
    }
    return rows;
}

// All guests' of the datastore, or one's. NULL and *err.
static json_t *mark_all(struct node *node, const char *id, const char *keep_text, int64_t only,
                        struct err *err)
{
    json_t *keep = keep_text ? property_parse(keep_text, NULL, err) : json_object();
    json_t *content = keep ? storage_content(node->storage, id, "backup", only, err) : NULL;
    json_t *all = content ? json_array() : NULL, *row;
    json_t *seen = json_object();
    size_t index;
    json_array_foreach(content, index, row)
    {
        char text[24];
        int64_t vmid = api_param_integer(row, "vmid", 0);
        snprintf(text, sizeof(text), "%lld", (long long)vmid);
        if (!vmid || json_object_get(seen, text))
            continue;
        json_object_set_new(seen, text, json_true());
        json_t *rows = mark_guest(content, vmid, keep);
        json_array_extend(all, rows);
        json_decref(rows);
    }
    json_decref(seen);
    json_decref(content);
    json_decref(keep);
    return all;
}

static const char *keep_text(struct node *node, const json_t *params, json_t **storage)
{
    const char *given = api_param_string(params, "prune-backups");
    *storage = storage_get(node->storage, api_param_string(params, "storage"));
    return given ? given : api_param_string(*storage, "prune-backups");
}

int rest_remove_file(struct node *node, const char *volid, struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    json_t *facts = storage_file_facts(node->storage, volid);
    bool guarded = api_param_integer(facts, "protected", 0) != 0;
    json_decref(facts);
    if (guarded)
        return err_set(err, ERR_BUSY, "'%s' is protected", volid);
    if (volume_path(node->storage, volid, path, NULL, err))
        return -1;
    int failed = os_file_remove(path);
    if (failed)
        return err_set_errno(err, -failed, "cannot remove '%s'", volid);
    return facts ? storage_set_file_facts(node->storage, volid, NULL, err) : 0;
}

static int prune(struct node *node, const char *id, const char *keep, int64_t vmid,
                 struct task *task, struct err *err)
{
    json_t *rows = mark_all(node, id, keep, vmid, err), *row;
    size_t index;
    int result = rows ? 0 : -1;
    json_array_foreach(rows, index, row)
    {
        const char *volid = api_param_string(row, "volid");
        if (result || strcmp(api_param_string(row, "mark"), "remove") != 0)
            continue;
        task_log(task, "removing backup '%s'", volid);
        result = rest_remove_file(node, volid, err);
    }
    json_decref(rows);
    return result;
}

static int get_prune(struct api_call *call, struct err *err)
{
    json_t *storage;
    const char *keep = keep_text(rest_node(call), call->params, &storage);
    call->data = mark_all(rest_node(call), api_string(call, "storage"), keep,
                          api_integer(call, "vmid", 0), err);
    json_decref(storage);
    return call->data ? 0 : -1;
}

static int work_prune(struct task *task, void *context, const json_t *params, struct err *err)
{
    json_t *storage;
    const char *keep = keep_text(context, params, &storage);
    int result = prune(context, api_param_string(params, "storage"), keep,
                       api_param_integer(params, "vmid", 0), task, err);
    json_decref(storage);
    return result;
}

// ---- Making.

// "{{guestname}}" and its like in notes.
static char *fill_notes(struct node *node, const char *template, int64_t vmid)
{
    json_t *record = guest_get(node->guests, vmid);
    const char *name = api_param_string(json_object_get(record, "config"), "name");
    char number[24], *notes = NULL;
    size_t length = 0;
    snprintf(number, sizeof(number), "%lld", (long long)vmid);
    const struct {
        const char *word, *value;
    } words[] = {{"{{guestname}}", name ? name : ""},
                 {"{{node}}", node->name},
                 {"{{vmid}}", number},
                 {"{{cluster}}", ""}};
    FILE *out = open_memstream(&notes, &length);
    if (!out)
        abort();
    for (const char *at = template; *at;) {
        size_t i = 0;
        while (i < 4 && strncmp(at, words[i].word, strlen(words[i].word)) != 0)
            i++;
        fputs(i < 4 ? words[i].value : "", out);
        if (i == 4)
            fputc(*at, out);
        at += i < 4 ? strlen(words[i].word) : 1;
    }
    fclose(out);
    json_decref(record);
    return notes;
}

static int check_vzdump(struct api_call *call, struct err *err)
{
    bool named = json_array_size(json_object_get(call->params, "vmid")) > 0;
    if (!named && !api_boolean(call, "all"))
        return api_refuse(call, err, "vmid", "name guests, or give all=1");
    return bulk_choose(call, "vmid", "VM.Backup", err);
}

// Is the guest among those that `exclude` names?
static bool excluded(const json_t *params, int64_t vmid)
{
    size_t index;
    json_t *one;
    json_array_foreach(json_object_get(params, "exclude"), index,
                       one) if (strtoll(json_string_value(one), NULL, 10) == vmid) return true;
    return false;
}

static int dump_one(struct task *task, struct node *node, int64_t vmid, void *user, struct err *err)
{
    const json_t *params = user;
    char volid[VOLUME_ID_BYTES];
    const char *mode = api_param_string(params, "mode"),
               *template = api_param_string(params, "notes-template");
    if (excluded(params, vmid))
        return 0;
    bool restart = guest_is_running(node->guests, vmid) && mode && !strcmp(mode, "stop");
    char *notes = template ? fill_notes(node, template, vmid) : NULL;
    struct guest_backup how = {
        .storage = api_param_string(params, "storage"),
        .notes = notes,
        .protect = api_param_integer(params, "protected", 0) != 0,
        .bytes_per_s = 1024u * (uint64_t)api_param_integer(params, "bwlimit", 0),
    };
    int result = restart ? guest_shutdown(node->guests, task, vmid, 600, true, err) : 0;
    if (!result)
        result = guest_backup(node->guests, task, vmid, &how, volid, err);
    struct err started = {0};
    if (restart && guest_start(node->guests, task, vmid, &started))
        task_log(task, "VM %lld does not start again: %s", (long long)vmid, started.text);
    free(notes);
    json_t *storage;
    const char *keep = keep_text(node, params, &storage);
    if (!result && keep && api_param_integer(params, "remove", 1))
        result = prune(node, how.storage, keep, vmid, task, err);
    json_decref(storage);
    return result;
}

static int work_vzdump(struct task *task, void *node, const json_t *params, struct err *err)
{
    return bulk_run(task, node, params, dump_one, (json_t *)(uintptr_t)params, err);
}

// ---- Looking.

static int get_config(struct api_call *call, struct err *err)
{
    const char *volid = api_string(call, "volume");
    json_t *header = guest_backup_config(rest_node(call)->guests, volid, err);
    const char *key;
    json_t *value;
    char *text = NULL;
    size_t length = 0;
    FILE *out = header ? open_memstream(&text, &length) : NULL;
    json_object_foreach(json_object_get(header, "config"), key, value)
    {
        char *plain = json_is_string(value) ? strdup(json_string_value(value))
                                            : json_dumps(value, JSON_ENCODE_ANY);
        for (char *c = plain; c && *c; c++)
            *c = *c == '\n' ? ' ' : *c;
        fprintf(out, "%s: %s\n", key,
                plain && strcmp(key, "cipassword") != 0 ? plain : "**********");
        free(plain);
    }
    if (out)
        fclose(out);
    json_decref(header);
    call->data = text ? json_string(text) : NULL;
    free(text);
    return call->data ? 0 : -1;
}

void rest_backup_permission(const char *value, char *expression, size_t size)
{
    const char *name = strstr(value, "vzdump-qemu-");
    int n = (int)strcspn(value, ":");
    if (value[0] == '/')
        snprintf(expression, size, "root");
    else
        snprintf(expression, size,
                 "/storage/%.*s Datastore.AllocateSpace & /vms/%lld VM.Backup | /storage/%.*s "
                 "Datastore.Allocate",
                 n, value, name ? strtoll(name + 12, NULL, 10) : 0, n, value);
}

// The same of one in the datastore that the path names.
static void note_permission(const char *value, char *expression, size_t size)
{
    const char *name = strstr(value, "vzdump-qemu-");
    snprintf(expression, size,
             "/storage/{storage} Datastore.AllocateSpace & /vms/%lld VM.Backup | "
             "/storage/{storage} Datastore.Allocate",
             name ? strtoll(name + 12, NULL, 10) : 0);
}

static void dump_permission(const char *value, char *expression, size_t size)
{
    snprintf(expression, size, "/vms/%s VM.Backup", value);
}

static int put_facts(struct api_call *call, struct err *err)
{
    char volid[VOLUME_ID_BYTES], path[VOLUME_PATH_BYTES];
    struct node *node = rest_node(call);
    if (rest_volume_here(call, volid, err) || volume_path(node->storage, volid, path, NULL, err))
        return -1;
    if (!strstr(volid, ":backup/"))
        return api_refuse(call, err, "volume", "only backups have notes and protection");
    json_t *old = storage_file_facts(node->storage, volid);
    json_t *facts = old ? json_copy(old) : json_object();
    json_decref(old);
    if (api_string(call, "notes"))
        json_object_set(facts, "notes", json_object_get(call->params, "notes"));
    if (json_object_get(call->params, "protected")) {
        if (api_boolean(call, "protected"))
            json_object_set_new(facts, "protected", json_integer(1));
        else
            json_object_del(facts, "protected");
    }
    return storage_set_file_facts(node->storage, volid, facts, err);
}

// ---- What no backup was made of.

static int get_not_backed_up(struct api_call *call, struct err *err)
{
    struct node *node = rest_node(call);
    json_t *seen = json_object(), *stores = storage_list(node->storage), *store, *row;
    size_t i, j;
    struct store_list list;
    (void)err;
    json_array_foreach(stores, i, store)
    {
        json_t *content =
            storage_content(node->storage, api_param_string(store, "storage"), "backup", 0, NULL);
        json_array_foreach(content, j, row)
        {
            char key[24];
            snprintf(key, sizeof(key), "%lld", (long long)api_param_integer(row, "vmid", 0));
            json_object_set_new(seen, key, json_true());
        }
        json_decref(content);
    }
    json_decref(stores);
    call->data = json_array();
    store_list(node->store, "/guest/", &list);
    for (size_t n = 0; n < list.count; n++) {
        const char *id = list.entries[n].key + strlen("/guest/");
        char path[64];
        snprintf(path, sizeof(path), "/vms/%s", id);
        const char *name =
            api_param_string(json_object_get(list.entries[n].value, "config"), "name");
        if (!json_object_get(seen, id) && rest_may(call, path, "VM.Audit"))
            json_array_append_new(call->data, json_pack("{s:I, s:s, s:s}", "vmid",
                                                        (json_int_t)strtoll(id, NULL, 10), "type",
                                                        "qemu", "name", name ? name : id));
    }
    store_list_free(&list);
    json_decref(seen);
    return 0;
}

// ---- The table.

#define KEEP                                                                                       \
    P_STRING("prune-backups", 200,                                                                 \
             "keep-last=3,keep-daily=7,…; as the datastore says when not given"),                  \
        P_STRING("type", 8, "qemu"), P_NUMBER("vmid", GUEST_ID_MAX, "only this guest's")

const struct endpoint rest_backup[] = {
    {.method = "POST",
     .path = "/nodes/{node}/vzdump",
     .about = "Make backups of guests, one after another.",
     .permission = "user",
     .filter = "/vms/{vmid} VM.Backup",
     .task = "vzdump",
     .handler = check_vzdump,
     .work = work_vzdump,
     .params =
         (const struct api_param[]){
             {.name = "vmid",
              .type = API_LIST,
              .optional = true,
              .max = 9,
              .format = &rest_format_vmid,
              .permission_of = dump_permission,
              .permission_told = "/vms/VMID VM.Backup of each",
              .about = "which"},
             P_BOOLEAN("all", "all that one may"),
             {.name = "exclude",
              .type = API_LIST,
              .optional = true,
              .max = 9,
              .format = &rest_format_vmid,
              .about = "not these, of all"},
             {.name = "storage",
              .type = API_STRING,
              .fallback = "local",
              .max = 63,
              .format = &rest_format_storage,
              .permission = "/storage/{storage} Datastore.AllocateSpace",
              .about = "where to"},
             {.name = "mode",
              .type = API_STRING,
              .optional = true,
              .values = "snapshot|suspend|stop",
              .about = "of guests that run: at an instant (the first two), or shut down meanwhile"},
             P_STRING("compress", 8, "accepted: it is zstd"),
             P_NUMBER("zstd", 1024, "accepted"),
             P_STRING("notes-template", 1024, "{{guestname}}, {{vmid}}, {{node}} are filled in"),
             P_BOOLEAN("protected", "pruning and removing pass it over"),
             {.name = "prune-backups",
              .type = API_STRING,
              .optional = true,
              .max = 200,
              .permission = "/storage/{storage} Datastore.Allocate",
              .about = "then keep those: keep-last=3,…"},
             P_BOOLEAN("remove", "prune as the datastore says; yes"),
             P_NUMBER("bwlimit", INT32_MAX, "KiB a second, of guests that run"),
             P_BOOLEAN("quiet", "accepted"),
             P_STRING("mailto", 256, "accepted"),
             P_STRING("mailnotification", 16, "accepted"),
             P_STRING("notification-mode", 32, "accepted"),
             {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/vzdump/extractconfig",
     .about = "The configuration in a backup.",
     .permission = "user",
     .returns = "string",
     .slow = true,
     .handler = get_config,
     .params = (const struct api_param[]){{.name = "volume",
                                           .type = API_STRING,
                                           .max = 250,
                                           .format = &rest_format_volume,
                                           .permission_of = rest_backup_permission,
                                           .permission_told = BACKUP_TOLD,
                                           .about = "which"},
                                          {.name = NULL}}},
    {.method = "PUT",
     .path = "/nodes/{node}/storage/{storage}/content/{volume*}",
     .about = "A backup's notes and protection.",
     .permission = "/storage/{storage} Datastore.Allocate|Datastore.AllocateSpace",
     .returns = "null",
     .slow = true,
     .handler = put_facts,
     .params =
         (const struct api_param[]){{.name = "volume",
                                     .type = API_STRING,
                                     .max = 250,
                                     .permission_of = note_permission,
                                     .permission_told = BACKUP_TOLD,
                                     .about = "volume id, with or without its datastore's name"},
                                    P_STRING("notes", 8192, "a note"),
                                    P_BOOLEAN("protected", "pruning and removing pass it over"),
                                    {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/storage/{storage}/prunebackups",
     .about = "What pruning would keep.",
     .permission = "/storage/{storage} Datastore.Audit|Datastore.AllocateSpace",
     .returns = "[{volid:string, ctime:int, mark:string, vmid:int, type:string}]",
     .slow = true,
     .handler = get_prune,
     .params = (const struct api_param[]){KEEP, {.name = NULL}}},
    {.method = "DELETE",
     .path = "/nodes/{node}/storage/{storage}/prunebackups",
     .about = "Remove backups but those that are to be kept.",
     .permission = "/storage/{storage} Datastore.Allocate",
     .task = "prunebackups",
     .task_id = "storage",
     .work = work_prune,
     .params = (const struct api_param[]){KEEP, {.name = NULL}}},
    {.method = "GET",
     .path = "/cluster/backup-info/not-backed-up",
     .about = "Guests of which there is no backup.",
     .permission = "user",
     .filter = "/vms/{vmid} VM.Audit",
     .returns = "[{vmid:int, type:string, name:string}]",
     .slow = true,
     .handler = get_not_backed_up},
    {.method = NULL},
};
