// SPDX-License-Identifier: Apache-2.0
//
// Datastores that are folders, in Proxmox VE's layout, so that what lies there already is found.
#include "node/storage/storage.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/storage/storage_internal.h"
#include "os/directory.h"
#include "os/file.h"

// Contents that are plain files, and where.
static const struct plain {
    const char *content, *folder;
    const char *suffixes; // what may lie there, separated by spaces; NULL: anything
} plains[] = {
    {"iso", "template/iso", ".iso .img"},
    {"vztmpl", "template/cache", ".tar.gz .tar.xz .tar.zst"},
    {"snippets", "snippets", NULL},
    {"backup", "dump", ".wirt.zst"},
    {"import", "import", ".qcow2 .raw .img .vmdk .vhdx .vdi"},
};
#define PLAIN_COUNT (sizeof(plains) / sizeof(plains[0]))
#define ALL_CONTENT "images,rootdir,iso,vztmpl,snippets,backup,import"

bool volume_names_storage(const char *text)
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || (text[n] && strchr("-_.", text[n])))
        n++;
    return n && n < 64 && text[n] == ':';
}

int volume_split(const char *volid, char store_id[64], const char **name, struct err *err)
{
    const char *colon = strchr(volid, ':');
    if (!colon || !volume_names_storage(volid) || strstr(volid, "..") ||
        strlen(volid) >= VOLUME_ID_BYTES || !colon[1] || colon[1] == '/')
        return err_set(err, ERR_USAGE, "unable to parse volume ID '%.100s'", volid);
    snprintf(store_id, 64, "%.*s", (int)(colon - volid), volid);
    *name = colon + 1;
    return 0;
}

void volume_key(const char *volid, char key[VOLUME_ID_BYTES + 16])
{
    snprintf(key, VOLUME_ID_BYTES + 16, "/volume/%s", volid);
}

static void storage_key(const char *id, char key[128])
{
    snprintf(key, 128, "/storage/%.100s", id);
}

json_t *storage_get(struct storage *storage, const char *id)
{
    char key[128];
    storage_key(id, key);
    json_t *record = store_get(storage->store, key, NULL);
    json_t *row = record ? json_copy(record) : NULL;
    if (row)
        json_object_set_new(row, "storage", json_string(id));
    json_decref(record);
    return row;
}

json_t *storage_list(struct storage *storage)
{
    struct store_list list;
    json_t *rows = json_array();
    store_list(storage->store, "/storage/", &list);
    for (size_t i = 0; i < list.count; i++)
        json_array_append_new(rows,
                              storage_get(storage, list.entries[i].key + strlen("/storage/")));
    store_list_free(&list);
    return rows;
}

int storage_folder(struct storage *storage, const char *id, char path[VOLUME_PATH_BYTES],
                   struct err *err)
{
    char key[128];
    storage_key(id, key);
    json_t *record = store_get(storage->store, key, NULL);
    const char *folder = json_string_value(json_object_get(record, "path"));
    if (folder)
        snprintf(path, VOLUME_PATH_BYTES, "%s%s%s", folder[0] == '/' ? "" : storage->state_folder,
                 folder[0] == '/' ? "" : "/", folder);
    json_decref(record);
    return folder ? 0 : err_set(err, ERR_NOT_FOUND, "storage '%s' does not exist", id);
}

// Is the word one of the list's?
static bool listed(const char *list, const char *word, size_t length)
{
    while (*list) {
        size_t n = strcspn(list, ",");
        if (n == length && !strncmp(list, word, n))
            return true;
        list += n + (list[n] != 0);
    }
    return false;
}

bool storage_takes(struct storage *storage, const char *id, const char *content)
{
    json_t *record = storage_get(storage, id);
    const char *all = json_string_value(json_object_get(record, "content"));
    bool takes = all && listed(all, content, strlen(content));
    json_decref(record);
    return takes;
}

json_t *storage_status(struct storage *storage, const char *id, struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    struct os_space space = {0};
    if (storage_folder(storage, id, path, err))
        return NULL;
    json_t *row = storage_get(storage, id);
    bool active = !os_directory_space(path, &space);
    uint64_t used = space.total - space.available;
    json_object_update_new(row, json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:f}", "active",
                                          (int)active, "enabled", 1, "shared", 0, "total",
                                          (json_int_t)space.total, "used", (json_int_t)used,
                                          "avail", (json_int_t)space.available, "used_fraction",
                                          space.total ? (double)used / (double)space.total : 0.0));
    return row;
}

const char **storage_image_folders(struct storage *storage)
{
    struct store_list list;
    store_list(storage->store, "/storage/", &list);
    // The pointers, and the strings behind them, in one piece.
    struct one {
        const char *pointer;
        char path[VOLUME_PATH_BYTES];
    };
    void *memory = calloc(list.count + 1, sizeof(struct one));
    if (!memory)
        abort();
    const char **folders = memory;
    char *text = (char *)(folders + list.count + 1);
    size_t used = 0;
    for (size_t i = 0; i < list.count; i++) {
        char path[VOLUME_PATH_BYTES - 16];
        if (storage_folder(storage, list.entries[i].key + strlen("/storage/"), text, NULL))
            continue;
        snprintf(path, sizeof(path), "%.4000s", text);
        snprintf(text, VOLUME_PATH_BYTES, "%s/images", path);
        folders[used++] = text;
        text += VOLUME_PATH_BYTES;
    }
    store_list_free(&list);
    return folders;
}

// ---- Plain files.

static const struct plain *plain_of(const char *content, size_t length)
{
    for (size_t i = 0; i < PLAIN_COUNT; i++)
        if (strlen(plains[i].content) == length && !strncmp(plains[i].content, content, length))
            return &plains[i];
    return NULL;
}

static bool suffix_fits(const char *suffixes, const char *name)
{
    while (suffixes && *suffixes) {
        size_t n = strcspn(suffixes, " "), length = strlen(name);
        if (length > n && !strncmp(name + length - n, suffixes, n))
            return true;
        suffixes += n + (suffixes[n] != 0);
    }
    return !suffixes;
}

// A file's name and nothing else.
static int check_name(const char *name, const char *suffixes, struct err *err)
{
    size_t length = strlen(name);
    if (!length || length > 200 || name[0] == '.' || strchr(name, '/'))
        return err_set(err, ERR_USAGE, "'%.100s' is no name for a file", name);
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-+=@", *c))
            return err_set(err, ERR_USAGE, "a file's name has letters, digits and ._-+=@ only");
    return suffix_fits(suffixes, name)
               ? 0
               : err_set(err, ERR_USAGE, "the file's name must end with one of: %s", suffixes);
}

int storage_file_path(struct storage *storage, const char *id, const char *content,
                      const char *name, char path[VOLUME_PATH_BYTES], struct err *err)
{
    char folder[VOLUME_PATH_BYTES];
    const struct plain *plain = plain_of(content, strlen(content));
    if (!plain || !storage_takes(storage, id, content))
        return err_set(err, ERR_USAGE, "storage '%s' does not support '%s' content", id, content);
    if (check_name(name, plain->suffixes, err) || storage_folder(storage, id, folder, err))
        return -1;
    snprintf(path, VOLUME_PATH_BYTES, "%.3000s/%s", folder, plain->folder);
    if (os_directory_make_all(path, 0750, err))
        return -1;
    snprintf(path, VOLUME_PATH_BYTES, "%.3000s/%s/%s", folder, plain->folder, name);
    return 0;
}

const char *storage_format_of(const char *name)
{
    static const char *const formats[] = {"qcow2", "vmdk", "vdi", "vhdx"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof(formats) / sizeof(formats[0]); i++)
        if (!strcmp(dot + 1, formats[i]))
            return formats[i];
    return "raw";
}

struct listing {
    json_t *rows;
    const struct plain *plain;
    const char *store_id, *folder;
    struct storage *storage;
};

// A backup's name tells whose it is; notes and protection stand in the store.
static void describe_backup(const struct listing *listing, const char *name, const char *volid,
                            json_t *row)
{
    long long vmid;
    if (sscanf(name, "vzdump-qemu-%lld-", &vmid) == 1)
        json_object_update_new(row, json_pack("{s:I, s:s, s:s}", "vmid", (json_int_t)vmid,
                                              "subtype", "qemu", "format", "wirt.zst"));
    json_t *facts = storage_file_facts(listing->storage, volid);
    json_object_update(row, facts);
    json_decref(facts);
}

static bool list_file(void *user, const char *name)
{
    struct listing *listing = user;
    char path[VOLUME_PATH_BYTES], volid[VOLUME_ID_BYTES];
    uint64_t size = 0;
    if (check_name(name, listing->plain->suffixes, NULL))
        return true;
    snprintf(path, sizeof(path), "%.3000s/%s", listing->folder, name);
    snprintf(volid, sizeof(volid), "%s:%s/%s", listing->store_id, listing->plain->content, name);
    int fd = os_file_open(path, OS_FILE_NO_FOLLOW, NULL);
    if (fd < 0 || os_file_size(fd, &size))
        size = 0;
    os_file_close(&fd);
    const char *dot = strrchr(name, '.');
    json_t *row = json_pack("{s:s, s:s, s:s, s:I, s:I}", "volid", volid, "content",
                            listing->plain->content, "format", dot ? dot + 1 : "raw", "size",
                            (json_int_t)size, "ctime", (json_int_t)os_file_changed_s(path));
    if (!strcmp(listing->plain->content, "backup"))
        describe_backup(listing, name, volid, row);
    json_array_append_new(listing->rows, row);
    return true;
}

static void list_volumes(struct storage *storage, const char *id, int64_t vmid, json_t *rows)
{
    struct store_list list;
    char prefix[VOLUME_ID_BYTES];
    snprintf(prefix, sizeof(prefix), "/volume/%s:", id);
    store_list(storage->store, prefix, &list);
    for (size_t i = 0; i < list.count; i++) {
        const json_t *record = list.entries[i].value;
        const char *volid = list.entries[i].key + strlen("/volume/");
        char path[VOLUME_PATH_BYTES];
        struct os_file_facts facts = {0};
        if (vmid && json_integer_value(json_object_get(record, "vmid")) != vmid)
            continue;
        int fd = volume_path(storage, volid, path, NULL, NULL) ? -1 : os_file_open(path, 0, NULL);
        if (fd >= 0)
            os_file_facts(fd, &facts);
        os_file_close(&fd);
        json_t *row = json_pack(
            "{s:s, s:s, s:O, s:O, s:I, s:O, s:I}", "volid", volid, "content", "images", "format",
            json_object_get(record, "format"), "size", json_object_get(record, "size"), "used",
            (json_int_t)facts.allocated_bytes, "vmid", json_object_get(record, "vmid"), "ctime",
            (json_int_t)json_integer_value(json_object_get(record, "ctime")));
        if (json_object_get(record, "parent"))
            json_object_set(row, "parent", json_object_get(record, "parent"));
        json_array_append_new(rows, row);
    }
    store_list_free(&list);
}

json_t *storage_content(struct storage *storage, const char *id, const char *content, int64_t vmid,
                        struct err *err)
{
    char folder[VOLUME_PATH_BYTES], path[VOLUME_PATH_BYTES];
    if (storage_folder(storage, id, folder, err))
        return NULL;
    json_t *rows = json_array();
    if (!content || !strcmp(content, "images"))
        list_volumes(storage, id, vmid, rows);
    for (size_t i = 0; i < PLAIN_COUNT; i++) {
        if ((content && strcmp(content, plains[i].content) != 0) ||
            !storage_takes(storage, id, plains[i].content))
            continue;
        snprintf(path, sizeof(path), "%.3000s/%s", folder, plains[i].folder);
        struct listing listing = {rows, &plains[i], id, path, storage};
        if (os_file_exists(path))
            os_directory_list(path, list_file, &listing, NULL);
    }
    for (size_t i = json_array_size(rows); vmid && i-- > 0;)
        if (json_integer_value(json_object_get(json_array_get(rows, i), "vmid")) != vmid)
            json_array_remove(rows, i);
    return rows;
}

// ---- Paths.

int volume_path(struct storage *storage, const char *volid, char path[VOLUME_PATH_BYTES],
                char format[16], struct err *err)
{
    char store_id[64], folder[VOLUME_PATH_BYTES], key[VOLUME_ID_BYTES + 16];
    const char *name;
    if (volume_split(volid, store_id, &name, err) || storage_folder(storage, store_id, folder, err))
        return -1;
    volume_key(volid, key);
    json_t *record = store_get(storage->store, key, NULL);
    if (record) {
        const char *file = json_string_value(json_object_get(record, "file"));
        snprintf(path, VOLUME_PATH_BYTES, "%.3000s/images/%s", folder, file ? file : name);
        if (format)
            snprintf(format, 16, "%s", json_string_value(json_object_get(record, "format")));
        json_decref(record);
        return 0;
    }
    size_t length = strcspn(name, "/");
    const struct plain *plain = plain_of(name, length);
    if (!plain || !name[length] || check_name(name + length + 1, plain->suffixes, NULL))
        return err_set(err, ERR_NOT_FOUND, "volume '%s' does not exist", volid);
    snprintf(path, VOLUME_PATH_BYTES, "%.3000s/%s/%s", folder, plain->folder, name + length + 1);
    if (format)
        snprintf(format, 16, "%s",
                 strcmp(plain->content, "import") != 0 ? "raw" : storage_format_of(path));
    return os_file_exists(path) ? 0
                                : err_set(err, ERR_NOT_FOUND, "volume '%s' does not exist", volid);
}

json_t *volume_record(struct storage *storage, const char *volid)
{
    char key[VOLUME_ID_BYTES + 16];
    volume_key(volid, key);
    return store_get(storage->store, key, NULL);
}

json_t *volumes_of(struct storage *storage, int64_t vmid)
{
    struct store_list list;
    json_t *rows = json_array();
    store_list(storage->store, "/volume/", &list);
    for (size_t i = 0; i < list.count; i++)
        if (json_integer_value(json_object_get(list.entries[i].value, "vmid")) == vmid)
            json_array_append_new(rows, json_pack("{s:s, s:O}", "volid",
                                                  list.entries[i].key + strlen("/volume/"),
                                                  "record", list.entries[i].value));
    store_list_free(&list);
    return rows;
}

// ---- Coming, changing, going.

static int check_record(const char *id, const json_t *record, struct err *err)
{
    char path[VOLUME_PATH_BYTES + 16];
    const char *type = json_string_value(json_object_get(record, "type"));
    const char *folder = json_string_value(json_object_get(record, "path"));
    const char *content = json_string_value(json_object_get(record, "content"));
    if (!type || strcmp(type, "dir") != 0)
        return err_set(err, ERR_UNSUPPORTED, "datastores are of type dir");
    if (!folder || folder[0] != '/' || strstr(folder, "..") || strlen(folder) > 3000)
        return err_set(err, ERR_USAGE, "a datastore's path is absolute");
    for (const char *at = content ? content : ""; *at;) {
        size_t n = strcspn(at, ",");
        if (!listed(ALL_CONTENT, at, n))
            return err_set(err, ERR_USAGE, "'%.*s' is no content; there are %s", (int)n, at,
                           ALL_CONTENT);
        at += n + (at[n] == ',');
    }
    snprintf(path, sizeof(path), "%s/images", folder);
    return os_directory_make_all(path, 0750, err) ? err_wrap(err, "datastore '%s'", id) : 0;
}

int storage_add(struct storage *storage, const char *id, json_t *record, struct err *err)
{
    char key[128];
    struct store_txn txn;
    if (!json_object_get(record, "content"))
        json_object_set_new(record, "content", json_string(ALL_CONTENT));
    if (check_record(id, record, err)) {
        json_decref(record);
        return -1;
    }
    storage_key(id, key);
    store_txn_begin(&txn);
    store_expect(&txn, key, 0);
    store_put(&txn, key, record);
    if (!store_commit(storage->store, &txn, err))
        return 0;
    return err && err->code == ERR_BUSY
               ? err_set(err, ERR_EXISTS, "storage ID '%s' already defined", id)
               : -1;
}

int storage_change(struct storage *storage, const char *id, const json_t *changes,
                   const json_t *remove, struct err *err)
{
    char key[128];
    int64_t revision;
    struct store_txn txn;
    size_t index;
    json_t *name;
    storage_key(id, key);
    json_t *record = store_get(storage->store, key, &revision);
    if (!record)
        return err_set(err, ERR_NOT_FOUND, "storage '%s' does not exist", id);
    json_t *changed = json_copy(record);
    json_decref(record);
    json_object_update(changed, (json_t *)(uintptr_t)changes);
    json_array_foreach(remove, index, name) if (strcmp(json_string_value(name), "path") != 0 &&
                                                strcmp(json_string_value(name), "type") != 0)
        json_object_del(changed, json_string_value(name));
    const char *path = json_string_value(json_object_get(changed, "path"));
    if (path && path[0] == '/' && check_record(id, changed, err)) {
        json_decref(changed);
        return -1;
    }
    store_txn_begin(&txn);
    store_expect(&txn, key, revision);
    store_put(&txn, key, changed);
    return store_commit(storage->store, &txn, err);
}

int storage_remove(struct storage *storage, const char *id, struct err *err)
{
    char key[128], prefix[128];
    struct store_list list;
    json_t *record = storage_get(storage, id);
    json_decref(record);
    if (!record)
        return err_set(err, ERR_NOT_FOUND, "storage '%s' does not exist", id);
    if (!strcmp(id, "local"))
        return err_set(err, ERR_BUSY, "the datastore 'local' stays");
    snprintf(prefix, sizeof(prefix), "/volume/%s:", id);
    store_list(storage->store, prefix, &list);
    size_t volumes = list.count;
    store_list_free(&list);
    if (volumes)
        return err_set(err, ERR_BUSY, "storage '%s' holds %zu volumes of guests", id, volumes);
    storage_key(id, key);
    return store_delete_now(storage->store, key, err);
}

// ---- Beginning.

static int make_local(struct storage *storage, struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    json_t *local = storage_get(storage, "local");
    int result = 0;
    if (!local)
        result = store_put_now(storage->store, "/storage/local",
                               json_pack("{s:s, s:s, s:s, s:i}", "type", "dir", "path",
                                         "storage/local", "content", ALL_CONTENT, "shared", 0),
                               err);
    json_decref(local);
    if (result || storage_folder(storage, "local", path, err))
        return -1;
    strncat(path, "/images", sizeof(path) - strlen(path) - 1);
    return os_directory_make_all(path, 0750, err);
}

// Volumes that nobody refers to yet, or no more.
static void remove_leftovers(struct storage *storage)
{
    struct store_list list;
    json_t *rows = json_array();
    store_list(storage->store, "/volume/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *state = json_string_value(json_object_get(list.entries[i].value, "state"));
        if (!state || strcmp(state, "ready") != 0)
            json_array_append_new(
                rows, json_pack("{s:s}", "volid", list.entries[i].key + strlen("/volume/")));
    }
    store_list_free(&list);
    volumes_remove(storage, rows, NULL);
    json_decref(rows);
}

struct storage *storage_create(struct store *store, const char *state_folder, struct err *err)
{
    struct storage *storage = calloc(1, sizeof(*storage));
    if (!storage)
        abort();
    storage->store = store;
    storage->state_folder = strdup(state_folder);
    pthread_mutex_init(&storage->name_lock, NULL);
    if (make_local(storage, err)) {
        storage_destroy(storage);
        return NULL;
    }
    remove_leftovers(storage);
    json_t *list = storage_list(storage), *row;
    size_t index;
    json_array_foreach(list, index, row)
        storage_empty_spool(storage, json_string_value(json_object_get(row, "storage")));
    json_decref(list);
    return storage;
}

void storage_destroy(struct storage *storage)
{
    if (!storage)
        return;
    pthread_mutex_destroy(&storage->name_lock);
    free(storage->state_folder);
    free(storage);
}
