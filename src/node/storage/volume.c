// SPDX-License-Identifier: Apache-2.0
//
// Guests' volumes: images made, copied and changed through machine/block. Every file is preceded by its record in state `making`.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/block/block_copy.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "node/storage/storage_internal.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"

#define SUFFIX_TRIES 1000
#define CHAIN_MAX    64

static uint64_t now_s(void)
{
    return os_clock_wall_ns() / 1000000000u;
}

// ---- Making.

int volume_claim(struct storage *storage, const char *store_id, int64_t vmid, const char *suffix,
                 json_t *record, char volid[VOLUME_ID_BYTES], struct err *err)
{
    char key[VOLUME_ID_BYTES + 16], name[64];
    const char *format = json_string_value(json_object_get(record, "format"));
    int result = -1;
    pthread_mutex_lock(&storage->name_lock);
    for (unsigned n = 0; n < SUFFIX_TRIES && result; n++) {
        if (suffix)
            snprintf(name, sizeof(name), "%s", suffix);
        else
            snprintf(name, sizeof(name), "disk-%u", n);
        snprintf(volid, VOLUME_ID_BYTES, "%s:%lld/vm-%lld-%s.%s", store_id, (long long)vmid,
                 (long long)vmid, name, format);
        volume_key(volid, key);
        struct store_txn txn;
        store_txn_begin(&txn);
        store_expect(&txn, key, 0);
        store_put(&txn, key, json_incref(record));
        result = store_commit(storage->store, &txn, err);
        if (result && (err->code != ERR_BUSY || suffix))
            break;
    }
    pthread_mutex_unlock(&storage->name_lock);
    json_decref(record);
    return result;
}

json_t *volume_new_record(int64_t vmid, const char *format, uint64_t size)
{
    return json_pack("{s:s, s:I, s:s, s:I, s:I}", "state", "making", "vmid", (json_int_t)vmid,
                     "format", format, "size", (json_int_t)size, "ctime", (json_int_t)now_s());
}

static int new_file(struct storage *storage, const char *volid, int64_t vmid,
                    const struct block_create *create, struct err *err)
{
    char path[VOLUME_PATH_BYTES], folder[VOLUME_PATH_BYTES];
    if (volume_path(storage, volid, path, NULL, err))
        return -1;
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = 0;
    if (os_directory_make_all(folder, 0750, err))
        return -1;
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, err);
    if (fd < 0)
        return -1;
    int result = block_image_create(fd, volid, create, err);
    if (!result && os_fdatasync(fd))
        result = err_set(err, ERR_IO, "volume '%s' cannot be written", volid);
    os_file_close(&fd);
    os_directory_sync(folder);
    return result;
}

void volumes_remove(struct storage *storage, const json_t *rows, struct task *task)
{
    size_t left = json_array_size(rows), before = left + 1, index;
    json_t *row;
    struct err err = {0};
    while (left && left < before) { // each turn those on which nothing stands
        before = left;
        left = 0;
        json_array_foreach(rows, index, row)
        {
            const char *volid = json_string_value(json_object_get(row, "volid"));
            json_t *record = volume_record(storage, volid);
            json_decref(record);
            if (!record)
                continue;
            if (volume_remove(storage, volid, &err))
                left++;
            else if (task)
                task_log(task, "removed volume '%s'", volid);
        }
    }
    if (left && task)
        task_log(task, "%s", err.text);
}

static int check_format(const char *format, struct err *err)
{
    if (!strcmp(format, "qcow2") || !strcmp(format, "raw"))
        return 0;
    return err_set(err, ERR_USAGE, "volumes are qcow2 or raw, not '%s'", format);
}

static int make(struct storage *storage, const char *store_id, int64_t vmid, const char *suffix,
                const char *parent, const struct block_create *create, char volid[VOLUME_ID_BYTES],
                struct err *err)
{
    char folder[VOLUME_PATH_BYTES];
    if (check_format(create->format, err) || storage_folder(storage, store_id, folder, err))
        return -1;
    if (!storage_takes(storage, store_id, "images"))
        return err_set(err, ERR_USAGE, "storage '%s' does not support 'images' content", store_id);
    json_t *record = volume_new_record(vmid, create->format, create->size);
    if (parent)
        json_object_set_new(record, "parent", json_string(parent));
    if (volume_claim(storage, store_id, vmid, suffix, record, volid, err))
        return -1;
    if (!new_file(storage, volid, vmid, create, err))
        return 0;
    volume_remove(storage, volid, NULL);
    return -1;
}

int volume_make(struct storage *storage, const char *store_id, int64_t vmid, const char *suffix,
                const char *format, uint64_t size, char volid[VOLUME_ID_BYTES], struct err *err)
{
    struct block_create create = {.format = format, .size = size};
    return make(storage, store_id, vmid, suffix, NULL, &create, volid, err);
}

int volume_make_linked(struct storage *storage, const char *base, const char *store_id,
                       int64_t vmid, char volid[VOLUME_ID_BYTES], struct err *err)
{
    char path[VOLUME_PATH_BYTES], format[16];
    uint64_t size;
    if (volume_path(storage, base, path, format, err) || volume_size(storage, base, &size, err))
        return -1;
    struct block_create create = {
        .format = "qcow2", .size = size, .backing = path, .backing_format = format};
    return make(storage, store_id, vmid, NULL, base, &create, volid, err);
}

// ---- Opening.

struct block_disk *volume_open_image(struct storage *storage, const char *path, const char *format,
                                     bool ours, bool read_only, struct block_chain *chain,
                                     struct err *err)
{
    static const char *const nowhere[] = {NULL};
    const char **folders = ours ? storage_image_folders(storage) : NULL;
    struct block_chain_rules rules = {.format = format,
                                      .read_only = read_only,
                                      .allowed = ours ? folders : nowhere,
                                      .depth_max = CHAIN_MAX};
    chain->length = 0;
    int failed = block_chain_open(chain, path, &rules, err);
    free(folders);
    if (failed)
        return NULL;
    struct block_options options = {.read_only = read_only};
    struct block_disk *disk = block_chain_disk(chain, &options, err);
    if (!disk)
        block_chain_close(chain);
    return disk;
}

struct block_disk *volume_open(struct storage *storage, const char *volid, bool read_only,
                               struct block_chain *chain, struct err *err)
{
    char path[VOLUME_PATH_BYTES], format[16];
    if (volume_path(storage, volid, path, format, err))
        return NULL;
    json_t *record = volume_record(storage, volid);
    json_decref(record);
    struct block_disk *disk =
        volume_open_image(storage, path, format, record != NULL, read_only, chain, err);
    if (!disk)
        err_wrap(err, "volume '%s'", volid);
    return disk;
}

struct block_disk *volume_open_source(struct storage *storage, const char *source,
                                      struct block_chain *chain, struct err *err)
{
    return source[0] == '/' ? volume_open_image(storage, source, storage_format_of(source), false,
                                                true, chain, err)
                            : volume_open(storage, source, true, chain, err);
}

int volume_close(struct block_disk *disk, struct block_chain *chain, const char *volid, int result,
                 struct err *err)
{
    int failed = block_disk_close(disk);
    block_chain_close(chain);
    return failed && !result ? err_set_errno(err, -failed, "volume '%s' cannot be written", volid)
                             : result;
}

// ---- Copying.

static bool tell(void *user, uint64_t done, uint64_t total)
{
    return !user || task_progress(user, done, total);
}

static int copy(struct storage *storage, struct block_disk *from, const char *source,
                const char *target, struct task *task, struct err *err)
{
    struct block_chain *chain = calloc(1, sizeof(*chain)); // too large for a stack
    if (!chain)
        abort();
    struct block_disk *to = volume_open(storage, target, false, chain, err);
    int result = to ? 0 : -1;
    if (to) {
        struct block_copy job = {
            .source = from, .target = to, .target_is_zero = true, .progress = tell, .user = task};
        int failed = block_copy_run(&job);
        if (failed == -ECANCELED)
            result = task_cancelled(err);
        else if (failed)
            result = err_set_errno(err, -failed, "copying '%s' to '%s'", source, target);
        result = volume_close(to, chain, target, result, err);
    }
    free(chain);
    return result;
}

int volume_make_copy(struct storage *storage, const char *source, const char *store_id,
                     int64_t vmid, const char *format, struct task *task,
                     char volid[VOLUME_ID_BYTES], struct err *err)
{
    struct block_chain *chain = calloc(1, sizeof(*chain));
    if (!chain)
        abort();
    struct block_disk *from = volume_open_source(storage, source, chain, err);
    int result =
        from ? volume_make(storage, store_id, vmid, NULL, format, block_disk_size(from), volid, err)
             : -1;
    if (!result) {
        result = copy(storage, from, source, volid, task, err);
        if (result)
            volume_remove(storage, volid, NULL);
    }
    if (from)
        result = volume_close(from, chain, source, result, err);
    free(chain);
    return result;
}

// ---- States.

static void put_state(struct storage *storage, struct store_txn *txn, const char *volid,
                      const char *state)
{
    char key[VOLUME_ID_BYTES + 16];
    json_t *record = volume_record(storage, volid);
    if (!record)
        return;
    volume_key(volid, key);
    json_t *changed = json_copy(record);
    json_object_set_new(changed, "state", json_string(state));
    store_put(txn, key, changed);
    json_decref(record);
}

void volume_ready(struct storage *storage, struct store_txn *txn, const char *volid)
{
    put_state(storage, txn, volid, "ready");
}

void volume_going(struct storage *storage, struct store_txn *txn, const char *volid)
{
    put_state(storage, txn, volid, "going");
}

// How many volumes stand on it, not counting those of the guest `but` (0: all).
static size_t children(struct storage *storage, const char *volid, int64_t but)
{
    struct store_list list;
    size_t found = 0;
    store_list(storage->store, "/volume/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const json_t *record = list.entries[i].value;
        const char *parent = json_string_value(json_object_get(record, "parent"));
        found += parent && !strcmp(parent, volid) &&
                 (!but || json_integer_value(json_object_get(record, "vmid")) != but);
    }
    store_list_free(&list);
    return found;
}

bool volume_is_base(struct storage *storage, const char *volid)
{
    return children(storage, volid, 0) > 0;
}

bool volume_owned_chain(struct storage *storage, const char *volid, int64_t vmid)
{
    return !children(storage, volid, vmid);
}

int volume_remove(struct storage *storage, const char *volid, struct err *err)
{
    char path[VOLUME_PATH_BYTES], key[VOLUME_ID_BYTES + 16];
    if (volume_is_base(storage, volid))
        return err_set(err, ERR_BUSY, "base volume '%s' is still in use by linked clones", volid);
    if (volume_path(storage, volid, path, NULL, err))
        return -1;
    int failed = os_file_remove(path);
    if (failed)
        return err_set_errno(err, -failed, "volume '%s' cannot be removed", volid);
    volume_key(volid, key);
    *strrchr(path, '/') = 0;
    os_directory_remove(path); // the guest's folder, when it was the last; fails otherwise
    return store_delete_now(storage->store, key, err);
}

// ---- Changes in place.

int volume_size(struct storage *storage, const char *volid, uint64_t *bytes, struct err *err)
{
    json_t *record = volume_record(storage, volid);
    json_int_t size = json_integer_value(json_object_get(record, "size"));
    json_decref(record);
    if (!record)
        return err_set(err, ERR_NOT_FOUND, "volume '%s' does not exist", volid);
    *bytes = (uint64_t)size;
    return 0;
}

int volume_note_size(struct storage *storage, const char *volid, uint64_t bytes, struct err *err)
{
    char key[VOLUME_ID_BYTES + 16];
    json_t *record = volume_record(storage, volid);
    if (!record)
        return err_set(err, ERR_NOT_FOUND, "volume '%s' does not exist", volid);
    json_t *changed = json_copy(record);
    json_decref(record);
    volume_key(volid, key);
    json_object_set_new(changed, "size", json_integer((json_int_t)bytes));
    return store_put_now(storage->store, key, changed, err);
}

int volume_resize(struct storage *storage, const char *volid, uint64_t bytes, struct err *err)
{
    struct block_chain *chain = calloc(1, sizeof(*chain));
    if (!chain)
        abort();
    struct block_disk *disk = volume_open(storage, volid, false, chain, err);
    int result = disk ? block_disk_resize(disk, bytes, err) : -1;
    if (disk)
        result = volume_close(disk, chain, volid, result, err);
    free(chain);
    return result ? -1 : volume_note_size(storage, volid, bytes, err);
}

// ---- For jobs.

int storage_image_make(const char *path, uint64_t size, struct err *err)
{
    struct block_create create = {.format = "qcow2", .size = size};
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, err);
    if (fd < 0)
        return -1;
    if (!block_lock_take(fd, true, path, err) && !block_image_create(fd, path, &create, err))
        return fd;
    os_file_close(&fd);
    os_file_remove(path);
    return -1;
}

int storage_image_open(const char *path, struct err *err)
{
    int fd = os_file_open(path, OS_FILE_WRITE, err);
    if (fd >= 0 && block_lock_take(fd, true, path, err))
        os_file_close(&fd);
    return fd;
}
